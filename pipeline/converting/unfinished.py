"""Where a conversion keeps its finished segments until it is done: a hidden folder beside the result."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path

from pipeline.converting.film import Film, Planned
from pipeline.errors import WorkspaceError
from pipeline.locks import locked
from pipeline.media.writer import read_segment
from pipeline.workspace import flush

NAME = re.compile(r"(\d{8,})-(\d+)_[0-9a-f]{16}\.nut")  # first frame, number of frames, hash of all that decides


@contextmanager
def segments_folder(final: Path) -> Iterator[Path]:
    """Keep the folder for the segments of a result while the block runs.

    It is deleted when the block succeeds, or has left nothing to go on from.

    Args:
        final: the result.

    Yields:
        The folder. What an earlier run has left there is still in it.

    Raises:
        WorkspaceError: another run works on the same result, the folder cannot be made, or it leads elsewhere.
    """
    folder, lock = (final.with_name(f".{final.name}.{ending}") for ending in ("segments", "lock"))
    is_done = False
    with locked(lock, f"another run is converting into {final}: wait until it has ended"):
        try:
            _make(folder)
            try:
                yield folder
                is_done = True
            finally:
                if is_done or not any(folder.glob("[0-9]*.nut")):
                    _delete(folder)
        finally:
            if os.name != "nt":  # which deletes nothing that is open
                lock.unlink(missing_ok=True)  # while it is held: nobody else may hold one that is gone


def _make(folder: Path) -> None:
    try:
        if not folder.is_symlink():
            folder.mkdir(parents=True, exist_ok=True)
        links = [folder] if folder.is_symlink() else [path for path in folder.iterdir() if path.is_symlink()]
    except OSError as error:
        raise WorkspaceError(f"cannot write {folder}: {error.strerror}; check the disk and the folder") from error
    if links:
        raise WorkspaceError(
            f"{links[0]} is a link: what is written and deleted there would be elsewhere; move it away"
        )


def _delete(folder: Path) -> None:
    """Delete the files in a folder, then the folder; what cannot be deleted stays."""
    with suppress(OSError):
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


def drop_halves(folder: Path) -> None:
    """Delete what a killed run was writing: what it had started may still write there, and must not into ours.

    Finished segments stay, those of other options too: a mistyped option must not cost what another run has made.
    """
    for path in [*folder.glob("part_*"), *folder.glob("rehearsal*")]:
        with suppress(OSError):
            path.unlink()


def find_segments(folder: Path, film: Film, settings: str, unit: Fraction) -> list[Planned]:
    """Find finished segments to go on from, whatever their lengths.

    Args:
        folder: where they are kept.
        film: what is to be made.
        settings: what else decides what is in them.
        unit: seconds per unit of timestamps.

    Returns:
        Those that would be made now just as they are, without overlaps, in order.
    """
    found: list[Planned] = []
    at = film.first
    lengths = (tuple(map(int, match.groups())) for path in folder.iterdir() if (match := NAME.fullmatch(path.name)))
    for first, count in sorted(set(lengths), key=lambda length: (length[0], -length[1])):
        if at <= first and first + count <= film.end:
            segment = film.segment(first, count)
            if read_segment(folder / segment.name(settings), segment.pts, unit) is not None:
                found.append(segment)
                at = segment.end
    return found


def keep(part: Path, final: Path) -> None:
    """Give a finished segment its name, once all of it is on the disk.

    Raises:
        WorkspaceError: that cannot be done.
    """
    try:
        flush(part)
        part.replace(final)
        flush(final.parent)
    except OSError as error:
        raise WorkspaceError(f"cannot write {final}: {error.strerror}; check the disk and the folder") from error
