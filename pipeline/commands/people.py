"""The command people: list the people of a workspace, rename, merge or remove them, set crops aside."""

from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path

from models import checkpoint
from pipeline.console import Report, format_duration, join_words, plural
from pipeline.errors import MediaError, NothingToDoError, RecastError, WorkspaceError, command
from pipeline.faces.crops import find_missing, set_crops_aside
from pipeline.faces.people import crops_in, faces_of_person, require_person
from pipeline.faces.store import FaceStore
from pipeline.media.probe import require_file
from pipeline.names import require_name
from pipeline.options import PeopleOptions
from pipeline.workspace import Workspace, list_people, list_pictures, locked_model, numbered_name

MAX_LIST_BYTES = 1e8  # a million names


def people_command(options: PeopleOptions) -> Report:
    """List the people of a workspace, rename, merge or remove one, or set crops of one aside.

    Raises:
        NothingToDoError: there are no people, or not the one named.
        UsageError: the new name differs from another person's only in case or Unicode form.
        WorkspaceError: the new name is taken, or a folder cannot be changed.
    """
    workspace = Workspace(options.workspace)
    for name in options.names[: 2 if options.action == "merge" else 1] if not options.missing else ():
        require_person(workspace, name)
    try:
        match options.action:
            case "list":
                return _list(workspace)
            case "rename":
                done = _rename(workspace, *options.names)
            case "merge":
                done = _merge(workspace, *options.names)
            case "remove":
                done = _remove(workspace, *options.names)
            case "discard" if options.list_file is not None:
                return _discard(workspace, options.names[0], options.list_file)
            case "discard":
                done = _discard_missing(workspace, options.names[0])
    except OSError as error:
        raise WorkspaceError(f"cannot change {workspace.data}: {error}; check the disk and the folder") from error
    return _report([done])


def _report(done: list[str], missing: list[str] | None = None, failed: list[RecastError] | None = None) -> Report:
    """Report what was done, listed crops that do not exist, and unreadable stores."""
    missing, failed = missing or [], failed or []
    problems = [f"{len(missing)} crops of the list do not exist: {join_words(missing)}"] if missing else []
    return Report(done, [*problems, *map(str, failed)], {"done": done, "missing": missing, "failed": failed})


def _list(workspace: Workspace) -> Report:
    """List each person's crops, videos and seconds on screen."""
    crops = {person: crops_in(workspace.data / person) for person in list_people(workspace.data)}
    if not crops:
        raise NothingToDoError(f"nobody in {workspace.data}; run: python cli.py extract VIDEO")
    videos: dict[str, list[str]] = {person: [] for person in crops}
    seconds, failed = dict.fromkeys(crops, 0.0), list[RecastError]()
    for path in workspace.stores():
        try:
            with FaceStore(path) as store:
                faces, rate = store.labels(), store.average_rate() or Fraction(0)
        except RecastError as error:
            failed.append(error)
            continue
        for person, names in crops.items():
            frames = {stored.frame for stored in faces_of_person(faces, names)}
            if frames:
                videos[person].append(path.parent.name)
                seconds[person] += float(len(frames) / rate) if rate else 0
    lines = []
    for person, names in crops.items():
        time = f", {format_duration(seconds[person])} on screen" if seconds[person] else ""
        source = f"in {join_words(videos[person])}{time}" if videos[person] else "own pictures"
        lines.append(f"{person}: {len(names)} crops, {source}")
    report = _report(lines, failed=failed)
    report.facts["people"] = {
        person: {"crops": len(names), "videos": videos[person], "seconds": seconds[person]}
        for person, names in crops.items()
    }
    return report


def _rename(workspace: Workspace, old: str, new: str) -> str:
    others = [person for person in list_people(workspace.data) if person != old]
    if new not in others:
        require_name(new, others)
    if workspace.person(new).exists():
        raise WorkspaceError(f"{new!r} exists already; to merge the two: {command('people', 'merge', old, new)}")
    with ExitStack() as locks:
        for folder in (everyone := _models(workspace)):
            locks.enter_context(locked_model(folder))
        models = [folder for folder in everyone if old in checkpoint.people_of(folder)]
        if both := [folder.name for folder in models if new in checkpoint.people_of(folder)]:
            raise WorkspaceError(f"the model {both[0]!r} draws a {new!r} already, another person: choose another name")
        for folder in models:
            checkpoint.rename_person(folder, old, new)
        workspace.person(old).rename(workspace.person(new))
        _rename_in_stores(workspace, old, new)
    return f"{old} is now {new}" + (f", in {plural(len(models), 'model')} too" if models else "")


