"""Evaluations and previews of training: drawn, and kept in the model's folder and for TensorBoard."""

import io
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import cast

import cv2
import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from tensorboardX import SummaryWriter

from models.checkpoint import Model
from pipeline.errors import MediaError, WorkspaceError
from pipeline.media.pictures import read_picture, write_clip, write_picture
from pipeline.training.augment import Augmentation, Pairs, draw_pairs
from pipeline.training.dataset import picture_format
from pipeline.training.evaluation import Evaluation, draw, undistorted
from pipeline.training.sampler import generator
from pipeline.types import Image
from pipeline.workspace import write_bytes

MAX_TIMELAPSE_FRAMES = 300  # of the time-lapse; with more, every second one is deleted
FRAMES_PER_S = 10
FACES_SHOWN = 8
PEOPLE_SHOWN = 4  # on one sheet
SHOWN_PX = 128  # side of each picture on a sheet


class TrainingLog:
    """The evaluations of a model, kept in its folder with plots and pictures.

    Args:
        folder: of the model.
        steps: those the model has taken.

    Attributes:
        evaluations: by ascending steps.
        damaged: number of lines of the history that could not be read; nothing depends on them.
    """

    def __init__(self, folder: Path, steps: int) -> None:
        self._folder, self.damaged = folder, 0
        self.evaluations: list[Evaluation] = []
        history = folder / "history.jsonl"
        for line in history.read_text("utf-8", errors="replace").split("\n") if history.is_file() else ():
            try:
                if line.strip():
                    self.evaluations.append(Evaluation.of(json.loads(line)))
            except (ValueError, TypeError, RecursionError):
                self.damaged += 1
        for unfinished in (folder / "timelapse").glob(".*.part.jpg"):  # of a killed run
            unfinished.unlink(missing_ok=True)
        self.forget_after(steps)

    def forget_after(self, steps: int) -> None:
        """Drop evaluations and pictures of later steps, which were undone."""
        self.evaluations = [evaluation for evaluation in self.evaluations if evaluation.steps <= steps]
        for later in (path for path in self._frames() if int(path.stem) > steps):
            later.unlink(missing_ok=True)

    def add(self, evaluation: Evaluation, sheet: Image) -> None:
        """Add an evaluation and its swap sheet."""
        self.evaluations = [earlier for earlier in self.evaluations if earlier.steps < evaluation.steps]
        self.evaluations.append(evaluation)
        lines = (json.dumps(asdict(evaluation), ensure_ascii=False) for evaluation in self.evaluations)
        write_bytes(self._folder / "history.jsonl", ("\n".join(lines) + "\n").encode())
        write_picture(self._folder / "swap.png", sheet)
        write_picture(self._folder / "timelapse" / f"{evaluation.steps:09d}.jpg", sheet)
        frames = self._frames()
        for dropped in frames[1::2] if len(frames) > MAX_TIMELAPSE_FRAMES else ():
            dropped.unlink(missing_ok=True)
        _plot_losses(self._folder / "loss.png", self.evaluations)
        _write_tensorboard(self._folder / "events", evaluation, sheet)

    def write_timelapse(self) -> None:
        """Make a clip of the sheets, if there is more than one."""
        sheets = []
        for path in self._frames():
            with suppress(MediaError):  # cut off when its run was killed
                sheets.append(read_picture(path))
        if len(sheets) > 1:
            write_clip(self._folder / "timelapse.mp4", sheets, FRAMES_PER_S)

    def _frames(self) -> list[Path]:
        return sorted(path for path in (self._folder / "timelapse").glob("*.jpg") if path.stem.isdigit())


def _plot_losses(path: Path, evaluations: Sequence[Evaluation]) -> None:
    figure = Figure(figsize=(9, 5), layout="constrained")
    canvas, axes = FigureCanvasAgg(figure), figure.add_subplot()
    people = sorted({person for evaluation in evaluations for person in evaluation.loss})
    for number, person in enumerate(people):
        for kind, style, label in (("loss", "--", "training"), ("validation", "-", "held out")):
            measured = [evaluation for evaluation in evaluations if person in getattr(evaluation, kind)]
            steps, values = [e.steps for e in measured], [getattr(e, kind)[person] for e in measured]
            axes.plot(steps, values, style, color=f"C{number % 10}", label=f"{person}, {label}", marker=".")
    axes.set(xlabel="steps", ylabel="L1")
    axes.grid(alpha=0.3)
    axes.legend()
    png = io.BytesIO()
    canvas.print_png(png)  # type: ignore[no-untyped-call]
    write_bytes(path, png.getvalue())


