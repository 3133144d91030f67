"""The new face in the light of the old one."""

from typing import cast

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.types import Image, Mask

LARGEST_GAIN = 1.25  # of contrast; a face that is still blurred has little, and raising it only makes blotches
FLAT = 1e-3  # a standard deviation below this (of 100 or 255 Lab units) is a flat colour: its contrast is left alone
GREY = 0.5  # where hues spread less than this the picture is grey, and so becomes the face
IS_HUE = np.array([False, True, True])  # of L, a, b
RANKS = 64  # into which a distribution is divided

Colors = npt.NDArray[np.float64]
"""(K, 3): what of a face's colours is matched."""


def measure_colors(image: Image, mask: Mask, how: str) -> Colors:
    """Measure what ``match_colors`` needs to know of a face's colours.

    Args:
        image: (S, S, 3) BGR.
        mask: (S, S), weight of each pixel.
        how: as of ``match_colors``.

    Returns:
        (K, 3) in CIE Lab: mean and standard deviation, or for ``lab-hist`` values of equally spaced ranks, or nothing.
    """
    if how == "none":
        return np.zeros((0, 3))
    lab = _to_lab(image)
    if how == "lab-hist":
        values = np.sort(lab[mask >= max(float(mask.max()) / 2, FLAT)], axis=0)
        return (
            values[np.linspace(0, len(values) - 1, RANKS).round().astype(int)] if len(values) else np.zeros((RANKS, 3))
        )
    weight = (mask / max(float(mask.sum()), 1e-6))[..., None]
    mean = (lab * weight).sum(axis=(0, 1))
    return np.stack([mean, np.sqrt((np.square(lab - mean) * weight).sum(axis=(0, 1)))])


def match_colors(face: Image, own: Colors, wanted: Colors, how: str) -> Image:
    """Give a face other colours.

    Args:
        face: (S, S, 3) BGR.
        own: (K, 3), its colours.
        wanted: (K, 3), those it takes.
        how: ``none``: not at all; ``mean``: their mean; ``reinhard``: mean and spread (Reinhard et al. 2001, "Color
            transfer between images"); ``lab-hist``: their whole distribution, of each channel. All in CIE Lab.

    Returns:
        (S, S, 3) BGR.
    """
    if how == "none":
        return face
    lab = _to_lab(face)
    if how == "lab-hist":
        ranked, moves = np.maximum.accumulate(own, axis=0), wanted - own
        for channel in range(3):
            lab[..., channel] += np.interp(lab[..., channel], ranked[:, channel], _even(moves[:, channel]))
    else:
        if how == "mean":
            gain = np.where(IS_HUE & (wanted[1] < GREY), 0.0, 1.0)
        else:
            gain = np.where(own[1] > FLAT, wanted[1] / np.maximum(own[1], FLAT), 1.0)
            gain = np.clip(gain, np.where(IS_HUE, 0, 1 / LARGEST_GAIN), LARGEST_GAIN)
        lab = (lab - own[0]) * gain + wanted[0]
    bgr = cv2.cvtColor(lab.astype(np.float32), cv2.COLOR_LAB2BGR)
    return cast(Image, (np.clip(bgr, 0, 1) * 255).round().astype(np.uint8))


def _to_lab(image: Image) -> npt.NDArray[np.float32]:
    return cast("npt.NDArray[np.float32]", cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_BGR2LAB))


def _even(moves: Colors) -> Colors:
    """Let values of like rank be moved alike: single ones would make blotches."""
    width = RANKS // 8
    padded = np.pad(moves, (width // 2, width - 1 - width // 2), mode="edge")
    return np.convolve(padded, np.ones(width) / width, mode="valid")
