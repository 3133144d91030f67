"""What a training run did, in words.

How training went, kept in the model's folder: figures, a picture of their course, and what TensorBoard reads.

Pictures that show how training goes.
"""

import io
import json
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from tensorboardX import SummaryWriter

from models.checkpoint import Model, Training
from pipeline.console import format_duration, join_words, plural
from pipeline.errors import MediaError, WorkspaceError
from pipeline.media.pictures import read_picture, write_clip, write_picture
from pipeline.training.augment import Augmentation, Pairs, draw_pairs
from pipeline.training.sampler import generator
from pipeline.types import Image
from pipeline.workspace import write_bytes

MOST_SETBACKS = 3  # in a row, then the run ends


@dataclass
class TrainReport:
    """What a training run did."""

    folder: Path
    ended_by: str = ""
    epoch: int = 0
    steps: int = 0
    samples: int = 0
    seconds: float = 0.0
    people: dict[str, Training] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)
    setbacks: list[str] = field(default_factory=list)
    verdict: list[str] = field(default_factory=list)
    undone: int = 0
    is_first: bool = True
    has_diverged: bool = False

    def lines(self) -> list[str]:
        """What was trained, and where it is; of several processes only the first says so."""
        if not self.is_first:
            return []
        rate = self.samples / self.seconds if self.seconds else 0
        lines = [
            f"trained {plural(self.steps, 'step')}, {plural(self.samples, 'sample')} in "
            f"{format_duration(self.seconds)} ({rate:.1f} samples/s); ended by {self.ended_by}"
        ]
        if self.undone:
            lines.append(f"{self.undone} of these steps were undone:")
        lines += [f"  set back: {setback}" for setback in self.setbacks]
        for person, training in sorted(self.people.items()):
            state = "not trained here yet" if training.samples else "not trained yet"  # the first: imported
            if training.loss is not None:
                state = f"smoothed L1 {training.loss:.4f} after {training.samples} samples"
            lines.append(f"  {person}: {state}")
        lines += self.verdict
        return [*lines, f"model and previews: {self.folder}"]

    def problems(self) -> list[str]:
        """Pictures that were left out, and that training diverged again and again."""
        problems = []
        if self.unreadable and self.is_first:
            pictures = plural(len(self.unreadable), "unreadable picture")
            rest = "the model was trained on the others; delete or replace these"
            problems.append(f"left out {pictures}: {join_words(self.unreadable)}; {rest}")
        if self.has_diverged:
            problems.append(
                f"training was set back {MOST_SETBACKS} times in a row and ended; what was saved before is as it was: "
                "go on with a lower --lr (3e-4 and 5e-5 are usual)"
            )
        return problems


MOST_FRAMES = 300  # of the time-lapse; of more every second one goes
FRAMES_PER_S = 10
ENOUGH = 8  # evaluations before it is said that there is no more to gain
BETTER = 0.99  # of the best so far: what is not below it is no better
STALE = 1 / 3  # of all steps: without anything better for so long, training has stopped getting better


@dataclass(frozen=True)
class Evaluation:
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


class TrainingLog:
    """Writes and reads what is kept.

    Args:
        folder: of the model.
        steps: those the model has taken; what is known of later ones was undone, and is forgotten.

    Attributes:
        evaluations: what is known, by rising steps.
        damaged: lines of the history that could not be read.
    """

    def __init__(self, folder: Path, steps: int) -> None:
        self._folder = folder
        known, self.damaged = _read(folder / "history.jsonl")
        self.evaluations = [one for one in known if one.steps <= steps]
        for later in (path for path in self._frames() if int(path.stem) > steps):
            later.unlink(missing_ok=True)
        for unfinished in (folder / "timelapse").glob(".*.part.jpg"):  # of a killed run
            unfinished.unlink(missing_ok=True)

    def add(self, evaluation: Evaluation, sheet: Image) -> None:
        """Keep another evaluation, and the sheet that was made then."""
        self.evaluations = [*(one for one in self.evaluations if one.steps < evaluation.steps), evaluation]
        lines = (json.dumps(asdict(one), ensure_ascii=False) for one in self.evaluations)
        write_bytes(self._folder / "history.jsonl", ("\n".join(lines) + "\n").encode())
        write_picture(self._folder / "swap.png", sheet)
        write_picture(self._folder / "timelapse" / f"{evaluation.steps:09d}.jpg", sheet)
        frames = self._frames()
        for dropped in frames[1::2] if len(frames) > MOST_FRAMES else ():
            dropped.unlink(missing_ok=True)
        _draw_course(self._folder / "loss.png", self.evaluations)
        _tell_tensorboard(self._folder / "events", evaluation, sheet)

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
        return verdict(self.evaluations)

    def _frames(self) -> list[Path]:
        return sorted(path for path in (self._folder / "timelapse").glob("*.jpg") if path.stem.isdigit())


