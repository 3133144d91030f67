"""Who is who: the folder a crop lies in is the label, and new faces are named by likeness to those that have one."""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from pipeline.arrays import Embedding
from pipeline.errors import NothingToDoError
from pipeline.faces.identity import SAME_PERSON, Track, distance, mean_of
from pipeline.faces.records import Label, StoredFace
from pipeline.faces.store import FaceStore
from pipeline.report import some
from pipeline.workspace import Workspace, lengthened_name, list_people, list_pictures, numbered_name

Labelled = TypeVar("Labelled", Label, StoredFace)

UNSURE = "-unsure"
SAME_PERSON_AS_REFERENCE = 0.6  # a single picture is a little further off than the mean of several


def crop_name(video: str, frame: int, track: int) -> str:
    """File name of a crop; says where it came from."""
    return f"{video}_{frame:06d}_{track}.jpg"


def require_person(workspace: Workspace, name: str) -> None:
    """Make sure that there are faces of someone.

    Raises:
        NothingToDoError: there are none.
    """
    people = list_people(workspace.data)
    if name not in people:
        raise NothingToDoError(f"nobody called {name!r} in {workspace.data}; there: {some(people) or 'no faces yet'}")


def crops_in(folder: Path) -> frozenset[str]:
    """Names, without suffix, of the crops in a person's folder (a crop may have been re-saved in another format)."""
    return frozenset(path.stem for path in list_pictures(folder))


def faces_of_person(faces: Sequence[Labelled], crops: Set[str]) -> list[Labelled]:
    """Pick the faces of a video that are a person's.

    A face whose crop was written is the person's while that crop lies in the person's folder. A face that never had
    a crop (``extract --every``) goes with the nearest face of its track that has one.

    Args:
        faces: of one video, in order of frames.
        crops: names, without suffix, of what lies in the person's folder.

    Returns:
        The person's faces, in the given order.
    """
    with_crop: dict[int, list[Labelled]] = {}
    for face in faces:
        if face.crop is not None:
            with_crop.setdefault(face.track, []).append(face)
    return [face for face in faces if _is_in(crops, _labelled(face, with_crop.get(face.track, [])))]


def _labelled(face: Labelled, with_crop: Sequence[Labelled]) -> Labelled:
    if face.crop is not None:
        return face
    place = bisect_left(with_crop, face.frame, key=lambda other: other.frame)
    near = with_crop[max(0, place - 1) : place + 1]
    return min(near, key=lambda other: abs(other.frame - face.frame), default=face)


def _is_in(crops: Set[str], face: Labelled) -> bool:
    return face.crop is not None and Path(face.crop).stem in crops


def known_people(workspace: Workspace, but_video: str = "") -> dict[str, Embedding]:
    """Say how the people look whom earlier videos showed, going by the folders their crops lie in now.

    Args:
        workspace: whose.
        but_video: name of a video that does not count.

    Returns:
        Mean embedding by name; people without a recorded embedding are not in it.
    """
    folder_of = {
        crop: person
        for person in list_people(workspace.data)
        if not is_unsure(person)
        for crop in crops_in(workspace.data / person)
    }
    seen: dict[str, list[tuple[Embedding, int]]] = {}
    for path in workspace.stores():
        if path.parent.name == but_video:
            continue
        with FaceStore(path) as store:
            embeddings, folders = store.embeddings(), defaultdict[int, Counter[str]](Counter)
            for label, _ in store.owners():
                if label.crop is not None and (stem := Path(label.crop).stem) in folder_of:
                    folders[label.track][folder_of[stem]] += 1
        for track, embedding in embeddings.items():
            if embedding is None:
                continue
            for person, count in folders[track].most_common(1):
                seen.setdefault(person, []).append((embedding, count))
    return {
        person: np.average([e for e, _ in found], axis=0, weights=[count for _, count in found])
        for person, found in seen.items()
    }


@dataclass(frozen=True)
class Wish:
    """Who is in a video, as far as someone said.

    Attributes:
        name: of the main person.
        is_given: someone chose the name; else it is the video's.
        references: embeddings of pictures of the main person; empty where there are none.
    """

    name: str
    is_given: bool = False
    references: tuple[Embedding, ...] = ()


def name_groups(
    groups: Sequence[Sequence[Track]], known: Mapping[str, Embedding], wish: Wish, taken: Set[str]
) -> list[str]:
    """Name the people of a video.

    The main person is the one most like the references, or, with a name given, the one seen longest. Of the others,
    who is like a known person has that person's name; who is not is named after the wish, numbered from 2 on where the
    name itself is taken.

    Args:
        groups: tracks of each, the one seen longest first.
        known: how people of earlier videos look.
        wish: who the main person is.
        taken: names that new people cannot have.

    Returns:
        A name for each group.

    Raises:
        NothingToDoError: nobody looks like the references.
    """
    names: dict[int, str] = {}
    looks = [mean_of(tracks) for tracks in groups]
    if wish.references:
        names[_most_like(looks, wish.references)] = wish.name
    elif wish.is_given and groups:
        names[0] = wish.name
    near = sorted(
        (distance(look, embedding), place, person)
        for place, look in enumerate(looks)
        for person, embedding in known.items()
    )
    for apart, place, person in near:
        if apart < SAME_PERSON and place not in names and person not in names.values():
            names[place] = person
    number = 1
    for place in range(len(groups)):
        while place not in names:
            name = wish.name if number == 1 else numbered_name(wish.name, number)
            is_free = name not in names.values() and name not in known and (number == 1 or name not in taken)
            if is_free:
                names[place] = name
            number += 1
    return [names[place] for place in range(len(groups))]


def _most_like(looks: Sequence[Embedding], references: Sequence[Embedding]) -> int:
    reference = np.mean(references, axis=0)
    near = min(range(len(looks)), key=lambda place: distance(looks[place], reference), default=None)
    if near is None or distance(looks[near], reference) >= SAME_PERSON_AS_REFERENCE:
        raise NothingToDoError("nobody in it looks like the --reference; try other pictures, or leave it out")
    return near


def unsure_name(video: str) -> str:
    """Name of the folder for faces of a video that are too small or too poor to say whose they are."""
    return lengthened_name(video, UNSURE)


def is_unsure(person: str) -> bool:
    """Say whether a folder holds faces of whoever."""
    return person.endswith(UNSURE)
