"""People: a crop's folder is its label, and new tracks are named by likeness to people who have a folder."""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import chain, count
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
    cluster_tracks,
    combine_embeddings,
    distance,
    embed,
    is_clear,
    mean_embedding,
    shows_face,
)
from pipeline.faces.measures import group_near_duplicates, spread_evenly, thumbnail
from pipeline.faces.store import FaceStore, Label, StoredFace
from pipeline.media.pictures import read_picture
from pipeline.names import name_problem
from pipeline.types import Embedding, Image
from pipeline.workspace import Workspace, extend_name, flush, list_people, list_pictures, numbered_name

UNSURE = "-unsure"
SAME_PERSON_AS_REFERENCE = 0.6  # a single picture is a little less alike than the mean of several
FEW_DISTINCT, MANY_DISTINCT = 5, 20  # distinct faces: too few to learn from; as many as a main person has
COMPARED_CROPS = 100  # per person, to count distinct faces; 2 ms each

Labelled = TypeVar("Labelled", Label, StoredFace)


def crop_name(video: str, frame: int, track: int) -> str:
    """File name of a crop, made from video, frame and track."""
    return f"{video}_{frame:06d}_{track}.jpg"


def unsure_name(video: str) -> str:
    """Name of the folder for faces of a video that are too small or too poor to identify."""
    return extend_name(video, UNSURE)


def is_unsure(person: str) -> bool:
    """Return whether a folder holds faces that could not be identified."""
    return person.endswith(UNSURE)


def require_person(workspace: Workspace, name: str) -> None:
    """Raise NothingToDoError unless there are faces of a person."""
    people = list_people(workspace.data)
    if name not in people:
        raise NothingToDoError(
            f"nobody called {name!r} in {workspace.data}; there: {join_words(people) or 'no faces yet'}"
        )


def crops_in(folder: Path) -> frozenset[str]:
    """Names of the crops in a person's folder, without suffix: they may have been saved again in another format."""
    return frozenset(path.stem for path in list_pictures(folder))


def crop_files(workspace: Workspace) -> dict[str, Path]:
    """All crops in folders of people, by name without suffix."""
    people = list_people(workspace.data)
    return {crop.stem: crop for person in people for crop in list_pictures(workspace.data / person)}


def faces_of_person(faces: Sequence[Labelled], crops: Set[str]) -> list[Labelled]:
    """Return the faces of a video that belong to a person.

    A face belongs to a person if its crop lies in the person's folder. A face without a crop (``extract --every``)
    follows the nearest face of its track that has one.

    Args:
        faces: of one video, in order of frames.
        crops: names, without suffix, of the crops in the person's folder.
    """
    with_crop: dict[int, list[Labelled]] = defaultdict(list)
    for face in faces:
        if face.crop is not None:
            with_crop[face.track].append(face)
    matching = []
    for face in faces:
        crop = face.crop or _nearest_crop(face.frame, with_crop[face.track])
        if crop is not None and Path(crop).stem in crops:
            matching.append(face)
    return matching


def _nearest_crop(frame: int, with_crop: Sequence[Labelled]) -> str | None:
    index = bisect_left(with_crop, frame, key=lambda other: other.frame)
    near = with_crop[max(0, index - 1) : index + 1]
    return min(near, key=lambda other: abs(other.frame - frame)).crop if near else None


def known_people(workspace: Workspace) -> dict[str, Embedding]:
    """Return the mean embedding of each person, by the folders that the crops are in now."""
    people = [person for person in list_people(workspace.data) if not is_unsure(person)]
    folders = {stem: person for person in people for stem in crops_in(workspace.data / person)}
    tracks: dict[str, list[tuple[Embedding, int]]] = defaultdict(list)
    for path in workspace.stores():
        with FaceStore(path) as store:
            embeddings, counts = store.embeddings(), defaultdict[int, Counter[str]](Counter)
            for label in store.each_label():
                if label.crop and (stem := Path(label.crop).stem) in folders:
                    counts[label.track][folders[stem]] += 1
        for track, embedding in embeddings.items():
            if embedding is not None:
                for person, crops in counts[track].most_common(1):
                    tracks[person].append((embedding, crops))
    return {
        person: np.average([embedding for embedding, _ in pairs], axis=0, weights=[crops for _, crops in pairs])
        for person, pairs in tracks.items()
    }


@dataclass(frozen=True)
class NamingHint:
    """What the user said about the people of a video.

    Attributes:
        name: of the main person.
        is_given: whether the user chose the name; else it is the video's.
        references: embeddings of pictures of the main person.
    """

    name: str
    is_given: bool = False
    references: tuple[Embedding, ...] = ()


def name_from_video(video: str) -> str:
    """Turn a video's name into a person's; with a prefix if no person can have that name."""
    return video if name_problem(video) is None else extend_name(f"video_{video}", "")


