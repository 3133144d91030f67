"""Faces split into those to train on and those held out for validation.

Validation faces are ranges of frames, known by file names alone: a crop's name has video, frame and track; in any other
name the last number counts as the frame. The model remembers the ranges held out and all frames it was trained on
(``checkpoint.HeldOut``), so that no face is ever used for both, whatever is deleted, added or moved between people.
"""

import hashlib
import math
import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import torch

from models.checkpoint import HeldOut, Ranges

HELD_OUT_SHARE = 0.05  # of a person's faces
MIN_FACES = 100  # of a person; of fewer, none are held out
TOP_UP = 5  # faces; more are held out only if at least this many are missing
BLOCK = 25  # faces held out per block
MAX_BLOCKS = 4
GAP = 5  # faces, and frames, on either side of a block that are not used: they resemble both sides
_CROP = re.compile(r"(.+)_(\d{6,})_(\d+)", re.ASCII)  # <video>_<frame>_<track>, as extract names them
_NUMBERED = re.compile(r"(.*?)(\d+)(\D*)", re.ASCII | re.DOTALL)


@dataclass(frozen=True, order=True)
class Origin:
    """Where a face comes from, read from its file name alone."""

    video: str
    frame: int
    track: str

    @classmethod
    def of(cls, name: str) -> "Origin":
        """Parse a file name; its suffix does not count."""
        stem = Path(name).stem
        if crop := _CROP.fullmatch(stem):
            return cls(crop[1], int(crop[2]), crop[3])
        if numbered := _NUMBERED.fullmatch(stem):
            return cls(f"{numbered[1]}#{numbered[3]}", int(numbered[2]), "")
        return cls(stem, 0, "")

    @property
    def series(self) -> str:
        """Key under which the model remembers frames: a track, or a series of numbered pictures."""
        return f"{self.video}/{self.track}" if self.track else self.video


class Split(NamedTuple):
    """Indices of a person's faces, int64, ascending; faces in neither are not used."""

    trained: torch.Tensor
    held: torch.Tensor


def split_faces(
    names: Mapping[str, Sequence[str]], memory: HeldOut | None, seen: Iterable[str] = ()
) -> tuple[dict[str, Split], HeldOut]:
    """Split faces so that no validation face was ever trained on, or is next to a training face.

    Args:
        names: by person, the file names of the faces.
        memory: what the model remembers; None if it was trained before this was recorded.
        seen: people that such a model was trained on; all faces they have now count as trained on.

    Returns:
        The splits by person, and what the model must remember from now on.
    """
    origins = {person: [Origin.of(name) for name in files] for person, files in sorted(names.items())}
    if memory is None:
        memory = HeldOut(trained=_add({}, [origin for person in seen for origin in origins.get(person, ())]))
    for faces in origins.values():
        memory = _hold_out_more(faces, memory)
    splits = {person: _split(faces, memory) for person, faces in origins.items()}
    trained = [origins[person][i] for person, split in splits.items() for i in split.trained.tolist()]
    return splits, HeldOut(memory.held, _add(memory.trained, trained))


def _split(origins: Sequence[Origin], memory: HeldOut) -> Split:
    held = [_is_in(memory.held, origin) for origin in origins]
    trained, validation = [], []
    for i, (origin, is_held, is_near) in enumerate(zip(origins, held, _near(origins, held), strict=True)):
        if not is_near and not _is_in(memory.held, origin, GAP):
            trained.append(i)
        if is_held and not _is_in(memory.trained, origin):
            validation.append(i)
    return Split(torch.tensor(trained, dtype=torch.int64), torch.tensor(validation, dtype=torch.int64))


def _hold_out_more(origins: Sequence[Origin], memory: HeldOut) -> HeldOut:
    """Hold out the validation faces that a person lacks, from faces that the model has not seen.

    Blocks of consecutive faces are taken in the order of a hash of their names, the same in every process.
    """
    held = [_is_in(memory.held, origin) for origin in origins]
    usable = sum(is_held and not _is_in(memory.trained, origin) for origin, is_held in zip(origins, held, strict=True))
    missing = round(len(origins) * HELD_OUT_SHARE) - usable
    if len(origins) < MIN_FACES or missing < TOP_UP:
        return memory
    is_seen = [_is_in(memory.trained, origin, GAP) for origin in origins]
    is_free = [not any(claims) for claims in zip(held, is_seen, _near(origins, is_seen), strict=True)]
    order = sorted(range(len(origins)), key=origins.__getitem__)
    runs = [list(run) for (free, _), run in groupby(order, lambda i: (is_free[i], origins[i].video)) if free]
    length = math.ceil(missing / min(max(missing // BLOCK, 1), MAX_BLOCKS))
    blocks = [[origins[i] for i in run[start : start + length]] for run in runs for start in range(0, len(run), length)]
    ranges = memory.held
    for block in sorted(blocks, key=_rank):
        ranges = _add(ranges, block[:missing], with_frames_between=True)
        missing -= min(missing, len(block))
    return HeldOut(ranges, memory.trained)


def _rank(block: Sequence[Origin]) -> bytes:
    return hashlib.sha256(f"{block[0].series} {block[0].frame}".encode(errors="surrogateescape")).digest()


def _near(origins: Sequence[Origin], marked: Sequence[bool]) -> list[bool]:
    """Mark the neighbours of marked faces, by frame or by order."""
    near = [False] * len(origins)
    order = sorted(range(len(origins)), key=origins.__getitem__)
    for direction in (order, order[::-1]):
        last, faces_since = None, 0
        for i in direction:
            if marked[i]:
                last, faces_since = origins[i], 0
            elif last is not None and last.video == origins[i].video:
                faces_since += 1
                near[i] |= faces_since <= GAP or abs(origins[i].frame - last.frame) <= GAP
    return near


def _is_in(ranges: Mapping[str, Ranges], origin: Origin, within: int = 0) -> bool:
    """Return whether a frame is in one of its series' ranges, or at most ``within`` frames from one."""
    series = ranges.get(origin.series, ())
    i = bisect_right(series, origin.frame + within, key=lambda ends: ends[0])
    return i > 0 and series[i - 1][1] >= origin.frame - within


def _add(
    ranges: Mapping[str, Ranges], origins: Sequence[Origin], *, with_frames_between: bool = False
) -> dict[str, Ranges]:
    """Add frames to ranges, each in its series."""
    frames: dict[str, list[int]] = {}
    for origin in origins:
        frames.setdefault(origin.series, []).append(origin.frame)
    added = dict(ranges)
    for series, numbers in frames.items():
        new = [(min(numbers), max(numbers))] if with_frames_between else [(number, number) for number in numbers]
        merged: list[tuple[int, int]] = []
        for first, last in sorted([*ranges.get(series, ()), *new]):
            if merged and first <= merged[-1][1] + 1:
                merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
            else:
                merged.append((first, last))
        added[series] = tuple(merged)
    return added
