"""Which faces of a person are kept from training, to judge by how it goes.

The name of a face's file says which moment it shows: a crop's names the frame of a track, in any other it is the last
number. Ranges of moments are held out. The model remembers them and all it was trained on (``checkpoint.HeldOut``), so
the choice holds whatever is deleted, added or moved to another person: a face once trained on is never judged by, and
one once held out is never trained on.

All faces of all people, decoded once: into memory, or where they would fill it, into a file that is mapped.

Faces of a batch brought to where they are computed on, with how they are to be distorted.
"""

import hashlib
import math
import os
import re
import shutil
import tempfile
from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import numpy as np
import psutil
import torch

from models.checkpoint import HeldOut, Ranges
from pipeline.console import Console, join_words
from pipeline.errors import MediaError, NothingToDoError, WorkspaceError
from pipeline.faces.alignment import CROP_PX, as_crop
from pipeline.faces.people import is_unsure
from pipeline.media.pictures import read_picture
from pipeline.names import check_people
from pipeline.training.augment import Augmentation, Draw, draw_transforms, make_pairs
from pipeline.training.distributed import processes_here
from pipeline.training.sampler import Batch, generator
from pipeline.training.trainer import Computing, Portion
from pipeline.types import Samples
from pipeline.workspace import list_people, list_pictures

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


DECODERS = 4  # threads; decoding lets go of Python's lock
FACE_BYTES = 3 * CROP_PX * CROP_PX
MOST_OF_MEMORY = 0.5  # of what is free; the networks need some too
MOST_OF_GPU = 0.4  # likewise


@dataclass
class Faces:
    """The training set.

    Attributes:
        folder: of the people's folders.
        people: by name, (N, 3, 256, 256) uint8 BGR.
        files: by name, the names of the files these were read from, N of them.
        unreadable: what was left out, and why, a line each.
    """

    folder: Path
    people: dict[str, torch.Tensor] = field(default_factory=dict)
    files: dict[str, list[str]] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)


class Feed:
    """Hands out faces on the device that trains: from there if they fit, else copied while it computes.

    Args:
        people: by name, (N, 3, 256, 256) uint8.
        device: where faces are wanted.
    """

    def __init__(self, people: Mapping[str, torch.Tensor], device: torch.device) -> None:
        self._device = device
        size = sum(crops.numel() for crops in people.values())
        fits = device.type == "cuda" and size < MOST_OF_GPU * torch.cuda.mem_get_info(device)[0]
        self._people = {person: crops.to(device) for person, crops in people.items()} if fits else people

    def faces(self, person: str, places: torch.Tensor) -> torch.Tensor:
        """Fetch some faces of a person.

        Args:
            person: whose.
            places: (N,) int64, on the CPU.

        Returns:
            (N, 3, 256, 256) uint8, on the device.
        """
        crops = self._people[person]
        if crops.device.type == self._device.type:
            return crops[places.to(self._device, non_blocking=True)]
        return crops[places].pin_memory().to(self._device, non_blocking=True)


def load_faces(data_dir: Path, console: Console, spill: Path, chosen: Collection[str] = ()) -> Faces:
    """Read every picture of a folder of per-person folders; pictures of any size are brought to 256 x 256 px.

    Folders of faces that extract could not tell whose they are (``<video>-unsure``) are left out.

    Args:
        data_dir: the folder.
        console: shows how far it is.
        chosen: people to read; all where there are none. One may train alone if it is chosen.
        spill: folder for a file of the faces, where they would fill the memory; it goes when this process ends.

    Raises:
        NothingToDoError: there are fewer than two people with a readable picture.
        WorkspaceError: a model cannot have somebody of a folder's name, or the faces fit neither into memory nor on the
            disk.
    """
    if not data_dir.is_dir():
        raise NothingToDoError(
            f"there is no folder {data_dir}; name another with -d, or for the workspace's own data run: "
            "python cli.py extract VIDEO --person NAME"
        )
    people = [person for person in list_people(data_dir) if not is_unsure(person)]
    for missing in (person for person in chosen if person not in people):
        raise NothingToDoError(
            f"--people: no faces of {missing!r} in {data_dir}; there: {join_words(people) or 'nobody'}"
        )
    people = sorted(chosen) or people
    check_people(people, (), f"the folder {data_dir}/{{}}")
    paths = {person: list_pictures(data_dir / person) for person in people}
    faces = Faces(data_dir)
    room = _room_for([len(pictures) for pictures in paths.values()], spill)
    with _decoders() as pool, console.bar("read faces", sum(map(len, paths.values())), "face") as bar:
        for (person, pictures), crops in zip(paths.items(), room, strict=True):
            names: list[str] = []
            for place, error in enumerate(pool.map(_read_crop, pictures, crops)):
                bar.advance()
                if error is not None:
                    faces.unreadable.append(error)
                    continue
                if len(names) != place:  # one before it could not be read
                    crops[len(names)] = crops[place]
                names.append(pictures[place].name)
            if names:
                faces.people[person], faces.files[person] = torch.from_numpy(crops[: len(names)]), names
    if len(faces.people) < (1 if chosen else 2):
        raise NothingToDoError(_too_few(data_dir, list(faces.people), faces.unreadable))
    return faces


