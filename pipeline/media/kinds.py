"""What kind of file a file is, by its content: names lie."""

from pathlib import Path

import PIL.Image

from pipeline.errors import MediaError
from pipeline.media.files import is_file
from pipeline.media.probe import open_container
from pipeline.workspace import PICTURE_SUFFIXES

SUFFIXES = {"JPEG": ".jpg", "MPO": ".jpg", "PNG": ".png", "WEBP": ".webp", "TIFF": ".tif", "BMP": ".bmp"}
"""Ends of the names of still pictures, by Pillow's name of their format; an MPO is a JPEG with more pictures behind."""
PICTURE_TYPES = {"JPEG": "image/jpeg", "MPO": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}
PICTURE_TYPES |= {"TIFF": "image/tiff", "BMP": "image/bmp", "GIF": "image/gif"}
OPENED = tuple(PICTURE_TYPES.keys() - {"MPO"})  # these are opened as JPEG
VIDEO_TYPES = {"mov": "video/mp4", "avi": "video/avi"}  # others are video/x-<ffmpeg's name>
MOTION_JPEG = "mjpeg"  # what ffmpeg takes a damaged JPEG for


def is_picture(path: Path) -> bool:
    """Say whether a path names a still picture; where there is no content that tells, the name does."""
    if not is_file(path):
        return path.suffix.lower() in PICTURE_SUFFIXES
    if (kind := _picture_format(path)) is not None:
        return kind in SUFFIXES
    return path.suffix.lower() in PICTURE_SUFFIXES and _container_format(path) in (None, MOTION_JPEG)


def picture_suffix(path: Path) -> str:
    """Return how the name of a picture made from this one is to end: like its own, if that is a picture's."""
    own = path.suffix.lower() in PICTURE_SUFFIXES
    return path.suffix if own else SUFFIXES.get(_picture_format(path) or "", ".png")


def media_type(path: Path) -> str | None:
    """Name the media type of a regular file; None where its content does not tell."""
    if (picture := _picture_format(path)) is not None:
        return PICTURE_TYPES[picture]
    container = _container_format(path)
    return container and VIDEO_TYPES.get(container, f"video/x-{container}")


def _picture_format(path: Path) -> str | None:
    """Pillow's name of a picture's format, by its header."""
    try:
        with PIL.Image.open(path, formats=OPENED) as opened:
            return opened.format
    except Exception:  # noqa: BLE001 - Pillow's readers raise whatever a damaged header provokes
        return None


def _container_format(path: Path) -> str | None:
    """Ffmpeg's first name of the format of a file that holds video."""
    try:
        with open_container(path) as container:
            return str(container.format.name).partition(",")[0] if container.streams.video else None
    except MediaError:
        return None
