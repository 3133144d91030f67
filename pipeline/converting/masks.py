"""Where the new face shows: soft masks in crop space.

Convention: masks are (256, 256) float32 in [0, 1]; 1 shows the new face. All are 0 at the edge of what the model sees.
"""

from functools import cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.faces.alignment import CHIN_PX, CROP_PX, HALF_WIDTH_PX, MIDDLE_X, SEEN, SEEN_PX, TAPER, TOP_PX
from pipeline.options import DEFAULT_LOOK, Look
from pipeline.types import Mask, Points

SUPERSAMPLING = 8  # of the shape whose depth is measured; coarser steps would show as rays
MESH_SUPERSAMPLING, SHIFT = 2, 4  # for a face's own outline; fractional bits of its corners
PERCENT_PX = (CHIN_PX - TOP_PX) / 100  # of the face's height


@cache
def face_mask(look: Look = DEFAULT_LOOK) -> Mask:
    """Return the mask shared by all faces; the array is read-only.

    The ``outline`` is that of a mean face, see ``alignment.mean_outline``. ``ellipse`` and ``box`` have the same
    height, and width in the middle.
    """
    fine = SEEN.start + (np.arange(SEEN_PX * SUPERSAMPLING) + 0.5) / SUPERSAMPLING - 0.5
    x, y = fine[None, :], fine[:, None]
    t = (2 * y - TOP_PX - CHIN_PX) / (CHIN_PX - TOP_PX)
    round_width = HALF_WIDTH_PX * np.sqrt(np.clip(1 - t * t, 0, None))
    half_width = {
        "outline": (1 - TAPER * t) * round_width,
        "auto": (1 - TAPER * t) * round_width,
        "ellipse": round_width,
        "box": HALF_WIDTH_PX * (np.abs(t) < 1),
    }[look.mask]
    inside = (np.abs(x - MIDDLE_X) < half_width).astype(np.uint8)
    mask = _fade(inside, SUPERSAMPLING, look, cv2.DIST_MASK_PRECISE)
    mask.setflags(write=False)
    return mask


@cache
def core_mask(size: int) -> Mask:
    """Return the mask of the part of what the model sees that never has hair or background; (size, size), read-only."""
    inside = (face_mask()[SEEN, SEEN] >= 1).astype(np.float32)
    mask = (cv2.resize(inside, (size, size), interpolation=cv2.INTER_AREA) >= 1).astype(np.float32)
    mask.setflags(write=False)
    return mask


def mesh_mask(look: Look, outline: Points) -> Mask:
    """Draw the mask of one face, whose outline has (N, 2) corners in px of the crop, in order."""
    inside = np.zeros((SEEN_PX * MESH_SUPERSAMPLING, SEEN_PX * MESH_SUPERSAMPLING), np.uint8)
    corners = ((outline - SEEN.start + 0.5) * MESH_SUPERSAMPLING - 0.5) * (1 << SHIFT)
    cv2.fillPoly(inside, [corners.round().astype(np.int32)], 1, shift=SHIFT)
    return _fade(inside, MESH_SUPERSAMPLING, look)


def learned_mask(look: Look, drawn: Mask) -> Mask:
    """Make the mask of one face from what the model drew, (S, S) in [0, 1]: its region above one half, faded."""
    side = SEEN_PX * MESH_SUPERSAMPLING
    enlarged = cv2.resize(drawn, (side, side), interpolation=cv2.INTER_LINEAR)
    return _fade((enlarged > 0.5).astype(np.uint8), MESH_SUPERSAMPLING, look)


def _fade(inside: npt.NDArray[np.uint8], supersampling: int, look: Look, metric: int = cv2.DIST_MASK_5) -> Mask:
    """Fade a shape of 0 and 1, in supersampled px of what the model sees, from its edge inwards."""
    depth = _shrink(cv2.distanceTransform(inside, cv2.DIST_L2, metric), supersampling)
    if look.erode < 0:
        depth -= _shrink(cv2.distanceTransform(1 - inside, cv2.DIST_L2, metric), supersampling)
    depth = np.minimum(depth - look.erode * PERCENT_PX, _border_depth())
    mask = np.zeros((CROP_PX, CROP_PX), np.float32)
    mask[SEEN, SEEN] = smoothstep(np.asarray(depth / max(look.feather * PERCENT_PX, 1), np.float32))
    return mask


def _shrink(fine_depth: npt.NDArray[Any], supersampling: int) -> Mask:
    depth = cv2.resize(fine_depth, (SEEN_PX, SEEN_PX), interpolation=cv2.INTER_AREA)
    return np.asarray(depth / supersampling, np.float32)


@cache
def _border_depth() -> Mask:
    """Depth inside what the model sees, (180, 180), px; 0 at its border."""
    steps = np.minimum(np.arange(SEEN_PX), np.arange(SEEN_PX)[::-1]).astype(np.float32)
    return np.asarray(np.minimum(steps[None, :], steps[:, None]), np.float32)


def smoothstep(x: Mask) -> Mask:
    """Rise smoothly from 0 at x <= 0 to 1 at x >= 1: 3x^2 - 2x^3."""
    x = np.clip(x, 0, 1)
    return (x * x * (3 - 2 * x)).astype(np.float32)
