"""The videos of a workspace: which file is which."""

import hashlib
import shutil
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path

from pipeline.errors import WorkspaceError
from pipeline.faces.store import FaceStore
from pipeline.locks import locked
from pipeline.workspace import Workspace, name_from_file, numbered_name

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


def fingerprint(path: Path) -> str:
    """Tell a file from others by its length and the hash of its first and last bytes."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(FINGERPRINT_BYTES)
        file.seek(max(0, size - FINGERPRINT_BYTES))
        return f"{size}-{hashlib.sha256(head + file.read()).hexdigest()[:32]}"


def forget_video(workspace: Workspace, video: str) -> None:
    """Delete what is known of a video, and its crops in whichever person's folder they lie."""
    if not workspace.store(video).is_file():
        return
    with FaceStore(workspace.store(video)) as store:
        crops = {Path(stored.crop).name for stored in store.faces() if stored.crop}
    delete_crops(workspace, crops)
    shutil.rmtree(workspace.store(video).parent)


def delete_crops(workspace: Workspace, crops: Iterable[str]) -> None:
    """Delete crops by file name, in whichever person's folder they lie.

    Raises:
        WorkspaceError: one cannot be deleted.
    """
    folders = [folder for folder in workspace.data.glob("*") if folder.is_dir()]
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
