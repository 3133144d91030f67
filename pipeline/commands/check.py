"""The command check: find what is damaged or unfinished in a workspace; with --repair, fix what is safe to fix."""

import shutil
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from models import CheckpointError, checkpoint
from models.segmenter import load_segmenter
from pipeline.console import Console, Report, plural
from pipeline.errors import MediaError, RecastError, command
from pipeline.faces.crops import find_missing, is_whole, missing_files, restore_crops
from pipeline.faces.footage import is_footage_extracted, lock_video, name_footage, open_footage
from pipeline.faces.store import FaceStore
from pipeline.media.pictures import read_picture
from pipeline.options import CheckOptions
from pipeline.provenance.credentials import read_credentials
from pipeline.workspace import Workspace, list_people, list_pictures

STALE_S = 3600  # a part file this old is no longer being written


@dataclass
class Findings:
    """What is in order, worth a note, repaired, or wrong; a line each."""

    fits: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    repaired: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


def check(options: CheckOptions, console: Console) -> Report:
    """Check everything in a workspace."""
    workspace, findings = Workspace(options.workspace), Findings()
    _check_links(workspace, findings)
    _check_stores(workspace, options.repair, findings, console)
    _check_crops(workspace, findings)
    _check_models(workspace, findings)
    _check_results(workspace, findings)
    _check_leftovers(workspace, options.repair, findings)
    repaired, notes = [f"repaired: {line}" for line in findings.repaired], [f"note: {line}" for line in findings.notes]
    return Report([*findings.fits, *repaired, *notes], findings.wrong, asdict(findings))


def _check_links(workspace: Workspace, findings: Findings) -> None:
    root = workspace.root.resolve()
    for path in sorted(workspace.root.rglob("*")):
        if path.is_symlink() and not path.resolve().is_relative_to(root):
            findings.wrong.append(f"{path} is a link that leads out of the workspace: put the file itself there")


def _check_stores(workspace: Workspace, repair: bool, findings: Findings, console: Console) -> None:
    paths = sorted((workspace.root / "videos").glob("*/faces.sqlite"))
    for path in paths:
        video = path.parent.name
        try:
            with FaceStore(workspace.store(video), roll_back=repair) as store:
                sum(1 for _ in store.each_face())  # reads and checks each
                if store.fact("pictures") is None:
                    store.timestamps()
                source, is_finished = Path(store.fact("source") or "VIDEO"), bool(store.fact("finished"))
                name = ["--person", person] if (person := store.fact("person")) else []
                missing = find_missing(store, workspace)
            if not is_finished:
                to_type = command("extract", source, *name)
                findings.wrong.append(f"{video!r} is not extracted to its end; continue: {to_type}")
            elif missing and not (repair and _restore(workspace, video, source, findings, console)):
                lost = plural(len(missing), "crop")
                findings.wrong.append(f"{lost} of {video!r} went missing: {command('extract', source, '--restore')}")
        except RecastError as error:
            findings.wrong.append(str(error))
    findings.fits.append(f"{plural(len(paths), 'store')} checked")


def _restore(workspace: Workspace, video: str, source: Path, findings: Findings, console: Console) -> bool:
    """Write the missing crops of a video again; return whether that worked for all."""
    if not source.exists() or name_footage(workspace, source) != video or not is_footage_extracted(workspace, source):
        return False
    with lock_video(workspace, video), FaceStore(workspace.store(video)) as store, open_footage(source) as footage:
        footage.resume(store)
        missing = missing_files(store, workspace)
        count = restore_crops(store, footage, missing, console)
    findings.repaired.append(f"{plural(count, 'crop')} of {video!r}")
    return count == len(missing)


def _check_crops(workspace: Workspace, findings: Findings) -> None:
    """Find unreadable crops; crops that are in no store are the user's own pictures."""
    people = list_people(workspace.data)
    crops = [crop for person in people for crop in list_pictures(workspace.data / person)]
    for crop in crops:
        try:
            if crop.suffix == ".jpg" and not is_whole(crop):
                raise MediaError("cut off")
            read_picture(crop)
        except MediaError:
            findings.wrong.append(f"{crop} is empty or damaged: delete it, then extract its video with --restore")
    findings.fits.append(f"{plural(len(crops), 'crop')} of {len(people)} people checked")


def _check_models(workspace: Workspace, findings: Findings) -> None:
    for folder in workspace.models():
        try:
            if checkpoint.exists(folder):
                checkpoint.load(folder, for_training=True)
                load_segmenter(folder)
                findings.fits.append(f"model {folder.name!r} can be loaded")
        except (RecastError, CheckpointError) as error:
            findings.wrong.append(str(error))


def _check_results(workspace: Workspace, findings: Findings) -> None:
    for path in sorted(workspace.root.glob("converted/**/[!.]*")):
        if path.is_file() and path.suffix != ".c2pa":
            try:
                if read_credentials(path, []).state == "tampered":
                    findings.wrong.append(f"{path} was changed after it was signed: convert it again")
            except MediaError as error:
                findings.wrong.append(str(error))


def _check_leftovers(workspace: Workspace, repair: bool, findings: Findings) -> None:
    for path in sorted(workspace.root.rglob("*")):
        if path.name.endswith(".segments") and path.is_dir():
            findings.notes.append(f"{path} holds finished segments of an unfinished conversion")
        if path.name[0] != "." or ".part" not in path.name or not path.exists():
            continue
        if time.time() - path.lstat().st_mtime < STALE_S:
            findings.notes.append(f"{path} may still be in use by a run")
        elif repair:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
            findings.repaired.append(f"deleted {path}")
        else:
            findings.wrong.append(f"{path} was left by a killed run: python cli.py check --repair deletes it")
