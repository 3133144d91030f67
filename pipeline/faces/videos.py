"""The videos of a workspace: which file is which."""

import hashlib
import os
import shutil
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from pipeline.errors import MediaError, WorkspaceError
from pipeline.faces.people import crop_name
from pipeline.faces.store import FaceStore
from pipeline.locks import locked
from pipeline.media.files import require_file
from pipeline.media.kinds import is_picture
from pipeline.workspace import Workspace, list_pictures, name_from_file, numbered_name

FINGERPRINT_BYTES = 65536  # read from each end of a file; with its length that tells videos apart
MOST_NAMESAKES = 10_000


def name_video(workspace: Workspace, path: Path, mark: str | None = None) -> str:
    """Return the name a video has in the workspace, or a free one made from its file name.

    The same file under another path keeps its name; another file of the same name gets ``<name>-2``, ``-3`` ….

    Args:
        workspace: whose.
        path: a video, or a folder of pictures.
        mark: its fingerprint; needed for what is no single file.
    """
    base, mark = name_from_file(path), mark or fingerprint(path)
    for number in range(1, MOST_NAMESAKES):
        name = base if number == 1 else numbered_name(base, number)
        if not workspace.store(name).is_file():
            return name
        with FaceStore(workspace.store(name)) as store:
            if store.fact("fingerprint") in (mark, None):
                return name
    raise WorkspaceError(f"too many videos are named {base!r}; rename {path}")


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


def name_footage(workspace: Workspace, path: Path) -> str:
    """Return the name that a video, a picture or a folder of pictures has in the workspace, or would get.

    Raises:
        MediaError: the folder has no pictures.
    """
    pictures = pictures_at(path)
    if pictures == []:
        raise MediaError(f"no picture in {path}: name a folder that holds some, or a video")
    return name_video(workspace, path, None if pictures is None else fingerprint_set(pictures))


def fingerprint_set(pictures: Sequence[Path]) -> str:
    """Tell a set of pictures from others by their names and what they are.

    Raises:
        MediaError: the only one is no file.
    """
    mark = fingerprint if len(pictures) == 1 else _fingerprint_of_several
    listed = "\n".join(f"{picture.name} {mark(picture)}" for picture in pictures)
    return f"pictures-{hashlib.sha256(os.fsencode(listed)).hexdigest()[:32]}"


def fingerprint(path: Path) -> str:
    """Tell a file from others by its length and the hash of its first and last bytes.

    Raises:
        MediaError: it is none.
    """
    require_file(path)
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(FINGERPRINT_BYTES)
        file.seek(max(0, size - FINGERPRINT_BYTES))
        return f"{size}-{hashlib.sha256(head + file.read()).hexdigest()[:32]}"


def _fingerprint_of_several(picture: Path) -> str:
    """One of several that cannot be opened must not keep the others from being known."""
    try:
        return fingerprint(picture)
    except (MediaError, OSError):
        return "unreadable"


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


def is_extracted(workspace: Workspace, video: str) -> bool:
    """Say whether all frames of a video were looked through."""
    if not workspace.store(video).is_file():
        return False
    with FaceStore(workspace.store(video)) as store:
        return bool(store.fact("finished"))
