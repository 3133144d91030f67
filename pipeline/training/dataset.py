"""The faces of a training run: loaded, and made into batches."""

import math
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import psutil
import torch

from models.checkpoint import Model, Position
from models.networks import REFERENCE, picture_px
from pipeline.console import Console, join_words
from pipeline.errors import MediaError, NothingToDoError, WorkspaceError
from pipeline.faces.alignment import CROP_PX, SEEN, SEEN_PX, as_crop
from pipeline.faces.measures import spread_evenly
from pipeline.faces.mesh import face_outline
from pipeline.faces.occlusions import OcclusionFinder
from pipeline.faces.people import is_unsure
from pipeline.media.pictures import read_picture
from pipeline.names import check_people
from pipeline.training.augment import (
    Augmentation,
    ColorChange,
    Moments,
    Pairs,
    PictureFormat,
    Regions,
    draw_color_changes,
    draw_transforms,
    make_pairs,
    measure_colors,
)
from pipeline.training.distributed import Processes, local_process_count
from pipeline.training.holdout import split_faces
from pipeline.training.sampler import Sampler, generator
from pipeline.types import Points, Samples
from pipeline.workspace import list_people, list_pictures

DECODERS = 4  # threads; decoding releases Python's lock
MEMORY_SHARE = 0.5  # of the free memory; the networks need some too
GPU_SHARE = 0.4  # of the GPU's free memory

COLOR_SAMPLES = 50  # faces of a person whose colours are measured
FIND_AT_ONCE = 32  # crops in which covered parts are looked for
COVERED_PX = CROP_PX // 2  # side of a map of what is covered in a crop


@dataclass
class Faces:
    """The faces of a data folder.

    Attributes:
        folder: contains a folder per person.
        people: by name, (N, 3, S, S) uint8 BGR.
        files: by name, the names of the files these were read from, N of them.
        outlines: by name, (N, P, 2), the edges of the faces in px of a 256 crop; empty if not asked for.
        covered: by name and index, (S, S) in [0, 1], where something is in front of a face; others are left out.
        unreadable: pictures left out, with the reason, a line each.
        small: number of faces that have fewer px than the network draws.
    """

    folder: Path
    people: dict[str, torch.Tensor] = field(default_factory=dict)
    files: dict[str, list[str]] = field(default_factory=dict)
    outlines: dict[str, torch.Tensor] = field(default_factory=dict)
    covered: dict[str, dict[int, torch.Tensor]] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)
    small: int = 0


@dataclass(frozen=True)
class FaceFormat:
    """How faces are read for a network.

    Attributes:
        crop_px: side to which all crops are brought.
        needed_px: side of a crop in which the network's pictures are no enlargement.
        has_outlines: whether the edges of the faces are needed too.
        finder: finds what is in front of the faces; None if nobody needs to know.
    """

    crop_px: int = CROP_PX
    needed_px: int = 0
    has_outlines: bool = False
    finder: OcclusionFinder | None = None

    @classmethod
    def of(cls, network: str, finder: OcclusionFinder | None = None) -> "FaceFormat":
        """What a network needs."""
        if network == REFERENCE:
            return cls()
        needed_px = math.ceil(picture_px(network) * CROP_PX / SEEN_PX)
        return cls(CROP_PX if needed_px <= CROP_PX else 2 * CROP_PX, needed_px, True, finder)


def load_faces(
    data_dir: Path,
    console: Console,
    mmap_dir: Path,
    chosen: Collection[str] = (),
    face_format: FaceFormat = FaceFormat(),
) -> Faces:
    """Read face pictures of any size from per-person folders; faces that extract could not identify are left out.

    Args:
        data_dir: the folder.
        console: shows progress.
        mmap_dir: for a temporary memory-mapped file, if the faces do not fit into memory.
        chosen: people to read; all if empty. One person is enough if chosen.
        face_format: what the network needs.

    Raises:
        NothingToDoError: there are fewer than two people with a readable picture.
        WorkspaceError: the faces fit neither into memory nor on the disk.
    """
    if not data_dir.is_dir():
        raise NothingToDoError(
            f"there is no folder {data_dir}; choose another with -d, or for the workspace's own data run: "
            "python cli.py extract VIDEO --person NAME"
        )
    people = [person for person in list_people(data_dir) if not is_unsure(person)]
    for missing in (person for person in chosen if person not in people):
        raise NothingToDoError(
            f"--people: no faces of {missing!r} in {data_dir}; it has: {join_words(people) or 'nobody'}"
        )
    people = sorted(chosen) or people
    check_people(people, (), f"the folder {data_dir}/{{}}")  # before the pictures are read, which may take long
    paths = {person: list_pictures(data_dir / person) for person in people}
    faces = Faces(data_dir)
    arrays = _allocate([len(pictures) for pictures in paths.values()], face_format.crop_px, mmap_dir)
    with _decoders() as pool, console.bar("read faces", sum(map(len, paths.values())), "face") as bar:
        for (person, pictures), crops in zip(paths.items(), arrays, strict=True):
            read = partial(_read_crop, face_format=face_format)
            names, outlines = list[str](), list[Points]()
            for i, face in enumerate(pool.map(read, pictures, crops)):
                bar.advance()
                if isinstance(face, str):
                    faces.unreadable.append(face)
                    continue
                if len(names) != i:  # close the gap that an unreadable picture left
                    crops[len(names)] = crops[i]
                names.append(pictures[i].name)
                outlines += [] if face.outline is None else [face.outline]
                faces.small += face.px < face_format.needed_px
            if names:
                faces.people[person], faces.files[person] = torch.from_numpy(crops[: len(names)]), names
                faces.covered[person] = _find_covered(crops[: len(names)], face_format.finder)
            if outlines:
                faces.outlines[person] = torch.from_numpy(np.stack(outlines)).float()
    if len(faces.people) < (1 if chosen else 2):
        who = f"only of {next(iter(faces.people))!r}" if faces.people else "of nobody"
        count = len(faces.unreadable)
        unreadable = f", and {count} pictures cannot be read (the first: {faces.unreadable[0]})" if count else ""
        raise NothingToDoError(
            f"training needs faces of two people, and {data_dir} has faces {who}{unreadable}; "
            f"put the pictures of each into a folder there, or for the workspace's own data run: "
            "python cli.py extract VIDEO --person NAME"
        )
    return faces


