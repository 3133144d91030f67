"""A face put into a frame, and nothing else of the frame touched."""

from typing import cast

import cv2
import numpy as np

from pipeline.arrays import Affine, Image, Mask, Patch, Rect
from pipeline.blending.look import PLAIN, Look
from pipeline.blending.texture import grained
from pipeline.faces.alignment import transform, warp

Box = tuple[float, float, float, float]

SHOWN = 0.1  # of a mask: where the new face is to be seen
WELL_SHOWN = 0.5  # where Poisson blending meets the picture: farther out there may be hair, or the wall
AROUND_PX = 4  # that Poisson blending needs beyond it
INVISIBLE = 1 / 512  # a mask below this changes no 8-bit value


def paste_face(frame: Image, crop: Image, mask: Mask, frame_from_crop: Affine, look: Look = PLAIN) -> Patch | None:
    """Blend an aligned face over the part of the frame it covers.

    Convention: BGR uint8; points (x, y) in px, pixel centres at integers.

    Args:
        frame: (H, W, 3).
        crop: (S, S, 3), the new face.
        mask: (S, S) in [0, 1]; 1 shows the new face.
        frame_from_crop: (2, 3), maps crop px to frame px.
        look: of which grain, blend and opacity are made here.

    Returns:
        The part of the frame that differs, with the face in it; None where the face lies outside the frame.

    Raises:
        ValueError: crop and mask sizes differ.
    """
    if crop.shape[:2] != mask.shape:
        raise ValueError(f"crop {crop.shape[:2]} and mask {mask.shape} differ in size")
    box = _box_of(mask)
    rect = rect_in_frame(box, frame_from_crop, frame.shape[:2]) if box else None
    if rect is None:
        return None
    left, top, width, height = rect
    there = frame_from_crop - np.array([[0, 0, left], [0, 0, top]])
    face = warp(crop, there, (width, height), border=cv2.BORDER_REPLICATE)
    share = warp(mask, there, (width, height), border=cv2.BORDER_CONSTANT)
    share = np.asarray(cv2.threshold(share, INVISIBLE, 0, cv2.THRESH_TOZERO)[1], np.float32)
    under = frame[top : top + height, left : left + width]
    if look.blend == "poisson":
        face = _bent(face, under, share)
    if look.match_grain:
        face = grained(face, under, share > SHOWN)
    share *= look.opacity
    return Patch(left, top, cast(Image, cv2.blendLinear(face, under, share, 1 - share)), share > 0)


def _bent(face: Image, under: Image, share: Mask) -> Image:
    """Let a face meet what is under it in brightness and colour along the edge of what shows, and keep its gradients.

    Pérez, Gangnet & Blake 2003, "Poisson Image Editing".
    """
    inside = np.pad((share > WELL_SHOWN).astype(np.uint8) * 255, AROUND_PX)
    left, top, width, height = cv2.boundingRect(inside)
    if min(width, height) < 3:
        return face
    around = [(AROUND_PX, AROUND_PX), (AROUND_PX, AROUND_PX), (0, 0)]
    source, target = (np.pad(image, around, mode="edge") for image in (face, under))
    middle = (left + width // 2, top + height // 2)
    made = cv2.seamlessClone(source, target, inside, middle, cv2.NORMAL_CLONE)
    return cast(Image, made[AROUND_PX:-AROUND_PX, AROUND_PX:-AROUND_PX])


def rect_in_frame(box: Box, frame_from_crop: Affine, size_hw: tuple[int, ...]) -> Rect | None:
    """Find the part of a frame that a box in a crop covers, and a little more.

    Args:
        box: left, top, right, bottom in crop px, the last ones included.
        frame_from_crop: (2, 3), maps crop px to frame px.
        size_hw: height and width of the frame.

    Returns:
        With even left and top; None where it lies outside the frame.
    """
    left, top, right, bottom = box
    corners = np.array([(x, y) for x in (left - 1, right + 1) for y in (top - 1, bottom + 1)], dtype=np.float64)
    points = transform(corners, frame_from_crop)
    low = np.clip(np.floor(points.min(axis=0)), 0, None).astype(int) // 2 * 2
    high = np.minimum(np.ceil(points.max(axis=0)).astype(int) // 2 * 2 + 2, size_hw[1::-1])
    if (high <= low).any():
        return None
    return Rect(int(low[0]), int(low[1]), int(high[0] - low[0]), int(high[1] - low[1]))


def _box_of(mask: Mask) -> Box | None:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return (columns[0], rows[0], columns[-1], rows[-1]) if len(rows) else None
