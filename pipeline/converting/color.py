"""The colours of a drawn face matched to those of the face it covers, in CIE Lab."""

from typing import Literal, NamedTuple, cast

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.types import Image, Mask

Method = Literal["mean", "reinhard", "lab-hist"]

MAX_GAIN = 1.25  # of contrast; a blurred face has little, and a higher gain only makes blotches
FLAT = 1e-3  # Lab units; contrast with a smaller standard deviation is not scaled
GREY = 0.5  # Lab units; if hues spread less, the picture is grey, and the face becomes grey
IS_HUE = np.array([False, True, True])  # of L, a, b
RANKS = 64  # samples of a distribution

Colors = npt.NDArray[np.float64]
"""(2, 3) mean and standard deviation in Lab; for ``lab-hist`` (64, 3) values at evenly spaced ranks."""


class ColorPair(NamedTuple):
    """Colours of a drawn face, and of the original face that it covers."""

    drawn: Colors
    original: Colors


def measure_colors(image: Image, mask: Mask, method: Method) -> Colors:
    """Measure the colours of a (S, S, 3) BGR face for ``match_colors``; ``mask``, (S, S), weights its pixels."""
    lab = _to_lab(image)
    if method == "lab-hist":
        values = np.sort(lab[mask >= max(float(mask.max()) / 2, FLAT)], axis=0)
        if not len(values):
            return np.zeros((RANKS, 3))
        return cast(Colors, values[np.linspace(0, len(values) - 1, RANKS).round().astype(int)])
    weight = (mask / max(float(mask.sum()), 1e-6))[..., None]
    mean = (lab * weight).sum(axis=(0, 1))
    return np.stack([mean, np.sqrt((np.square(lab - mean) * weight).sum(axis=(0, 1)))])


def match_colors(face: Image, colors: ColorPair, method: Method) -> Image:
    """Give a drawn face, (S, S, 3) BGR, the colours of the original.

    ``mean`` transfers their mean, ``reinhard`` mean and standard deviation (Reinhard et al. 2001, "Color transfer
    between images"), ``lab-hist`` the whole distribution of each channel.
    """
    drawn, original = colors
    lab = _to_lab(face)
    if method == "lab-hist":
        ranked, shifts = np.maximum.accumulate(drawn, axis=0), original - drawn
        for channel in range(3):
            lab[..., channel] += np.interp(lab[..., channel], ranked[:, channel], _smooth_ranks(shifts[:, channel]))
    else:
        if method == "mean":
            gain = np.where(IS_HUE & (original[1] < GREY), 0.0, 1.0)
        else:
            gain = np.where(drawn[1] > FLAT, original[1] / np.maximum(drawn[1], FLAT), 1.0)
            gain = np.clip(gain, np.where(IS_HUE, 0, 1 / MAX_GAIN), MAX_GAIN)
        lab = (lab - drawn[0]) * gain + original[0]
    bgr = cv2.cvtColor(lab.astype(np.float32), cv2.COLOR_LAB2BGR)
    return cast(Image, (np.clip(bgr, 0, 1) * 255).round().astype(np.uint8))


def _to_lab(image: Image) -> npt.NDArray[np.float32]:
    return cast("npt.NDArray[np.float32]", cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_BGR2LAB))


def _smooth_ranks(shifts: Colors) -> Colors:
    """Smooth shifts over neighbouring ranks; independent shifts would make blotches."""
    width = RANKS // 8
    padded = np.pad(shifts, (width // 2, width - 1 - width // 2), mode="edge")
    return np.convolve(padded, np.ones(width) / width, mode="valid")
