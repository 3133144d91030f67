"""Still pictures, read whatever their kind and name."""

from pathlib import Path
from typing import cast

import cv2
import numpy as np

from pipeline.arrays import Image
from pipeline.errors import MediaError
from pipeline.workspace import write_bytes


def read_picture(path: Path) -> Image:
    """Read a picture upright, as (H, W, 3) BGR uint8; grey, CMYK, 16 bit and transparent ones too.

    Raises:
        MediaError: it cannot be read.
    """
    try:
        content = np.frombuffer(path.read_bytes(), np.uint8)  # cv2.imread fails on non-ASCII names on Windows
        image = cv2.imdecode(content, cv2.IMREAD_COLOR) if content.size else None
    except (OSError, cv2.error) as error:
        raise MediaError(f"cannot read {path}: {error}") from error
    if image is None:
        raise MediaError(f"cannot read {path} as a picture: delete it or replace it by a whole one")
    return cast(Image, image)


def write_picture(path: Path, image: Image) -> None:
    """Write a (H, W, 3) BGR uint8 picture in the format its name asks for; whole or not at all."""
    write_bytes(path, cv2.imencode(path.suffix, image)[1].tobytes())
