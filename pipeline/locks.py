"""Locks between processes; one that dies keeps nobody off."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from pipeline.errors import WorkspaceError


@contextmanager
def locked(path: Path, busy: str) -> Iterator[None]:
    """Hold a lock while the block runs.

    SQLite's exclusive lock, because it is the system's own lock of a file, on every system.

    Args:
        path: file of the lock; made with its folder, and left.
        busy: what to say where another process holds it.

    Raises:
        WorkspaceError: another holds it, or the file cannot be written.
    """
    with closing(_exclusive(path, busy)):
        yield


def _exclusive(path: Path, busy: str) -> sqlite3.Connection:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        db = sqlite3.connect(path, timeout=0, isolation_level=None)
        db.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            raise WorkspaceError(busy) from error
        raise WorkspaceError(f"cannot write {path}: {error}; check the disk and the folder") from error
    except OSError as error:
        raise WorkspaceError(f"cannot write {path.parent}: {error.strerror}; check the disk and the folder") from error
    return db
