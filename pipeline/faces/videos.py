"""The videos of a workspace: which file is which.

A file is known by its whole content, wherever it lies and whatever it is called. That is hashed once: the store
remembers path, size, times and inode, and a file of which these are the same has not changed.
"""

import hashlib
import shutil
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from functools import lru_cache
from pathlib import Path
from typing import Any

from pipeline.errors import MediaError, WorkspaceError
from pipeline.faces.people import crop_name
from pipeline.faces.store import FaceStore
from pipeline.locks import locked
from pipeline.media.files import require_file
from pipeline.media.kinds import is_picture
from pipeline.workspace import Workspace, list_pictures, name_from_file, numbered_name

ENDS_BYTES = 65536  # of each end of a file; stores of version 2 and before know files by the hash of these
ENDS_DIGITS = 32  # of such a hash; that of a whole file has 64
READ_BYTES = 1 << 20
MOST_NAMESAKES = 10_000


def name_footage(workspace: Workspace, path: Path, pictures: Sequence[Path] | None = None) -> str:
    """Return the name that a video, a picture or a set of pictures has in the workspace, or a free one.

    Args:
        workspace: whose.
        path: a video, a picture or a folder; a new one is named after it.
        pictures: the pictures of the set, where they are not simply what the path names.

    Raises:
        MediaError: the folder has no pictures.
    """
    pictures = pictures_at(path) if pictures is None else list(pictures)
    if pictures == []:
        raise MediaError(f"no picture in {path}: name a folder that holds some, or a video")
    base = name_from_file(path)
    for store_path in sorted(workspace.stores(), key=lambda other: other.parent.name != base):
        with FaceStore(store_path) as store:
            if is_same_file(store, path) if pictures is None else _is_same_set(store, pictures):
                return store_path.parent.name
    for number in range(1, MOST_NAMESAKES):
        name = base if number == 1 else numbered_name(base, number)
        if not workspace.store(name).is_file():
            return name
        with FaceStore(workspace.store(name), write=True) as store:  # a killed run may have left it empty
            if store.fact("fingerprint") is None:
                return name
    raise WorkspaceError(f"too many videos are named {base!r}; rename {path}")


def result_name(workspace: Workspace, path: Path) -> str:
    """Name what is made of a video, a picture or a folder; a single picture of an extracted folder has its own name."""
    name = name_footage(workspace, path)
    if pictures_at(path) is None or path.is_dir() or not workspace.store(name).is_file():
        return name
    with FaceStore(workspace.store(name)) as store:
        return name if len(store.pictures()) == 1 else name_from_file(path)


def is_same_file(store: FaceStore, path: Path) -> bool:
    """Say whether a store is that of a video file."""
    if store.fact("pictures") is not None or not path.is_file():
        return False
    return store.fact("file") == file_facts(path) or has_fingerprint(path, store.fact("fingerprint"))


def _is_same_set(store: FaceStore, pictures: Sequence[Path]) -> bool:
    """Say whether a store is that of these pictures: half of them, or of its own, are enough: some come and go."""
    recorded = store.pictures()
    known = sum(place is not None for place in recorded_places(store, pictures))
    return bool(recorded) and 2 * known >= min(len(recorded), len(pictures))


def recorded_places(store: FaceStore, pictures: Sequence[Path]) -> list[int | None]:
    """Say which frame of the store each picture is, by what is in it; None where it is new."""
    names, marks = store.pictures(), store.picture_marks()
    if not names:
        return [None] * len(pictures)
    if not marks:
        return _places_in_old_store(store, pictures)
    places: dict[str, list[int]] = defaultdict(list)
    for place, mark in enumerate(marks):
        places[mark].append(place)
    sizes = {mark.split("-")[0] for mark in marks}  # what has another need not be read
    found: list[int | None] = []
    for picture in pictures:
        mark = picture_mark(picture) if _size(picture) in sizes else ""
        same = places[mark]
        best = next((place for place in same if names[place] == picture.name), same[0] if same else None)
        if best is not None and len(same) > 1:
            same.remove(best)  # the same picture twice is two frames
        found.append(best)
    return found


def _size(picture: Path) -> str:
    try:
        return str(picture.stat().st_size)
    except OSError:
        return "unreadable"


def _places_in_old_store(store: FaceStore, pictures: Sequence[Path]) -> list[int | None]:
    """Recognise the set of a store that knows the names of pictures, and one fingerprint of them all."""
    by_name = {picture.name: picture for picture in pictures}
    names = store.pictures()
    listed = "\n".join(f"{name} {_fingerprint_of_ends(by_name[name])}" for name in names if name in by_name)
    mark = f"pictures-{hashlib.sha256(listed.encode(errors='surrogateescape')).hexdigest()[:ENDS_DIGITS]}"
    if mark != store.fact("fingerprint"):
        return [None] * len(pictures)
    place_of = {name: place for place, name in enumerate(names)}
    return [place_of.get(picture.name) for picture in pictures]


