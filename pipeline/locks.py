"""Locks between processes, released by the system when their process dies."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline.errors import WorkspaceError


@contextmanager
def locked(path: Path, busy: str) -> Iterator[None]:
    """Hold a lock while the block runs.

    What the lock guards may be deleted inside the block, the file of the lock included: whoever opened that file
    before looks again.

    Args:
        path: file of the lock, whatever is in it; created with its folder, and left.
        busy: what to say where another process holds it.

    Raises:
        WorkspaceError: another holds it, or the file cannot be written.
    """
    lock = FileLock(path, thread_local=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise WorkspaceError(busy) from error
    except OSError as error:
        raise WorkspaceError(
            f"cannot write {path}: {error.strerror or error}; check the disk and the folder"
        ) from error
    try:
        yield
    finally:
        lock.release()
