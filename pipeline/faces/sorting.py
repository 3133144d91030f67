"""From tracks to people: who each track is, what they are called, and their crops into the right folders."""

from collections.abc import Mapping
from pathlib import Path

from pipeline.arrays import Embedding
from pipeline.faces.identity import Track, best_frames, combine, embed, group, is_clear
from pipeline.faces.people import Wish, known_people, name_groups, unsure_name
from pipeline.faces.store import FaceStore
from pipeline.media.pictures import read_picture
from pipeline.progress import Console
from pipeline.workspace import Workspace, flush, list_people


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
            paths = [crops / crop for frame in frames if (crop := store.crop_of(frame, track))]
            pictures = [read_picture(path) for path in paths if path.is_file()]
            store.record_embedding(track, combine([embed(picture) for picture in pictures if is_clear(picture)]))
            bar.advance()


def name_by_likeness(store: FaceStore, workspace: Workspace, video: str, wish: Wish) -> dict[int, str]:
    """Name the tracks of a video that have no name yet; tracks that cannot be identified go to ``<video>-unsure``.

    Raises:
        NothingToDoError: nobody looks like the references.
    """
    frames = store.unnamed_tracks()
    embeddings: Mapping[int, Embedding | None] = store.embeddings()
    tracks = [Track(number, seen, embeddings.get(number)) for number, seen in frames.items()]
    groups = group([track for track in tracks if track.embedding is not None])
    names = name_groups(groups, known_people(workspace), wish, set(list_people(workspace.data)))
    named = {track.number: name for members, name in zip(groups, names, strict=True) for track in members}
    return {track.number: named.get(track.number, unsure_name(video)) for track in tracks}


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
