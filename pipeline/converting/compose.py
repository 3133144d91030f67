"""Frames of the result: faces cut out, drawn by the model in batches, measured, and pasted.

Drawing and composing are separate steps, so that measurements can be smoothed over time between them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar, cast

import cv2
import numpy as np

from models.segmenter import OCCLUSION_PX
from pipeline.converting.color import ColorPair, match_colors, measure_colors
from pipeline.converting.label import draw_label
from pipeline.converting.masks import core_mask, face_mask, learned_mask, mesh_mask
from pipeline.converting.occlusions import keep_in_front, refine, uncovered
from pipeline.converting.swapper import Swapper
from pipeline.converting.texture import add_grain, measure_softness, sharpen, soften
from pipeline.faces.alignment import SEEN, SEEN_PX, cut_crop, invert, scale_crop, shrink_seen, transform, warp
from pipeline.faces.mesh import OUTLINE, find_mesh_points
from pipeline.media.canvas import Surface
from pipeline.options import DEFAULT_LOOK, PLAIN_VIEW, Look, ResultView
from pipeline.types import Affine, Image, Mask, Patch, Points, Rect

C = TypeVar("C", bound=Surface)
Box = tuple[float, float, float, float]
"""Left, top, right, bottom in px, inclusive."""

SEEN_BOX: Box = (0, 0, SEEN_PX - 1, SEEN_PX - 1)
CROP_FROM_SEEN = np.array([[0, 0, SEEN.start], [0, 0, SEEN.start]])  # a shift, to be added to a transform
VISIBLE = 0.1  # of a mask: where grain is measured
WELL_VISIBLE = 0.5  # of a mask: where Poisson blending meets the picture; farther out may be hair or background
POISSON_MARGIN_PX = 4
INVISIBLE = 1 / 512  # a mask below this changes no 8-bit value


@dataclass(frozen=True)
class FaceSwap:
    """A face to replace.

    Attributes:
        crop_from_frame: (2, 3), maps frame px to px of a 256 crop.
        to_person: whose face is drawn in.
        track: identifies it in its frame, and across frames.
    """

    crop_from_frame: Affine
    to_person: str
    track: int = 0


@dataclass(frozen=True)
class FaceStats:
    """Measurements of a face in its frame, smoothed over time before they are used.

    Attributes:
        colors: None if colours are not matched.
        softness: blur of the drawn face, a standard deviation in px of what the model sees.
        outline: (N, 2), edge of the original face in px of the crop; None if the mask does not follow it.
        occlusion: (128, 128), what stays of the footage in front of the face; None if nothing does.
    """

    colors: ColorPair | None
    softness: float
    outline: Points | None
    occlusion: Mask | None = None


@dataclass(frozen=True)
class DrawnFace:
    """A drawn face, not pasted yet.

    Attributes:
        rect: part of the frame that the original was cut from.
        picture_from_rect: (2, 3), maps px of that part to px of the picture.
        picture: (S, S, 3) BGR, the face; S is 180, or more if the model draws more.
        track: of the swap.
        learned_mask: (S, S), where the model says the face is; None if that is not used.
    """

    rect: Rect
    picture_from_rect: Affine
    picture: Image
    track: int
    stats: FaceStats
    learned_mask: Mask | None = None


def draw_faces(
    canvases: Sequence[Surface], swaps: Sequence[Sequence[FaceSwap]], swapper: Swapper, look: Look = DEFAULT_LOOK
) -> list[list[DrawnFace]]:
    """Draw the new faces of several frames in one batch; the frames are not changed.

    Returns:
        The faces of each frame, in order; those outside the frame are left out.
    """
    side = max(SEEN_PX, swapper.picture_px)
    cuts: list[tuple[int, FaceSwap, Rect, Image, Affine, Image]] = []
    for index, (canvas, frame_swaps) in enumerate(zip(canvases, swaps, strict=True)):
        for swap in frame_swaps:
            seen_from_frame = swap.crop_from_frame - CROP_FROM_SEEN
            if rect := rect_in_frame(SEEN_BOX, invert(seen_from_frame), canvas.size_hw):
                part, seen_from_rect = canvas.part(rect), _move_origin(seen_from_frame, rect.left, rect.top)
                picture_from_rect = scale_crop(seen_from_rect, side, SEEN_PX)
                cuts.append((index, swap, rect, part, seen_from_rect, cut_crop(part, picture_from_rect, side)))
    faces: list[list[DrawnFace]] = [[] for _ in canvases]
    if not cuts:
        return faces
    small = [shrink_seen(seen, swapper.picture_px, is_smoothed=swapper.is_smoothed) for *_, seen in cuts]
    core = core_mask(swapper.picture_px)
    drawings = swapper.swap(small, [swap.to_person for _, swap, *_ in cuts])
    occlusions: list[Mask | None] = [None] * len(cuts)
    if swapper.finder is not None and not look.paint_over:
        is_same = (swapper.picture_px, swapper.is_smoothed) == (OCCLUSION_PX, True)
        pictures = small if is_same else [shrink_seen(seen, OCCLUSION_PX, is_smoothed=True) for *_, seen in cuts]
        occlusions = swapper.finder.find(pictures, with_glasses=look.keep == "glasses")
    for (index, swap, rect, part, seen_from_rect, seen), old, new, occlusion in zip(
        cuts, small, drawings, occlusions, strict=True
    ):
        picture = np.asarray(cv2.resize(new.face, (side, side), interpolation=cv2.INTER_LANCZOS4), np.uint8)
        colors, outline = None, None
        if look.color != "none":
            where = uncovered(core, occlusion)
            colors = ColorPair(*(measure_colors(face, where, look.color) for face in (new.face, old)))
        softness = measure_softness(picture, seen, uncovered(core_mask(side), occlusion)) if look.match_grain else 0.0
        if look.mask == "mesh":
            outline = find_mesh_points(part, seen_from_rect + CROP_FROM_SEEN, OUTLINE)
        stats = FaceStats(colors, softness, outline, occlusion)
        mask = new.mask if look.mask in ("auto", "learned") else None
        picture_from_rect = scale_crop(seen_from_rect, side, SEEN_PX)
        faces[index].append(DrawnFace(rect, picture_from_rect, picture, swap.track, stats, mask))
    return faces


def compose(canvas: C, faces: Sequence[DrawnFace], look: Look = DEFAULT_LOOK, view: ResultView = PLAIN_VIEW) -> C:
    """Paste drawn faces into a canvas to make a frame of the result.

    Returns:
        By view: the canvas with the faces in it, the original beside it, or the mask alone.
    """
    if view.kind == "mask":
        mask = canvas.black()
        plain = replace(look, match_grain=False, blend="feather")
        for face in faces:
            _paste(mask, face, np.full_like(face.picture, 255), plain, canvas)
        return mask
    original = canvas.copy() if view.kind == "beside" else None
    is_any_covered = any(face.stats.occlusion is not None for face in faces)
    guide: Surface = canvas.copy() if is_any_covered and len(faces) > 1 else canvas
    for face in sorted(faces, key=lambda face: (_distance(face), face.track), reverse=True):
        picture = face.picture
        if look.color != "none" and face.stats.colors is not None:
            picture = match_colors(picture, face.stats.colors, look.color)
        _paste(canvas, face, sharpen(soften(picture, face.stats.softness), look.sharpen), look, guide)
    if view.label:
        draw_label(canvas, view.label)
    return canvas if original is None else original.beside(canvas)


def _distance(face: DrawnFace) -> int:
    """How far away a face seems, in steps of a tenth: the smaller it is in the frame, the farther."""
    return round(math.log(np.linalg.det(face.picture_from_rect[:, :2])) / (2 * math.log(1.1)))


def visible_mask(face: DrawnFace, look: Look, crop: Image) -> Mask:
    """Return the mask of a drawn face without what is in front of it in its (256, 256, 3) crop; (256, 256)."""
    mask = mask_of(face, look)
    if face.stats.occlusion is None:
        return mask
    visible = mask.copy()
    seen_from_picture = invert(scale_crop(np.eye(2, 3), OCCLUSION_PX, SEEN_PX))
    visible[SEEN, SEEN] *= 1 - refine(face.stats.occlusion, crop[SEEN, SEEN], seen_from_picture)
    return visible


def mask_of(face: DrawnFace, look: Look) -> Mask:
    """Return the mask of a drawn face, (256, 256), in px of its crop, whatever is in front of it."""
    if face.learned_mask is not None:
        return learned_mask(look, face.learned_mask)
    return face_mask(look) if face.stats.outline is None else mesh_mask(look, face.stats.outline)


def _paste(canvas: Surface, face: DrawnFace, picture: Image, look: Look, original: Surface) -> None:
    """Paste a face, scaled about its centre; an enlarged one exceeds the part of the frame it was cut from.

    ``original`` shows the frame without other new faces: what is in front of this one gets its edges from it.
    """
    side = picture.shape[0]
    middle = (side - 1) / 2 * (1 - look.scale)
    frame_from_unscaled = invert(_move_origin(face.picture_from_rect, -face.rect.left, -face.rect.top))
    shift = transform(np.array([[middle, middle]]), frame_from_unscaled).T
    frame_from_picture = np.column_stack([frame_from_unscaled[:, :2] * look.scale, shift])
    rect = rect_in_frame((0, 0, side - 1, side - 1), frame_from_picture, canvas.size_hw)
    if rect is None:
        return
    rect_from_picture = frame_from_picture - np.array([[0, 0, rect.left], [0, 0, rect.top]])
    mask = mask_of(face, look)[SEEN, SEEN]
    if side != SEEN_PX:
        mask = np.asarray(cv2.resize(mask, (side, side), interpolation=cv2.INTER_LINEAR), np.float32)
    part = canvas.part(rect)
    patch = paste_face(part, picture, mask, rect_from_picture, look)
    if patch is not None and face.stats.occlusion is not None:
        rect_from_unscaled = frame_from_unscaled - np.array([[0, 0, rect.left], [0, 0, rect.top]])
        rect_from_small = invert(scale_crop(invert(rect_from_unscaled), OCCLUSION_PX, side))
        guide = part if original is canvas else original.part(rect)
        patch = keep_in_front(patch, refine(face.stats.occlusion, guide, rect_from_small), part)
    if patch is not None:
        canvas.draw(patch.moved(rect.left, rect.top))


def _move_origin(crop_from_frame: Affine, left: int, top: int) -> Affine:
    """Turn a transform from frame px into one from px of the part that starts at ``left``, ``top``."""
    linear = crop_from_frame[:, :2]
    return np.column_stack([linear, crop_from_frame[:, 2] + linear @ (left, top)])


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
        look: only grain, blend and opacity are used.

    Returns:
        The changed part of the frame; None if the face lies outside the frame.

    Raises:
        ValueError: crop and mask sizes differ.
    """
    if crop.shape[:2] != mask.shape:
        raise ValueError(f"crop {crop.shape[:2]} and mask {mask.shape} differ in size")
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    rect = rect_in_frame((columns[0], rows[0], columns[-1], rows[-1]), frame_from_crop, frame.shape[:2])
    if rect is None:
        return None
    left, top, width, height = rect
    rect_from_crop = frame_from_crop - np.array([[0, 0, left], [0, 0, top]])
    face = warp(crop, rect_from_crop, (width, height), border=cv2.BORDER_REPLICATE)
    alpha = warp(mask, rect_from_crop, (width, height), border=cv2.BORDER_CONSTANT)
    alpha = np.asarray(cv2.threshold(alpha, INVISIBLE, 0, cv2.THRESH_TOZERO)[1], np.float32)
    original = frame[top : top + height, left : left + width]
    if look.blend == "poisson":
        face = _blend_poisson(face, original, alpha)
    if look.match_grain:
        face = add_grain(face, original, alpha > VISIBLE)
    alpha *= look.opacity
    return Patch(left, top, cast(Image, cv2.blendLinear(face, original, alpha, 1 - alpha)), alpha > 0)


