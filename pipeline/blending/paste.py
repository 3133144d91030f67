"""A face put into a frame, and nothing else of the frame touched."""

import cv2
import numpy as np

from pipeline.arrays import Affine, Image, Mask, Patch
from pipeline.faces.alignment import transform, warp

INVISIBLE = 1 / 512  # a mask below this changes no 8-bit value


def paste_face(frame: Image, crop: Image, mask: Mask, frame_from_crop: Affine) -> Patch | None:
    """Blend an aligned face over the part of the frame it covers.

    Convention: BGR uint8; points (x, y) in px, pixel centres at integers.

    Args:
        frame: (H, W, 3).
        crop: (S, S, 3), the new face.
        mask: (S, S) in [0, 1]; 1 shows the new face.
        frame_from_crop: (2, 3), maps crop px to frame px.

    Returns:
        The part of the frame that differs, with the face in it; None where the face lies outside the frame.

    Raises:
        ValueError: crop and mask sizes differ.
    """
    if crop.shape[:2] != mask.shape:
        raise ValueError(f"crop {crop.shape[:2]} and mask {mask.shape} differ in size")
    region = _region(mask, frame_from_crop, frame.shape[:2])
    if region is None:
        return None
    left, top, width, height = region
    there = frame_from_crop - np.array([[0, 0, left], [0, 0, top]])
    face = warp(crop, there, (width, height), border=cv2.BORDER_REPLICATE).astype(np.float32)
    share = warp(mask, there, (width, height), border=cv2.BORDER_CONSTANT)
    changed = share > INVISIBLE
    under = frame[top : top + height, left : left + width]
    blended = under + (face - under) * np.where(changed, share, 0)[..., None]
    return Patch(left, top, np.clip(blended.round(), 0, 255).astype(np.uint8), changed)


def apply_patch(frame: Image, patch: Patch) -> Image:
    """Return a copy of a frame with a patch in it."""
    height, width = patch.changed.shape
    made = frame.copy()
    made[patch.top : patch.top + height, patch.left : patch.left + width] = patch.image
    return made


def _region(mask: Mask, frame_from_crop: Affine, size_hw: tuple[int, ...]) -> tuple[int, int, int, int] | None:
    """Left, top, width and height of the frame's part that the mask covers; left and top are even."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    xs, ys = (columns[0] - 1, columns[-1] + 1), (rows[0] - 1, rows[-1] + 1)
    corners = transform(np.array([(x, y) for x in xs for y in ys], dtype=np.float64), frame_from_crop)
    low = np.clip(np.floor(corners.min(axis=0)), 0, None).astype(int) // 2 * 2
    high = np.minimum(np.ceil(corners.max(axis=0)).astype(int) // 2 * 2 + 2, size_hw[1::-1])
    if (high <= low).any():
        return None
    return int(low[0]), int(low[1]), int(high[0] - low[0]), int(high[1] - low[1])
