"""Options of people and review."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from pipeline.options.base import WorkspaceOptions, require
from pipeline.workspace import checked_name

TAKEN = {
    "list": (),
    "rename": ("OLD", "NEW"),
    "merge": ("WHO", "INTO"),
    "remove": ("WHO",),
    "discard": ("WHO", "--list FILE"),  # or --missing
}


@dataclass(frozen=True, kw_only=True)
class PeopleOptions(WorkspaceOptions):
    """List the people, or: rename OLD NEW, merge WHO INTO, remove WHO, discard WHO --list FILE or --missing."""

    action: Annotated[Literal["list", "rename", "merge", "remove", "discard"], tyro.conf.Positional] = "list"
    """What to do."""
    names: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME"), tyro.conf.Positional] = ()
    """To whom."""
    list_file: Annotated[Path | None, tyro.conf.arg(name="list")] = None
    """File that names the crops to set aside, one a line, as the page of review saves it."""

    missing: bool = False
    """With discard: set aside all crops that you deleted yourself, so that they are no longer reported as lost."""

    def __post_init__(self) -> None:
        super().__post_init__()
        taken = TAKEN[self.action]
        which = (self.list_file is not None) + self.missing
        fits = len(self.names) + which == len(taken) and (which == 1) == (self.action == "discard")
        require(fits, f"type: python cli.py people {' '.join((self.action, *taken))}")
        for name in self.names:
            checked_name(name, "person")
        require(len(set(self.names)) == len(self.names), f"{' and '.join(self.names)}: nothing to {self.action}")


@dataclass(frozen=True, kw_only=True)
class ReviewOptions(WorkspaceOptions):
    """Show a person's crops on a page to sort and clean them by, and say what the set lacks."""

    person: Annotated[str, tyro.conf.arg(metavar="NAME"), tyro.conf.Positional]
    """Whose crops."""

    def __post_init__(self) -> None:
        super().__post_init__()
        checked_name(self.person, "person")