def _blend_poisson(face: Image, original: Image, alpha: Mask) -> Image:
    """Match a face to the original's brightness and colour along its edge, keeping its gradients.

    Pérez, Gangnet & Blake 2003, "Poisson Image Editing".
    """
    inside = np.pad((alpha > WELL_VISIBLE).astype(np.uint8) * 255, POISSON_MARGIN_PX)
    left, top, width, height = cv2.boundingRect(inside)
    if min(width, height) < 3:
        return face
    margins = [(POISSON_MARGIN_PX, POISSON_MARGIN_PX), (POISSON_MARGIN_PX, POISSON_MARGIN_PX), (0, 0)]
    source, target = (np.pad(image, margins, mode="edge") for image in (face, original))
    blended = cv2.seamlessClone(source, target, inside, (left + width // 2, top + height // 2), cv2.NORMAL_CLONE)
    return cast(Image, blended[POISSON_MARGIN_PX:-POISSON_MARGIN_PX, POISSON_MARGIN_PX:-POISSON_MARGIN_PX])


def rect_in_frame(box: Box, frame_from_crop: Affine, size_hw: tuple[int, ...]) -> Rect | None:
    """Find the part of a frame that covers a box in a crop, with a small margin; left and top are even.

    Returns:
        None if it lies outside the frame.
    """
    left, top, right, bottom = box
    corners = np.array([(x, y) for x in (left - 1, right + 1) for y in (top - 1, bottom + 1)], dtype=np.float64)
    points = transform(corners, frame_from_crop)
    low = np.clip(np.floor(points.min(axis=0)), 0, None).astype(int) // 2 * 2
    high = np.minimum(np.ceil(points.max(axis=0)).astype(int) // 2 * 2 + 2, size_hw[1::-1])
    if (high <= low).any():
        return None
    return Rect(int(low[0]), int(low[1]), int(high[0] - low[0]), int(high[1] - low[1]))