def pictures_at(path: Path) -> list[Path] | None:
    """Pictures that a path names, one or those of a folder; None where it names a video.

    Raises:
        MediaError: the folder cannot be read.
    """
    try:
        if path.is_dir():
            return list_pictures(path)
    except OSError as error:
        raise MediaError(f"cannot read {path}: {error.strerror or error}") from error
    return [path] if is_picture(path) else None


def fingerprint(path: Path) -> str:
    """Tell a file from others by its length and the hash of all its bytes; an unchanged file is read once.

    Raises:
        MediaError: it is no file.
    """
    require_file(path)
    return _fingerprint_of_all(path, *file_facts(path).values())


def picture_mark(picture: Path) -> str:
    """Tell a picture from others of its set; one that cannot be opened must not keep the others from being known."""
    try:
        return fingerprint(picture)
    except (MediaError, OSError):
        return f"unreadable-{picture.name}"


def file_facts(path: Path) -> dict[str, Any]:
    """Say what changes when a file does; JSON values."""
    stat = path.stat()
    times = {"mtime_ns": stat.st_mtime_ns, "ctime_ns": stat.st_ctime_ns}
    return {"path": str(path.resolve()), "size": stat.st_size, "inode": stat.st_ino, **times}


def has_fingerprint(path: Path, mark: str | None) -> bool:
    """Say whether a file has a fingerprint: today's, or one of its ends, as older stores have."""
    if mark is None or mark.split("-")[0] != str(path.stat().st_size):
        return False
    is_old = len(mark.split("-")[-1]) == ENDS_DIGITS
    return (_fingerprint_of_ends(path) if is_old else fingerprint(path)) == mark


@lru_cache(maxsize=10_000)
def _fingerprint_of_all(path: Path, *facts: Any) -> str:
    known, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while part := file.read(READ_BYTES):
            known.update(part)
            size += len(part)
    return f"{size}-{known.hexdigest()}"


def _fingerprint_of_ends(path: Path) -> str:
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(ENDS_BYTES)
        file.seek(max(0, size - ENDS_BYTES))
        return f"{size}-{hashlib.sha256(head + file.read()).hexdigest()[:ENDS_DIGITS]}"


def forget_video(workspace: Workspace, video: str) -> None:
    """Delete what is known of a video, and its crops in whichever person's folder they lie."""
    if not workspace.store(video).is_file():
        return
    with FaceStore(workspace.store(video)) as store:
        crops = {crop_name(video, label.frame, label.track) for label in store.labels() if label.crop}
    delete_crops(workspace, crops)
    try:
        shutil.rmtree(workspace.store(video).parent)
    except OSError as error:
        raise WorkspaceError(f"cannot delete {error.filename}: {error.strerror}; close what uses it") from error


def delete_crops(workspace: Workspace, crops: Iterable[str]) -> None:
    """Delete crops by file name, in whichever person's folder they lie; folders that are links are left alone.

    Raises:
        WorkspaceError: one cannot be deleted.
    """
    data = workspace.data.resolve()
    folders = [folder for folder in data.glob("*") if folder.is_dir() and folder.resolve() == folder]
    for crop in crops:
        for folder in folders:
            try:
                (folder / crop).unlink(missing_ok=True)
            except OSError as error:
                raise WorkspaceError(f"cannot delete {folder / crop}: {error.strerror}; close what uses it") from error


def only_run(workspace: Workspace, video: str) -> AbstractContextManager[None]:
    """Keep other runs off a video while the block runs."""
    return locked(workspace.videos / f"{video}.lock", f"another run is extracting {video!r}: wait until it has ended")


def is_footage_extracted(workspace: Workspace, path: Path) -> bool:
    """Say whether a video, a picture, or each picture of a folder was looked through."""
    video, pictures = name_footage(workspace, path), pictures_at(path)
    if not is_extracted(workspace, video) or pictures is None:
        return is_extracted(workspace, video)
    with FaceStore(workspace.store(video)) as store:
        return None not in recorded_places(store, pictures)


def is_extracted(workspace: Workspace, video: str) -> bool:
    """Say whether all frames of a video were looked through."""
    if not workspace.store(video).is_file():
        return False
    with FaceStore(workspace.store(video)) as store:
        return bool(store.fact("finished"))
