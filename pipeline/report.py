"""What every stage gives back: words for the person, and what went wrong."""

import math
import unicodedata
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Protocol

UNSEEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})  # Unicode's categories of what commands, and is not shown itself
JOINERS = "\u200c\u200d"  # which words and emoji need


class Report(Protocol):
    """The outcome of a command."""

    def lines(self) -> list[str]:
        """What was done, what was skipped and why, where the result is."""

    def problems(self) -> list[str]:
        """What could not be done, a line each; the command fails when there are any."""


def legible(text: str) -> str:
    """Make a text fit for a terminal and a log: what would command the one or forge the other shows as an escape."""
    return "".join(
        c if c in JOINERS or unicodedata.category(c) not in UNSEEN else c.encode("unicode_escape").decode()
        for c in text
    )


def in_words(seconds: float) -> str:
    """Say a duration in the unit that suits it."""
    for limit, unit, length in ((90, "seconds", 1), (5400, "minutes", 60), (172_800, "hours", 3600)):
        if seconds < limit:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds / 86400:.1f} days"


def counted(number: int, what: str) -> str:
    """Say how many there are of something."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def some(words: list[str], shown: int = 5) -> str:
    """List words for a person; the many are cut short."""
    more = f" and {len(words) - shown} more" if len(words) > shown else ""
    return ", ".join(words[:shown]) + more


def plain(value: object) -> Any:
    """Turn a report, or what is in one, into what JSON holds; what has no other form becomes text."""
    if isinstance(value, float) and not math.isfinite(value):
        return None  # JSON has no such numbers
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: plain(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(one) for one in value]
    return str(value) if isinstance(value, Path | Exception) else repr(value)
