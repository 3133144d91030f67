"""Which paths may be opened: regular files. Opening a pipe would wait for ever, and a device could do anything."""

import math
import re
import stat
from pathlib import Path

from pipeline.errors import MediaError

ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:/", re.IGNORECASE)


def is_file(path: Path) -> bool:
    """Say whether a path names a regular file, whatever else it may be."""
    try:
        require_file(path)
    except MediaError:
        return False
    return True


def require_file(path: Path, most_bytes: float = math.inf) -> None:
    """Make sure that a path names a regular file, without opening it.

    Args:
        path: of the file.
        most_bytes: how long it may be, where all of it is to be read.

    Raises:
        MediaError: it does not, or the file is longer.
    """
    try:
        mode, size = (facts := path.stat()).st_mode, facts.st_size
    except (FileNotFoundError, NotADirectoryError) as error:
        if ADDRESS.match(str(path)):
            raise MediaError(f"{path} is an address, and only files are read: download it first") from error
        raise MediaError(f"no such file: {path}") from error
    except (OSError, ValueError) as error:
        raise MediaError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    if stat.S_ISDIR(mode):
        raise MediaError(f"{path} is a folder: name a file in it")
    if not stat.S_ISREG(mode):
        raise MediaError(f"{path} is a pipe, a socket or a device, which are not read: name a file")
    if size > most_bytes:
        raise MediaError(
            f"{path} has {size / 1e6:.0f} MB; {most_bytes / 1e6:.0f} MB are the most: is it the right file?"
        )
