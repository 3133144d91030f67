"""Still pictures, read whatever their kind and name."""

import io
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import PIL.Image
import PIL.ImageOps

from pipeline.arrays import Image, Samples
from pipeline.errors import MediaError
from pipeline.media.files import require_file
from pipeline.media.notice import Claim
from pipeline.workspace import write_bytes

MOST_PIXELS = 100_000_000
PIL.Image.MAX_IMAGE_PIXELS = None  # it would warn, and refuse at another size
DESCRIPTION = 270  # number of Exif's tag
KEPT_EXIF = frozenset({270, 271, 272, 282, 283, 296, 305, 306, 315, 33432, 34665, 34853})
"""Tags that say who, when, where and with what; others say how the pixels are stored or turned, which is new."""
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
    require_file(path)
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
    made, notes, more = PIL.Image.fromarray(image[..., ::-1]), list[str](), dict[str, Any]()
    suffix, exif = path.suffix.lower(), PIL.Image.Exif()
    try:
        with PIL.Image.open(original) as opened:
            if opened.mode not in KEPT_MODES or ";16" in str(opened.tile):
                notes.append(f"{original.name}: stored as RGB of 8 bits")
            if opened.mode in ("RGB", "RGBA") and "icc_profile" in opened.info:
                more["icc_profile"] = opened.info["icc_profile"]
            exif = _kept_exif(opened)
            if opened.has_transparency_data and suffix in (".png", ".webp", ".tif", ".tiff"):
                alpha = np.asarray(PIL.ImageOps.exif_transpose(opened).convert("RGBA").getchannel("A"))
                made.putalpha(PIL.Image.fromarray(np.tile(alpha, (1, image.shape[1] // alpha.shape[1]))))
    except (OSError, ValueError) as error:
        notes.append(f"{original.name}: its colour profile and Exif could not be read ({error})")
    exif[DESCRIPTION] = claim.comment(str(exif.get(DESCRIPTION, "")))
    if suffix != ".bmp":
        more["exif"] = exif
    made.save(path, **SAVING.get(suffix, {}), **more)
    return notes


def _kept_exif(opened: PIL.Image.Image) -> PIL.Image.Exif:
    exif = opened.getexif()
    for tag in exif.keys() - KEPT_EXIF:
        del exif[tag]
    return exif


def write_picture(path: Path, image: Image) -> None:
    """Write a (H, W, 3) BGR uint8 picture in the format its name asks for; whole or not at all."""
    write_bytes(path, cv2.imencode(path.suffix, image)[1].tobytes())
