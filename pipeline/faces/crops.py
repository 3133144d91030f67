"""Crops as files: cut from a frame, told from damaged ones, and cut again from what the store holds."""

from collections.abc import Mapping
from pathlib import Path

import cv2

from pipeline.arrays import Face, Image
from pipeline.faces.alignment import CROP_PX, align, cut_crop, scale_crop
from pipeline.faces.footage import Footage
from pipeline.faces.store import FaceStore
from pipeline.progress import Bar
from pipeline.workspace import flush_all, write_bytes

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


def cut_again(store: FaceStore, footage: Footage, wanted: Mapping[tuple[int, int], Path], bar: Bar) -> int:
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
