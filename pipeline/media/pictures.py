"""Still pictures, read and written in any format and under any name; short clips made of pictures."""

import io
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import cv2
import numpy as np
import PIL.Image
import PIL.ImageOps
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from pipeline.errors import MediaError
from pipeline.media.probe import require_file
from pipeline.provenance.credentials import Disclosure
from pipeline.types import Image, Samples
from pipeline.workspace import atomic_path, write_bytes

MAX_PIXELS = 100_000_000
MAX_BYTES = 1e9  # MAX_PIXELS of four 16-bit channels, uncompressed
PIL.Image.MAX_IMAGE_PIXELS = None  # Pillow has its own limit, and would warn
DESCRIPTION = 270  # number of Exif's tag
KEPT_EXIF = frozenset({270, 271, 272, 282, 283, 296, 305, 306, 315, 33432, 34665, 34853})
"""Tags that say who, when, where and with what; other tags describe stored pixels, which are new."""
SUB_IFDS = frozenset({34665, 34853})  # tags that contain further Exif and GPS tags
POINTERS = frozenset({40965})  # tags with offsets into the original file
MAX_DESCRIPTION, MAX_REASON = 2000, 100  # characters
EXACT_MODES = frozenset({"RGB", "RGBA", "L", "LA", "P", "1"})  # of Pillow, converted to 8-bit RGB without loss
TRANSPARENT_SUFFIXES = (".png", ".webp", ".tif", ".tiff")
SAVE_OPTIONS: dict[str, dict[str, Any]] = {
    ".jpg": {"quality": 95, "subsampling": 0},
    ".jpeg": {"quality": 95, "subsampling": 0},
    ".webp": {"quality": 95},
    ".tif": {"compression": "tiff_adobe_deflate"},
    ".tiff": {"compression": "tiff_adobe_deflate"},
}
"""Pillow's options, by suffix."""


def read_picture(path: Path) -> Image:
    """Read a picture upright as (H, W, 3) BGR uint8, also from grey, CMYK, 16-bit and transparent ones."""
    require_file(path, MAX_BYTES)
    try:
        content = path.read_bytes()  # cv2.imread fails on non-ASCII names on Windows
        _refuse_huge(path, content)
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    except (OSError, cv2.error) as error:
        raise MediaError(f"cannot read {path}: {error}") from error
    if image is None:
        raise MediaError(f"cannot read {path} as a picture: delete or replace it")
    return cast(Image, image)


def _refuse_huge(path: Path, content: bytes) -> None:
    """Raise MediaError if a picture's header is damaged or claims too many px, before memory is allocated."""
    try:
        with PIL.Image.open(io.BytesIO(content)) as opened:
            width, height = opened.size
    except Exception as error:  # Pillow raises errors of any type on a damaged header
        raise MediaError(f"cannot read {path} as a picture: delete or replace it") from error
    if width * height > MAX_PIXELS:
        raise MediaError(f"{path} is {width}x{height} px; at most 100 megapixels are read: scale it down first")


