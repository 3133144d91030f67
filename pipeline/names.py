"""Which names people cannot have, because files of a model are named after them."""

import re
import unicodedata
from collections.abc import Iterable

from pipeline.errors import UsageError, WorkspaceError
from pipeline.workspace import is_name

TAKEN = {"timelapse", "timelapse.mp4", "events", "onnx", "swap.png", "loss.png", "history.jsonl"}  # beside the previews
_STATE = re.compile(r"state-[0-9]{9,}.*", re.DOTALL)


def why_refused(name: str, others: Iterable[str] = ()) -> str | None:
    """Say why nobody can have a name in a model, on every system; None where somebody can.

    Args:
        name: of a person.
        others: names that other people have.
    """
    if not is_name(name):
        return "use letters, digits, space, '.', '_' and '-' only, and no dot at either end"
    if name.casefold() in TAKEN or _STATE.fullmatch(name.casefold()):
        return "a model has files of that name"
    for other in others:
        if other != name and _folded(other) == _folded(name):
            return f"{other!r} has the same name on systems where case or Unicode's forms do not count"
    return None


def require_name(name: str, others: Iterable[str] = ()) -> None:
    """Make sure that a person can be given a name.

    Args:
        name: as typed.
        others: names that other people have.

    Raises:
        UsageError: training would refuse it.
    """
    if reason := why_refused(name, others):
        raise UsageError(f"{name!r} cannot name a person: {reason}; choose another name")


def check_people(people: Iterable[str], known: Iterable[str], where: str) -> None:
    """Make sure that people can have their files in a model.

    Args:
        people: their names.
        known: names of people of the model.
        where: what to rename, with ``{}`` where the name stands in it.

    Raises:
        WorkspaceError: a name cannot name a file, is taken, or is another's but for its case or its Unicode form.
    """
    there = list(known)
    for person in people:
        if reason := why_refused(person, there):
            raise WorkspaceError(f"{person!r} cannot name a person: {reason}; rename {where.format(person)}")
        there.append(person)


def _folded(name: str) -> str:
    """Bring names that differ in case or Unicode form only to one (Unicode Standard 3.13, D145)."""
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", name).casefold())
