"""From tracks to people: who each track is, what they are called, and their crops into the right folders."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence, Set
from pathlib import Path

import numpy as np

from pipeline.arrays import Embedding, Image
from pipeline.faces.alignment import as_crop
from pipeline.faces.identity import Track, best_frames, combine, embed, group, is_clear, shows_face
from pipeline.faces.measures import group_near_duplicates, thumbnail
from pipeline.faces.people import Wish, known_people, name_groups, unsure_name
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


def name_by_likeness(store: FaceStore, workspace: Workspace, video: str, wish: Wish) -> dict[int, str]:
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
        hardly_seen = _hardly_seen(store, named, {*known, wish.name}, workspace.unsorted(video))
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


def hand_over(store: FaceStore, workspace: Workspace, video: str) -> None:
    """Move the crops of a video whose tracks are named into the folders of the people; goes on where it was stopped."""
    waiting, folders = workspace.unsorted(video), set[Path]()
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
