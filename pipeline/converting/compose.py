"""New faces drawn into frames: cut, swapped in one batch, measured; then given the light of the old ones and pasted.

The two steps are apart so that what was measured can be smoothed in time between them.

A face put into a frame, and nothing else of the frame touched.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import cv2
import numpy as np

from models import PICTURE_PX
from pipeline.converting.color import Colors, match_colors, measure_colors
from pipeline.converting.masks import core, face_mask, mesh_mask
from pipeline.converting.swapper import Swapper
from pipeline.converting.texture import grained, sharpened, softened, softness_of
from pipeline.faces.alignment import SEEN, SEEN_PX, cut_crop, invert, transform, warp
from pipeline.faces.mesh import OUTLINE, mesh_of
from pipeline.media.canvas import Surface
from pipeline.options import DEFAULT_LOOK, Look
from pipeline.types import Affine, Image, Mask, Patch, Points, Rect

SEEN_BOX = (0, 0, SEEN_PX - 1, SEEN_PX - 1)


@dataclass(frozen=True)
class Swap:
    """A face to draw anew.

    Attributes:
        crop_from_frame: (2, 3), where it is: maps frame px to px of a 256 crop.
        to_person: whose it becomes.
        track: tells it from the other faces of its frame, and links it to its own in other frames.
    """

    crop_from_frame: Affine
    to_person: str
    track: int = 0


@dataclass(frozen=True)
class FaceStats:
    """What is measured of a face in its frame, to be smoothed in time before it is heeded.

    Attributes:
        own: (K, 3), colours of the new face; K is 0 where none are matched.
        wanted: (K, 3), colours of the old face.
        softness: by how much the new face is to be blurred, a standard deviation in px of what the model sees.
        outline: (N, 2), edge of the old face in px of the crop; N is 0 where it is not asked for.
    """

    own: Colors
    wanted: Colors
    softness: float
    outline: Points


@dataclass(frozen=True)
class NewFace:
    """A face drawn, not yet put into its frame.

    Attributes:
        rect: the part of the frame it goes into.
        seen_from_rect: (2, 3), maps px of that part to px of what the model sees.
        picture: (180, 180, 3) BGR, the face.
        track: of the swap.
        traits: to be heeded when it is put in.
    """

    rect: Rect
    seen_from_rect: Affine
    picture: Image
    track: int
    traits: FaceStats


def new_faces(
    canvases: Sequence[Surface], swaps: Sequence[Sequence[Swap]], swapper: Swapper, look: Look = DEFAULT_LOOK
) -> list[list[NewFace]]:
    """Draw faces anew, all in one batch, and put them nowhere yet.

    Args:
        canvases: frames the faces are in; they stay as they are.
        swaps: for each of them, what to draw, in order.
        swapper: the model.
        look: how the new faces are to be put in.

    Returns:
        The faces of each frame, in order, without those that lie outside it.
    """
    found = [
        (place, swap, _cut(canvas, swap))
        for place, (canvas, some) in enumerate(zip(canvases, swaps, strict=True))
        for swap in some
    ]
    cuts = [(place, swap, cut) for place, swap, cut in found if cut is not None]
    if not cuts:
        return [[] for _ in canvases]
    small = [_as_seen(cut) for _, _, cut in cuts]
    drawn = swapper.swap(small, [swap.to_person for _, swap, _ in cuts])
    faces: list[list[NewFace]] = [[] for _ in canvases]
    for (place, swap, cut), old, new in zip(cuts, small, drawn, strict=True):
        large = np.asarray(cv2.resize(new, (SEEN_PX, SEEN_PX), interpolation=cv2.INTER_LANCZOS4), np.uint8)
        own, wanted = (measure_colors(face, core(PICTURE_PX), look.color) for face in (new, old))
        softness = softness_of(large, cut.seen, core(SEEN_PX)) if look.match_grain else 0.0
        traits = FaceStats(own, wanted, softness, _outline(cut, look))
        faces[place].append(NewFace(cut.rect, cut.seen_from_rect, large, swap.track, traits))
    return faces


def put_in(canvas: Surface, faces: Sequence[NewFace], look: Look = DEFAULT_LOOK) -> None:
    """Put new faces into their frame, each over those before it."""
    for face in faces:
        traits = face.traits
        picture = softened(match_colors(face.picture, traits.own, traits.wanted, look.color), traits.softness)
        _paste(canvas, face, sharpened(picture, look.sharpen), look)


def put_masks_in(canvas: Surface, faces: Sequence[NewFace], look: Look = DEFAULT_LOOK) -> None:
    """Show in white where new faces would be, and how strongly."""
    fading = replace(look, match_grain=False, blend="feather")
    for face in faces:
        _paste(canvas, face, np.full_like(face.picture, 255), fading)


def mask_of(face: NewFace, look: Look) -> Mask:
    """Say where a new face shows, (256, 256) px of its crop."""
    return mesh_mask(look, face.traits.outline) if len(face.traits.outline) else face_mask(look)


@dataclass(frozen=True)
class _Cut:
    """A face as the model sees it, (180, 180, 3), from the part ``rect`` of a frame, which looked like ``under``."""

    rect: Rect
    under: Image
    seen_from_rect: Affine
    seen: Image


def _cut(canvas: Surface, swap: Swap) -> _Cut | None:
    seen_from_frame = swap.crop_from_frame - np.array([[0, 0, SEEN.start], [0, 0, SEEN.start]])
    rect = rect_in_frame(SEEN_BOX, invert(seen_from_frame), canvas.size_hw)
    if rect is None:
        return None
    seen_from_rect = _moved(seen_from_frame, rect.left, rect.top)
    under = canvas.part(rect)
    return _Cut(rect, under, seen_from_rect, cut_crop(under, seen_from_rect, SEEN_PX))


def _as_seen(cut: _Cut) -> Image:
    """Make the picture for the model, sampled as in training: bilinearly, without averaging."""
    return np.asarray(cv2.resize(cut.seen, (PICTURE_PX, PICTURE_PX), interpolation=cv2.INTER_LINEAR), np.uint8)


def _outline(cut: _Cut, look: Look) -> Points:
    if look.mask != "mesh":
        return np.zeros((0, 2))
    crop_from_rect = cut.seen_from_rect + np.array([[0, 0, SEEN.start], [0, 0, SEEN.start]])
    return mesh_of(cut.under, crop_from_rect, OUTLINE)


def _paste(canvas: Surface, face: NewFace, picture: Image, look: Look) -> None:
    """Paste a face scaled about its middle; a larger one reaches beyond the part of the frame that it was cut from."""
    middle = (SEEN_PX - 1) / 2 * (1 - look.scale)
    seen_from_picture = np.array([[look.scale, 0, middle], [0, look.scale, middle]])
    frame_from_seen = invert(_moved(face.seen_from_rect, -face.rect.left, -face.rect.top))
    shift = transform(seen_from_picture[:, 2:].T, frame_from_seen).T
    frame_from_picture = np.column_stack([frame_from_seen[:, :2] * look.scale, shift])
    rect = rect_in_frame(SEEN_BOX, frame_from_picture, canvas.size_hw)
    if rect is None:
        return
    rect_from_picture = frame_from_picture - np.array([[0, 0, rect.left], [0, 0, rect.top]])
    patch = paste_face(canvas.part(rect), picture, mask_of(face, look)[SEEN, SEEN], rect_from_picture, look)
    if patch is not None:
        canvas.draw(patch.moved(rect.left, rect.top))


def _moved(crop_from_frame: Affine, left: int, top: int) -> Affine:
    """Turn a transform from a frame into one from a part of it."""
    linear = crop_from_frame[:, :2]
    return np.column_stack([linear, crop_from_frame[:, 2] + linear @ (left, top)])


Box = tuple[float, float, float, float]

SHOWN = 0.1  # of a mask: where the new face is to be seen
WELL_SHOWN = 0.5  # where Poisson blending meets the picture: farther out there may be hair, or the wall
AROUND_PX = 4  # that Poisson blending needs beyond it
INVISIBLE = 1 / 512  # a mask below this changes no 8-bit value


def paste_face(
    frame: Image, crop: Image, mask: Mask, frame_from_crop: Affine, look: Look = DEFAULT_LOOK
) -> Patch | None:
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