@contextmanager
def _decoders() -> Iterator[ThreadPoolExecutor]:
    """Threads that read pictures; when the block is left early, those not begun are not read first."""
    with ThreadPoolExecutor(DECODERS) as pool:
        try:
            yield pool
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _room_for(counts: Sequence[int], spill: Path) -> list[Samples]:
    """Make room for so many faces of each person: in memory, or mapped from a file without a name."""
    shapes = [(count, 3, CROP_PX, CROP_PX) for count in counts]
    size = sum(counts) * FACE_BYTES
    if size <= MOST_OF_MEMORY * psutil.virtual_memory().available / processes_here():
        return [np.empty(shape, np.uint8) for shape in shapes]
    try:
        spill.mkdir(parents=True, exist_ok=True)
        if size > shutil.disk_usage(spill).free:
            raise OSError(f"{size / 1e9:.0f} GB are needed")
        with tempfile.TemporaryFile(dir=spill) as file:  # what is mapped from it outlives it
            file.truncate(size)
            if hasattr(os, "posix_fallocate"):  # now, for a full disk would end the process later
                os.posix_fallocate(file.fileno(), 0, size)
            mapped = np.memmap(file, np.uint8, "r+")
    except OSError as error:
        raise WorkspaceError(
            f"{sum(counts)} faces fit neither into memory nor into {spill} ({error}); make room, or use fewer faces"
        ) from error
    parts = np.split(mapped, np.cumsum(counts[:-1]) * FACE_BYTES)
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


def _read_crop(path: Path, crop: Samples) -> str | None:
    """Read a picture into its (3, 256, 256) place; say so where that cannot be done."""
    try:
        crop[...] = as_crop(read_picture(path)).transpose(2, 0, 1)
    except MediaError as error:
        return str(error)
    return None


def _too_few(data_dir: Path, people: list[str], unreadable: list[str]) -> str:
    there = f"only of {people[0]!r}" if people else "of nobody"
    spoilt = f", and {len(unreadable)} pictures cannot be read (the first: {unreadable[0]})" if unreadable else ""
    return (
        f"training needs faces of two people, and {data_dir} has faces {there}{spoilt}; "
        f"put the pictures of each into a folder there, or for the workspace's own data run: "
        "python cli.py extract VIDEO --person NAME"
    )


@dataclass(frozen=True)
class Fetched:
    """One person's faces of a batch, or this process's share of them.

    Attributes:
        crops: (N, 3, 256, 256) uint8, on the device.
        draw: how they are to be distorted.
        samples: the person's faces in the whole batch.
        share: how much of these are here.
    """

    crops: torch.Tensor
    draw: Draw
    samples: int
    share: float

    def portion(self) -> Portion:
        """Make what a step learns from."""
        return Portion(make_pairs(self.crops, self.draw), self.samples, self.share)


class Fetcher:
    """Brings batches.

    Args:
        people: by name, (N, 3, 256, 256) uint8.
        trained_on: by name, places of the faces that the schedule counts.
        seed: where distortions come from.
        computing: where faces are wanted, and by which processes.
    """

    def __init__(
        self,
        people: Mapping[str, torch.Tensor],
        trained_on: Mapping[str, torch.Tensor],
        seed: int,
        computing: Computing,
    ) -> None:
        self._feed, self._places = Feed(people, computing.device), trained_on
        self._seed, self._processes = seed, computing.processes

    def fetch(self, batch: Batch) -> dict[str, Fetched]:
        """Bring this process's share of a batch to the device, and draw how it is distorted; by person."""
        here, fetched = batch.here, {}
        for number, (person, faces) in enumerate(batch.faces.items(), 1):
            count = len(faces)
            chance = generator(self._seed, here.epoch, here.visit, here.inner, here.batch, number)
            turn, grid = draw_transforms(count, Augmentation(), chance)
            mine = self._processes.share(count)
            share = (mine.stop - mine.start) / count
            if not share:  # fewer faces than processes
                mine = slice(0, 1)
            crops = self._feed.faces(person, self._places[person][faces[mine]])
            fetched[person] = Fetched(crops, (turn[mine], grid[mine]), count, share)
        return fetched
