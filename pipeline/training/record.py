"""How training went, kept in the model's folder: figures, a picture of their course, and what TensorBoard reads."""

import io
import json
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from tensorboardX import SummaryWriter

from pipeline.arrays import Image
from pipeline.errors import MediaError, WorkspaceError
from pipeline.media.clips import write_clip
from pipeline.media.pictures import read_picture, write_picture
from pipeline.workspace import write_bytes

MOST_FRAMES = 300  # of the time-lapse; of more every second one goes
FRAMES_PER_S = 10
ENOUGH = 8  # judgements before it is said that there is no more to gain
BETTER = 0.99  # of the best so far: what is not below it is no better
STALE = 1 / 3  # of all steps: without anything better for so long, training has stopped getting better


@dataclass(frozen=True)
class Judgement:
    """What was known at a save.

    Attributes:
        steps: taken so far.
        rate: samples per second; None where not known yet.
        loss: smoothed L1 of training, by person.
        validation: L1 of faces that are not trained on, undistorted, by person; those without are not in it.
    """

    steps: int
    rate: float | None
    loss: dict[str, float]
    validation: dict[str, float]


class Record:
    """Writes and reads what is kept.

    Args:
        folder: of the model.
        steps: those the model has taken; what is known of later ones was undone, and is forgotten.

    Attributes:
        judgements: what is known, by rising steps.
        damaged: lines of the history that could not be read.
    """

    def __init__(self, folder: Path, steps: int) -> None:
        self._folder = folder
        known, self.damaged = _read(folder / "history.jsonl")
        self.judgements = [one for one in known if one.steps <= steps]
        for later in (path for path in self._frames() if int(path.stem) > steps):
            later.unlink(missing_ok=True)
        for unfinished in (folder / "timelapse").glob(".*.part.jpg"):  # of a killed run
            unfinished.unlink(missing_ok=True)

    def add(self, judgement: Judgement, sheet: Image) -> None:
        """Keep another judgement, and the sheet that was made then."""
        self.judgements = [*(one for one in self.judgements if one.steps < judgement.steps), judgement]
        lines = (json.dumps(asdict(one), ensure_ascii=False) for one in self.judgements)
        write_bytes(self._folder / "history.jsonl", ("\n".join(lines) + "\n").encode())
        write_picture(self._folder / "swap.png", sheet)
        write_picture(self._folder / "timelapse" / f"{judgement.steps:09d}.jpg", sheet)
        frames = self._frames()
        for dropped in frames[1::2] if len(frames) > MOST_FRAMES else ():
            dropped.unlink(missing_ok=True)
        _draw_course(self._folder / "loss.png", self.judgements)
        _tell_tensorboard(self._folder / "events", judgement, sheet)

    def film(self) -> None:
        """Make the time-lapse, where there is more than one picture."""
        sheets = []
        for path in self._frames():
            with suppress(MediaError):  # cut off when its run was killed
                sheets.append(read_picture(path))
        if len(sheets) > 1:
            write_clip(self._folder / "timelapse.mp4", sheets, FRAMES_PER_S)

    def verdict(self) -> list[str]:
        """Say what held-out faces tell, a line each."""
        return verdict(self.judgements)

    def _frames(self) -> list[Path]:
        return sorted(path for path in (self._folder / "timelapse").glob("*.jpg") if path.stem.isdigit())


def verdict(judgements: Sequence[Judgement]) -> list[str]:
    """Say how well faces are drawn that are not trained on, and whether that still gets better."""
    judged = [one for one in judgements if one.validation]
    if not judged:
        return []
    each = ", ".join(f"{person} {value:.4f}" for person, value in sorted(judged[-1].validation.items()))
    lines = [f"validation L1 (faces not trained on): {each}"]
    best = judged[0]
    for one in judged:
        if _mean(one) < BETTER * _mean(best):
            best = one
    if len(judged) >= ENOUGH and judged[-1].steps - best.steps > STALE * judged[-1].steps:
        lines.append(f"it has not got better since step {best.steps}: more of the same training will hardly help")
    return lines


def _mean(judgement: Judgement) -> float:
    return float(np.mean(list(judgement.validation.values())))


def _read(path: Path) -> tuple[list[Judgement], int]:
    """Read what is there, and count the lines that are damaged: they are passed over, for nothing depends on them."""
    judgements, damaged = [], 0
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n") if path.is_file() else ():
        try:
            if line.strip():
                judgements.append(_judgement(json.loads(line)))
        except (ValueError, TypeError, RecursionError):
            damaged += 1
    return judgements, damaged


def _judgement(row: Any) -> Judgement:
    """Read a line of the history.

    Raises:
        ValueError, TypeError: it is none.
    """
    judgement = Judgement(**row)
    figures = [*dict.values(judgement.loss), *dict.values(judgement.validation), judgement.rate or 0, judgement.steps]
    if not all(type(number) in (int, float) and math.isfinite(number) for number in figures):
        raise ValueError("not all figures are numbers")
    if type(judgement.steps) is not int or judgement.steps < 0:
        raise ValueError("no number of steps")
    return judgement


def _draw_course(path: Path, judgements: Sequence[Judgement]) -> None:
    figure = Figure(figsize=(9, 5), layout="constrained")
    canvas, axes = FigureCanvasAgg(figure), figure.add_subplot()
    people = sorted({person for one in judgements for person in one.loss})
    for number, person in enumerate(people):
        for kind, style, words in (("loss", "--", "training"), ("validation", "-", "held out")):
            points = [(one.steps, getattr(one, kind)[person]) for one in judgements if person in getattr(one, kind)]
            steps, values = [step for step, _ in points], [value for _, value in points]
            axes.plot(steps, values, style, color=f"C{number % 10}", label=f"{person}, {words}", marker=".")
    axes.set(xlabel="steps", ylabel="L1")
    axes.grid(alpha=0.3)
    axes.legend()
    drawn = io.BytesIO()
    canvas.print_png(drawn)  # type: ignore[no-untyped-call]
    write_bytes(path, drawn.getvalue())


def _tell_tensorboard(folder: Path, judgement: Judgement, sheet: Image) -> None:
    try:
        with SummaryWriter(str(folder), filename_suffix=f".{judgement.steps}") as writer:
            for kind in ("loss", "validation"):
                for person, value in getattr(judgement, kind).items():
                    writer.add_scalar(f"{kind}/{person}", value, judgement.steps)
            if judgement.rate is not None:
                writer.add_scalar("samples_per_second", judgement.rate, judgement.steps)
            half = cv2.resize(sheet, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)  # PNG takes its time
            writer.add_image("swap", half[..., ::-1].copy(), judgement.steps, dataformats="HWC")
    except OSError as error:
        raise WorkspaceError(f"cannot write {folder}: {error.strerror or error}; check the disk") from error
