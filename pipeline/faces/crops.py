"""Crops as files: cut from a frame, checked for damage, and restored from the recorded faces."""

from collections import Counter, defaultdict
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cv2

from pipeline.console import Console, plural
from pipeline.errors import command
from pipeline.faces.alignment import CROP_PX, align, cut_crop
from pipeline.faces.people import crop_files
from pipeline.faces.store import FaceStore, Label
from pipeline.types import Face, Image
from pipeline.workspace import Workspace, flush_all, write_bytes

if TYPE_CHECKING:  # commands that only look crops up need no decoder and no detector
    from pipeline.faces.footage import Footage

JPEG = [cv2.IMWRITE_JPEG_QUALITY, 98, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"

CropFiles = dict[tuple[int, int], Path]
"""Files of crops by frame and track of the face."""


def encode_crop(image: Image) -> bytes:
    """Encode a crop as JPEG.

    Quality 98 without chroma subsampling is half a level of 255 off at the model's 64 px, in a sixth of a PNG's time
    and a third of its size (docs/log.md).
    """
    return cv2.imencode(".jpg", image, JPEG)[1].tobytes()


def cut_face(frame: Image, face: Face, size: int) -> bytes:
    """Cut the crop of a face from its frame; the same face always gives the same bytes."""
    return encode_crop(cut_crop(frame, align(face.landmarks, size), size))


def is_whole(crop: Path) -> bool:
    """Return whether a crop's file has its first and last bytes; a power cut may truncate it."""
    try:
        with crop.open("rb") as file:
            start = file.read(2)
            file.seek(-2, 2)
            return start == JPEG_START and file.read(2) == JPEG_END
    except OSError:
        return False


def restore_crops(store: FaceStore, footage: "Footage", files: Mapping[tuple[int, int], Path], console: Console) -> int:
    """Write crop files again as extract wrote them; return how many, as some frames may no longer be readable."""
    if not files:
        return 0
    first, last = min(files)[0], max(files)[0]
    size, written = int((store.fact("options") or {}).get("size", CROP_PX)), list[Path]()
    with console.bar(f"restore crops of {footage.path.name}", len(files), "crop") as bar:
        for frame in footage.frames(first):
            for stored in store.faces(frame.index, frame.index + 1):
                if path := files.get((stored.frame, stored.track)):
                    write_bytes(path, cut_face(frame.image, stored.face, size), durable=False)
                    written.append(path)
                    bar.advance()
            if frame.index >= last:
                break
    flush_all(written)
    return len(written)


def damaged_files(store: FaceStore, workspace: Workspace, pending: Path | None = None) -> CropFiles:
    """Find the damaged crop files of a video; ``pending`` is the folder of crops not given to a person yet."""
    files, damaged = crop_files(workspace), CropFiles()
    for label in store.each_label():
        if label.crop is None:
            continue
        path = files.get(Path(label.crop).stem, pending and pending / label.crop)
        if path and path.name == label.crop and not is_whole(path):  # another suffix: a person saved it again
            damaged[label.frame, label.track] = path
    return damaged


def find_missing(store: FaceStore, workspace: Workspace, people: Container[str] | None = None) -> list[Label]:
    """Find the crops of an extracted video that are missing although the user did not set them aside.

    The folder is the label: a missing crop belongs to whoever has most of its track's other crops, else to whoever has
    most crops of the person it was extracted for. ``people``: whose crops to look for (default: everyone's).
    """
    if not store.fact("finished"):
        return []
    files, aside = crop_files(workspace), store.set_aside()
    by_track: dict[int, Counter[str]] = defaultdict(Counter)
    by_person: dict[str, Counter[str]] = defaultdict(Counter)
    lost: list[Label] = []
    for label in store.each_label():
        if label.crop is None:
            continue
        stem = Path(label.crop).stem
        if stem in files:
            folder = files[stem].parent.name
            by_track[label.track][folder] += 1
            by_person[label.person][folder] += 1
        elif stem not in aside:
            lost.append(label)
    missing: list[Label] = []
    for label in lost:
        counts = by_track[label.track] or by_person[label.person] or Counter([label.person])
        ((person, _),) = counts.most_common(1)
        if people is None or person in people:
            missing.append(label._replace(person=person))
    return missing


def missing_files(store: FaceStore, workspace: Workspace) -> CropFiles:
    """Return the paths of a video's missing crops."""
    missing = find_missing(store, workspace)
    return {(label.frame, label.track): workspace.data / label.person / str(label.crop) for label in missing}


def set_crops_aside(workspace: Workspace, crops: Container[str]) -> None:
    """Record in the stores that the user does not want some crops, given by name without suffix."""
    for path in workspace.stores():
        with FaceStore(path) as store:
            stems = [Path(label.crop).stem for label in store.each_label() if label.crop]
        unwanted = [stem for stem in stems if stem in crops]
        if unwanted:
            with FaceStore(path, write=True) as store:
                store.set_crops_aside(unwanted)


def describe_missing(missing: Sequence[Label], video: str, path: Path) -> str | None:
    """Explain that faces stay unchanged because their crops are missing, and what to type; None if none are."""
    if not missing:
        return None
    people = sorted({label.person for label in missing})
    return (
        f"{plural(len(missing), 'crop')} of {' and '.join(people)} from {video!r} went missing: these faces stay "
        f"unchanged; restore them: {command('extract', path, '--restore')}; "
        f"or, if you deleted them: {command('people', 'discard', people[0], '--missing')}"
    )
