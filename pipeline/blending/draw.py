"""New faces drawn into frames: cut, swapped in one batch, given the light of the old ones, pasted."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import cv2
import numpy as np

from models.autoencoder import PICTURE_PX
from pipeline.arrays import Affine, Image, Mask, Rect
from pipeline.blending.color import match_color
from pipeline.blending.look import PLAIN, Look
from pipeline.blending.masks import face_mask
from pipeline.blending.paste import paste_face, rect_in_frame
from pipeline.blending.swap import Swapper
from pipeline.blending.texture import sharpened
from pipeline.faces.alignment import SEEN, SEEN_PX, cut_crop, invert, transform
from pipeline.media.pixels import Canvas

SEEN_BOX = (0, 0, SEEN_PX - 1, SEEN_PX - 1)


@dataclass(frozen=True)
class Swap:
    """A face to draw anew.

    Attributes:
        crop_from_frame: (2, 3), where it is: maps frame px to px of a 256 crop.
        to_person: whose it becomes.
    """

    crop_from_frame: Affine
    to_person: str


@dataclass(frozen=True)
class _Cut:
    """What the model sees of a face: ``picture``, from the part ``rect`` of a canvas, which looked like ``under``."""

    canvas: Canvas
    rect: Rect
    under: Image
    seen_from_rect: Affine
    picture: Image
    to_person: str


def draw_faces(
    canvases: Sequence[Canvas], swaps: Sequence[Sequence[Swap]], swapper: Swapper, look: Look = PLAIN
) -> None:
    """Draw faces anew, all in one batch.

    Args:
        canvases: frames to draw into.
        swaps: for each of them, what to draw, in order.
        swapper: the model.
        look: how the new faces are put in.
    """
    found = [_cut(canvas, swap) for canvas, some in zip(canvases, swaps, strict=True) for swap in some]
    cuts = [cut for cut in found if cut is not None]
    if not cuts:
        return
    faces = swapper.swap([cut.picture for cut in cuts], [cut.to_person for cut in cuts])
    before: _Cut | None = None
    for cut, face in zip(cuts, faces, strict=True):
        is_first = before is None or before.canvas is not cut.canvas
        under = cut.under if is_first else cut.canvas.part(cut.rect)  # another face may reach into it
        _paste(cut, under, match_color(face, cut.picture, _core(), look.color), look)
        before = cut


def draw_masks(canvases: Sequence[Canvas], swaps: Sequence[Sequence[Swap]], look: Look = PLAIN) -> None:
    """Draw in white where new faces would show, as ``draw_faces`` would draw them."""
    white = np.full((SEEN_PX, SEEN_PX, 3), 255, np.uint8)
    fading = replace(look, sharpen=0.0, match_grain=False, blend="feather")
    for canvas, some in zip(canvases, swaps, strict=True):
        for swap in some:
            cut = _cut(canvas, swap)
            if cut is not None:
                _paste(cut, cut.under, white, fading)


def picture_of(canvas: Canvas, swap: Swap) -> Image | None:
    """Show what the model would see of a face, (64, 64, 3) BGR; None where it lies outside the frame."""
    cut = _cut(canvas, swap)
    return None if cut is None else cut.picture


def enlarged(face: Image) -> Image:
    """Bring what the model drew to the px of a crop, (180, 180, 3)."""
    return np.asarray(cv2.resize(face, (SEEN_PX, SEEN_PX), interpolation=cv2.INTER_LANCZOS4), np.uint8)


def _cut(canvas: Canvas, swap: Swap) -> _Cut | None:
    """Cut what the model sees of a face, sampled as in training: bilinearly, without averaging."""
    seen_from_frame = swap.crop_from_frame - np.array([[0, 0, SEEN.start], [0, 0, SEEN.start]])
    rect = rect_in_frame(SEEN_BOX, invert(seen_from_frame), canvas.size_hw)
    if rect is None:
        return None
    seen_from_rect = _moved(seen_from_frame, rect.left, rect.top)
    under = canvas.part(rect)
    seen = cut_crop(under, seen_from_rect, SEEN_PX)
    picture = cv2.resize(seen, (PICTURE_PX, PICTURE_PX), interpolation=cv2.INTER_LINEAR)
    return _Cut(canvas, rect, under, seen_from_rect, np.asarray(picture, np.uint8), swap.to_person)


def _paste(cut: _Cut, under: Image, face: Image, look: Look) -> None:
    large = enlarged(face)
    if look.sharpen:
        large = sharpened(large, look.sharpen)
    middle = (SEEN_PX - 1) / 2 * (1 - look.scale)
    larger = np.array([[look.scale, 0, middle], [0, look.scale, middle]])
    rect_from_seen = invert(cut.seen_from_rect)
    place = np.column_stack([rect_from_seen[:, :2] @ larger[:, :2], transform(larger[:, 2:].T, rect_from_seen).T])
    patch = paste_face(under, large, face_mask(look)[SEEN, SEEN], place, look)
    if patch is not None:
        cut.canvas.draw(patch.moved(cut.rect.left, cut.rect.top))


def _moved(crop_from_frame: Affine, left: int, top: int) -> Affine:
    """Turn a transform from a frame into one from a part of it."""
    linear = crop_from_frame[:, :2]
    return np.column_stack([linear, crop_from_frame[:, 2] + linear @ (left, top)])


@cache
def _core() -> Mask:
    """Where in the model's picture no hair or background is, whoever it is."""
    mask = face_mask()[SEEN, SEEN]
    small = cv2.resize((mask >= 1).astype(np.float32), (PICTURE_PX, PICTURE_PX), interpolation=cv2.INTER_AREA)
    core: Mask = (small >= 1).astype(np.float32)
    core.setflags(write=False)
    return core