def verdict(evaluations: Sequence[Evaluation]) -> list[str]:
    """Say how well faces are drawn that are not trained on, and whether that still gets better."""
    judged = [one for one in evaluations if one.validation]
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


def _mean(evaluation: Evaluation) -> float:
    return float(np.mean(list(evaluation.validation.values())))


def _read(path: Path) -> tuple[list[Evaluation], int]:
    """Read what is there, and count the lines that are damaged: they are passed over, for nothing depends on them."""
    evaluations, damaged = [], 0
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n") if path.is_file() else ():
        try:
            if line.strip():
                evaluations.append(_judgement(json.loads(line)))
        except (ValueError, TypeError, RecursionError):
            damaged += 1
    return evaluations, damaged


def _judgement(row: Any) -> Evaluation:
    """Read a line of the history.

    Raises:
        ValueError, TypeError: it is none.
    """
    evaluation = Evaluation(**row)
    figures = [
        *dict.values(evaluation.loss),
        *dict.values(evaluation.validation),
        evaluation.rate or 0,
        evaluation.steps,
    ]
    if not all(type(number) in (int, float) and math.isfinite(number) for number in figures):
        raise ValueError("not all figures are numbers")
    if type(evaluation.steps) is not int or evaluation.steps < 0:
        raise ValueError("no number of steps")
    return evaluation


def _draw_course(path: Path, evaluations: Sequence[Evaluation]) -> None:
    figure = Figure(figsize=(9, 5), layout="constrained")
    canvas, axes = FigureCanvasAgg(figure), figure.add_subplot()
    people = sorted({person for one in evaluations for person in one.loss})
    for number, person in enumerate(people):
        for kind, style, words in (("loss", "--", "training"), ("validation", "-", "held out")):
            points = [(one.steps, getattr(one, kind)[person]) for one in evaluations if person in getattr(one, kind)]
            steps, values = [step for step, _ in points], [value for _, value in points]
            axes.plot(steps, values, style, color=f"C{number % 10}", label=f"{person}, {words}", marker=".")
    axes.set(xlabel="steps", ylabel="L1")
    axes.grid(alpha=0.3)
    axes.legend()
    drawn = io.BytesIO()
    canvas.print_png(drawn)  # type: ignore[no-untyped-call]
    write_bytes(path, drawn.getvalue())


def _tell_tensorboard(folder: Path, evaluation: Evaluation, sheet: Image) -> None:
    try:
        with SummaryWriter(str(folder), filename_suffix=f".{evaluation.steps}") as writer:
            for kind in ("loss", "validation"):
                for person, value in getattr(evaluation, kind).items():
                    writer.add_scalar(f"{kind}/{person}", value, evaluation.steps)
            if evaluation.rate is not None:
                writer.add_scalar("samples_per_second", evaluation.rate, evaluation.steps)
            half = cv2.resize(sheet, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)  # PNG takes its time
            writer.add_image("swap", half[..., ::-1].copy(), evaluation.steps, dataformats="HWC")
    except OSError as error:
        raise WorkspaceError(f"cannot write {folder}: {error.strerror or error}; check the disk") from error


