"""Crops as files: cut from a frame, checked for damage, and written again from what the store holds."""

from collections import Counter, defaultdict
from collections.abc import Container, Mapping, Sequence
from pathlib import Path

import cv2

from pipeline.console import Bar, plural
from pipeline.faces.alignment import CROP_PX, align, cut_crop
from pipeline.faces.footage import Footage
from pipeline.faces.people import crop_files
from pipeline.faces.store import FaceStore, Label
from pipeline.types import Face, Image
from pipeline.workspace import Workspace, flush_all, write_bytes

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
    """Say whether a crop's file has its first and last bytes: a power cut may leave it shorter."""
    try:
        with crop.open("rb") as file:
            start = file.read(2)
            file.seek(-2, 2)
            return start == JPEG_START and file.read(2) == JPEG_END
    except OSError:
        return False


def restore_crops(store: FaceStore, footage: Footage, files: Mapping[tuple[int, int], Path], bar: Bar) -> int:
    """Write crop files again as extract wrote them; return how many: fewer where a frame can no longer be read."""
    if not files:
        return 0
    first, last = min(files)[0], max(files)[0]
    size, written = int((store.fact("options") or {}).get("size", CROP_PX)), list[Path]()
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
    """Find the crops of a video whose files are not whole; ``pending``: where those are that no person has yet."""
    files, damaged = crop_files(workspace), CropFiles()
    for label in store.each_label():
        if label.crop is None:
            continue
        path = files.get(Path(label.crop).stem, pending and pending / label.crop)
        if path and path.name == label.crop and not is_whole(path):  # another suffix: a person saved it again
            damaged[label.frame, label.track] = path
    return damaged


def find_missing(store: FaceStore, workspace: Workspace, people: Container[str] | None = None) -> list[Label]:
    """Find the crops of an extracted video that are gone though the user did not set them aside.

    The folder is the label: a lost crop belongs to whoever has most of its track's other crops, else to whoever has
    most crops of the person it was extracted for. ``people``: whose crops to look for (default: everyone's).
    """
    if not store.fact("finished"):
        return []
    files, aside = crop_files(workspace), store.set_aside()
    by_track: dict[int, Counter[str]] = defaultdict(Counter)
    by_person: dict[str, Counter[str]] = defaultdict(Counter)
    gone: list[Label] = []
    for label in store.each_label():
        if label.crop is None:
            continue
        stem = Path(label.crop).stem
        if stem in files:
            folder = files[stem].parent.name
            by_track[label.track][folder] += 1
            by_person[label.person][folder] += 1
        elif stem not in aside:
            gone.append(label)
    missing: list[Label] = []
    for label in gone:
        counts = by_track[label.track] or by_person[label.person] or Counter([label.person])
        ((person, _),) = counts.most_common(1)
        if people is None or person in people:
            missing.append(label._replace(person=person))
    return missing


def missing_files(store: FaceStore, workspace: Workspace) -> CropFiles:
    """Return the files that the lost crops of a video had."""
    missing = find_missing(store, workspace)
    return {(gone.frame, gone.track): workspace.data / gone.person / str(gone.crop) for gone in missing}


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
    """Say that faces stay as they are because their crops are lost, and what to type; None where none are."""
    if not missing:
        return None
    people = sorted({label.person for label in missing})
    return (
        f"{plural(len(missing), 'crop')} of {' and '.join(people)} from {video!r} went missing: these faces stay as "
        f"they are; make them again: python cli.py extract {path} --restore; "
        f"or, if you deleted them: python cli.py people discard {people[0]} --missing"
    )
