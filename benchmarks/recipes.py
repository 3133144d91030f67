"""Train pairs of clips in several ways, each for the same processor time, and judge swaps of faces not trained on.

    python -m benchmarks.recipes [--pair men] [--minutes 30] [--recipes reference hd128]

``RECAST_TEST_DATA`` names the folder of clips. Every recipe runs on one core; the steps that fit into the time are
found by timing some. A model that exists is not trained again, only judged: at the crop's 180 px, as convert draws.
"""

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import torch
import tyro
from skimage.metrics import structural_similarity

from benchmarks.measuring import DATA, ROOT, Row, as_markdown, evenly_spread, require_clips
from benchmarks.quality import run_shown
from benchmarks.swap_measures import (
    eye_opening,
    identity,
    likeness,
    meshes,
    mouth_opening,
    sheet,
)
from models import checkpoint
from models.checkpoint import HeldOut, Model
from pipeline.console import NullConsole
from pipeline.converting.swapper import Swapper
from pipeline.faces.alignment import SEEN, SEEN_PX, shrink_seen
from pipeline.media.pictures import write_picture
from pipeline.training.augment import weight_map
from pipeline.training.dataset import load_faces
from pipeline.training.evaluation import EYES_WEIGHT, as_crops, eye_sharpness, put_in
from pipeline.training.holdout import split_faces
from pipeline.types import Image
from pipeline.workspace import Workspace

PAIRS = {
    "women": {"womA": "pairs/womA_lp_d6.mp4", "womB": "pairs/womB_lp_d10.mp4"},
    "men": {"manA": "pairs/manA_lp_d9.mp4", "manB": "pairs/manB_lp_d13.mp4"},
}
SHORT = ["--inner-loop", "1", "-b", "8", "--lr", "3e-4", "--lr-schedule", "cosine"]
HD128 = ["--network", "hd128", "--base", "none", *SHORT]
RECIPES: dict[str, list[str]] = {
    "reference": ["--interleave", "--loss", "l1+ssim", *SHORT],
    "reference weighted": ["--interleave", "--loss", "weighted", *SHORT],
    "hd128": HD128,
    "hd128 finish": [*HD128, "--finish", "0.25"],
    "hd128 6e-4": [*HD128, "--lr", "6e-4"],
    "quick": ["--recipe", "quick"],
    "hd192": ["--network", "hd192", *SHORT],
    "hd192 from nothing": ["--network", "hd192", "--base", "none", *SHORT],
    "quick, colours varied": ["--recipe", "quick", "--augment-color"],
}
TIMED_STEPS = (10, 40)
REFERENCES = 20  # crops that say who a person is
JUDGED, SHOWN = 24, 8  # held-out faces of each person
_WEIGHTS = weight_map()[0, 0, SEEN, SEEN].numpy()
FACE, EYES = _WEIGHTS > 0.6, _WEIGHTS > EYES_WEIGHT


@dataclass(frozen=True)
class Options:
    """Compare ways of training."""

    pair: Literal["women", "men"] = "men"
    """Who is trained."""
    minutes: float = 30
    """Processor time for each recipe."""
    recipes: tuple[str, ...] = ("reference", "hd128")
    """Which to compare."""
    seed: int = 1
    """Of the training."""
    workspace: Path = Path("benchmarks/results/recipes")
    """Where the pairs are extracted and trained."""


def main() -> int:
    """Do all of it; return the exit code."""
    options = tyro.cli(Options, prog="python -m benchmarks.recipes", description=__doc__)
    require_clips()
    workspace = Workspace(options.workspace / options.pair)
    for person, clip in PAIRS[options.pair].items():
        run_shown(workspace.root, "extract", DATA / clip, "--person", person)
    names = {recipe: f"{recipe} {options.minutes:g} {options.seed}".replace(" ", "_") for recipe in options.recipes}
    for recipe, name in names.items():
        if not checkpoint.exists(workspace.model(name)):
            train(workspace, name, [*RECIPES[recipe], "--seed", str(options.seed)], options.minutes)
    rows, tiles = judge(workspace, names)
    write_picture(workspace.root / "recipes.png", sheet(tiles))
    print(as_markdown(rows), f"\nsheet to look at: {workspace.root}/recipes.png")
    return 0


