"""Run the demo: make two clips, extract, train, convert, and show the result.

    python -m demo [--minutes 8] [--workspace demo-workspace]

Every step is the command a user would type, shown before it runs.
"""

import shutil
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import cv2
import numpy as np
import tyro

from demo.children import Children, run
from demo.clips import COLLINS, HOPPER, make_clip
from pipeline.errors import RecastError
from pipeline.media.pictures import write_picture
from pipeline.media.reader import VideoReader
from pipeline.types import Image

FRAMES = 200  # of each clip: 8 seconds
RESERVED_MINUTES = 0.9  # for saving, converting twice and the contact sheet
SHORTEST_TRAINING_MINUTES = 0.3
TRAINING = {
    "hd128": ["--recipe", "quick"],
    "reference": [
        *("--inner-loop", "1", "-b", "8", "--lr", "3e-4", "--log-interval", "20"),
        *("--interleave", "--loss", "l1+ssim", "--lr-schedule", "cosine"),
    ],
}
LOOK = ["--erode", "-4", "--feather", "6"]  # covers the ends of the glasses
SHOWN = 6  # frames on the contact sheet
TILE_PX = 240


@dataclass(frozen=True)
class Options:
    """Swap two portraits' faces, from nothing to a finished video."""

    minutes: float = 8
    """About how long it may take in all; most of it is training."""
    network: Literal["hd128", "reference"] = "hd128"
    """Network to train: the one that draws 128 px, or the reference tool's."""
    workspace: Path = Path("demo-workspace")
    """Folder for all that the demo makes; an earlier demo's is replaced."""


def main() -> int:
    """Run all steps; return the exit code."""
    options = tyro.cli(Options, prog="python -m demo", description=__doc__)
    if not 0 < options.minutes < 100_000:
        print(f"error: --minutes {options.minutes:g}: must be above 0, below 100000", file=sys.stderr)
        return 2
    children, began = Children(), time.monotonic()
    root = options.workspace
    shutil.rmtree(root, ignore_errors=True)
    clips = {portrait.name: root / "clips" / f"{portrait.name}.mp4" for portrait in (HOPPER, COLLINS)}
    for portrait in (HOPPER, COLLINS):
        make_clip(portrait, clips[portrait.name], FRAMES)
        print(f"made {clips[portrait.name]} from the portrait in {portrait.package}")
    run(children, "extract", *map(str, clips.values()), "--workspace", str(root))
    remaining = options.minutes - (time.monotonic() - began) / 60 - RESERVED_MINUTES
    minutes = f"{max(remaining, SHORTEST_TRAINING_MINUTES):.2f}"
    run(children, "train", *TRAINING[options.network], "--max-minutes", minutes, "--workspace", str(root))
    result, both = root / "converted" / "hopper_to_collins.mp4", root / "side_by_side.mp4"
    swap = [str(clips["hopper"]), "--from", "hopper", "--to", "collins", *LOOK]
    run(children, "convert", *swap, "-o", str(result), "--workspace", str(root))
    run(children, "convert", *swap, "--side-by-side", "-o", str(both), "--workspace", str(root))

    sheet = root / "contact_sheet.png"
    write_picture(sheet, contact_sheet([clips["hopper"], result, clips["collins"]]))
    print(f"\ndemo finished in {(time.monotonic() - began) / 60:.1f} minutes; look at")
    print(f"  {sheet}   rows: Grace Hopper, the swap, Eileen Collins")
    print(f"  {both}   before and after, with sound")
    print(f"  {result}   the finished video")
    return 0


def contact_sheet(videos: Iterable[Path]) -> Image:
    """Show the same moments of several videos, a row each.

    Returns:
        (rows * 240, 6 * 240, 3) BGR.
    """
    return cast(Image, cv2.vconcat([cv2.hconcat(_sampled_frames(video)) for video in videos]))


def _sampled_frames(video: Path) -> list[Image]:
    indices = set(np.linspace(0, FRAMES - 1, SHOWN).round().astype(int).tolist())
    with VideoReader(video) as reader:
        frames = [frame.image for frame in reader if frame.index in indices]
    return [cast(Image, cv2.resize(frame, (TILE_PX, TILE_PX), interpolation=cv2.INTER_AREA)) for frame in frames]


if __name__ == "__main__":
    try:
        sys.exit(main())
    except RecastError as error:
        sys.exit(f"error: {error}")
