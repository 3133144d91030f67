"""What is in front of a face stays in front: smoothed over time, with the edges of the frame.

Convention: occlusions are (128, 128) float32, 1 where something is in front of the face, or None where nothing is.
"""

from dataclasses import replace
from typing import cast

import cv2
import numpy as np

from models.segmenter import OCCLUSION_PX
from pipeline.faces.alignment import invert, warp
from pipeline.faces.occlusions import POSSIBLE
from pipeline.types import Affine, Image, Mask, Patch

GUIDE_RADIUS_PX, GUIDE_NOISE = 4, 0.02**2  # of the guided filter, for grey levels in [0, 1]
SOFT = 0.15  # refined values this near to 0 and 1 become these
MIN_UNCOVERED = 0.2  # of a face, in which its colours can be measured


def uncovered(mask: Mask, occlusion: Mask | None) -> Mask:
    """Leave out of a mask, (S, S), what is covered, as long as enough is left."""
    if occlusion is None:
        return mask
    size = mask.shape[1::-1]
    left = np.asarray(mask * (1 - cv2.resize(occlusion, size, interpolation=cv2.INTER_LINEAR)), np.float32)
    return left if left.sum() >= MIN_UNCOVERED * mask.sum() else mask


def median_of_three(before: Mask | None, here: Mask | None, after: Mask | None) -> Mask | None:
    """Smooth over three frames: this removes what shows in one only, and does not lag behind what moves."""
    if sum(occlusion is None for occlusion in (before, here, after)) > 1:
        return None
    nothing = np.zeros((OCCLUSION_PX, OCCLUSION_PX), np.float32)
    first, middle, last = (nothing if occlusion is None else occlusion for occlusion in (before, here, after))
    low, high = np.minimum(first, middle), np.maximum(first, middle)
    median = np.maximum(low, np.minimum(high, last))
    return median if median.max() > POSSIBLE else None


def refine(occlusion: Mask, frame: Image, frame_from_picture: Affine) -> Mask:
    """Move an occlusion to the frame, with edges where the frame has its own.

    By the fast guided filter (He & Sun 2015, arXiv:1505.00996): near each px, the result is a linear function of the
    frame's grey levels.

    Args:
        occlusion: of a picture.
        frame: (H, W, 3), the part of the frame with the face.
        frame_from_picture: (2, 3), maps px of the picture to px of the frame.

    Returns:
        (H, W) float32 in [0, 1].
    """
    grey = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY).astype(np.float32) / 255
    small = (OCCLUSION_PX, OCCLUSION_PX)
    guide = warp(grey, invert(frame_from_picture), small, cv2.BORDER_REPLICATE)
    size = (2 * GUIDE_RADIUS_PX + 1,) * 2
    mean, target = cv2.blur(guide, size), cv2.blur(occlusion, size)
    slope = (cv2.blur(guide * occlusion, size) - mean * target) / (
        cv2.blur(guide * guide, size) - mean**2 + GUIDE_NOISE
    )
    offset = target - slope * mean
    height, width = grey.shape
    slope, offset = (
        warp(cv2.blur(values, size), frame_from_picture, (width, height), cv2.BORDER_REPLICATE)
        for values in (slope, offset)
    )
    return np.asarray(np.clip((slope * grey + offset - SOFT) / (1 - 2 * SOFT), 0, 1), np.float32)


def keep_in_front(patch: Patch, occlusion: Mask, frame: Image) -> Patch:
    """Show the frame where something is in front of a patch of it; the occlusion has the frame's size."""
    height, width = patch.changed.shape
    rows, columns = slice(patch.top, patch.top + height), slice(patch.left, patch.left + width)
    hidden = occlusion[rows, columns]
    image = cast(Image, cv2.blendLinear(frame[rows, columns], patch.image, hidden, 1 - hidden))
    return replace(patch, image=image, changed=patch.changed & (hidden < 1))
