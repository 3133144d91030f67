"""Train a pair from nothing in several ways, as many samples each, and evaluate on faces that were not trained on.

    python -m benchmarks.recipes [--samples 10000] [--workspace benchmarks/results/recipes]

``RECAST_TEST_DATA`` names the folder of clips. A model that exists is not trained again, only evaluated. Writes a table
and a sheet of held-out faces as each model draws them.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import tyro
from skimage.metrics import structural_similarity

from benchmarks.measuring import Row, as_markdown, evenly_spread, require_clips
from benchmarks.quality import extract_pair, run_shown
from benchmarks.swap_measures import identity, sheet
from models import checkpoint
from models.checkpoint import HeldOut, Model
from pipeline.console import NullConsole
from pipeline.faces.alignment import SEEN, SEEN_PX
from pipeline.media.pictures import write_picture
from pipeline.training.dataset import load_faces, split_faces
from pipeline.training.monitor import undistorted
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
SWAPPED = 16  # held-out faces of each person whose likeness to the other is measured
SHOWN = 6  # held-out faces of each person on the sheet


@dataclass(frozen=True)
class Options:
    """Compare ways of training."""

    samples: int = 10_000
    """Faces each model is trained on, both people together."""
    workspace: Path = Path("benchmarks/results/recipes")
    """Where the pair is extracted and trained."""
    models: tuple[str, ...] = ()
    """Evaluate these models of the workspace instead."""


def main() -> int:
    """Do all of it; return the exit code."""
    options = tyro.cli(Options, prog="python -m benchmarks.recipes", description=__doc__)
    workspace = Workspace(options.workspace)
    if not options.models:
        require_clips()
        train_all(workspace, options.samples)
    faces = load_faces(workspace.data, NullConsole(), options.workspace / "spill")
    held = {person: faces.people[person][part.held] for person, part in split_faces(faces.files, HeldOut())[0].items()}
    shown = {person: crops[:: max(1, len(crops) // SHOWN)][:SHOWN] for person, crops in held.items()}
    swapped = dict(zip(shown, reversed(shown), strict=True))
    rows, pictures = list[Row](), {"held out": [face for crops in shown.values() for face in as_seen(crops)]}
    for name in options.models or RECIPES:
        model = checkpoint.load(workspace.model(model_name(name)))
        rows.append({"trained": name, **evaluate(model, held)})
        pictures[name] = [face for person, crops in shown.items() for face in draw(model, person, crops)]
        pictures[f"{name}, swapped"] = [
            face for person, crops in shown.items() for face in draw(model, swapped[person], crops)
        ]
    write_picture(options.workspace / "recipes.png", sheet(pictures))
    print(as_markdown(rows), f"\nsheet to look at: {options.workspace}/recipes.png")
    return 0


def train_all(workspace: Workspace, samples: int) -> None:
    """Extract the pair and train the models that are not there yet."""
    extract_pair(workspace.root)
    for name, arguments in RECIPES.items():
        if not checkpoint.exists(workspace.model(model_name(name))):
            steps = samples // int(arguments[arguments.index("-b") + 1])
            limits = ["--max-steps", str(steps), "--keep", "1"]
            run_shown(workspace.root, "train", "-n", model_name(name), *limits, *arguments)


def model_name(recipe: str) -> str:
    """Name of a recipe's model."""
    return recipe.replace("+", "_").replace(",", "")


def evaluate(model: Model, held: dict[str, torch.Tensor]) -> Row:
    """Measure how like held-out faces their own decoders draw them, and how like the other person they get swapped."""
    row: Row = {}
    for person, crops in held.items():
        other = next(name for name in held if name != person)
        seen, drawn = as_seen(crops), draw(model, person, crops)
        row[f"L1 {person}"] = float(np.abs(np.stack(seen).astype(float) - np.stack(drawn)).mean() / 255)
        ssims = [structural_similarity(*pair, channel_axis=2) for pair in zip(seen, drawn, strict=True)]  # type: ignore[no-untyped-call]
        row[f"SSIM {person}"] = float(np.mean(ssims))
        some = spread(crops)
        swapped = [put_in(crop, face) for crop, face in zip(some, draw(model, other, some), strict=True)]
        references = [crop.permute(1, 2, 0).numpy() for crop in spread(held[other])]
        row[f"{person} as {other}"] = identity(swapped, references)
    return row


def put_in(crop: torch.Tensor, face: Image) -> Image:
    """Put what a model drew into the crop that it saw, (256, 256, 3)."""
    image = np.ascontiguousarray(crop.permute(1, 2, 0).numpy())
    image[SEEN, SEEN] = cv2.resize(face, (SEEN_PX, SEEN_PX), interpolation=cv2.INTER_LANCZOS4)
    return image


def spread(crops: torch.Tensor) -> torch.Tensor:
    """Pick the crops that are swapped, evenly spread."""
    return crops[evenly_spread(range(len(crops)), SWAPPED)]


def as_seen(crops: torch.Tensor) -> list[Image]:
    """Crops as the model sees them."""
    return as_images(undistorted(crops, torch.device("cpu")))


def draw(model: Model, person: str, crops: torch.Tensor) -> list[Image]:
    """Crops as a person's decoder draws them."""
    with torch.inference_mode():
        return as_images(model.decoders[person](model.encoder(undistorted(crops, torch.device("cpu")))))


def as_images(pictures: torch.Tensor) -> list[Image]:
    """Turn (N, 3, H, W) in [0, 1] into N images, (H, W, 3) uint8."""
    return list((pictures.permute(0, 2, 3, 1).numpy() * 255).round().astype(np.uint8))


if __name__ == "__main__":
    sys.exit(main())
