"""From tracks to people: who each track is, what they are called, and their crops into the right folders."""

from collections.abc import Mapping, Set
from pathlib import Path

import numpy as np

from pipeline.arrays import Embedding, Image
from pipeline.faces.alignment import as_crop
from pipeline.faces.identity import Track, best_faces, combine, embed, group, is_clear, shows_face
from pipeline.faces.measures import group_near_duplicates, thumbnail
from pipeline.faces.people import Wish, known_people, name_groups, unsure_name
from pipeline.faces.records import StoredFace
from pipeline.faces.store import FaceStore
from pipeline.media.pictures import read_picture
from pipeline.progress import Console
from pipeline.workspace import Workspace, flush, list_people

FEW_DISTINCT, MANY_DISTINCT = 5, 20  # distinct faces: below few nothing can be learned; many are a main person's
LOOKED_THROUGH = 100  # crops of a person to count distinct ones in, 2 ms each


def drop_false_faces(store: FaceStore, crops: Path) -> None:
    """Take tracks that show no face, but hands for instance, out of the store, unless they have a name already.

    Args:
        store: of the video.
        crops: folder its crops wait in.
    """
    for faces in by_track([stored for stored in store.faces() if not stored.person]).values():
        if not shows_face(_clear_crops(faces, crops), [stored.face.score for stored in faces]):
            store.forget(faces)


def _clear_crops(faces: list[StoredFace], folder: Path) -> list[Image]:
    """Read the crops that say most about a track; none where all are too small, too turned or too blurred."""
    paths = [folder / face.crop for face in best_faces(faces) if face.crop]
    return [picture for path in paths if path.is_file() and is_clear(picture := read_picture(path))]


def identify(store: FaceStore, crops: Path, console: Console) -> None:
    """Record who each track is, from its best crops; tracks that are recorded already are left as they are.

    Args:
        store: of the video.
        crops: folder its crops wait in.
        console: shows how far it is.
    """
    done = store.embeddings()
    tracks = {number: faces for number, faces in by_track(store.faces()).items() if number not in done}
    with console.bar("tell people apart", len(tracks), "track") as bar:
        for number, faces in tracks.items():
            store.record_embedding(number, combine([embed(crop) for crop in _clear_crops(faces, crops)]))
            bar.advance()


def by_track(faces: list[StoredFace]) -> dict[int, list[StoredFace]]:
    """Sort faces by track, each in order of frame."""
    tracks: dict[int, list[StoredFace]] = {}
    for stored in faces:
        tracks.setdefault(stored.track, []).append(stored)
    return tracks


def name_by_likeness(store: FaceStore, workspace: Workspace, video: str, wish: Wish) -> dict[int, str]:
    """Name the tracks of a video that have no name yet.

    Tracks that cannot be identified go to ``<video>-unsure``; so does somebody new of whom a video shows almost nothing
    beside a main person of whom it shows much.

    Raises:
        NothingToDoError: nobody looks like the references.
    """
    faces = by_track([stored for stored in store.faces() if not stored.person])
    embeddings: Mapping[int, Embedding | None] = store.embeddings()
    tracks = [Track(number, frozenset(f.frame for f in seen), embeddings.get(number)) for number, seen in faces.items()]
    groups = group([track for track in tracks if track.embedding is not None])
    known = known_people(workspace)
    names = name_groups(groups, known, wish, set(list_people(workspace.data)))
    named = {track.number: name for members, name in zip(groups, names, strict=True) for track in members}
    if not store.fact("pictures"):
        for name in _hardly_seen(faces, named, {*known, wish.name}, workspace.unsorted(video)):
            named = {number: person for number, person in named.items() if person != name}
    return {track.number: named.get(track.number, unsure_name(video)) for track in tracks}


def _hardly_seen(
    faces: Mapping[int, list[StoredFace]], named: Mapping[int, str], expected: Set[str], folder: Path
) -> list[str]:
    """Return who has next to no distinct faces, of those that nobody expected, where somebody else has many."""
    crops: dict[str, list[Path]] = {}
    for number, person in named.items():
        crops.setdefault(person, []).extend(folder / face.crop for face in faces[number] if face.crop)
    distinct = {person: _count_distinct(paths) for person, paths in crops.items()} if len(crops) > 1 else {}
    has_main = max(distinct.values(), default=0) >= MANY_DISTINCT
    return [person for person, n in distinct.items() if has_main and n < FEW_DISTINCT and person not in expected]


def _count_distinct(crops: list[Path]) -> int:
    """Count faces that differ visibly, among at most ``LOOKED_THROUGH`` of a person's crops."""
    if not crops:
        return 0
    spread = np.linspace(0, len(crops) - 1, min(len(crops), LOOKED_THROUGH)).astype(np.intp)
    pictures = [thumbnail(as_crop(read_picture(crops[i]))) for i in spread if crops[i].is_file()]
    return len(set(group_near_duplicates(np.stack(pictures)))) if pictures else 0


def hand_over(store: FaceStore, workspace: Workspace, video: str) -> None:
    """Move the crops of a video whose tracks are named into the folders of the people; goes on where it was stopped."""
    waiting, folders = workspace.unsorted(video), set[Path]()
    for stored in store.faces():
        if stored.crop and (waiting / stored.crop).is_file():
            folder = workspace.person(stored.person)
            folder.mkdir(parents=True, exist_ok=True)
            (waiting / stored.crop).replace(folder / stored.crop)
            folders.add(folder)
    for changed in [*folders, workspace.data] if folders else ():  # before what is in them is forgotten elsewhere
        flush(changed)
    if waiting.is_dir():
        for left in waiting.iterdir():
            left.unlink()
        waiting.rmdir()
