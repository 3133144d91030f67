"""Everything Recast raises on purpose.

    RecastError            exit 1: expected failure, one line for the user
    ├── UsageError         exit 2: the command line is wrong
    ├── MediaError         a video or picture cannot be read or written
    ├── WorkspaceError     something in the workspace is missing, damaged or in the way
    └── NothingToDoError   the input is fine but has no face, person or video to work on

``models`` does not import these: it raises CheckpointError, which is reported as a WorkspaceError.

A message says what, where, and what to type next. Any other error is a full disk, too little memory, or a bug.
"""

import os
import shlex
from pathlib import Path
from subprocess import list2cmdline

from models import CheckpointError

BUG, INTERRUPTED = 3, 130  # exit codes
OUT_OF_MEMORY = ("OutOfMemoryError", "can't allocate memory", "Insufficient memory")  # in messages of torch and OpenCV
UNUSABLE_PATH = ("Symlink loop", "embedded null")  # in Python's messages
MAX_LENGTH = 200  # characters of a library's message


class RecastError(Exception):
    """Base of all expected failures; ``str()`` is the line that the user reads."""

    exit_code = 1


class UsageError(RecastError):
    """An option is unknown or has an invalid value."""

    exit_code = 2


class MediaError(RecastError):
    """A media file cannot be read or written."""


class WorkspaceError(RecastError):
    """Something in the workspace is missing, damaged or in the way."""


class NothingToDoError(RecastError):
    """The input has nothing to work on."""


def command(*words: str | Path) -> str:
    """Format one of Recast's commands for the user to type, quoted for the shell."""
    quote = list2cmdline if os.name == "nt" else shlex.join
    return f"python cli.py {quote(list(map(str, words)))}"


def as_recast_error(error: RecastError | CheckpointError | OSError | UnicodeError) -> RecastError:
    """Turn a system error (missing file, full disk, name that is not text) into an expected failure in one line."""
    if isinstance(error, CheckpointError):
        return WorkspaceError(str(error))
    return error if isinstance(error, RecastError) else RecastError(_system_message(error))


def describe_error(error: BaseException) -> tuple[str, int]:
    """Return one line that says what ended a command, and the exit code."""
    if isinstance(error, CheckpointError):
        error = as_recast_error(error)
    if isinstance(error, RecastError):
        return f"error: {error}", error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return "interrupted: run the same command again to continue from what was finished", INTERRUPTED
    if isinstance(error, ModuleNotFoundError):
        return f"error: the package {error.name!r} is missing; run: pip install -r requirements.txt", 1
    if isinstance(error, MemoryError) or any(words in f"{type(error).__name__} {error}" for words in OUT_OF_MEMORY):
        return "error: not enough memory; a smaller batch (-b), model or picture needs less", 1
    if isinstance(error, OSError | UnicodeEncodeError) or any(words in str(error) for words in UNUSABLE_PATH):
        return f"error: {_system_message(error)}", 1
    message = (str(error).splitlines() or [""])[0][:MAX_LENGTH]
    return f"error: {type(error).__name__}: {message}; this is a bug in Recast: please report it", BUG


def _system_message(error: BaseException) -> str:
    if isinstance(error, UnicodeEncodeError):
        return f"the name {str(error.object)[:MAX_LENGTH]!a} has bytes that are not text: rename the file"
    if isinstance(error, UnicodeError):
        return f"not valid text: {error}"
    if not isinstance(error, OSError):
        return f"a path cannot be used: {error}; name another"
    path = f": {error.filename}" if error.filename else ""
    return f"{error.strerror or error}{path}; check the disk and the permissions"
