"""Where a conversion keeps its finished segments until it is done: a hidden folder beside the result."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.errors import WorkspaceError
from pipeline.locks import locked

LOCK = "lock"


@contextmanager
def segments_folder(final: Path) -> Iterator[Path]:
    """Keep the folder for the segments of a result while the block runs.

    It is deleted when the block succeeds, or has left nothing to go on from.

    Args:
        final: the result.

    Yields:
        The folder. What an earlier run has left there is still in it.

    Raises:
        WorkspaceError: another run works on the same result, or the folder cannot be made.
    """
    folder = final.with_name(f".{final.name}.segments")
    is_done = False
    try:
        with locked(folder / LOCK, f"another run is converting into {final}: wait until it has ended"):
            try:
                yield folder
                is_done = True
            finally:
                is_done = is_done or not any(folder.glob("*.nut"))
                if is_done:  # while the lock is held: afterwards the folder may be another run's
                    shutil.rmtree(folder, ignore_errors=True)
    finally:
        if is_done and os.name == "nt":  # Windows deletes no open file; where another run has it open, it stays
            with suppress(OSError):
                (folder / LOCK).unlink()
                folder.rmdir()


def drop_halves(folder: Path) -> None:
    """Delete what a killed run was writing: what it had started may still write there, and must not into ours.

    Finished segments stay, those of other options too: a mistyped option must not cost what another run has made.
    """
    for path in [*folder.glob("part_*"), *folder.glob("rehearsal*")]:
        with suppress(OSError):
            path.unlink()


def keep(part: Path, final: Path) -> None:
    """Give a finished segment its name, once all of it is on the disk.

    Raises:
        WorkspaceError: that cannot be done.
    """
    try:
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(final)
    except OSError as error:
        raise WorkspaceError(f"cannot write {final}: {error.strerror}; check the disk and the folder") from error
