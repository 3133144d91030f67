"""Where the new face shows: soft masks in crop space.

Convention: masks are (256, 256) float32 in [0, 1]; 1 shows the new face.
"""

from functools import cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.faces.alignment import CROP_PX, SEEN, SEEN_PX
from pipeline.options import DEFAULT_LOOK, Look
from pipeline.types import Mask, Points

MIDDLE_X = (CROP_PX - 1) / 2
TOP_PX, CHIN_PX = 68.0, 214.0  # the outline's ends: below fringes and brims, inside what the model sees
HALF_WIDTH_PX = 66.0  # at the middle of its height, on the cheek bones
TAPER = 0.1  # by how much it is wider at the top and narrower at the chin, as jaws are
FINER = 8  # times: so fine is the shape drawn whose depth is measured; the steps of a coarse one show as rays
FINE, SHIFT = 2, 4  # times, for the shape of a single face; and bits of its corners' fractions
PERCENT_PX = (CHIN_PX - TOP_PX) / 100  # of the face's height


@cache
def face_mask(look: Look = DEFAULT_LOOK) -> Mask:
    """Draw the shape that shows of a new face, soft inside its edge. The array is not to be changed.

    The ``outline`` is a canonical face's, egg-shaped: with t from -1 at the top to 1 at the chin, its half width is
    66 (1 - 0.1 t) sqrt(1 - t^2) px (own derivation). ``ellipse`` and ``box`` are as high and, in the middle, as wide.
    Whatever the look, nothing shows on the border of what the model sees.
    """
    fine = (np.arange(CROP_PX * FINER) + 0.5) / FINER - 0.5
    x, y = fine[None, :], fine[:, None]
    t = (2 * y - TOP_PX - CHIN_PX) / (CHIN_PX - TOP_PX)
    round_width = HALF_WIDTH_PX * np.sqrt(np.clip(1 - t * t, 0, None))
    half_width = {
        "outline": (1 - TAPER * t) * round_width,
        "ellipse": round_width,
        "box": HALF_WIDTH_PX * (np.abs(t) < 1),
    }[look.mask]
    inside = (np.abs(x - MIDDLE_X) < half_width).astype(np.uint8)
    mask = _soft(cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE), FINER, look)
    mask.setflags(write=False)
    return mask


@cache
def core(size: int) -> Mask:
    """Say where in what the model sees no hair or background is, whoever it is; (size, size), 0 or 1."""
    inside = (face_mask()[SEEN, SEEN] >= 1).astype(np.float32)
    mask = (cv2.resize(inside, (size, size), interpolation=cv2.INTER_AREA) >= 1).astype(np.float32)
    mask.setflags(write=False)
    return mask


def mesh_mask(look: Look, outline: Points) -> Mask:
    """Draw the shape of one face, soft inside its edge; nothing shows on the border of what the model sees.

    Args:
        look: its ``erode`` and ``feather`` are heeded.
        outline: (N, 2), its corners in px of the crop, in order.
    """
    inside = np.zeros((SEEN_PX * FINE, SEEN_PX * FINE), np.uint8)
    corners = ((outline - SEEN.start + 0.5) * FINE - 0.5) * (1 << SHIFT)
    cv2.fillPoly(inside, [corners.round().astype(np.int32)], 1, shift=SHIFT)
    inside[:FINE] = inside[-FINE:] = 0
    inside[:, :FINE] = inside[:, -FINE:] = 0
    mask = np.zeros((CROP_PX, CROP_PX), np.float32)
    mask[SEEN, SEEN] = _soft(cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_5), FINE, look)
    return mask


def _soft(fine_depth: npt.NDArray[Any], finer: int, look: Look) -> Mask:
    """Fade a shape from its edge inwards, whose depth is given so many times finer than px of a crop."""
    size = fine_depth.shape[0] // finer
    depth = np.asarray(cv2.resize(fine_depth, (size, size), interpolation=cv2.INTER_AREA), np.float32)
    inwards = (depth / finer - look.erode * PERCENT_PX) / max(look.feather * PERCENT_PX, 1)
    return smoothstep(np.asarray(inwards, np.float32))


def smoothstep(x: Mask) -> Mask:
    """Go from 0 at x <= 0 to 1 at x >= 1 with no corner at either end: 3x^2 - 2x^3."""
    x = np.clip(x, 0, 1)
    return (x * x * (3 - 2 * x)).astype(np.float32)
