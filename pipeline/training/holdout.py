"""Which faces of a person are kept from training, to judge by how it goes.

The name of a face's file says which moment it shows: a crop's names the frame of a track, in any other it is the last
number. Ranges of moments are held out. The model remembers them and all it was trained on (``checkpoint.HeldOut``), so
the choice holds whatever is deleted, added or moved to another person: a face once trained on is never judged by, and
one once held out is never trained on.
"""

import hashlib
import math
import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import torch

from models.checkpoint import HeldOut, Ranges

HELD = 0.05  # of a person's faces
FEWEST = 100  # faces: of fewer none can be spared
TOP_UP = 5  # faces that must be lacking before more are held out
BLOCK = 25  # faces held that make another block
MOST_BLOCKS = 4
GAP = 5  # faces, and frames, on either side of a block that are neither trained on nor judged by: they look like both

_CROP = re.compile(r"(.+)_(\d{6,})_(\d+)", re.ASCII)  # <video>_<frame>_<track>, as extract names them
_NUMBERED = re.compile(r"(.*?)(\d+)(\D*)", re.ASCII | re.DOTALL)


@dataclass(frozen=True, order=True)
class Moment:
    """What a face shows, by the name of its file alone.

    Attributes:
        video: where it was taken from; faces of one video that follow each other look alike.
        number: of the frame.
        track: of the face, within the video.
    """

    video: str
    number: int
    track: str

    @classmethod
    def of(cls, name: str) -> "Moment":
        """Read the name of a file; its suffix does not count."""
        stem = Path(name).stem
        if crop := _CROP.fullmatch(stem):
            return cls(crop[1], int(crop[2]), crop[3])
        if numbered := _NUMBERED.fullmatch(stem):
            return cls(f"{numbered[1]}#{numbered[3]}", int(numbered[2]), "")
        return cls(stem, 0, "")

    @property
    def source(self) -> str:
        """What the model remembers ranges of: the track."""
        return f"{self.video}/{self.track}" if self.track else self.video


@dataclass(frozen=True)
class Split:
    """A person's faces, parted.

    Attributes:
        trained: indices of those trained on; int64, rising.
        held: indices of those held out; int64, rising.
    """

    trained: torch.Tensor
    held: torch.Tensor


def split_faces(
    names: Mapping[str, Sequence[str]], memory: HeldOut | None, seen: Iterable[str] = ()
) -> tuple[dict[str, Split], HeldOut]:
    """Part people's faces so that none judged by was ever trained on, or is a neighbour of one that is.

    Args:
        names: by person, the file names of the faces.
        memory: what the model remembers; None where it was trained before that was written down.
        seen: people whom such a model was trained on: their faces of today count as trained on.

    Returns:
        The parts, by person, and what the model is to remember from now on.
    """
    moments = {person: [Moment.of(name) for name in own] for person, own in sorted(names.items())}
    if memory is None:
        memory = HeldOut(trained=_joined({}, [one for person in seen for one in moments.get(person, ())]))
    for own in moments.values():
        memory = _hold_out_more(own, memory)
    splits = {person: _split(own, memory) for person, own in moments.items()}
    trained = [moments[person][place] for person, split in splits.items() for place in split.trained.tolist()]
    return splits, HeldOut(memory.held, _joined(memory.trained, trained))


def _split(moments: Sequence[Moment], memory: HeldOut) -> Split:
    held = [_is_in(memory.held, moment) for moment in moments]
    near = _near(moments, held)
    trained = [not (near_now or _is_in(memory.held, one, GAP)) for one, near_now in zip(moments, near, strict=True)]
    judged = [is_held and not _is_in(memory.trained, one) for one, is_held in zip(moments, held, strict=True)]
    return Split(*(torch.tensor(part, dtype=torch.bool).nonzero().flatten() for part in (trained, judged)))


def _hold_out_more(moments: Sequence[Moment], memory: HeldOut) -> HeldOut:
    """Choose what a person lacks of held-out faces, from those that the model has not seen.

    Blocks of faces that follow each other, by the rank of a hash of their names: the same in every process.
    """
    held = [_is_in(memory.held, moment) for moment in moments]
    judged = [is_held and not _is_in(memory.trained, one) for one, is_held in zip(moments, held, strict=True)]
    wanted = round(len(moments) * HELD) - sum(judged)
    if len(moments) < FEWEST or wanted < TOP_UP:
        return memory
    seen = [_is_in(memory.trained, moment, GAP) for moment in moments]
    free = [not any(claims) for claims in zip(held, seen, _near(moments, seen), strict=True)]
    order = sorted(range(len(moments)), key=moments.__getitem__)
    runs = [list(run) for (is_free, _), run in groupby(order, lambda i: (free[i], moments[i].video)) if is_free]
    length = math.ceil(wanted / min(max(wanted // BLOCK, 1), MOST_BLOCKS))
    blocks = [[moments[i] for i in run[at : at + length]] for run in runs for at in range(0, len(run), length)]
    ranges = memory.held
    for block in sorted(blocks, key=_rank):
        chosen = block[:wanted]
        wanted -= len(chosen)
        ranges = _spanned(ranges, chosen)
    return HeldOut(ranges, memory.trained)


def _rank(block: Sequence[Moment]) -> bytes:
    return hashlib.sha256(f"{block[0].source} {block[0].number}".encode(errors="surrogateescape")).digest()


def _near(moments: Sequence[Moment], marked: Sequence[bool]) -> list[bool]:
    """Say which moments are neighbours of marked ones, in time or in order."""
    near = [False] * len(moments)
    order = sorted(range(len(moments)), key=moments.__getitem__)
    for way in (order, order[::-1]):
        last, since = None, 0
        for i in way:
            if marked[i]:
                last, since = moments[i], 0
            elif last is not None and last.video == moments[i].video:
                since += 1
                near[i] |= since <= GAP or abs(moments[i].number - last.number) <= GAP
    return near


def _is_in(ranges: Mapping[str, Ranges], moment: Moment, within: int = 0) -> bool:
    """Say whether a moment is in one of its source's ranges, or so near to one."""
    own = ranges.get(moment.source, ())
    place = bisect_right(own, moment.number + within, key=lambda one: one[0])
    return place > 0 and own[place - 1][1] >= moment.number - within


def _spanned(ranges: Mapping[str, Ranges], moments: Sequence[Moment]) -> dict[str, Ranges]:
    """Add to ranges all from the first to the last of some moments, source by source."""
    ends: dict[str, list[int]] = {}
    for moment in moments:
        ends.setdefault(moment.source, []).append(moment.number)
    return {**ranges, **{s: _merged([*ranges.get(s, ()), (min(own), max(own))]) for s, own in ends.items()}}


def _joined(ranges: Mapping[str, Ranges], moments: Sequence[Moment]) -> dict[str, Ranges]:
    """Add moments, and nothing between them, to ranges."""
    more: dict[str, list[tuple[int, int]]] = {}
    for moment in moments:
        more.setdefault(moment.source, []).append((moment.number, moment.number))
    return {**ranges, **{source: _merged([*ranges.get(source, ()), *own]) for source, own in more.items()}}


def _merged(ranges: Iterable[tuple[int, int]]) -> Ranges:
    merged: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return tuple(merged)
