"""Everything Recast raises on purpose.

    RecastError            exit 1: expected failure, one line for the person
    ├── UsageError         exit 2: the command line is wrong
    ├── MediaError         a video or picture cannot be read or written
    ├── WorkspaceError     the workspace lacks something, or holds something odd
    └── NothingToDoError   the input is fine but holds no face, person, or video to work on

A message says what, where, and what to type next. Anything else that escapes is a bug.
"""


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
