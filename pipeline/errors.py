"""Everything Recast raises on purpose.

    RecastError            exit 1: expected failure, one line for the person
    ├── UsageError         exit 2: the command line is wrong
    ├── MediaError         a video or picture cannot be read or written
    ├── WorkspaceError     the workspace lacks something, or holds something odd
    └── NothingToDoError   the input is fine but holds no face, person, or video to work on

``models`` knows nothing of these and raises CheckpointError, which counts as a WorkspaceError here.

A message says what, where, and what to type next. What else escapes is a full disk, too little memory, or a bug.
"""

from models import CheckpointError

UNEXPECTED, INTERRUPTED = 3, 130  # exit codes
OUT_OF_MEMORY = ("OutOfMemoryError", "can't allocate memory", "Insufficient memory")  # torch's and OpenCV's words
ODD_PATHS = ("Symlink loop", "embedded null")  # Python's words of links that lead in a circle, and of names with a 0
LONGEST = 200  # characters of what a library says


class RecastError(Exception):
    """Base of all expected failures; ``str()`` is the line the person reads."""

    exit_code = 1


class UsageError(RecastError):
    """An option has a value that cannot be meant."""

    exit_code = 2


class MediaError(RecastError):
    """A media file cannot be read or written."""


class WorkspaceError(RecastError):
    """Something in the workspace is missing, damaged or in the way."""


class NothingToDoError(RecastError):
    """The input holds nothing to work on."""


def as_recast_error(error: RecastError | CheckpointError | OSError | UnicodeError) -> RecastError:
    """Take what the system refused (a file that has gone, a full disk, a name) for an expected failure, in one line."""
    if isinstance(error, CheckpointError):
        return WorkspaceError(str(error))
    return error if isinstance(error, RecastError) else RecastError(_refused(error))


def _refused(error: BaseException) -> str:
    if isinstance(error, UnicodeEncodeError):
        return f"the name {str(error.object)[:LONGEST]!a} holds bytes that are no text: give the file another"
    if isinstance(error, UnicodeError):
        return f"what should be text is none: {error}"
    if not isinstance(error, OSError):
        return f"a path cannot be used: {error}; name another"
    place = f": {error.filename}" if error.filename else ""
    return f"{error.strerror or error}{place}; check the disk, and who may read and write there"


def line_and_code(error: BaseException) -> tuple[str, int]:
    """Say what ended a command in one line, and the exit code for it."""
    if isinstance(error, CheckpointError):
        error = as_recast_error(error)
    if isinstance(error, RecastError):
        return f"error: {error}", error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return "interrupted: type the same command again, and it goes on from what was finished", INTERRUPTED
    if isinstance(error, ModuleNotFoundError):
        return f"error: the package {error.name!r} is missing; run: pip install -r requirements.txt", 1
    if isinstance(error, MemoryError) or any(words in f"{type(error).__name__} {error}" for words in OUT_OF_MEMORY):
        return "error: not enough memory; a smaller batch (-b), model or picture needs less", 1
    if isinstance(error, OSError | UnicodeEncodeError) or str(error).startswith(ODD_PATHS):
        return f"error: {_refused(error)}", 1
    what = (str(error).splitlines() or [""])[0][:LONGEST]
    return f"error: {type(error).__name__}: {what}; this is a mistake in Recast: please report it", UNEXPECTED
