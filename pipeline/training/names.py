"""Which names people cannot have, because files of a model are named after them."""

import re
import unicodedata
from collections.abc import Iterable

from pipeline.errors import WorkspaceError
from pipeline.workspace import is_name

TAKEN = {"timelapse", "timelapse.mp4", "events", "onnx", "swap.png", "loss.png", "history.jsonl"}  # beside the previews
_STATE = re.compile(r"state-[0-9]{9,}.*", re.DOTALL)


def check_people(people: Iterable[str], known: Iterable[str], where: str) -> None:
    """Make sure that people can have their files in a model, on every system.

    Args:
        people: their names.
        known: names of people of the model.
        where: what to rename, with ``{}`` where the name stands in it.

    Raises:
        WorkspaceError: a name cannot name a file, is taken, or is another's but for its case or its Unicode form.
    """
    there = {_folded(person): person for person in known}
    for person in people:
        other = there.setdefault(_folded(person), person)
        reason = None
        if not is_name(person):
            reason = "use letters, digits, space, '.', '_' and '-' only, and no dot at either end"
        elif person.casefold() in TAKEN or _STATE.fullmatch(person.casefold()):
            reason = "a model has files of that name"
        elif other != person:
            reason = f"{other!r} has the same name on systems where case or Unicode's forms do not count"
        if reason:
            raise WorkspaceError(f"{person!r} cannot name a person: {reason}; rename {where.format(person)}")


def _folded(name: str) -> str:
    """Bring names that differ in case or Unicode form only to one (Unicode Standard 3.13, D145)."""
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", name).casefold())