def train(workspace: Workspace, name: str, arguments: Sequence[str], minutes: float) -> None:
    """Train a new model for some minutes of processor time of one core."""
    command = [sys.executable, "cli.py", "train", *arguments, "--workspace", str(workspace.root.resolve())]

    def run(name: str, steps: int) -> float:
        limits = ["-n", name, "--max-steps", str(steps), "--max-minutes", "99999", "--keep", "1"]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run([*command, *limits], cwd=ROOT, env=environment, check=True, stderr=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    few, many = (run(f"{name}_timed_{steps}", steps) for steps in TIMED_STEPS)
    for steps in TIMED_STEPS:
        shutil.rmtree(workspace.model(f"{name}_timed_{steps}"))
    seconds_per_step = (many - few) / (TIMED_STEPS[1] - TIMED_STEPS[0])
    print(f"{name}: {seconds_per_step:.3f} s of processor time a step", flush=True)
    took = run(name, round(minutes * 60 / seconds_per_step))
    print(f"{name}: {took / 60:.1f} minutes of processor time", flush=True)


def judge(workspace: Workspace, names: Mapping[str, str]) -> tuple[list[Row], dict[str, list[Image]]]:
    """Judge models, by recipe; return a row for each direction, and rows of faces to look at."""
    faces = load_faces(workspace.data, NullConsole(), workspace.root / "spill")
    splits, _ = split_faces(faces.files, HeldOut())
    held = {person: as_crops(faces.people[person][split.held]) for person, split in splits.items()}
    known = {person: as_crops(faces.people[person][split.trained]) for person, split in splits.items()}
    rows, tiles = list[Row](), dict[str, list[Image]]()
    for person, held_crops in held.items():
        other = next(name for name in held if name != person)
        crops = evenly_spread(held_crops, JUDGED)
        references = {name: evenly_spread(known[name], REFERENCES) for name in held}
        tiles[f"{person} as filmed"] = [seen(crop) for crop in evenly_spread(crops, SHOWN)]
        for recipe, name in names.items():
            model, filmed = checkpoint.load(workspace.model(name)), eye_sharpness(crops)
            redrawn, swapped = draw(model, person, crops), draw(model, other, crops)
            samples = sum(state.samples for state in model.trained.values())
            rows.append(
                {
                    "recipe": recipe,
                    "samples": samples,
                    "faces of": person,
                    **compare(crops, redrawn),
                    "eyes": eye_sharpness(put_in(crops, redrawn)) / filmed,
                    "eyes of swaps": eye_sharpness(put_in(crops, swapped)) / filmed,
                    **compare_swaps(crops, swapped, references[other], references[person]),
                }
            )
            for kind, pictures in (("itself", redrawn), (other, swapped)):
                tiles[f"{person} as {kind}: {recipe}"] = evenly_spread(pictures, SHOWN)
    return rows, tiles


def seen(crop: Image) -> Image:
    """The part of a crop that the model sees, 180 px."""
    return crop[SEEN, SEEN].copy()


def draw(model: Model, person: str, crops: Sequence[Image]) -> list[Image]:
    """Draw crops with a person's decoder, as convert does; 180 px each."""
    swapper = Swapper(model, [person], torch.device("cpu"))
    size, is_smoothed = swapper.picture_px, swapper.is_smoothed
    drawings = swapper.swap(
        [shrink_seen(seen(crop), size, is_smoothed=is_smoothed) for crop in crops], [person] * len(crops)
    )
    side, how = (SEEN_PX, SEEN_PX), cv2.INTER_LANCZOS4
    return [np.asarray(cv2.resize(drawing.face, side, interpolation=how), np.uint8) for drawing in drawings]


def compare(crops: Sequence[Image], redrawn: Sequence[Image]) -> Row:
    """Compare faces drawn by their own decoder with themselves."""
    differences, similarities = [], []
    for crop, drawn in zip(crops, redrawn, strict=True):
        original = seen(crop)
        differences.append(np.abs(original.astype(float) - drawn).mean(axis=2) / 255)
        _, similarity = structural_similarity(original, drawn, win_size=11, channel_axis=2, full=True)  # type: ignore[no-untyped-call]
        similarities.append(similarity.mean(axis=2))
    return {
        "L1 face": float(np.mean([difference[FACE].mean() for difference in differences])),
        "SSIM face": float(np.mean([similarity[FACE].mean() for similarity in similarities])),
        "SSIM eyes": float(np.mean([similarity[EYES].mean() for similarity in similarities])),
    }


def compare_swaps(
    crops: Sequence[Image], swapped: Sequence[Image], to_references: Sequence[Image], from_references: Sequence[Image]
) -> Row:
    """Measure whose face swaps show, and whether they do what the original does."""
    whole = put_in(crops, swapped)
    filmed, drawn = meshes(crops), meshes(whole)
    return {
        "to": identity(whole, to_references),
        "from": identity(whole, from_references),
        "mouth": likeness(mouth_opening(filmed), mouth_opening(drawn)),
        "lids": likeness(eye_opening(filmed), eye_opening(drawn)),
    }


if __name__ == "__main__":
    sys.exit(main())