def _write_tensorboard(folder: Path, evaluation: Evaluation, sheet: Image) -> None:
    try:
        with SummaryWriter(str(folder), filename_suffix=f".{evaluation.steps}") as writer:
            for kind in ("loss", "validation"):
                for person, value in getattr(evaluation, kind).items():
                    writer.add_scalar(f"{kind}/{person}", value, evaluation.steps)
            for swap in evaluation.swaps:
                name = f"{swap.from_person}_as_{swap.to_person}"
                writer.add_scalar(f"distance/{name}", swap.distance_to, evaluation.steps)
                writer.add_scalar(f"eyes/{name}", swap.eyes, evaluation.steps)
            if evaluation.rate is not None:
                writer.add_scalar("samples_per_second", evaluation.rate, evaluation.steps)
            half = cv2.resize(sheet, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)  # writing PNG is slow
            writer.add_image("swap", half[..., ::-1].copy(), evaluation.steps, dataformats="HWC")
    except OSError as error:
        raise WorkspaceError(f"cannot write {folder}: {error.strerror or error}; check the disk") from error


def preview_sheet(model: Model, person: str, crops: torch.Tensor, device: torch.device) -> Image:
    """Draw what a person's decoder makes of some of the person's faces: rows of input, output and target.

    The faces and their distortions are the same at every call, so that sheets can be compared.

    Args:
        model: on ``device``.
        person: whose decoder.
        crops: (N, 3, S, S) uint8.
        device: where to compute.

    Returns:
        (3 * 128, 8 * 128, 3) BGR; narrower for fewer than 8 faces.
    """
    pairs = preview_pairs(model, crops, device)
    with torch.inference_mode():
        outputs = draw(model, person, pairs.inputs)
    return cast(Image, cv2.vconcat([_row(pictures) for pictures in (pairs.inputs, outputs, pairs.targets)]))


def swap_sheet(model: Model, faces: Mapping[str, torch.Tensor], device: torch.device) -> Image:
    """Draw faces of the first few people, a row each: originals, then drawn by their own decoder and by others'.

    Args:
        model: on ``device``.
        faces: by person, (N, 3, S, S) uint8.
        device: where to compute.

    Returns:
        (rows * 128, 8 * 128, 3) BGR; every row is labelled.
    """
    rows = []
    for person in sorted(faces)[:PEOPLE_SHOWN]:
        pictures = undistorted(model, _spread(faces[person]), device)
        rows.append(_labelled(_row(pictures), person))
        with torch.inference_mode():
            encoded = model.encoder(pictures)
            others = sorted(other for other in model.decoders if other != person)
            for other in (person, *others[: PEOPLE_SHOWN - 1]):
                rows.append(_labelled(_row(model.decoders[other](encoded)[:, :3]), f"{person} as {other}"))
    widest = max(row.shape[1] for row in rows)
    return np.vstack([np.pad(row, [(0, 0), (0, widest - row.shape[1]), (0, 0)]) for row in rows])


def preview_pairs(model: Model, crops: torch.Tensor, device: torch.device) -> Pairs:
    """Pairs of some faces, evenly spread; the same at every call."""
    return draw_pairs(_spread(crops).to(device), Augmentation(), generator(0), picture_format(model))


def _spread(crops: torch.Tensor) -> torch.Tensor:
    return crops[torch.linspace(0, len(crops) - 1, min(FACES_SHOWN, len(crops))).long()]


def _labelled(row: Image, text: str) -> Image:
    ascii_text = text.encode("ascii", "replace").decode()  # OpenCV's font has nothing else
    for colour, width in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.putText(row, ascii_text, (4, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.45, colour, width, cv2.LINE_AA)
    return row


def _row(pictures: torch.Tensor) -> Image:
    tiles = (pictures.detach().cpu().permute(0, 2, 3, 1).numpy() * 255).round().astype(np.uint8)
    enlarged = [cv2.resize(tile, (SHOWN_PX, SHOWN_PX), interpolation=cv2.INTER_CUBIC) for tile in tiles]
    return cast(Image, cv2.hconcat(enlarged))
