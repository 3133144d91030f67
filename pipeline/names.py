"""Names that people cannot have, because files of a model are named after people."""

import re
import unicodedata
from collections.abc import Iterable

from pipeline.errors import UsageError, WorkspaceError
from pipeline.workspace import is_name

RESERVED_NAMES = {"timelapse", "timelapse.mp4", "events", "onnx", "swap.png", "loss.png", "history.jsonl"}
"""Files and folders of a model, beside the previews of its people."""
_STATE = re.compile(r"state-[0-9]{9,}.*", re.DOTALL)


def name_problem(name: str, others: Iterable[str] = ()) -> str | None:
    """Return why a person cannot have a name in a model, on any operating system; None if the name is valid.

    ``others`` are the names of other people.
    """
    if not is_name(name):
        return "use letters, digits, space, '.', '_' and '-' only, and no dot at either end"
    if name.casefold() in RESERVED_NAMES or _STATE.fullmatch(name.casefold()):
        return "a model has files of that name"
    for other in others:
        if other != name and _folded(other) == _folded(name):
            return f"{other!r} has the same name on systems where case or Unicode's forms do not count"
    return None


def require_name(name: str, others: Iterable[str] = ()) -> None:
    """Check a new name for a person against the names of others.

    Raises:
        UsageError: training would refuse the name.
    """
    if reason := name_problem(name, others):
        raise UsageError(f"{name!r} cannot name a person: {reason}; choose another name")


def check_people(people: Iterable[str], existing: Iterable[str], where: str) -> None:
    """Check that a model can have files named after people.

    Args:
        people: names to check.
        existing: names of the model's people.
        where: what to rename, for the error message, with ``{}`` for the name.

    Raises:
        WorkspaceError: a name cannot name a file, is reserved, or differs from another only in case or Unicode form.
    """
    others = list(existing)
    for person in people:
        if reason := name_problem(person, others):
            raise WorkspaceError(f"{person!r} cannot name a person: {reason}; rename {where.format(person)}")
        others.append(person)


def _folded(name: str) -> str:
    """Map names that differ only in case or Unicode form to the same text (Unicode Standard 3.13, D145)."""
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", name).casefold())
