"""Looking after the people of a workspace: who is there, renaming, merging, removing."""

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from pipeline.console import format_duration, join_words
from pipeline.errors import MediaError, NothingToDoError, RecastError, WorkspaceError
from pipeline.faces.crops import find_missing, set_crops_aside
from pipeline.faces.people import crops_in, faces_of_person, require_person
from pipeline.faces.store import FaceStore
from pipeline.media.probe import require_file
from pipeline.options import PeopleOptions
from pipeline.workspace import Workspace, list_people, list_pictures, numbered_name

MOST_BYTES = 1e8  # of a list: a million crops


@dataclass
class PeopleReport:
    """What a people command did."""

    done: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    failed: list[RecastError] = field(default_factory=list)

    def lines(self) -> list[str]:
        """What was done, or who is there."""
        return self.done

    def problems(self) -> list[str]:
        """Crops that a list names and that are nowhere; stores of videos that cannot be read."""
        missing = f"{len(self.missing)} crops of the list are not there: {join_words(self.missing)}"
        return [*([missing] if self.missing else []), *map(str, self.failed)]


def people_command(options: PeopleOptions) -> PeopleReport:
    """List the people of a workspace, rename, merge or remove one, or set some crops of one aside.

    Raises:
        NothingToDoError: there is nobody, or not the one named.
        WorkspaceError: the new name is taken, or a folder cannot be changed.
    """
    workspace = Workspace(options.workspace)
    for name in options.names[: 2 if options.action == "merge" else 1] if not options.missing else ():
        require_person(workspace, name)
    actions: dict[str, Callable[..., str]] = {"rename": _rename, "merge": _merge, "remove": _remove}
    try:
        if options.action == "list":
            return _list(workspace)
        if options.list_file is not None:
            return _discard(workspace, options.names[0], options.list_file)
        if options.missing:
            return PeopleReport([_discard_missing(workspace, options.names[0])])
        return PeopleReport([actions[options.action](workspace, *options.names)])
    except OSError as error:
        raise WorkspaceError(f"cannot change {workspace.data}: {error}; check the disk and the folder") from error


def _list(workspace: Workspace) -> PeopleReport:
    """Say of each person how many crops there are, and in which videos for how long they are on screen."""
    crops = {person: crops_in(workspace.data / person) for person in list_people(workspace.data)}
    if not crops:
        raise NothingToDoError(f"nobody in {workspace.data}; run: python cli.py extract VIDEO")
    videos: dict[str, list[str]] = {person: [] for person in crops}
    seconds = dict.fromkeys(crops, 0.0)
    report = PeopleReport()
    for path in workspace.stores():
        try:
            with FaceStore(path) as store:
                faces, rate = store.labels(), store.average_rate() or Fraction(0)
        except RecastError as error:
            report.failed.append(error)
            continue
        for person, names in crops.items():
            frames = {stored.frame for stored in faces_of_person(faces, names)}
            if frames:
                videos[person].append(path.parent.name)
                seconds[person] += float(len(frames) / rate) if rate else 0
    report.done = [_line(person, len(crops[person]), videos[person], seconds[person]) for person in crops]
    return report


def _line(person: str, crops: int, videos: list[str], seconds: float) -> str:
    time = f", {format_duration(seconds)} on screen" if seconds else ""
    shown = f"in {join_words(videos)}{time}" if videos else "own pictures"
    return f"{person}: {crops} crops, {shown}"


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
    folder = _free(workspace.removed(person))
    folder.parent.mkdir(parents=True, exist_ok=True)
    set_crops_aside(workspace, crops_in(workspace.person(person)))
    workspace.person(person).rename(folder)
    return f"{person} is neither trained on nor swapped any more; the crops are in {folder}: move them back to undo it"


def _discard(workspace: Workspace, person: str, list_file: Path) -> PeopleReport:
    """Set the crops aside that a file names; one that was set aside before needs nothing more."""
    try:
        require_file(list_file.expanduser(), MOST_BYTES)
        listed = list_file.expanduser().read_text(encoding="utf-8-sig").replace("\r\n", "\n").split("\n")
    except (OSError, RuntimeError, UnicodeDecodeError, MediaError) as error:
        raise WorkspaceError(
            f"cannot read {list_file} as a list of crops: {error}; name the file that the page of review saved"
        ) from error
    if any("\0" in line for line in listed):
        raise WorkspaceError(f"{list_file} is no list of crops: name the file that the page of review saved")
    folder = workspace.person(person)
    wanted = [_name_in(folder, line) for line in dict.fromkeys(listed) if line]
    if not wanted:
        raise NothingToDoError(f"{list_file} names no crop: write file names, one a line")
    there = {picture.name: picture for picture in list_pictures(folder)}
    moved = [there[name] for name in wanted if name in there]
    aside = workspace.removed(person)
    before = {picture.name for picture in list_pictures(aside)}
    if any(picture.name in before for picture in moved):  # crops keep their names: these say where they are from
        aside = _free(aside)
    aside.mkdir(parents=True, exist_ok=True)
    set_crops_aside(workspace, {picture.stem for picture in moved})
    for picture in moved:
        picture.rename(aside / picture.name)
    again = sum(name in before and name not in there for name in wanted)
    already = f" ({again} were before)" if again else ""
    undo = f"; they are in {aside}: move them back to undo it" if moved else ""
    return PeopleReport(
        [f"{len(moved)} crops of {person} set aside{already}{undo}"],
        [name for name in wanted if name not in there and name not in before],
    )


def _discard_missing(workspace: Workspace, person: str) -> str:
    """Record that the crops of a person that are gone were deleted on purpose."""
    count = 0
    for path in workspace.stores():
        with FaceStore(path) as store:
            missing = find_missing(store, workspace)
            gone = [Path(label.crop).stem for label in missing if label.crop and label.person == person]
        if gone:
            with FaceStore(path, write=True) as store:
                store.set_crops_aside(gone)
        count += len(gone)
    if not count:
        raise NothingToDoError(f"no crop of {person!r} is missing")
    return f"{count} missing crops of {person} recorded as set aside: extract --restore leaves them out, too"


def _name_in(folder: Path, line: str) -> str:
    """Take a file's name, or its path if that leads into the folder, for its name there."""
    path = Path(line)
    return path.name if path.parent != Path() and path.parent.resolve() == folder.resolve() else line


def _free(path: Path) -> Path:
    """Return the path, numbered if there is something already."""
    number, wanted = 2, path
    while path.exists():
        path = wanted.with_name(numbered_name(wanted.stem, number) + wanted.suffix)
        number += 1
    return path


def _record(workspace: Workspace, old: str, new: str) -> None:
    for path in workspace.stores():
        with FaceStore(path, write=True) as store:
            store.rename_person(old, new)


def _drop(workspace: Workspace, person: str) -> None:
    """Take an emptied folder away; what else a person put into it stays."""
    folder = workspace.person(person)
    if not any(folder.iterdir()):
        folder.rmdir()
