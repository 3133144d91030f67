"""All faces of all people, decoded once into memory."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from pipeline.arrays import Image
from pipeline.errors import MediaError, NothingToDoError
from pipeline.faces.alignment import CROP_PX, as_crop
from pipeline.faces.people import is_unsure
from pipeline.media.pictures import read_picture
from pipeline.progress import Console
from pipeline.workspace import list_people, list_pictures

DECODERS = 4  # threads; decoding lets go of Python's lock


@dataclass
class Faces:
    """The training set.

    Attributes:
        people: by name, (N, 3, 256, 256) uint8 BGR.
        unreadable: what was left out, and why, a line each.
    """

    people: dict[str, torch.Tensor] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)


def load_faces(data_dir: Path, console: Console) -> Faces:
    """Read every picture of a folder of per-person folders; pictures of any size are brought to 256 x 256 px.

    Folders of faces that extract could not tell whose they are (``<video>-unsure``) are left out.

    Raises:
        NothingToDoError: there are fewer than two people with a readable picture.
    """
    people = [person for person in list_people(data_dir) if not is_unsure(person)]
    paths = {person: list_pictures(data_dir / person) for person in people}
    faces = Faces()
    with ThreadPoolExecutor(DECODERS) as pool, console.bar("read faces", sum(map(len, paths.values())), "face") as bar:
        for person, pictures in paths.items():
            crops = np.empty((len(pictures), 3, CROP_PX, CROP_PX), np.uint8)
            count = 0
            for crop in pool.map(_read_crop, pictures):
                bar.advance()
                if isinstance(crop, str):
                    faces.unreadable.append(crop)
                else:
                    crops[count] = crop
                    count += 1
            if count:
                faces.people[person] = torch.from_numpy(crops[:count])
    if len(faces.people) < 2:
        raise NothingToDoError(_too_few(data_dir, list(faces.people), faces.unreadable))
    return faces


def _read_crop(path: Path) -> Image | str:
    try:
        return as_crop(read_picture(path)).transpose(2, 0, 1)
    except MediaError as error:
        return str(error)


def _too_few(data_dir: Path, people: list[str], unreadable: list[str]) -> str:
    there = f"only of {people[0]!r}" if people else "of nobody"
    spoilt = f", and {len(unreadable)} pictures cannot be read (the first: {unreadable[0]})" if unreadable else ""
    return (
        f"training needs faces of two people, and {data_dir} has faces {there}{spoilt}; "
        "run: python cli.py extract VIDEO --person NAME"
    )
