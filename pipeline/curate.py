"""Looking after the people of a workspace: who is there, renaming, merging, removing."""

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from pipeline.errors import NothingToDoError, WorkspaceError
from pipeline.faces.people import crops_in, faces_of_person
from pipeline.faces.store import FaceStore
from pipeline.options import PeopleOptions
from pipeline.report import in_words, some
from pipeline.workspace import Workspace, list_people, list_pictures, numbered_name


@dataclass
class CurateReport:
    """What a people command did."""

    done: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """What was done, or who is there."""
        return self.done

    def problems(self) -> list[str]:
        """Nothing: what cannot be done is raised."""
        return []


def curate(options: PeopleOptions) -> CurateReport:
    """List the people of a workspace, or rename, merge or remove one.

    Raises:
        NothingToDoError: there is nobody, or not the one named.
        WorkspaceError: the new name is taken, or a folder cannot be changed.
    """
    workspace = Workspace(options.workspace)
    people = list_people(workspace.data)
    missing = [name for name in options.names[: 2 if options.action == "merge" else 1] if name not in people]
    if missing or not people:
        who = f"nobody called {missing[0]!r}" if missing else "nobody"
        raise NothingToDoError(f"{who} in {workspace.data}; there: {some(people) or 'no faces yet'}")
    actions: dict[str, Callable[..., str]] = {"rename": _rename, "merge": _merge, "remove": _remove}
    if options.action == "list":
        return CurateReport([_line(workspace, person) for person in people])
    try:
        return CurateReport([actions[options.action](workspace, *options.names)])
    except OSError as error:
        raise WorkspaceError(f"cannot change {workspace.data}: {error}; check the disk and the folder") from error


def _line(workspace: Workspace, person: str) -> str:
    """Say how many crops there are of a person, and in which videos for how long they are on screen."""
    crops, videos, seconds = crops_in(workspace.person(person)), [], 0.0
    for path in workspace.stores():
        with FaceStore(path) as store:
            frames = {stored.frame for stored in faces_of_person(store.faces(), crops)}
            rate = Fraction((store.fact("info") or {}).get("average_rate") or 0)
        if frames:
            videos.append(path.parent.name)
            seconds += float(len(frames) / rate) if rate else 0
    time = f", {in_words(seconds)} on screen" if seconds else ""
    shown = f"in {some(videos)}{time}" if videos else "own pictures"
    return f"{person}: {len(crops)} crops, {shown}"


def _rename(workspace: Workspace, old: str, new: str) -> str:
    if workspace.person(new).exists():
        raise WorkspaceError(
            f"there is a {new!r} already; to put both together: python cli.py people merge {old} {new}"
        )
    workspace.person(old).rename(workspace.person(new))
    _record(workspace, old, new)
    return f"{old} is now {new}; models keep the name they were trained with"


def _merge(workspace: Workspace, source: str, target: str) -> str:
    pictures = list_pictures(workspace.person(source))
    for picture in pictures:
        picture.rename(_free(workspace.person(target) / picture.name))
    _record(workspace, source, target)
    _drop(workspace, source)
    return f"{len(pictures)} crops of {source} are now {target}'s"


def _remove(workspace: Workspace, person: str) -> str:
    folder = _free(workspace.root / "removed" / person)
    folder.parent.mkdir(parents=True, exist_ok=True)
    workspace.person(person).rename(folder)
    return f"{person} is neither trained on nor swapped any more; the crops are in {folder}: move them back to undo it"


def _free(path: Path) -> Path:
    """Return the path, numbered if there is something already."""
    number, wanted = 2, path
    while path.exists():
        path = wanted.with_name(numbered_name(wanted.stem, number) + wanted.suffix)
        number += 1
    return path


def _record(workspace: Workspace, old: str, new: str) -> None:
    for path in workspace.stores():
        with FaceStore(path) as store:
            store.rename_person(old, new)


def _drop(workspace: Workspace, person: str) -> None:
    """Take an emptied folder away; what else a person put into it stays."""
    folder = workspace.person(person)
    if not any(folder.iterdir()):
        folder.rmdir()
