"""Fine detail of a drawn face: sharpened, or matched to the blur and grain of the footage."""

import zlib
from typing import cast

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.types import Image, Mask

DETAIL_PX = 2.0  # of the crop; sharpening amplifies finer detail
SOFTNESS = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0)  # px of what the model sees, tried in turn
MIN_SOFTNESS = 0.3  # less cannot be seen
MAX_GRAIN = 12.0  # of 255: more is not grain
NOISE = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
"""Responds to noise, not to edges or slopes: Immerkaer 1996, "Fast Noise Variance Estimation"; its norm is 6."""


def sharpen(face: Image, amount: float) -> Image:
    """Add the detail of a face once more, ``amount`` times."""
    if amount == 0:
        return face
    blurred = cv2.GaussianBlur(face, (0, 0), DETAIL_PX)
    return cast(Image, cv2.addWeighted(face, 1 + amount, blurred, -amount, 0))


def measure_softness(drawn: Image, original: Image, where: Mask) -> float:
    """Find the blur, a standard deviation in px, after which a drawn face is no sharper than the original.

    Args:
        drawn: (S, S, 3) BGR.
        original: (S, S, 3) BGR.
        where: (S, S), weight of each pixel.
    """
    grey, target = _to_grey(drawn), _measure_detail(_to_grey(original), where)
    blurred = [grey, *(np.asarray(cv2.GaussianBlur(grey, (0, 0), width), np.float32) for width in SOFTNESS)]
    details = [_measure_detail(image, where) for image in blurred]
    return float(np.interp(-target, np.negative(details), [0.0, *SOFTNESS]))  # less detail, more blur


def soften(face: Image, softness: float) -> Image:
    """Blur a face by what ``measure_softness`` found."""
    if softness < MIN_SOFTNESS:
        return face
    return cast(Image, cv2.GaussianBlur(face, (0, 0), softness))


def _to_grey(image: Image) -> Mask:
    return cast(Mask, cv2.cvtColor(image, cv2.COLOR_BGR2GRAY).astype(np.float32))


def _measure_detail(grey: Mask, where: Mask) -> float:
    """Measure the detail between blurs of 1 px and of 3 px: a standard deviation, of 255."""
    fine = cv2.GaussianBlur(grey, (0, 0), 1.0) - cv2.GaussianBlur(grey, (0, 0), 3.0)
    return float(np.sqrt((np.square(fine) * where).sum() / max(float(where.sum()), 1e-6)))


def measure_grain(image: Image, where: npt.NDArray[np.bool_]) -> float:
    """Measure the noise of a (H, W, 3) BGR picture where (H, W) is true: a standard deviation, of 255."""
    if not where.any():
        return 0.0
    response = np.abs(cv2.filter2D(_to_grey(image), -1, NOISE))
    return float(np.median(response[where]) / 6 / 0.6745)  # the median deviation of a normal distribution is 0.6745


def add_grain(face: Image, original: Image, where: npt.NDArray[np.bool_]) -> Image:
    """Give a face the grain of what it covers; deterministic.

    Args:
        face: (H, W, 3) BGR, in px of the frame.
        original: (H, W, 3) BGR.
        where: (H, W), where the face covers the original.
    """
    target = min(measure_grain(original, where), MAX_GRAIN)
    missing = np.sqrt(max(0.0, target**2 - measure_grain(face, where) ** 2))
    if missing == 0:
        return face
    rng = np.random.default_rng(zlib.crc32(original.tobytes()))
    noise = rng.normal(0, missing, face.shape[:2])
    return cast(Image, np.clip(face + noise[..., None], 0, 255).round().astype(np.uint8))
