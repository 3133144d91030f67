"""Who is who: the folder a crop lies in is the label, and new faces are named by likeness to those that have one.

From tracks to people: who each track is, what they are called, and their crops into the right folders.
"""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from pipeline.console import Console, join_words
from pipeline.errors import NothingToDoError
from pipeline.faces.alignment import as_crop
from pipeline.faces.identity import (
    SAME_PERSON,
    Track,
    best_frames,
    combine,
    distance,
    embed,
    group,
    is_clear,
    mean_of,
    shows_face,
)
from pipeline.faces.measures import group_near_duplicates, thumbnail
from pipeline.faces.store import FaceStore, Label, StoredFace
from pipeline.media.pictures import read_picture
from pipeline.types import Embedding, Image
from pipeline.workspace import Workspace, extend_name, flush, list_people, list_pictures, numbered_name

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
        raise NothingToDoError(
            f"nobody called {name!r} in {workspace.data}; there: {join_words(people) or 'no faces yet'}"
        )


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
class NamingHint:
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
    groups: Sequence[Sequence[Track]], known: Mapping[str, Embedding], wish: NamingHint, taken: Set[str]
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
    return extend_name(video, UNSURE)


def is_unsure(person: str) -> bool:
    """Say whether a folder holds faces of whoever."""
    return person.endswith(UNSURE)


FEW_DISTINCT, MANY_DISTINCT = 5, 20  # distinct faces: below few nothing can be learned; many are a main person's
LOOKED_THROUGH = 100  # crops of a person to count distinct ones in, 2 ms each


def drop_false_faces(store: FaceStore, crops: Path) -> None:
    """Take tracks that show no face, but hands for instance, out of the store, unless they have a name already.

    Args:
        store: of the video.
        crops: folder its crops wait in.
    """
    best = best_frames(face for face in store.each_face() if not face.person)
    scores = store.scores()
    store.forget_tracks(
        track
        for track, frames in best.items()
        if not shows_face(_clear_crops(store, track, frames, crops), scores[track])
    )


def _clear_crops(store: FaceStore, track: int, frames: Sequence[int], folder: Path) -> list[Image]:
    """Read a track's crops of some frames, without those that are too blurred to tell whose they are."""
    paths = [folder / crop for frame in frames if (crop := store.crop_of(frame, track))]
    return [picture for path in paths if path.is_file() and is_clear(picture := read_picture(path))]


def identify(store: FaceStore, crops: Path, console: Console) -> None:
    """Record who each track is, from its best crops; tracks that are recorded already are left as they are.

    Args:
        store: of the video.
        crops: folder its crops wait in.
        console: shows how far it is.
    """
    done = store.embeddings()
    best = best_frames(face for face in store.each_face() if face.track not in done)
    with console.bar("tell people apart", len(best), "track") as bar:
        for track, frames in best.items():
            store.record_embedding(track, combine(list(map(embed, _clear_crops(store, track, frames, crops)))))
            bar.advance()


def name_by_likeness(store: FaceStore, workspace: Workspace, video: str, wish: NamingHint) -> dict[int, str]:
    """Name the tracks of a video that have no name yet.

    Tracks that cannot be identified go to ``<video>-unsure``; so does somebody new of whom a video shows almost nothing
    beside a main person of whom it shows much.

    Raises:
        NothingToDoError: nobody looks like the references.
    """
    frames = store.unnamed_tracks()
    embeddings: Mapping[int, Embedding | None] = store.embeddings()
    tracks = [Track(number, seen, embeddings.get(number)) for number, seen in frames.items()]
    groups = group([track for track in tracks if track.embedding is not None])
    known = known_people(workspace)
    names = name_groups(groups, known, wish, set(list_people(workspace.data)))
    named = {track.number: name for members, name in zip(groups, names, strict=True) for track in members}
    if not store.fact("pictures"):
        hardly_seen = _hardly_seen(store, named, {*known, wish.name}, workspace.pending_crops(video))
        named = {number: person for number, person in named.items() if person not in hardly_seen}
    return {track.number: named.get(track.number, unsure_name(video)) for track in tracks}


def _hardly_seen(store: FaceStore, named: Mapping[int, str], expected: Set[str], folder: Path) -> list[str]:
    """Return who has next to no distinct faces, of those that nobody expected, where somebody else has many."""
    counts = Counter(named[label.track] for label in store.unnamed_crops() if label.track in named)
    if len(counts) < 2:
        return []
    seen, crops = Counter[str](), defaultdict[str, list[Path]](list)
    for label in store.unnamed_crops():
        person = named.get(label.track)
        if person is None or label.crop is None:
            continue
        if seen[person] % -(-counts[person] // LOOKED_THROUGH) == 0:
            crops[person].append(folder / label.crop)
        seen[person] += 1
    distinct = {person: _count_distinct(paths) for person, paths in crops.items()}
    has_main = max(distinct.values()) >= MANY_DISTINCT
    return [person for person, n in distinct.items() if has_main and n < FEW_DISTINCT and person not in expected]


def _count_distinct(crops: Sequence[Path]) -> int:
    """Count faces that differ visibly."""
    pictures = [thumbnail(as_crop(read_picture(path))) for path in crops if path.is_file()]
    return len(set(group_near_duplicates(np.stack(pictures)))) if pictures else 0


def move_crops_to_people(store: FaceStore, workspace: Workspace, video: str) -> None:
    """Move the crops of a video whose tracks are named into the folders of the people; goes on where it was stopped."""
    waiting, folders = workspace.pending_crops(video), set[Path]()
    for label, person in store.owners():
        if label.crop and (waiting / label.crop).is_file():
            folder = workspace.person(person)
            folder.mkdir(parents=True, exist_ok=True)
            (waiting / label.crop).replace(folder / label.crop)
            folders.add(folder)
    for changed in [*folders, workspace.data] if folders else ():  # before what is in them is forgotten elsewhere
        flush(changed)
    if waiting.is_dir():
        for left in waiting.iterdir():
            left.unlink()
        waiting.rmdir()
