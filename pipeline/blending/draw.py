"""New faces drawn into frames: cut, swapped in one batch, measured; then given the light of the old ones and pasted.

The two steps are apart so that what was measured can be smoothed in time between them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from models.autoencoder import PICTURE_PX
from pipeline.arrays import Affine, Image, Mask, Points, Rect
from pipeline.blending.color import Colors, colors_of, recolored
from pipeline.blending.look import PLAIN, Look
from pipeline.blending.masks import core, face_mask, mesh_mask
from pipeline.blending.paste import paste_face, rect_in_frame
from pipeline.blending.swap import Swapper
from pipeline.blending.texture import sharpened, softened, softness_of
from pipeline.faces.alignment import SEEN, SEEN_PX, cut_crop, invert, transform
from pipeline.faces.mesh import OUTLINE, mesh_of
from pipeline.media.pixels import Surface

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
class Traits:
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
    traits: Traits


def new_faces(
    canvases: Sequence[Surface], swaps: Sequence[Sequence[Swap]], swapper: Swapper, look: Look = PLAIN
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
        own, wanted = (colors_of(face, core(PICTURE_PX), look.color) for face in (new, old))
        softness = softness_of(large, cut.seen, core(SEEN_PX)) if look.match_grain else 0.0
        traits = Traits(own, wanted, softness, _outline(cut, look))
        faces[place].append(NewFace(cut.rect, cut.seen_from_rect, large, swap.track, traits))
    return faces


def put_in(canvas: Surface, faces: Sequence[NewFace], look: Look = PLAIN) -> None:
    """Put new faces into their frame, each over those before it."""
    for face in faces:
        traits = face.traits
        picture = softened(recolored(face.picture, traits.own, traits.wanted, look.color), traits.softness)
        _paste(canvas, face, sharpened(picture, look.sharpen), look)


def put_masks_in(canvas: Surface, faces: Sequence[NewFace], look: Look = PLAIN) -> None:
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
    mask = mask_of(face, look)
    middle = (SEEN_PX - 1) / 2 * (1 - look.scale)
    larger = np.array([[look.scale, 0, middle], [0, look.scale, middle]])
    rect_from_seen = invert(face.seen_from_rect)
    place = np.column_stack([rect_from_seen[:, :2] @ larger[:, :2], transform(larger[:, 2:].T, rect_from_seen).T])
    in_frame = place + np.array([[0, 0, face.rect.left], [0, 0, face.rect.top]])
    rect = rect_in_frame(SEEN_BOX, in_frame, canvas.size_hw)  # a larger face reaches beyond what the model sees
    if rect is None:
        return
    place = in_frame - np.array([[0, 0, rect.left], [0, 0, rect.top]])
    patch = paste_face(canvas.part(rect), picture, mask[SEEN, SEEN], place, look)
    if patch is not None:
        canvas.draw(patch.moved(rect.left, rect.top))


def _moved(crop_from_frame: Affine, left: int, top: int) -> Affine:
    """Turn a transform from a frame into one from a part of it."""
    linear = crop_from_frame[:, :2]
    return np.column_stack([linear, crop_from_frame[:, 2] + linear @ (left, top)])
