"""The colours of a drawn face matched to those of the face it covers, in CIE Lab."""

from functools import cache
from typing import Literal, NamedTuple, cast

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.converting.masks import core_mask
from pipeline.faces.alignment import CROP_PX, SEEN, SEEN_PX, TEMPLATE
from pipeline.types import Image, Mask

Method = Literal["mean", "reinhard", "skin"]

MAX_GAIN = 1.25  # of contrast; a blurred face has little, and a higher gain only makes blotches
FLAT = 1e-3  # Lab units; contrast with a smaller standard deviation is not scaled
GREY = 0.5  # Lab units; if hues spread less, the picture is grey, and the face becomes grey
IS_HUE = np.array([False, True, True])  # of L, a, b

LIGHT = 6  # squares along each side, for which the light is measured
LIGHT_BLUR = 0.12  # of the side: finer light is taken for features
MAX_LIGHT = 1.6  # ratio of the brightness of both faces
OWN_EYES, OWN_MOUTH = 1.0, 0.4  # how far their hues stay what they are
MAX_HUE = 12.0  # Lab units by which hues are shifted
ODD_L, ODD_HUE = 25.0, 14.0  # Lab units from the skin's median: hair, glasses, highlights

Colors = npt.NDArray[np.float64]
"""(2, 3) mean and standard deviation in Lab; for ``skin`` (36, 3), means in 6 x 6 squares."""


class ColorPair(NamedTuple):
    """Colours of a drawn face, and of the original face that it covers."""

    drawn: Colors
    original: Colors


def measure_colors(image: Image, mask: Mask, method: Method) -> Colors:
    """Measure the colours of a (S, S, 3) BGR face for ``match_colors``; ``mask``, (S, S), weights its pixels."""
    lab = _to_lab(image)
    if method == "skin":
        return _measure_light(lab, mask * skin_mask(image.shape[0]))
    weight = (mask / max(float(mask.sum()), 1e-6))[..., None]
    mean = (lab * weight).sum(axis=(0, 1))
    return np.stack([mean, np.sqrt((np.square(lab - mean) * weight).sum(axis=(0, 1)))])


def match_colors(face: Image, colors: ColorPair, method: Method) -> Image:
    """Give a drawn face, (S, S, 3) BGR, the colours of the original.

    ``mean`` transfers their mean, ``reinhard`` mean and standard deviation (Reinhard et al. 2001, "Color transfer
    between images"). ``skin`` shifts hues by what the skins differ, and multiplies the brightness by the ratio of both
    faces' light, a smooth field over the face; after the quotient images of Shashua & Riklin-Raviv 2001
    (doi:10.1109/34.908964), here without the detail. Eyes keep their hues, the mouth in part.
    """
    lab = _to_lab(face)
    matched = _match_skin(lab, colors) if method == "skin" else _match_moments(lab, colors, method)
    bgr = cv2.cvtColor(matched.astype(np.float32), cv2.COLOR_LAB2BGR)
    return cast(Image, (np.clip(bgr, 0, 1) * 255).round().astype(np.uint8))


def _match_moments(lab: npt.NDArray[np.float32], colors: ColorPair, method: Method) -> npt.NDArray[np.float64]:
    drawn, original = colors
    if method == "mean":
        gain = np.where(IS_HUE & (original[1] < GREY), 0.0, 1.0)
    else:
        gain = np.where(drawn[1] > FLAT, original[1] / np.maximum(drawn[1], FLAT), 1.0)
        gain = np.clip(gain, np.where(IS_HUE, 0, 1 / MAX_GAIN), MAX_GAIN)
    return np.asarray((lab - drawn[0]) * gain + original[0])


