"""Still pictures, read whatever their kind and name.

Short films made from pictures, to look at how something went.
"""

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
from pipeline.provenance.credentials import Claim
from pipeline.types import Image, Samples
from pipeline.workspace import atomic_path, write_bytes

MOST_PIXELS = 100_000_000
MOST_BYTES = 1e9  # so many pixels of four times 16 bits, not compressed
PIL.Image.MAX_IMAGE_PIXELS = None  # it would warn, and refuse at another size
DESCRIPTION = 270  # number of Exif's tag
KEPT_EXIF = frozenset({270, 271, 272, 282, 283, 296, 305, 306, 315, 33432, 34665, 34853})
"""Tags that say who, when, where and with what; others say how the pixels are stored or turned, which is new."""
SUB_IFDS = frozenset({34665, 34853})  # the numbers under which lists of more Exif and of GPS tags lie
POINTERS = frozenset({40965})  # tags that say where in the file something is, which is elsewhere now
LONGEST_DESCRIPTION, LONGEST_REASON = 2000, 100  # characters
KEPT_MODES = frozenset({"RGB", "RGBA", "L", "LA", "P", "1"})
SAVING: dict[str, dict[str, Any]] = {
    ".jpg": {"quality": 95, "subsampling": 0},
    ".jpeg": {"quality": 95, "subsampling": 0},
    ".webp": {"quality": 95},
    ".tif": {"compression": "tiff_adobe_deflate"},
    ".tiff": {"compression": "tiff_adobe_deflate"},
}
"""How pictures are stored, by the end of the file's name."""


def read_picture(path: Path) -> Image:
    """Read a picture upright, as (H, W, 3) BGR uint8; grey, CMYK, 16 bit and transparent ones too.

    Raises:
        MediaError: it cannot be read.
    """
    require_file(path, MOST_BYTES)
    try:
        content = np.frombuffer(path.read_bytes(), np.uint8)  # cv2.imread fails on non-ASCII names on Windows
        _refuse_huge(path, content)
        image = cv2.imdecode(content, cv2.IMREAD_COLOR) if content.size else None
    except (OSError, cv2.error) as error:
        raise MediaError(f"cannot read {path}: {error}") from error
    if image is None:
        raise MediaError(f"cannot read {path} as a picture: delete it or replace it by a whole one")
    return cast(Image, image)


def _refuse_huge(path: Path, content: Samples) -> None:
    """Look at what a picture's header says before room is made for it."""
    try:
        with PIL.Image.open(io.BytesIO(content.data)) as opened:
            width, height = opened.size
    except Exception as error:  # Pillow's readers raise whatever a damaged header provokes
        raise MediaError(f"cannot read {path} as a picture: delete it or replace it by a whole one") from error
    if width * height > MOST_PIXELS:
        raise MediaError(f"{path} is {width}x{height} px; 100 megapixels are the most: scale it down first")


def write_picture_like(path: Path, image: Image, original: Path, claim: Claim) -> list[str]:
    """Write a picture with the transparency, colour profile and Exif of the one it was made from.

    Args:
        path: file to write, in the format its name asks for; give a temporary name and rename it afterwards.
        image: (H, W, 3) BGR, upright; as high as the original, and as wide or twice as wide.
        original: the picture it was made from.
        claim: what its description is to say of it, before what the original's says.

    Returns:
        What of the original could not be kept, a line each.
    """
    made, notes, suffix = PIL.Image.fromarray(image[..., ::-1]), list[str](), path.suffix.lower()
    kept: dict[str, Any] = {}
    try:
        with PIL.Image.open(original) as opened:
            if opened.mode not in KEPT_MODES or ";16" in str(opened.tile):
                notes.append(f"{original.name}: stored as RGB of 8 bits")
            for what, read in (("colour profile", _profile), ("Exif", _exif), ("transparency", _transparency)):
                try:
                    kept[what] = read(opened)
                except Exception as error:  # noqa: BLE001 - as below, and what one lacks the others may have
                    notes.append(f"{original.name}: its {what} could not be read ({_in_a_line(error)})")
    except Exception as error:  # noqa: BLE001 - Pillow raises whatever damaged metadata provokes
        notes.append(f"{original.name}: its colour profile and Exif could not be read ({_in_a_line(error)})")
    exif, is_whole = kept.get("Exif", (PIL.Image.Exif(), True))
    if not is_whole:
        notes.append(f"{original.name}: some of its Exif is damaged and was left out")
    if kept.get("transparency") is not None and suffix in (".png", ".webp", ".tif", ".tiff"):
        notes += _put_alpha(made, kept["transparency"], original)
    exif[DESCRIPTION] = claim.comment(str(exif.get(DESCRIPTION, "")))
    return [*notes, *_save(made, path, exif, kept.get("colour profile"))]


