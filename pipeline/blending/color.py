"""The new face in the light of the old one."""

from typing import cast

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.arrays import Image, Mask

LARGEST_GAIN = 1.25  # of contrast; a face that is still blurred has little, and raising it only makes blotches
FLAT = 1e-3  # a standard deviation below this (of 100 or 255 Lab units) is a flat colour: its contrast is left alone
RANKS = 64  # into which a distribution is divided

Lab = npt.NDArray[np.float32]


def match_color(face: Image, original: Image, mask: Mask, how: str = "reinhard") -> Image:
    """Give a face the colours of another, where the mask shows it.

    Args:
        face: (S, S, 3) BGR, the new one.
        original: (S, S, 3) BGR, whose colours it takes.
        mask: (S, S), weight of each pixel.
        how: ``none``: not at all; ``mean``: their mean; ``reinhard``: mean and spread (Reinhard et al. 2001, "Color
            transfer between images"); ``lab-hist``: their whole distribution, of each channel. All in CIE Lab.

    Returns:
        (S, S, 3) BGR.
    """
    if how == "none":
        return face
    new, old = _to_lab(face), _to_lab(original)
    if how == "lab-hist":
        matched = _with_distribution(new, old, mask)
    else:
        weight = mask / max(float(mask.sum()), 1e-6)
        (new_mean, new_spread), (old_mean, old_spread) = _statistics(new, weight), _statistics(old, weight)
        gain = np.where(new_spread > FLAT, old_spread / np.maximum(new_spread, FLAT), 1.0)
        most = 1.0 if how == "mean" else LARGEST_GAIN
        matched = (new - new_mean) * np.clip(gain, 1 / most, most) + old_mean
    bgr = cv2.cvtColor(matched.astype(np.float32), cv2.COLOR_LAB2BGR)
    return cast(Image, (np.clip(bgr, 0, 1) * 255).round().astype(np.uint8))


def _to_lab(image: Image) -> Lab:
    return cast(Lab, cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_BGR2LAB))


def _statistics(lab: Lab, weight: Mask) -> tuple[Lab, Lab]:
    mean = (lab * weight[..., None]).sum(axis=(0, 1))
    variance = (np.square(lab - mean) * weight[..., None]).sum(axis=(0, 1))
    return mean, np.sqrt(variance)


def _with_distribution(new: Lab, old: Lab, mask: Mask) -> Lab:
    """Give each value the one of the same rank in the other picture, both counted where the mask shows most."""
    where = mask >= max(float(mask.max()) / 2, FLAT)
    matched = new.copy()
    if where.any():
        for channel in range(3):
            ranked, wanted = np.sort(new[where, channel]), np.sort(old[where, channel])
            steps = np.linspace(0, len(ranked) - 1, RANKS).round().astype(int)
            matched[..., channel] = new[..., channel] + np.interp(
                new[..., channel], ranked[steps], _smooth(wanted[steps] - ranked[steps])
            )
    return matched


def _smooth(moves: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Let values of like rank be moved alike: single ones would make blotches."""
    width = RANKS // 8
    kernel = np.ones(width) / width
    padded = np.pad(moves, (width // 2, width - 1 - width // 2), mode="edge")
    return np.convolve(padded, kernel, mode="valid").astype(np.float32)