def _match_skin(lab: npt.NDArray[np.float32], colors: ColorPair) -> npt.NDArray[np.float32]:
    size = lab.shape[0]
    drawn, original = (light.reshape(LIGHT, LIGHT, 3) for light in colors)
    ratio = np.clip(original[..., 0] / np.maximum(drawn[..., 0], 1), 1 / MAX_LIGHT, MAX_LIGHT).astype(np.float32)
    shift = np.clip((original - drawn)[..., 1:].mean(axis=(0, 1)), -MAX_HUE, MAX_HUE)
    matched = lab.copy()
    matched[..., 0] *= cv2.resize(ratio, (size, size), interpolation=cv2.INTER_CUBIC)
    if np.abs(original[..., 1:]).max() < GREY:
        matched[..., 1:] = 0
    else:
        matched[..., 1:] += shift * (1 - features_mask(size))[..., None]
    return matched


def _measure_light(lab: npt.NDArray[np.float32], weights: Mask) -> Colors:
    """Mean colours of the skin around each of 6 x 6 squares: blurred with weights, so that no other colours flow in."""
    is_skin = weights > 0.5
    if is_skin.any():
        odd = np.abs(lab - np.median(lab[is_skin], axis=0)) > (ODD_L, ODD_HUE, ODD_HUE)
        weights = np.where(odd.any(axis=2), 0, weights).astype(np.float32)
    width = LIGHT_BLUR * lab.shape[0]
    both = np.dstack([lab * weights[..., None], weights])
    overall = both.sum(axis=(0, 1)) / max(float(weights.sum()), 1e-6)
    blurred = cv2.GaussianBlur(both, (0, 0), width) + 1e-3 * overall  # where no skin is near, the mean of all
    squares = cv2.resize(blurred, (LIGHT, LIGHT), interpolation=cv2.INTER_AREA).reshape(-1, 4)
    return cast(Colors, (squares[:, :3] / np.maximum(squares[:, 3:], 1e-9)).astype(np.float64))


@cache
def features_mask(size: int) -> Mask:
    """How far hues stay in what the model sees: on the eyes, less on the mouth; (size, size) in [0, 1], read-only."""
    left_eye, right_eye, _, left_corner, right_corner = TEMPLATE
    eyes = _ellipses(size, ((left_eye, (22, 11)), (right_eye, (22, 11))))
    mouth = _ellipses(size, (((left_corner + right_corner) / 2 + np.array([0, 4]), (28, 16)),))
    mask = OWN_EYES * eyes + OWN_MOUTH * mouth
    mask.setflags(write=False)
    return mask


@cache
def skin_mask(size: int) -> Mask:
    """Where skin is in what the model sees: without eyes, brows, nostrils and mouth; (size, size), read-only."""
    left_eye, right_eye, nose, left_corner, right_corner = TEMPLATE
    shapes = (
        (left_eye - np.array([0, 6]), (28, 22)),
        (right_eye - np.array([0, 6]), (28, 22)),
        (nose + np.array([0, 8]), (14, 7)),
        ((left_corner + right_corner) / 2 + np.array([0, 4]), (34, 24)),
    )
    mask = (core_mask(size) * (1 - _ellipses(size, shapes))).astype(np.float32)
    mask.setflags(write=False)
    return mask


def _ellipses(size: int, shapes: tuple[tuple[npt.NDArray[np.float64], tuple[int, int]], ...]) -> Mask:
    crop = np.zeros((CROP_PX, CROP_PX), np.float32)
    for (x, y), axes in shapes:
        cv2.ellipse(crop, (round(x), round(y)), axes, 0, 0, 360, 1.0, cv2.FILLED)
    blurred = cv2.GaussianBlur(crop, (0, 0), SEEN_PX / 60)[SEEN, SEEN]
    mask = np.asarray(cv2.resize(blurred, (size, size), interpolation=cv2.INTER_AREA), np.float32)
    mask.setflags(write=False)
    return mask


def _to_lab(image: Image) -> npt.NDArray[np.float32]:
    return cast("npt.NDArray[np.float32]", cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_BGR2LAB))