def _profile(opened: PIL.Image.Image) -> bytes | None:
    """The colour profile of a picture, if it is one for what is written."""
    profile = opened.info.get("icc_profile") if opened.mode in ("RGB", "RGBA") else None
    return profile if isinstance(profile, bytes) else None


def _transparency(opened: PIL.Image.Image) -> Samples | None:
    """How opaque a picture is, (H, W), upright; None where all of it is."""
    if not opened.has_transparency_data:
        return None
    return np.asarray(PIL.ImageOps.exif_transpose(opened).convert("RGBA").getchannel("A"))


def _put_alpha(made: PIL.Image.Image, alpha: Samples, original: Path) -> list[str]:
    height, width = alpha.shape
    if height != made.height or made.width % width:
        return [f"{original.name}: its transparency does not fit its pixels and was left out"]
    made.putalpha(PIL.Image.fromarray(np.tile(alpha, (1, made.width // width))))
    return []


def _exif(opened: PIL.Image.Image) -> tuple[PIL.Image.Exif, bool]:
    """What of a picture's Exif says who, when, where and with what, and can be written; whether that is all of it."""
    own, kept, is_whole = opened.getexif(), PIL.Image.Exif(), True
    for tag in sorted(KEPT_EXIF & own.keys()):
        if tag in SUB_IFDS:
            listed = {part: value for part, value in own.get_ifd(tag).items() if part not in POINTERS}
            writable = {part: value for part, value in listed.items() if _can_be_written(tag, {part: value})}
            is_whole = is_whole and len(writable) == len(listed)
            if writable:
                kept[tag] = writable
        elif _can_be_written(tag, own[tag]):
            kept[tag] = own[tag]
        else:
            is_whole = False
    return kept, is_whole


def _can_be_written(tag: int, value: object) -> bool:
    trial = PIL.Image.Exif()
    trial[tag] = value
    try:
        trial.tobytes()
    except Exception:  # noqa: BLE001 - values of any type can stand under any tag
        return False
    return True


def _save(made: PIL.Image.Image, path: Path, exif: PIL.Image.Exif, profile: bytes | None) -> list[str]:
    """Write a picture with as much of its metadata as its kind takes; say what it does not.

    Raises:
        OSError: the disk does not take it.
        MediaError: the picture cannot be written in this format.
    """
    suffix = path.suffix.lower()
    saving = dict(SAVING.get(suffix, {}))
    if SUB_IFDS & exif.keys() and suffix in (".tif", ".tiff"):
        del saving["compression"]  # Pillow writes them into uncompressed files only
    plain = PIL.Image.Exif()
    plain[DESCRIPTION] = str(exif[DESCRIPTION])[:LONGEST_DESCRIPTION]
    for with_exif, with_profile, lost in (
        (exif, profile, ""),
        (plain, profile, "Exif"),
        (plain, None, "Exif and colour profile"),
    ):
        more = {**saving, **({"icc_profile": with_profile} if with_profile else {})}
        try:
            more |= {} if suffix == ".bmp" else {"exif": with_exif.tobytes()}
            made.save(path, **more)
        except Exception as error:  # Pillow's writers raise whatever odd metadata provokes
            if isinstance(error, OSError) and error.errno is not None:
                raise
            failure = error
        else:
            return [f"{suffix[1:].upper()} cannot take the {lost} of the original"] if lost else []
    raise MediaError(f"cannot write {path}: {_in_a_line(failure)}") from failure


def _in_a_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:LONGEST_REASON]}"


def write_picture(path: Path, image: Image) -> None:
    """Write a (H, W, 3) BGR uint8 picture in the format its name asks for; whole or not at all."""
    write_bytes(path, cv2.imencode(path.suffix, image)[1].tobytes())


def write_clip(path: Path, images: Iterable[Image], rate: int) -> None:
    """Write pictures as an H.264 film; whole or not at all.

    Args:
        path: an .mp4.
        images: (H, W, 3) BGR; all are brought to the size of the first, made even.
        rate: pictures per second.
    """
    with atomic_path(path) as temporary, av.open(str(temporary), "w") as container:
        stream: VideoStream | None = None
        for place, image in enumerate(images):
            if stream is None:
                stream = container.add_stream("libx264", rate=rate)
                stream.height, stream.width = (side // 2 * 2 for side in image.shape[:2])
                stream.pix_fmt = "yuv420p"
            fitting = cv2.resize(image, (stream.width, stream.height), interpolation=cv2.INTER_AREA)
            frame = VideoFrame.from_ndarray(np.asarray(fitting, np.uint8), format="bgr24")
            frame.pts, frame.time_base = place, Fraction(1, rate)
            container.mux(stream.encode(frame))
        if stream is not None:
            container.mux(stream.encode(None))
