"""Reads a workspace and says what in it does not fit; changes nothing unless asked to, and then only what is safe."""

import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from models import CheckpointError, checkpoint
from pipeline.console import Console, plural
from pipeline.errors import MediaError, RecastError
from pipeline.faces.crops import cut_again, find_missing, is_whole, missing_files
from pipeline.faces.footage import (
    Footage,
    PictureFootage,
    VideoFootage,
    is_footage_extracted,
    name_footage,
    only_run,
    pictures_at,
)
from pipeline.faces.store import FaceStore
from pipeline.media.pictures import read_picture
from pipeline.media.reader import VideoReader
from pipeline.options import CheckOptions
from pipeline.provenance.credentials import read_credentials
from pipeline.workspace import Workspace, list_people, list_pictures

STALE_S = 3600  # a part file this old is no longer being written


@dataclass
class CheckReport:
    """What was found."""

    fits: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    repaired: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """What is there, what was repaired, and what is worth knowing."""
        return [*self.fits, *(f"repaired: {line}" for line in self.repaired), *(f"note: {line}" for line in self.notes)]

    def problems(self) -> list[str]:
        """What does not fit."""
        return self.wrong


def check(options: CheckOptions, console: Console) -> CheckReport:
    """Look at everything in a workspace."""
    workspace, report = Workspace(options.workspace), CheckReport()
    _check_links(workspace, report)
    _check_stores(workspace, options.repair, report, console)
    _check_crops(workspace, report)
    _check_models(workspace, report)
    _check_results(workspace, report)
    _check_leftovers(workspace, options.repair, report)
    return report


def _check_links(workspace: Workspace, report: CheckReport) -> None:
    root = workspace.root.resolve()
    for path in _everything(workspace.root):
        if path.is_symlink() and not path.resolve().is_relative_to(root):
            report.wrong.append(f"{path} is a link that leads out of the workspace: put the file itself there")


def _everything(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        yield path
        if path.is_dir() and not path.is_symlink():
            yield from _everything(path)


def _check_stores(workspace: Workspace, repair: bool, report: CheckReport, console: Console) -> None:
    for path in sorted((workspace.root / "videos").glob("*/faces.sqlite")):
        video = path.parent.name
        try:
            with FaceStore(workspace.store(video)) as store:
                sum(1 for _ in store.each_face())
                if store.fact("pictures") is None:
                    store.timestamps()
                source, is_finished = Path(store.fact("source") or "VIDEO"), bool(store.fact("finished"))
                missing = find_missing(store, workspace)
            if not is_finished:
                report.wrong.append(f"{video!r} is not extracted to its end; go on: python cli.py extract {source}")
            elif missing and not (repair and _restore(workspace, video, source, report, console)):
                lost = plural(len(missing), "crop")
                report.wrong.append(f"{lost} of {video!r} went missing: python cli.py extract {source} --restore")
        except RecastError as error:
            report.wrong.append(str(error))
    report.fits.append(f"{plural(len(list((workspace.root / 'videos').glob('*/faces.sqlite'))), 'store')} looked at")


def _restore(workspace: Workspace, video: str, source: Path, report: CheckReport, console: Console) -> bool:
    """Make the lost crops of a video again; say whether all are there now."""
    if not source.exists() or name_footage(workspace, source) != video or not is_footage_extracted(workspace, source):
        return False
    with only_run(workspace, video), ExitStack() as stack:
        store = stack.enter_context(FaceStore(workspace.store(video)))
        pictures = pictures_at(source)
        footage: Footage = (
            VideoFootage(stack.enter_context(VideoReader(source)))
            if pictures is None
            else PictureFootage(source, pictures)
        )
        footage.go_on(store)
        wanted = missing_files(store, workspace)
        bar = stack.enter_context(console.bar(f"crops of {video} again", len(wanted), "crop"))
        count = cut_again(store, footage, wanted, bar)
    report.repaired.append(f"{plural(count, 'crop')} of {video!r}")
    return count == len(wanted)


def _check_crops(workspace: Workspace, report: CheckReport) -> None:
    """Crops that no store knows are fine: pictures of someone's own."""
    people = list_people(workspace.data)
    crops = [crop for person in people for crop in list_pictures(workspace.data / person)]
    for crop in crops:
        try:
            if crop.suffix == ".jpg" and not is_whole(crop):
                raise MediaError("cut off")
            read_picture(crop)
        except MediaError:
            report.wrong.append(f"{crop} is empty or damaged: delete it, then extract its video with --restore")
    report.fits.append(f"{plural(len(crops), 'crop')} of {len(people)} people looked at")


def _check_models(workspace: Workspace, report: CheckReport) -> None:
    for folder in sorted((workspace.root / "output").glob("[!.]*")):
        try:
            if checkpoint.exists(workspace.model(folder.name)):
                checkpoint.load(folder, for_training=True)
                report.fits.append(f"model {folder.name!r} can be loaded")
        except (RecastError, CheckpointError) as error:
            report.wrong.append(str(error))


def _check_results(workspace: Workspace, report: CheckReport) -> None:
    for path in sorted(workspace.root.glob("converted/**/[!.]*")):
        if path.is_file() and path.suffix != ".c2pa":
            try:
                if read_credentials(path, []).state == "tampered":
                    report.wrong.append(f"{path} was changed after it was signed: convert it again")
            except MediaError as error:
                report.wrong.append(str(error))


def _check_leftovers(workspace: Workspace, repair: bool, report: CheckReport) -> None:
    for path in _everything(workspace.root):
        if path.name.endswith(".segments") and path.is_dir():
            report.notes.append(f"{path} holds what an unfinished conversion can go on from")
        if path.name[0] != "." or ".part" not in path.name or not path.exists():
            continue
        if time.time() - path.lstat().st_mtime < STALE_S:
            report.notes.append(f"{path} may be being written")
        elif repair:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
            report.repaired.append(f"deleted {path}")
        else:
            report.wrong.append(f"{path} was left by a killed run: python cli.py check --repair deletes it")