def name_groups(
    groups: Sequence[Sequence[Track]], known: Mapping[str, Embedding], hint: NamingHint, taken: Set[str]
) -> list[str]:
    """Name the people of a video.

    The main person is the one most like the references or, if a name is given, the one seen longest. The others get the
    name of the known person they look like, else the hint's name with a number from 2 on.

    Args:
        groups: tracks of each person, the one seen longest first.
        known: mean embeddings of people with a folder.
        hint: who the main person is.
        taken: names that new people cannot have.

    Raises:
        NothingToDoError: nobody looks like the references.
    """
    names: dict[int, str] = {}
    embeddings = [mean_embedding(tracks) for tracks in groups]
    if hint.references:
        names[_most_like(embeddings, hint.references)] = hint.name
    elif hint.is_given and groups:
        names[0] = hint.name
    pairs = sorted(
        (distance(embedding, known_embedding), index, person)
        for index, embedding in enumerate(embeddings)
        for person, known_embedding in known.items()
    )
    for distance_to_known, index, person in pairs:
        if distance_to_known < SAME_PERSON and index not in names and person not in names.values():
            names[index] = person
    numbered = (numbered_name(hint.name, number) for number in count(2))
    candidates = chain([hint.name], (name for name in numbered if name not in taken))
    for index in range(len(groups)):
        if index not in names:
            others = {*names.values(), *known}
            names[index] = next(
                name for name in candidates if name not in others and name_problem(name, others | taken) is None
            )
    return [names[index] for index in range(len(groups))]


def _most_like(embeddings: Sequence[Embedding], references: Sequence[Embedding]) -> int:
    reference = np.mean(references, axis=0)
    distances = [distance(embedding, reference) for embedding in embeddings]
    if not distances or min(distances) >= SAME_PERSON_AS_REFERENCE:
        raise NothingToDoError("nobody in it looks like the --reference; try other pictures, or leave it out")
    return int(np.argmin(distances))


def drop_false_faces(store: FaceStore, folder: Path) -> dict[int, list[int]]:
    """Delete unnamed tracks that show no face (hands, patterns); return the best frames of the other tracks.

    ``folder`` holds the video's crops.
    """
    best, scores = best_frames(store.each_face()), store.scores()
    unnamed = {label.track for label in store.each_label() if not label.person}
    false = {
        track for track in unnamed if not shows_face(_clear_crops(store, track, best[track], folder), scores[track])
    }
    store.delete_tracks(false)
    return {track: frames for track, frames in best.items() if track not in false}


def _clear_crops(store: FaceStore, track: int, frames: Sequence[int], folder: Path) -> list[Image]:
    """Read a track's crops of some frames; those too blurred to identify a person are left out."""
    faces = [face for frame in frames for face in store.faces(frame, frame + 1) if face.track == track]
    paths = [folder / face.crop for face in faces if face.crop]
    return [picture for path in paths if path.is_file() and is_clear(picture := read_picture(path))]


def identify(store: FaceStore, best_frames: Mapping[int, Sequence[int]], folder: Path, console: Console) -> None:
    """Record the embeddings of tracks that have none yet, from the crops of their best frames in ``folder``."""
    done = store.embeddings()
    frames_by_track = {track: frames for track, frames in best_frames.items() if track not in done}
    with console.bar("tell people apart", len(frames_by_track), "track") as bar:
        for track, frames in frames_by_track.items():
            store.record_embedding(
                track, combine_embeddings(list(map(embed, _clear_crops(store, track, frames, folder))))
            )
            bar.advance()


def name_by_likeness(store: FaceStore, workspace: Workspace, video: str, hint: NamingHint) -> dict[int, str]:
    """Name the unnamed tracks of a video.

    Tracks that cannot be identified go to ``<video>-unsure``; so does a new person with almost no distinct faces
    beside a main person with many.

    Raises:
        NothingToDoError: nobody looks like the references.
    """
    frames: dict[int, list[int]] = defaultdict(list)
    for label in store.each_label():
        if not label.person:
            frames[label.track].append(label.frame)
    embeddings = store.embeddings()
    tracks = [Track(number, frozenset(seen), embeddings.get(number)) for number, seen in frames.items()]
    groups = cluster_tracks([track for track in tracks if track.embedding is not None])
    known = known_people(workspace)
    names = name_groups(groups, known, hint, set(list_people(workspace.data)))
    named = {track.number: name for members, name in zip(groups, names, strict=True) for track in members}
    if not store.fact("pictures"):
        extras = _hardly_seen(store, named, workspace.pending_crops(video)) - {*known, hint.name}
        named = {number: person for number, person in named.items() if person not in extras}
    return {track.number: named.get(track.number, unsure_name(video)) for track in tracks}


def _hardly_seen(store: FaceStore, named: Mapping[int, str], folder: Path) -> set[str]:
    """Return the people with very few distinct faces, if somebody else has many."""
    crops = defaultdict[str, list[str]](list)
    for label in store.each_label():
        if not label.person and label.crop and label.track in named:
            crops[named[label.track]].append(label.crop)
    if len(crops) < 2:
        return set()
    distinct = {}
    for person, names in crops.items():
        paths = [folder / names[index] for index in spread_evenly(len(names), COMPARED_CROPS)]
        pictures = [thumbnail(as_crop(read_picture(path))) for path in paths if path.is_file()]
        distinct[person] = len(set(group_near_duplicates(np.stack(pictures)))) if pictures else 0
    has_main = max(distinct.values()) >= MANY_DISTINCT
    return {person for person, faces in distinct.items() if has_main and faces < FEW_DISTINCT}


def move_crops_to_people(store: FaceStore, workspace: Workspace, video: str) -> None:
    """Move the crops of a video into the folders of its people; continues after an interrupted run."""
    pending, folders = workspace.pending_crops(video), set[Path]()
    for label in store.each_label():
        if label.crop and (pending / label.crop).is_file():
            folder = workspace.person(label.person)
            folder.mkdir(parents=True, exist_ok=True)
            (pending / label.crop).replace(folder / label.crop)
            folders.add(folder)
    # New names must be on the disk before the old ones are deleted.
    for changed in [*folders, workspace.data] if folders else ():
        flush(changed)
    if pending.is_dir():
        for leftover in pending.iterdir():
            leftover.unlink()
        pending.rmdir()
