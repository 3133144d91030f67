"""Train on a pair of clips, convert both ways with several looks, and measure how good the swaps are.

    python -m benchmarks.quality [--minutes 60] [--workspace benchmarks/results/quality]

Clips and the plain way are found through ``RECAST_TEST_DATA`` and ``RECAST_PLAIN`` as in ``python -m benchmarks``.
Typed again, it trains for as many minutes more; ``--minutes 0`` measures the model as it is.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import tyro

from benchmarks.__main__ import DATA, PLAIN, ROOT, require_data
from benchmarks.judging import (
    corners_in_crop_px,
    eye_opening,
    head_jitter,
    identity,
    jitter,
    likeness,
    meshes,
    mouth_opening,
    seam,
    sheet,
)
from benchmarks.table import Row, as_markdown
from models import checkpoint
from pipeline.converting.timeline import Timeline
from pipeline.faces.alignment import align, cut_crop
from pipeline.faces.footage import name_footage
from pipeline.media.pictures import read_picture, write_picture
from pipeline.media.probe import probe
from pipeline.media.reader import VideoReader
from pipeline.types import Affine, Image
from pipeline.workspace import Workspace, list_pictures

T = TypeVar("T")

PAIR = {"womA": "pairs/womA_lp_d6.mp4", "womB": "pairs/womB_lp_d10.mp4"}
STEADY = ("pairs/manE_obama_address.mp4", "pairs/manA_lp_d9.mp4")
TRAINING = ["--inner-loop", "1", "-b", "16", "--lr", "3e-4", "--log-interval", "20"]
LOOKS: dict[str, list[str]] = {
    "as it comes": [],
    "color none": ["--color", "none"],
    "color mean": ["--color", "mean"],
    "color lab-hist": ["--color", "lab-hist"],
    "mask mesh": ["--mask", "mesh"],
    "poisson": ["--blend", "poisson"],
    "sharpen 1, match-grain": ["--sharpen", "1", "--match-grain"],
}
KNOWN = 20  # crops that say who a person is
JUDGED, SHOWN = 24, 8  # frames whose identity is measured, and that are on the sheet


@dataclass(frozen=True)
class Options:
    """Measure how good swaps are."""

    minutes: float = 60
    """How long to train before; 0 measures the model as it is."""
    workspace: Path = Path("benchmarks/results/quality")
    """Where the pair is extracted, trained and converted."""


def main() -> int:
    """Do all of it; return the exit code."""
    options = tyro.cli(Options, prog="python -m benchmarks.quality", description=__doc__)
    require_data()
    for person, clip in PAIR.items():
        _run(options, "extract", DATA / clip, "--person", person)
    if options.minutes:
        _run(options, "train", *TRAINING, "--max-minutes", str(options.minutes))
    trained = checkpoint.load(Workspace(options.workspace).model("model")).trained
    print({person: f"{one.samples} samples, L1 {one.loss:.4f}" for person, one in trained.items()})
    one, other = PAIR
    rows = [row for pair in ((one, other), (other, one)) for row in judge(options, *pair)]
    table = as_markdown([*rows, *(steadiness(DATA / clip) for clip in STEADY)])
    (options.workspace / "quality.md").write_text(table, encoding="utf-8")
    print(table, f"\nsheets to look at: {options.workspace}/quality_*.png")
    return 0


def judge(options: Options, from_person: str, to_person: str) -> list[Row]:
    """Measure one direction, with every look."""
    clip, workspace = DATA / PAIR[from_person], Workspace(options.workspace)
    timeline = Timeline(workspace, name_footage(workspace, clip), probe(clip), {from_person: to_person})
    places = {frame: swaps[0].crop_from_frame for frame, swaps in timeline.swaps(0, timeline.frame_count).items()}
    before = crops_of(clip, places)
    mesh = meshes(before)
    people = {
        person: [read_picture(path) for path in _some(list_pictures(workspace.person(person)), KNOWN)]
        for person in (from_person, to_person)
    }
    rows: list[Row] = [
        {
            "swap": f"{from_person} as filmed",
            "to the to-person": identity(_some(before, JUDGED), people[to_person]),
            "to the from-person": identity(_some(before, JUDGED), people[from_person]),
            "mouth": 1.0,
            "eyes": 1.0,
            "jitter / original's": 1.0,
            "seam": _seam(before),
        }
    ]
    shown: dict[str, Sequence[Image]] = {"original": _some(before, SHOWN)}
    for look, arguments in LOOKS.items():
        result = options.workspace / f"quality_{from_person}_to_{to_person}.mp4"
        _run(options, "convert", clip, "--from", from_person, "--to", to_person, "-o", result, *arguments)
        after = crops_of(result, places)
        made = meshes(after)
        rows.append(
            {
                "swap": f"{from_person} to {to_person}, {look}",
                "to the to-person": identity(_some(after, JUDGED), people[to_person]),
                "to the from-person": identity(_some(after, JUDGED), people[from_person]),
                "mouth": likeness(mouth_opening(mesh), mouth_opening(made)),
                "eyes": likeness(eye_opening(mesh), eye_opening(made)),
                "jitter / original's": head_jitter(made) / head_jitter(mesh),
                "seam": _seam(after),
            }
        )
        shown[look] = _some(after, SHOWN)
    shown[to_person] = _some(people[to_person], SHOWN)
    write_picture(options.workspace / f"quality_{from_person}_to_{to_person}.png", sheet(shown))
    return rows


def steadiness(clip: Path) -> Row:
    """Measure how much less crops tremble than those of the detector run on every frame, the plain way."""
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / "found.json"
        subprocess.run([sys.executable, str(PLAIN), "extract", str(clip), "--out", str(found)], check=True)
        detected = json.loads(found.read_text())
        options = Options(workspace=Path(folder) / "workspace")
        _run(options, "extract", clip, "--everyone", "everyone")
        workspace = Workspace(options.workspace)
        timeline = Timeline(workspace, name_footage(workspace, clip), probe(clip), {"everyone": "other"})
        ours = {frame: swaps[0].crop_from_frame for frame, swaps in timeline.swaps(0, timeline.frame_count).items()}
    theirs = {face["frame"]: align(np.array(face["points"])) for face in reversed(detected)}
    both = sorted(ours.keys() & theirs.keys())
    plain, smooth = (jitter(corners_in_crop_px([places[frame] for frame in both])) for places in (theirs, ours))
    return {
        "jitter of crops, px": clip.stem,
        "frames": len(both),
        "detector on every frame": plain,
        "as drawn": smooth,
        "ratio": smooth / plain,
    }


def crops_of(video: Path, places: dict[int, Affine]) -> list[Image]:
    """Cut the same parts out of every frame that has a place."""
    with VideoReader(video) as reader:
        return [cut_crop(frame.image, places[frame.index]) for frame in reader if frame.index in places]


def _seam(crops: Sequence[Image]) -> float:
    return float(np.mean([seam(crop) for crop in crops]))


def _some(items: Sequence[T], count: int) -> list[T]:
    """Take so many, evenly spread."""
    return [items[place] for place in np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int)]


def _run(options: Options, *arguments: str | Path) -> None:
    command = [sys.executable, "cli.py", *map(str, arguments), "--workspace", str(options.workspace.resolve())]
    print("$", *command[1:], flush=True)
    subprocess.run(command, cwd=ROOT, check=True)


if __name__ == "__main__":
    sys.exit(main())
