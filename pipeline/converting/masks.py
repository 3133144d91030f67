"""Where the new face shows: soft masks in crop space.

Convention: masks are (256, 256) float32 in [0, 1]; 1 shows the new face. All are 0 at the edge of what the model sees.
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
TOP_PX, CHIN_PX = 68.0, 214.0  # ends of the outline: below fringes and brims, inside what the model sees
HALF_WIDTH_PX = 66.0  # at the middle of its height, on the cheek bones
TAPER = 0.1  # relative: wider at the top, narrower at the chin
SUPERSAMPLING = 8  # of the shape whose depth is measured; coarser steps would show as rays
MESH_SUPERSAMPLING, SHIFT = 2, 4  # for a face's own outline; fractional bits of its corners
PERCENT_PX = (CHIN_PX - TOP_PX) / 100  # of the face's height


@cache
def face_mask(look: Look = DEFAULT_LOOK) -> Mask:
    """Return the mask shared by all faces; the array is read-only.

    The ``outline`` is that of a mean face, egg-shaped: with t from -1 at the top to 1 at the chin, its half width is
    66 (1 - 0.1 t) sqrt(1 - t^2) px (own derivation). ``ellipse`` and ``box`` have the same height, and width in the
    middle.
    """
    fine = (np.arange(CROP_PX * SUPERSAMPLING) + 0.5) / SUPERSAMPLING - 0.5
    x, y = fine[None, :], fine[:, None]
    t = (2 * y - TOP_PX - CHIN_PX) / (CHIN_PX - TOP_PX)
    round_width = HALF_WIDTH_PX * np.sqrt(np.clip(1 - t * t, 0, None))
    half_width = {
        "outline": (1 - TAPER * t) * round_width,
        "ellipse": round_width,
        "box": HALF_WIDTH_PX * (np.abs(t) < 1),
    }[look.mask]
    inside = (np.abs(x - MIDDLE_X) < half_width).astype(np.uint8)
    mask = _fade(cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE), SUPERSAMPLING, look)
    mask.setflags(write=False)
    return mask


@cache
def core_mask(size: int) -> Mask:
    """Mask, 1 where nobody has hair or background, of what the model sees; (size, size), read-only."""
    inside = (face_mask()[SEEN, SEEN] >= 1).astype(np.float32)
    mask = (cv2.resize(inside, (size, size), interpolation=cv2.INTER_AREA) >= 1).astype(np.float32)
    mask.setflags(write=False)
    return mask


def mesh_mask(look: Look, outline: Points) -> Mask:
    """Draw the mask of one face, whose outline has (N, 2) corners in px of the crop, in order."""
    inside = np.zeros((SEEN_PX * MESH_SUPERSAMPLING, SEEN_PX * MESH_SUPERSAMPLING), np.uint8)
    corners = ((outline - SEEN.start + 0.5) * MESH_SUPERSAMPLING - 0.5) * (1 << SHIFT)
    cv2.fillPoly(inside, [corners.round().astype(np.int32)], 1, shift=SHIFT)
    inside[:MESH_SUPERSAMPLING] = inside[-MESH_SUPERSAMPLING:] = 0
    inside[:, :MESH_SUPERSAMPLING] = inside[:, -MESH_SUPERSAMPLING:] = 0
    mask = np.zeros((CROP_PX, CROP_PX), np.float32)
    depth = cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_5)
    mask[SEEN, SEEN] = _fade(depth, MESH_SUPERSAMPLING, look)
    return mask


def _fade(fine_depth: npt.NDArray[Any], supersampling: int, look: Look) -> Mask:
    """Fade a shape from its edge inwards, given the depth of each supersampled pixel inside it."""
    size = fine_depth.shape[0] // supersampling
    depth = np.asarray(cv2.resize(fine_depth, (size, size), interpolation=cv2.INTER_AREA), np.float32)
    inwards = (depth / supersampling - look.erode * PERCENT_PX) / max(look.feather * PERCENT_PX, 1)
    return smoothstep(np.asarray(inwards, np.float32))


def smoothstep(x: Mask) -> Mask:
    """Rise smoothly from 0 at x <= 0 to 1 at x >= 1: 3x^2 - 2x^3."""
    x = np.clip(x, 0, 1)
    return (x * x * (3 - 2 * x)).astype(np.float32)
