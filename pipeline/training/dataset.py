"""All faces of all people, decoded once: into memory, or where they would fill it, into a file that is mapped."""

import os
import shutil
import tempfile
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
import torch

from pipeline.arrays import Samples
from pipeline.errors import MediaError, NothingToDoError, WorkspaceError
from pipeline.faces.alignment import CROP_PX, as_crop
from pipeline.faces.people import is_unsure
from pipeline.media.pictures import read_picture
from pipeline.progress import Console
from pipeline.report import some
from pipeline.training.processes import processes_here
from pipeline.workspace import list_people, list_pictures

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
        WorkspaceError: the faces fit neither into memory nor on the disk.
    """
    if not data_dir.is_dir():
        raise NothingToDoError(
            f"there is no folder {data_dir}; name another with -d, or for the workspace's own data run: "
            "python cli.py extract VIDEO --person NAME"
        )
    people = [person for person in list_people(data_dir) if not is_unsure(person)]
    for missing in (person for person in chosen if person not in people):
        raise NothingToDoError(f"--people: no faces of {missing!r} in {data_dir}; there: {some(people) or 'nobody'}")
    people = sorted(chosen) or people
    paths = {person: list_pictures(data_dir / person) for person in people}
    faces = Faces(data_dir)
    room = _room_for([len(pictures) for pictures in paths.values()], spill)
    with ThreadPoolExecutor(DECODERS) as pool, console.bar("read faces", sum(map(len, paths.values())), "face") as bar:
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
