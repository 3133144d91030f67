"""Crops as files: cut from a frame, told from damaged ones, and cut again from what the store holds.

Crops that a store names and that are in no person's folder: set aside by a person, or lost.
"""

from collections import Counter, defaultdict
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2

from pipeline.console import Bar, plural
from pipeline.faces.alignment import CROP_PX, align, cut_crop, scale_crop
from pipeline.faces.footage import Footage
from pipeline.faces.people import crops_in
from pipeline.faces.store import FaceStore
from pipeline.types import Face, Image
from pipeline.workspace import Workspace, flush_all, list_people, write_bytes

JPEG = [cv2.IMWRITE_JPEG_QUALITY, 98, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"


def encode_crop(image: Image) -> bytes:
    """Return a (H, W, 3) BGR picture as the bytes of a JPEG file.

    Quality 98 without chroma subsampling is half a level of 255 off at the model's 64 px, in a sixth of a PNG's time
    and a third of its size (docs/log.md).
    """
    return cv2.imencode(".jpg", image, JPEG)[1].tobytes()


def cut_face(frame: Image, face: Face, size: int) -> bytes:
    """Cut the crop of a face from its (H, W, 3) frame; the same face gives the same bytes at any time."""
    return encode_crop(cut_crop(frame, scale_crop(align(face.landmarks), size), size))


def is_whole(crop: Path) -> bool:
    """Say whether a crop's file is there from its first byte to its last, as a power cut may not have left it."""
    try:
        with crop.open("rb") as file:
            start = file.read(2)
            file.seek(-2, 2)
            return start == JPEG_START and file.read(2) == JPEG_END
    except OSError:
        return False


def restore_crops(store: FaceStore, footage: Footage, wanted: Mapping[tuple[int, int], Path], bar: Bar) -> int:
    """Write crops again, as extract wrote them.

    Args:
        store: of the video.
        footage: the video.
        wanted: files to write, by frame and track of the face.
        bar: advanced by a crop at a time.

    Returns:
        How many were written; fewer than wanted where a frame can no longer be read.
    """
    if not wanted:
        return 0
    first, last = min(wanted)[0], max(wanted)[0]
    size, written = int((store.fact("options") or {}).get("size", CROP_PX)), list[Path]()
    for frame in footage.frames(first):
        for stored in store.faces(frame.index, frame.index + 1):
            if path := wanted.get((stored.frame, stored.track)):
                write_bytes(path, cut_face(frame.image, stored.face, size), durable=False)
                written.append(path)
                bar.advance()
        if frame.index >= last:
            break
    flush_all(written)
    return len(written)


@dataclass(frozen=True)
class MissingCrop:
    """A crop that is gone though nobody set it aside.

    Attributes:
        frame, track: of its face.
        crop: its file's name.
        person: whose folder it was in, as far as the crops that are left say.
    """

    frame: int
    track: int
    crop: str
    person: str


def find_missing(store: FaceStore, workspace: Workspace, people: Container[str] | None = None) -> list[MissingCrop]:
    """Find the lost crops of a video; a video whose crops are not handed over yet has none.

    The folder is the label: whoever a track's other crops lie with, else the person's, is whose it was.

    Args:
        store: of the video.
        workspace: whose folders say which crops there are.
        people: whose crops to look for (default: everyone's).
    """
    if not store.fact("finished"):
        return []
    folders = _folders_of_crops(workspace)
    aside = store.set_aside() | _crops_removed(workspace)
    by_track: dict[int, Counter[str]] = defaultdict(Counter)
    by_person: dict[str, Counter[str]] = defaultdict(Counter)
    gone: list[MissingCrop] = []
    for label, person in store.owners():
        if label.crop is None:
            continue
        stem = Path(label.crop).stem
        if folder := folders.get(stem):
            by_track[label.track][folder] += 1
            by_person[person][folder] += 1
        elif stem not in aside:
            gone.append(MissingCrop(label.frame, label.track, label.crop, person))
    gone = [replace(missing, person=_now(missing, by_track, by_person)) for missing in gone]
    return [missing for missing in gone if people is None or missing.person in people]


def missing_files(store: FaceStore, workspace: Workspace) -> dict[tuple[int, int], Path]:
    """Say which files the lost crops of a video are to be again, by frame and track of the face."""
    return {
        (gone.frame, gone.track): workspace.data / gone.person / gone.crop for gone in find_missing(store, workspace)
    }


def _now(missing: MissingCrop, by_track: dict[int, Counter[str]], by_person: dict[str, Counter[str]]) -> str:
    for counter in (by_track.get(missing.track), by_person.get(missing.person)):
        if counter:
            return counter.most_common(1)[0][0]
    return missing.person


def _folders_of_crops(workspace: Workspace) -> dict[str, str]:
    return {crop: person for person in list_people(workspace.data) for crop in crops_in(workspace.data / person)}


def _crops_removed(workspace: Workspace) -> frozenset[str]:
    """Names, without suffix, of what was set aside, also before stores recorded that."""
    return frozenset().union(*(crops_in(folder) for folder in workspace.all_removed()))


def set_crops_aside(workspace: Workspace, crops: Container[str]) -> None:
    """Record in the stores that a person does not want some crops, given by name without suffix."""
    for path in workspace.stores():
        with FaceStore(path) as store:
            own = [Path(label.crop).stem for label in store.labels() if label.crop]
            mine = [crop for crop in own if crop in crops]
        if mine:
            with FaceStore(path, write=True) as store:
                store.set_crops_aside(mine)


def describe_missing(missing: Sequence[MissingCrop], video: str, path: Path) -> str | None:
    """Say that faces stay as they are because their crops are lost, and what to type; None where none are."""
    if not missing:
        return None
    whose = sorted({gone.person for gone in missing})
    return (
        f"{plural(len(missing), 'crop')} of {' and '.join(whose)} from {video!r} went missing: these faces stay as "
        f"they are; make them again: python cli.py extract {path} --restore; "
        f"or, if you deleted them: python cli.py people discard {whose[0]} --missing"
    )