def _find_covered(crops: Samples, finder: OcclusionFinder | None) -> dict[int, torch.Tensor]:
    """Find where something is in front of faces, as (S, S) maps of a whole crop, by index."""
    found = dict[int, torch.Tensor]()
    if finder is None:
        return found
    for start in range(0, len(crops), FIND_AT_ONCE):
        images = [crop.transpose(1, 2, 0) for crop in crops[start : start + FIND_AT_ONCE]]
        for index, occlusion in enumerate(finder.find_in_crops(images), start):
            if occlusion is not None:
                covered = np.zeros((COVERED_PX, COVERED_PX), np.float32)
                middle = slice(SEEN.start * COVERED_PX // CROP_PX, SEEN.stop * COVERED_PX // CROP_PX)
                side = middle.stop - middle.start
                covered[middle, middle] = cv2.resize(occlusion, (side, side), interpolation=cv2.INTER_AREA)
                found[index] = torch.from_numpy(covered)
    return found


@contextmanager
def _decoders() -> Iterator[ThreadPoolExecutor]:
    """Threads that read pictures; leaving the block early cancels pictures that are not started."""
    with ThreadPoolExecutor(DECODERS) as pool:
        try:
            yield pool
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _allocate(counts: Sequence[int], crop_px: int, mmap_dir: Path) -> list[Samples]:
    """Make an array for the faces of each person: in memory, or mapped from an unnamed temporary file."""
    shapes = [(count, 3, crop_px, crop_px) for count in counts]
    sizes = [math.prod(shape) for shape in shapes]
    size = sum(sizes)
    if size <= MEMORY_SHARE * psutil.virtual_memory().available / local_process_count():
        return [np.empty(shape, np.uint8) for shape in shapes]
    try:
        mmap_dir.mkdir(parents=True, exist_ok=True)
        if size > shutil.disk_usage(mmap_dir).free:
            raise OSError(f"{size / 1e9:.0f} GB are needed")
        with tempfile.TemporaryFile(dir=mmap_dir) as file:  # the mapping outlives it
            file.truncate(size)
            if hasattr(os, "posix_fallocate"):  # now, because a full disk would end the process later
                os.posix_fallocate(file.fileno(), 0, size)
            mapped = np.memmap(file, np.uint8, "r+")
    except OSError as error:
        raise WorkspaceError(
            f"{sum(counts)} faces fit neither into memory nor into {mmap_dir} ({error}); make room, or use fewer faces"
        ) from error
    parts = np.split(mapped, np.cumsum(sizes[:-1]))
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


class _ReadFace(NamedTuple):
    px: int  # side of the picture that was read
    outline: Points | None


def _read_crop(path: Path, crop: Samples, face_format: FaceFormat) -> _ReadFace | str:
    """Read a picture into a (3, S, S) array; return what else it shows, or an error message if that fails."""
    try:
        picture = read_picture(path)
    except MediaError as error:
        return str(error)
    resized = as_crop(picture, face_format.crop_px)
    crop[...] = resized.transpose(2, 0, 1)
    outline = face_outline(resized) if face_format.has_outlines else None
    return _ReadFace(min(picture.shape[:2]), outline)


@dataclass(frozen=True)
class Batch:
    """One step's faces on the device that trains, or this process's share of them.

    Attributes:
        pairs: by person.
        faces_each: faces of each person, in all processes together.
        share: fraction of these in this process.
        position: of this step in the training loop.
        next_position: of the step after it.
    """

    pairs: Mapping[str, Pairs]
    faces_each: int
    share: float = 1
    position: Position = field(default_factory=Position)
    next_position: Position = field(default_factory=Position)

    @property
    def samples(self) -> int:
        """Faces of all people, in all processes."""
        return self.faces_each * len(self.pairs)

    @property
    def ends_epoch(self) -> bool:
        """Whether every person has now been visited."""
        return self.next_position.epoch > self.position.epoch


def picture_format(model: Model) -> PictureFormat:
    """Format of a model's pictures; those of the hd networks are smoothed."""
    return PictureFormat(model.picture_px, is_smoothed=model.network != REFERENCE)


class Dataset:
    """The faces that a model is trained on and validated by.

    Args:
        faces: of all people.
        model: remembers which faces it was trained on.
        device: of the batches.
        processes: that share each batch.
        augments_colors: whether colours are changed at random, towards those of the other people.

    Attributes:
        faces: of all people.
        splits: which of them are trained on and which are held out, by person.
        held_out: what the model must remember of the split.
        pictures: format of the model's pictures.

    Raises:
        NothingToDoError: all faces of a person are held out.
    """

    def __init__(
        self,
        faces: Faces,
        model: Model,
        device: torch.device,
        processes: Processes,
        *,
        augments_colors: bool = False,
    ) -> None:
        seen = [person for person, training in model.trained.items() if training.samples]
        self.faces = faces
        self.splits, self.held_out = split_faces(faces.files, model.held_out, seen)
        for person in (person for person, split in self.splits.items() if not len(split.trained)):
            raise NothingToDoError(
                f"the faces left of {person!r} are held out for validation: add others, or train another model with -n"
            )
        self.pictures = picture_format(model)
        self._device, self._processes, self._crops = device, processes, faces.people
        self._colors: dict[str, Moments] = {}
        if augments_colors:
            for person, split in self.splits.items():
                some = spread_evenly(len(split.trained), COLOR_SAMPLES)
                self._colors[person] = measure_colors(faces.people[person][split.trained[some]])
        size = sum(crops.numel() for crops in faces.people.values())
        if device.type == "cuda" and size < GPU_SHARE * torch.cuda.mem_get_info(device)[0]:
            self._crops = {person: crops.to(device) for person, crops in faces.people.items()}

    def validation_faces(self) -> dict[str, torch.Tensor]:
        """Held-out faces by person, (N, 3, S, S) uint8 on the CPU; people without are left out."""
        return {person: self.faces.people[person][held] for person, (_, held) in self.splits.items() if len(held)}

    def batches(
        self, sampler: Sampler, start: Position, warp_factor: Callable[[], float] = lambda: 1.0
    ) -> Iterator[Batch]:
        """Yield the batches from a position on, without end; ``sampler`` counts the faces trained on.

        ``warp_factor`` is asked before each batch by how much the warp is reduced.
        """
        full = Augmentation()
        for selection in sampler.selections(start):
            position, pairs = selection.position, {}
            augmentation = replace(full, warp_px=full.warp_px * warp_factor())
            for number, (person, faces) in enumerate(selection.faces.items(), 1):
                rng = generator(sampler.seed, position.epoch, position.visit, position.inner, position.batch, number)
                turn, grid = draw_transforms(len(faces), augmentation, rng)
                local = self._processes.share(len(faces))
                share = (local.stop - local.start) / len(faces)
                if not share:  # fewer faces than processes: compute one face that does not count
                    local = slice(0, 1)
                indices = self.splits[person].trained[faces[local]]
                crops, outlines = self._fetch(person, indices), self.faces.outlines.get(person)
                regions = Regions(None if outlines is None else outlines[indices], self._covered(person, indices))
                colors = None
                if self._colors:
                    others = [moments for other, moments in self._colors.items() if other != person]
                    changes = draw_color_changes(len(faces), self._colors[person], others, rng)
                    colors = ColorChange(*(values[local] for values in changes))
                pairs[person] = make_pairs(crops, (turn[local], grid[local]), self.pictures, regions, colors)
            yield Batch(pairs, len(faces), share, position, selection.next_position)

    def _covered(self, person: str, indices: torch.Tensor) -> torch.Tensor | None:
        """Where something is in front of faces, (N, 1, S, S); None if nothing is in front of any."""
        covered = self.faces.covered.get(person, {})
        if not any(index in covered for index in indices.tolist()):
            return None
        nothing = torch.zeros(COVERED_PX, COVERED_PX)
        return torch.stack([covered.get(index, nothing) for index in indices.tolist()])[:, None]

    def _fetch(self, person: str, indices: torch.Tensor) -> torch.Tensor:
        """Copy faces to the device, on a GPU while it computes; those already there are only selected."""
        crops = self._crops[person]
        if crops.device.type == self._device.type:
            return crops[indices.to(self._device, non_blocking=True)]
        return crops[indices].pin_memory().to(self._device, non_blocking=True)