def write_picture_like(path: Path, image: Image, original: Path, disclosure: Disclosure) -> list[str]:
    """Write a picture with the transparency, colour profile and Exif of the one it was made from.

    Args:
        path: file to write, in the format of its suffix; give a temporary name and rename it afterwards.
        image: (H, W, 3) BGR, upright; as high as the original, and as wide or twice as wide.
        original: the picture it was made from.
        disclosure: put before the original's description.

    Returns:
        Properties of the original that could not be kept, a line each.
    """
    picture, notes = PIL.Image.fromarray(image[..., ::-1]), list[str]()
    kept: dict[str, Any] = {}
    try:
        with PIL.Image.open(original) as opened:
            if opened.mode not in EXACT_MODES or ";16" in str(opened.tile):
                notes.append("stored as RGB of 8 bits")
            for name, read in (("colour profile", _read_profile), ("Exif", _read_exif), ("transparency", _read_alpha)):
                try:
                    kept[name] = read(opened)
                except Exception as error:  # noqa: BLE001 - as below, and the others may be readable
                    notes.append(f"its {name} could not be read ({_one_line(error)})")
    except Exception as error:  # noqa: BLE001 - Pillow raises errors of any type on damaged metadata
        notes.append(f"its colour profile and Exif could not be read ({_one_line(error)})")
    exif, is_complete = kept.get("Exif", (PIL.Image.Exif(), True))
    if not is_complete:
        notes.append("some of its Exif is damaged and was left out")
    alpha = kept.get("transparency")
    if alpha is not None and path.suffix.lower() in TRANSPARENT_SUFFIXES:
        height, width = alpha.shape
        if height == picture.height and picture.width % width == 0:
            picture.putalpha(PIL.Image.fromarray(np.tile(alpha, (1, picture.width // width))))
        else:
            notes.append("its transparency does not fit its pixels and was left out")
    exif[DESCRIPTION] = disclosure.comment(str(exif.get(DESCRIPTION, "")))
    return [*(f"{original.name}: {note}" for note in notes), *_save(picture, path, exif, kept.get("colour profile"))]


def _read_profile(opened: PIL.Image.Image) -> bytes | None:
    """Read the colour profile if it is for RGB."""
    profile = opened.info.get("icc_profile") if opened.mode in ("RGB", "RGBA") else None
    return profile if isinstance(profile, bytes) else None


def _read_alpha(opened: PIL.Image.Image) -> Samples | None:
    """Read the opacity, (H, W), upright; None if the picture is opaque."""
    if not opened.has_transparency_data:
        return None
    return np.asarray(PIL.ImageOps.exif_transpose(opened).convert("RGBA").getchannel("A"))


def _read_exif(opened: PIL.Image.Image) -> tuple[PIL.Image.Exif, bool]:
    """Read the Exif tags to keep that can be written again; also return whether these are all."""
    source, kept, is_complete = opened.getexif(), PIL.Image.Exif(), True
    for tag in sorted(KEPT_EXIF & source.keys()):
        value: Any = source[tag]
        if tag in SUB_IFDS:
            tags = {key: entry for key, entry in source.get_ifd(tag).items() if key not in POINTERS}
            value = {key: entry for key, entry in tags.items() if _is_writable(tag, {key: entry})}
            is_complete = is_complete and len(value) == len(tags)
            if value:
                kept[tag] = value
        elif _is_writable(tag, value):
            kept[tag] = value
        else:
            is_complete = False
    return kept, is_complete


def _is_writable(tag: int, value: object) -> bool:
    exif = PIL.Image.Exif()
    exif[tag] = value
    try:
        exif.tobytes()
    except Exception:  # noqa: BLE001 - a damaged file has values of any type
        return False
    return True


def _save(picture: PIL.Image.Image, path: Path, exif: PIL.Image.Exif, profile: bytes | None) -> list[str]:
    """Write a picture with as much of its metadata as its format takes; return what was lost, in lines."""
    suffix = path.suffix.lower()
    saving = dict(SAVE_OPTIONS.get(suffix, {}))
    if SUB_IFDS & exif.keys() and suffix in (".tif", ".tiff"):
        del saving["compression"]  # Pillow writes them into uncompressed files only
    plain = PIL.Image.Exif()
    plain[DESCRIPTION] = str(exif[DESCRIPTION])[:MAX_DESCRIPTION]
    for tried_exif, tried_profile, lost in (
        (exif, profile, ""),
        (plain, profile, "Exif"),
        (plain, None, "Exif and colour profile"),
    ):
        metadata: dict[str, Any] = {"icc_profile": tried_profile} if tried_profile else {}
        try:
            if suffix != ".bmp":
                metadata["exif"] = tried_exif.tobytes()
            picture.save(path, **saving, **metadata)
        except Exception as error:  # Pillow raises errors of any type on odd metadata
            if isinstance(error, OSError) and error.errno is not None:
                raise
            failure = error
        else:
            return [f"{suffix[1:].upper()} cannot take the {lost} of the original"] if lost else []
    raise MediaError(f"cannot write {path}: {_one_line(failure)}") from failure


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:MAX_REASON]}"


def write_picture(path: Path, image: Image) -> None:
    """Write a (H, W, 3) BGR uint8 picture in the format of its suffix, atomically."""
    write_bytes(path, cv2.imencode(path.suffix, image)[1].tobytes())


def write_clip(path: Path, images: Iterable[Image], rate: int) -> None:
    """Write pictures as an H.264 clip, atomically.

    Args:
        path: an .mp4.
        images: (H, W, 3) BGR; all are scaled to the size of the first, made even.
        rate: pictures per second.
    """
    with atomic_path(path) as temporary, av.open(str(temporary), "w") as container:
        stream: VideoStream | None = None
        for index, image in enumerate(images):
            if stream is None:
                stream = container.add_stream("libx264", rate=rate)
                stream.height, stream.width = (side // 2 * 2 for side in image.shape[:2])
                stream.pix_fmt = "yuv420p"
            scaled = cv2.resize(image, (stream.width, stream.height), interpolation=cv2.INTER_AREA)
            frame = VideoFrame.from_ndarray(np.asarray(scaled, np.uint8), format="bgr24")
            frame.pts, frame.time_base = index, Fraction(1, rate)
            container.mux(stream.encode(frame))
        if stream is not None:
            container.mux(stream.encode(None))
