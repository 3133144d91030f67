"""Train on a pair of clips, convert both ways with several looks, and measure how good the swaps are.

    python -m benchmarks.quality [--minutes 60] [--workspace benchmarks/results/quality]

``RECAST_TEST_DATA`` names the folder of clips. Typed again, it trains for as many minutes more; with ``--minutes 0`` it
measures the model as it is.
"""

import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from benchmarks.measuring import DATA, ROOT, Row, as_markdown, evenly_spread, require_clips
from benchmarks.speed import detect_every_frame
from benchmarks.swap_measures import (
    corners_in_crop_px,
    eye_opening,
    flicker,
    head_jitter,
    identity,
    jitter,
    likeness,
    meshes,
    mouth_opening,
    seam,
    sheet,
)
from models import checkpoint
from pipeline.converting.timeline import Timeline
from pipeline.faces.alignment import align, cut_crop
from pipeline.faces.footage import name_footage
from pipeline.media.pictures import read_picture, write_picture
from pipeline.media.probe import probe
from pipeline.media.reader import VideoReader
from pipeline.training.evaluation import eye_sharpness
from pipeline.types import Affine, Image
from pipeline.workspace import Workspace, list_pictures

PAIR = {"womA": "pairs/womA_lp_d6.mp4", "womB": "pairs/womB_lp_d10.mp4"}
STEADY = ("pairs/manE_obama_address.mp4", "pairs/manA_lp_d9.mp4")
TRAINING = ["--recipe", "quick"]
LOOKS: dict[str, list[str]] = {
    "as it comes": [],
    "color none": ["--color", "none"],
    "color mean": ["--color", "mean"],
    "color reinhard": ["--color", "reinhard"],
    "color skin": ["--color", "skin"],
    "mask outline": ["--mask", "outline"],
    "mask mesh": ["--mask", "mesh"],
    "poisson": ["--blend", "poisson"],
    "sharpen 0.5": ["--sharpen", "0.5"],
}
REFERENCES = 20  # crops that say who a person is
MEASURED, SHOWN = 24, 8  # frames whose identity is measured, and that are on the sheet


@dataclass(frozen=True)
class Options:
    """Measure how good swaps are."""

    minutes: float = 30
    """How long to train before; 0 measures the model as it is."""
    workspace: Path = Path("benchmarks/results/quality")
    """Where the pair is extracted, trained and converted."""


def main() -> int:
    """Do all of it; return the exit code."""
    options = tyro.cli(Options, prog="python -m benchmarks.quality", description=__doc__)
    require_clips()
    extract_pair(options.workspace)
    if options.minutes:
        run_shown(options.workspace, "train", *TRAINING, "--max-minutes", str(options.minutes))
    trained = checkpoint.load(Workspace(options.workspace).model("model")).trained
    print({person: f"{state.samples} samples, L1 {state.loss:.4f}" for person, state in trained.items()})
    rows = [row for pair in (tuple(PAIR), tuple(reversed(PAIR))) for row in measure_swaps(options.workspace, *pair)]
    table = as_markdown([*rows, *(steadiness(DATA / clip) for clip in STEADY)])
    (options.workspace / "quality.md").write_text(table, encoding="utf-8")
    print(table, f"\nsheets to look at: {options.workspace}/quality_*.png")
    return 0


def extract_pair(workspace: Path) -> None:
    """Extract both clips of the pair."""
    for person, clip in PAIR.items():
        run_shown(workspace, "extract", DATA / clip, "--person", person)


def run_shown(workspace: Path, *arguments: str | Path) -> None:
    """Run a command of the tool on a workspace; it and what it says are shown."""
    command = [sys.executable, "cli.py", *map(str, arguments), "--workspace", str(workspace.resolve())]
    print("$", *command[1:], flush=True)
    subprocess.run(command, cwd=ROOT, check=True)


def measure_swaps(folder: Path, from_person: str, to_person: str) -> list[Row]:
    """Measure one direction, with every look; the first row is the original."""
    clip, workspace = DATA / PAIR[from_person], Workspace(folder)
    transforms = drawn_transforms(workspace, clip, {from_person: to_person})
    originals = crops_of(clip, transforms)
    mesh = meshes(originals)
    people = {
        person: [read_picture(path) for path in evenly_spread(list_pictures(workspace.person(person)), REFERENCES)]
        for person in (from_person, to_person)
    }

    def measure(name: str, crops: Sequence[Image]) -> Row:
        drawn = meshes(crops)
        return {
            "swap": name,
            "to the to-person": identity(evenly_spread(crops, MEASURED), people[to_person]),
            "to the from-person": identity(evenly_spread(crops, MEASURED), people[from_person]),
            "mouth": likeness(mouth_opening(mesh), mouth_opening(drawn)),
            "eyes": likeness(eye_opening(mesh), eye_opening(drawn)),
            "jitter / original's": head_jitter(drawn) / head_jitter(mesh),
            "flicker / original's": flicker(originals, crops),
            "eyes' sharpness / original's": eye_sharpness(crops) / eye_sharpness(originals),
            "seam": float(np.mean([seam(crop) for crop in crops])),
        }

    rows = [measure(f"{from_person} as filmed", originals)]
    shown = {"original": evenly_spread(originals, SHOWN)}
    for look, arguments in LOOKS.items():
        result = folder / f"quality_{from_person}_to_{to_person}.mp4"
        run_shown(folder, "convert", clip, "--from", from_person, "--to", to_person, "-o", result, *arguments)
        crops = crops_of(result, transforms)
        rows.append(measure(f"{from_person} to {to_person}, {look}", crops))
        shown[look] = evenly_spread(crops, SHOWN)
    shown[to_person] = evenly_spread(people[to_person], SHOWN)
    write_picture(folder / f"quality_{from_person}_to_{to_person}.png", sheet(shown))
    return rows


def steadiness(clip: Path) -> Row:
    """Measure how much less crops tremble than those of the detector run on every frame, the plain way."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        run_shown(folder, "extract", clip, "--everyone", "everyone")
        ours = drawn_transforms(Workspace(folder), clip, {"everyone": "other"})
    theirs = {face["frame"]: align(np.array(face["points"])) for face in reversed(detect_every_frame(clip))}
    frames = sorted(ours.keys() & theirs.keys())
    plain, drawn = (jitter(corners_in_crop_px([found[frame] for frame in frames])) for found in (theirs, ours))
    return {
        "jitter of crops, px": clip.stem,
        "frames": len(frames),
        "detector on every frame": plain,
        "as drawn": drawn,
        "ratio": drawn / plain,
    }


def drawn_transforms(workspace: Workspace, clip: Path, people: Mapping[str, str]) -> dict[int, Affine]:
    """``crop_from_frame`` of the first face that ``convert`` draws in each frame."""
    timeline = Timeline(workspace, name_footage(workspace, clip), probe(clip), people)
    return {frame: swaps[0].crop_from_frame for frame, swaps in timeline.swaps(0, timeline.frame_count).items()}


def crops_of(video: Path, transforms: Mapping[int, Affine]) -> list[Image]:
    """Cut the crops of a video, the same parts as of another."""
    with VideoReader(video) as reader:
        return [cut_crop(frame.image, transforms[frame.index]) for frame in reader if frame.index in transforms]


if __name__ == "__main__":
    sys.exit(main())