def _models(workspace: Workspace) -> list[Path]:
    return [folder for folder in workspace.models() if checkpoint.exists(folder)]


def _merge(workspace: Workspace, person: str, into: str) -> str:
    folder = workspace.person(person)
    pictures = list_pictures(folder)
    for picture in pictures:
        picture.rename(_unused_path(workspace.person(into) / picture.name))
    _rename_in_stores(workspace, person, into)
    if not any(folder.iterdir()):  # other files of the user stay
        folder.rmdir()
    return f"{len(pictures)} crops of {person} now belong to {into}"


def _remove(workspace: Workspace, person: str) -> str:
    folder = _unused_path(workspace.removed(person))
    folder.parent.mkdir(parents=True, exist_ok=True)
    set_crops_aside(workspace, crops_in(workspace.person(person)))
    workspace.person(person).rename(folder)
    return f"{person} is no longer trained or swapped; the crops are in {folder}: move them back to undo this"


def _discard(workspace: Workspace, person: str, list_file: Path) -> Report:
    """Set aside the crops that a file names; those set aside earlier are skipped."""
    folder = workspace.person(person)
    names = [_name_in(folder, line) for line in dict.fromkeys(_read_list(list_file)) if line]
    if not names:
        raise NothingToDoError(f"{list_file} names no crop: write file names, one per line")
    pictures = {picture.name: picture for picture in list_pictures(folder)}
    moved = [pictures[name] for name in names if name in pictures]
    aside = workspace.removed(person)
    before = {picture.name for picture in list_pictures(aside)}
    if any(picture.name in before for picture in moved):  # crops must keep their names, which contain their origin
        aside = _unused_path(aside)
    aside.mkdir(parents=True, exist_ok=True)
    set_crops_aside(workspace, {picture.stem for picture in moved})
    for picture in moved:
        picture.rename(aside / picture.name)
    count = sum(name in before and name not in pictures for name in names)
    skipped = f" ({count} were before)" if count else ""
    undo = f"; they are in {aside}: move them back to undo this" if moved else ""
    missing = [name for name in names if name not in pictures and name not in before]
    return _report([f"{len(moved)} crops of {person} set aside{skipped}{undo}"], missing)


def _read_list(path: Path) -> list[str]:
    try:
        require_file(path.expanduser(), MAX_LIST_BYTES)
        lines = path.expanduser().read_text(encoding="utf-8-sig").replace("\r\n", "\n").split("\n")
        if any("\0" in line for line in lines):
            raise MediaError("it is not a text file")
    except (OSError, RuntimeError, UnicodeDecodeError, MediaError) as error:
        raise WorkspaceError(
            f"cannot read {path} as a list of crops: {error}; name the file that the page of review saved"
        ) from error
    return lines


def _discard_missing(workspace: Workspace, person: str) -> str:
    """Record that a person's missing crops were deleted on purpose."""
    count = 0
    for path in workspace.stores():
        with FaceStore(path) as store:
            missing = find_missing(store, workspace)
            stems = [Path(label.crop).stem for label in missing if label.crop and label.person == person]
        if stems:
            with FaceStore(path, write=True) as store:
                store.set_crops_aside(stems)
        count += len(stems)
    if not count:
        raise NothingToDoError(f"no crop of {person!r} is missing")
    return f"{count} missing crops of {person} recorded as set aside: extract --restore skips them, too"


def _name_in(folder: Path, line: str) -> str:
    """Shorten the path of a file in the folder to its name."""
    path = Path(line)
    return path.name if path.parent != Path() and path.parent.resolve() == folder.resolve() else line


def _unused_path(path: Path) -> Path:
    """Append a number to a path until it does not exist."""
    number, free = 2, path
    while free.exists():
        free = path.with_name(numbered_name(path.stem, number) + path.suffix)
        number += 1
    return free


def _rename_in_stores(workspace: Workspace, old: str, new: str) -> None:
    for path in workspace.stores():
        with FaceStore(path, write=True) as store:
            store.rename_person(old, new)
