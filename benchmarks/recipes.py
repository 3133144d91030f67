"""Train a pair from nothing in several ways, as many samples each, and judge by faces that were not trained on.

    python -m benchmarks.recipes [--samples 10000] [--workspace benchmarks/results/recipes]

Clips are found through ``RECAST_TEST_DATA`` as in ``python -m benchmarks``. A model that is there is not trained again,
only judged. Writes a table and a sheet of held-out faces as each model draws them.
"""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import tyro
from skimage.metrics import structural_similarity

from benchmarks.__main__ import DATA, ROOT, require_data
from benchmarks.judging import identity, sheet
from benchmarks.quality import PAIR
from benchmarks.table import Row, as_markdown
from models import checkpoint
from models.checkpoint import HeldOut, Model
from pipeline.console import NullConsole
from pipeline.faces.alignment import SEEN, SEEN_PX
from pipeline.media.pictures import write_picture
from pipeline.training.dataset import load_faces, split_faces
from pipeline.training.monitor import straight
from pipeline.types import Image
from pipeline.workspace import Workspace

PLAIN = ["--inner-loop", "1", "-b", "16", "--lr", "3e-4"]
RECIPES: dict[str, list[str]] = {
    "plain": PLAIN,
    "plain, seed 2": [*PLAIN, "--seed", "2"],
    "interleave": [*PLAIN, "--interleave"],
    "lr-schedule cosine": [*PLAIN, "--lr-schedule", "cosine"],
    "loss l1+ssim": [*PLAIN, "--loss", "l1+ssim"],
    "all three": [*PLAIN, "--interleave", "--lr-schedule", "cosine", "--loss", "l1+ssim"],
}
JUDGED = 16  # of each person, whose likeness to the other is measured
SHOWN = 6  # held-out faces of each person on the sheet


@dataclass(frozen=True)
class Options:
    """Compare ways of training."""

    samples: int = 10_000
    """Faces each model is trained on, both people together."""
    workspace: Path = Path("benchmarks/results/recipes")
    """Where the pair is extracted and trained."""
    models: tuple[str, ...] = ()
    """Judge these models of the workspace instead."""


def main() -> int:
    """Do all of it; return the exit code."""
    options = tyro.cli(Options, prog="python -m benchmarks.recipes", description=__doc__)
    names = options.models or tuple(RECIPES)
    if not options.models:
        require_data()
        _train(options)
    faces = load_faces(Workspace(options.workspace).data, NullConsole(), options.workspace / "spill")
    held = {person: faces.people[person][part.held] for person, part in split_faces(faces.files, HeldOut())[0].items()}
    shown = {person: crops[:: max(1, len(crops) // SHOWN)][:SHOWN] for person, crops in held.items()}
    rows, pictures = list[Row](), {"held out": [face for crops in shown.values() for face in _seen(crops)]}
    for name in names:
        model = checkpoint.load(Workspace(options.workspace).model(_folder(name)))
        rows.append({"trained": name, **judge(model, held)})
        others = dict(zip(shown, reversed(shown), strict=True))
        pictures[name] = [face for person in shown for face in _drawn(model, person, shown[person])]
        pictures[f"{name}, swapped"] = [
            face for person in shown for face in _drawn(model, others[person], shown[person])
        ]
    write_picture(options.workspace / "recipes.png", sheet(pictures))
    print(as_markdown(rows), f"\nsheet to look at: {options.workspace}/recipes.png")
    return 0


def judge(model: Model, held: dict[str, torch.Tensor]) -> Row:
    """Measure how like held-out faces their own decoders draw them, and how like the other person they get swapped."""
    row: Row = {}
    for person, crops in held.items():
        seen, drawn = np.stack(_seen(crops)), np.stack(_drawn(model, person, crops))
        row[f"L1 {person}"] = float(np.abs(seen.astype(float) - drawn).mean() / 255)
        pairs = zip(seen, drawn, strict=True)
        likenesses = [structural_similarity(*pair, channel_axis=2) for pair in pairs]  # type: ignore[no-untyped-call]
        row[f"SSIM {person}"] = float(np.mean(likenesses))
        others = [other for other in held if other != person]
        swapped = [
            into(crop, face)
            for crop, face in zip(_spread(crops), _drawn(model, others[0], _spread(crops)), strict=True)
        ]
        own = [crop.permute(1, 2, 0).numpy() for crop in _spread(held[others[0]])]
        row[f"{person} as {others[0]}"] = identity(swapped, own)
    return row


def into(crop: torch.Tensor, face: Image) -> Image:
    """Put what a model drew into the crop that it saw, (256, 256, 3)."""
    image = np.ascontiguousarray(crop.permute(1, 2, 0).numpy())
    image[SEEN, SEEN] = cv2.resize(face, (SEEN_PX, SEEN_PX), interpolation=cv2.INTER_LANCZOS4)
    return image


def _spread(crops: torch.Tensor) -> torch.Tensor:
    return crops[np.linspace(0, len(crops) - 1, JUDGED).round()]


def _train(options: Options) -> None:
    base = ["--workspace", str(options.workspace.resolve())]
    for person, clip in PAIR.items():
        subprocess.run(
            [sys.executable, "cli.py", "extract", str(DATA / clip), "--person", person, *base], cwd=ROOT, check=True
        )
    for name, arguments in RECIPES.items():
        if checkpoint.exists(Workspace(options.workspace).model(_folder(name))):
            continue
        steps = options.samples // int(arguments[arguments.index("-b") + 1])
        command = [sys.executable, "cli.py", "train", "-n", _folder(name), "--max-steps", str(steps), "--keep", "1"]
        subprocess.run([*command, *arguments, *base], cwd=ROOT, check=True)


def _folder(name: str) -> str:
    return name.replace("+", "_").replace(",", "")


def _seen(crops: torch.Tensor) -> list[Image]:
    return _images(straight(crops, torch.device("cpu")))


def _drawn(model: Model, person: str, crops: torch.Tensor) -> list[Image]:
    with torch.inference_mode():
        return _images(model.decoders[person](model.encoder(straight(crops, torch.device("cpu")))))


def _images(pictures: torch.Tensor) -> list[Image]:
    return list((pictures.permute(0, 2, 3, 1).numpy() * 255).round().astype(np.uint8))


if __name__ == "__main__":
    sys.exit(main())
