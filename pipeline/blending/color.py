"""The new face in the light of the old one."""

from typing import cast

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.arrays import Image, Mask

LARGEST_GAIN = 1.25  # of contrast; a face that is still blurred has little, and raising it only makes blotches
FLAT = 1e-3  # a standard deviation below this (of 100 or 255 Lab units) is a flat colour: its contrast is left alone


def match_color(face: Image, original: Image, mask: Mask) -> Image:
    """Give a face the mean and spread of the colours of another, where the mask shows it.

    Reinhard et al. 2001, "Color transfer between images", in CIE Lab.

    Args:
        face: (S, S, 3) BGR, the new one.
        original: (S, S, 3) BGR, whose colours it takes.
        mask: (S, S), weight of each pixel.

    Returns:
        (S, S, 3) BGR.
    """
    weight = mask / max(float(mask.sum()), 1e-6)
    new, old = _to_lab(face), _to_lab(original)
    (new_mean, new_spread), (old_mean, old_spread) = _statistics(new, weight), _statistics(old, weight)
    gain = np.where(new_spread > FLAT, old_spread / np.maximum(new_spread, FLAT), 1.0)
    matched = (new - new_mean) * np.clip(gain, 1 / LARGEST_GAIN, LARGEST_GAIN) + old_mean
    bgr = cv2.cvtColor(matched.astype(np.float32), cv2.COLOR_LAB2BGR)
    return cast(Image, (np.clip(bgr, 0, 1) * 255).round().astype(np.uint8))


def _to_lab(image: Image) -> npt.NDArray[np.float32]:
    return cast("npt.NDArray[np.float32]", cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_BGR2LAB))


def _statistics(lab: npt.NDArray[np.float32], weight: Mask) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    mean = (lab * weight[..., None]).sum(axis=(0, 1))
    variance = (np.square(lab - mean) * weight[..., None]).sum(axis=(0, 1))
    return mean, np.sqrt(variance)