FACES_SHOWN = 8
PEOPLE_SHOWN = 4  # on one sheet
JUDGED_AT_ONCE = 32
SHOWN_PX = 128  # side of each picture on the sheet


def preview_sheet(model: Model, person: str, crops: torch.Tensor, device: torch.device) -> Image:
    """Show what a person's decoder makes of some faces: rows of input, output and target.

    The same faces, distorted in the same way, at every call, so that sheets can be compared.

    Args:
        model: on ``device``.
        person: whose decoder.
        crops: (N, 3, 256, 256) uint8, the person's faces.
        device: where to compute.

    Returns:
        (3 * 128, 8 * 128, 3) BGR; narrower where there are fewer than 8 faces.
    """
    inputs, targets = preview_pairs(crops, device)
    with torch.inference_mode():
        outputs = model.decoders[person](model.encoder(inputs))
    return cast(Image, cv2.vconcat([_row(pictures) for pictures in (inputs, outputs, targets)]))


def swap_sheet(model: Model, faces: Mapping[str, torch.Tensor], device: torch.device) -> Image:
    """Show people's faces, each as it is, as its own decoder draws it, and as others' do: a row each.

    Args:
        model: on ``device``.
        faces: by person, (N, 3, 256, 256) uint8; of many people the first few.
        device: where to compute.

    Returns:
        (rows * 128, 8 * 128, 3) BGR; every row says what it shows.
    """
    rows, people = [], sorted(faces)[:PEOPLE_SHOWN]
    for person in people:
        pictures = straight(_spread(faces[person]), device)
        rows.append(_named(_row(pictures), person))
        with torch.inference_mode():
            encoded = model.encoder(pictures)
            others = sorted(other for other in model.decoders if other != person)
            for other in (person, *others[: PEOPLE_SHOWN - 1]):
                rows.append(_named(_row(model.decoders[other](encoded)), f"{person} as {other}"))
    widest = max(row.shape[1] for row in rows)
    return np.vstack([np.pad(row, [(0, 0), (0, widest - row.shape[1]), (0, 0)]) for row in rows])


def straight(crops: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Show crops as the model sees them, undistorted; (N, 3, 64, 64) float32 in [0, 1]."""
    return draw_pairs(crops.to(device), Augmentation(0, 0, 0, 0, 0), generator(0))[0]


def validation_l1(model: Model, person: str, crops: torch.Tensor, device: torch.device) -> float:
    """Say how far a decoder's drawings of some faces are off, undistorted: mean absolute error, in [0, 1].

    Args:
        model: on ``device``.
        person: whose faces and decoder.
        crops: (N, 3, 256, 256) uint8, N >= 1.
        device: where to compute.
    """
    errors = []
    with torch.inference_mode():
        for some in torch.split(crops, JUDGED_AT_ONCE):
            pictures = straight(some, device)
            made = model.decoders[person](model.encoder(pictures))
            errors.append((made - pictures).abs().mean(dim=(1, 2, 3)))
    return float(torch.cat(errors).mean())


def preview_pairs(crops: torch.Tensor, device: torch.device) -> Pairs:
    """Draw pairs of some faces, spread over all; the same at every call."""
    return draw_pairs(_spread(crops).to(device), Augmentation(), generator(0))


def _spread(crops: torch.Tensor) -> torch.Tensor:
    return crops[torch.linspace(0, len(crops) - 1, min(FACES_SHOWN, len(crops))).long()]


def _named(row: Image, name: str) -> Image:
    shown = name.encode("ascii", "replace").decode()  # all that OpenCV's letters are for
    for colour, width in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.putText(row, shown, (4, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.45, colour, width, cv2.LINE_AA)
    return row


def _row(pictures: torch.Tensor) -> Image:
    tiles = (pictures.detach().cpu().permute(0, 2, 3, 1).numpy() * 255).round().astype(np.uint8)
    enlarged = [cv2.resize(tile, (SHOWN_PX, SHOWN_PX), interpolation=cv2.INTER_CUBIC) for tile in tiles]
    return cast(Image, cv2.hconcat(enlarged))
