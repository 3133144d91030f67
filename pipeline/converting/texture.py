"""Fine detail of a new face: sharpened, or as soft and as grainy as the picture it comes into."""

import zlib
from typing import cast

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.types import Image, Mask

DETAIL_PX = 2.0  # of the crop: detail finer than this is what sharpening adds to
SOFTNESS = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0)  # px of what the model sees, tried in turn
LEAST_SOFTNESS = 0.3  # below it nothing is to be seen
LARGEST_GRAIN = 12.0  # of 255: more is no grain
NOISE = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
"""Sees noise, and neither edges nor slopes: Immerkaer 1996, "Fast Noise Variance Estimation"; its norm is 6."""


def sharpened(face: Image, amount: float) -> Image:
    """Add detail once more.

    Args:
        face: (S, S, 3) BGR.
        amount: how much; 0 changes nothing.
    """
    if amount == 0:
        return face
    blurred = cv2.GaussianBlur(face, (0, 0), DETAIL_PX)
    return cast(Image, cv2.addWeighted(face, 1 + amount, blurred, -amount, 0))


def softness_of(face: Image, original: Image, where: Mask) -> float:
    """Find how much a new face is to be blurred to be no sharper than the old one: a standard deviation in px.

    Args:
        face: (S, S, 3) BGR, the new one.
        original: (S, S, 3) BGR, the old one.
        where: (S, S), weight of each pixel.
    """
    new, wanted = _grey(face), _detail(_grey(original), where)
    widths = [0.0, *SOFTNESS]
    blurred = [new, *(np.asarray(cv2.GaussianBlur(new, (0, 0), width), np.float32) for width in SOFTNESS)]
    left = [_detail(one, where) for one in blurred]
    return float(np.interp(-wanted, np.negative(left), widths))  # less detail, more blur


def softened(face: Image, softness: float) -> Image:
    """Blur a face by what ``softness_of`` found."""
    if softness < LEAST_SOFTNESS:
        return face
    return cast(Image, cv2.GaussianBlur(face, (0, 0), softness))


def _grey(image: Image) -> Mask:
    return cast(Mask, cv2.cvtColor(image, cv2.COLOR_BGR2GRAY).astype(np.float32))


def _detail(grey: Mask, where: Mask) -> float:
    """Measure how much there is between edges of 1 px and of 3 px: a standard deviation, of 255."""
    fine = cv2.GaussianBlur(grey, (0, 0), 1.0) - cv2.GaussianBlur(grey, (0, 0), 3.0)
    return float(np.sqrt((np.square(fine) * where).sum() / max(float(where.sum()), 1e-6)))


def grain_of(image: Image, where: npt.NDArray[np.bool_]) -> float:
    """Measure how much neighbouring pixels differ by chance: a standard deviation, of 255.

    Args:
        image: (H, W, 3) BGR.
        where: (H, W), the part to measure.
    """
    if not where.any():
        return 0.0
    response = np.abs(cv2.filter2D(_grey(image), -1, NOISE))
    return float(np.median(response[where]) / 6 / 0.6745)  # of a normal distribution's deviations half are below 0.6745


def grained(face: Image, under: Image, where: npt.NDArray[np.bool_]) -> Image:
    """Give a face, in px of the frame, the grain of what it covers; the same at every call.

    Args:
        face: (H, W, 3) BGR.
        under: (H, W, 3) BGR, what it covers.
        where: (H, W), where it does.
    """
    missing = np.sqrt(max(0.0, min(grain_of(under, where), LARGEST_GRAIN) ** 2 - grain_of(face, where) ** 2))
    if missing == 0:
        return face
    random = np.random.default_rng(zlib.crc32(under.tobytes()))
    noise = random.normal(0, missing, face.shape[:2])
    return cast(Image, np.clip(face + noise[..., None], 0, 255).round().astype(np.uint8))
