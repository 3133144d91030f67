"""Face alignment: the similarity transform from frame to crop.

Convention: points are (x, y) in px, pixel centres at integers; matrices are (2, 3), float64, and map column vectors
(x, y, 1). ``crop_from_frame`` maps frame px to crop px. Images are (H, W, 3) BGR uint8.
"""

from typing import Any, TypeVar, cast

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.types import Affine, Image, Points

Picture = TypeVar("Picture", bound=npt.NDArray[Any])

CROP_PX = 256  # all numbers of this module are for this size; other sizes scale them
SEEN_PX = 180  # side of the central square of a crop that the model sees
SEEN = slice((CROP_PX - SEEN_PX) // 2, (CROP_PX + SEEN_PX) // 2)  # its rows, and its columns
TINY = 1e-24  # of the points' squared distance from 0: the rounding error of points in one place

TEMPLATE = np.array([[101, 109], [155, 109], [128, 139], [106, 170], [150, 170]], dtype=np.float64)
"""(5, 2): where left eye, right eye, nose, left and right mouth corner (as seen in the picture) lie in a 256 px crop.

The mean shape of MTCNN's landmarks over seven clips, made symmetric, 54 px between the eyes: then the face from
forehead to chin (MTCNN's box) spans y = 45 … 210 of the 38 … 218 that the model sees (docs/conventions.md).
"""

# the outline of a mean face in a 256 px crop
MIDDLE_X = (CROP_PX - 1) / 2
TOP_PX, CHIN_PX = 68.0, 214.0  # its ends: below fringes and brims, inside what the model sees
HALF_WIDTH_PX = 66.0  # at the middle of its height, on the cheek bones
TAPER = 0.1  # relative: wider at the top, narrower at the chin


def fit_similarity(from_points: Points, to_points: Points) -> Affine:
    """Fit rotation, one scale and shift between points in least squares.

    Closed form over complex numbers, the 2-D case without mirroring of Umeyama, "Least-squares estimation of
    transformation parameters between two point patterns", PAMI 13(4), 1991.

    Args:
        from_points: (N, 2), N >= 2.
        to_points: (N, 2).

    Returns:
        (2, 3), maps ``from_points`` near ``to_points``.

    Raises:
        ValueError: all ``from_points`` are in one place.
    """
    centre_from, centre_to = from_points.mean(axis=0), to_points.mean(axis=0)
    a = (from_points - centre_from) @ np.array([1, 1j])
    b = (to_points - centre_to) @ np.array([1, 1j])
    spread = float((np.abs(a) ** 2).sum())
    if spread <= TINY * float((np.abs(from_points) ** 2).sum()):
        raise ValueError("points that are all in one place determine no transform")
    turn = complex((a.conj() * b).sum() / spread)
    linear = np.array([[turn.real, -turn.imag], [turn.imag, turn.real]])
    return np.column_stack([linear, centre_to - linear @ centre_from])


def align(landmarks: Points, size: int = CROP_PX) -> Affine:
    """Return ``crop_from_frame``, (2, 3), that brings five landmarks onto the template of a crop of ``size`` px."""
    return scale_crop(fit_similarity(landmarks, TEMPLATE), size)


def scale_crop(crop_from_frame: Affine, size: int, from_size: int = CROP_PX) -> Affine:
    """Turn a transform into a crop of ``from_size`` px into one for a crop of ``size`` px with the same borders."""
    factor = size / from_size
    return np.column_stack([crop_from_frame[:, :2] * factor, crop_from_frame[:, 2] * factor + (factor - 1) / 2])


def mean_outline(points: int = 36) -> Points:
    """Return the outline of a mean face, (N, 2), clockwise from the top.

    With t from -1 at the top to 1 at the chin, its half width is 66 (1 - 0.1 t) sqrt(1 - t^2) px (own derivation).
    """
    turn = np.linspace(0, 2 * np.pi, points, endpoint=False)
    t = -np.cos(turn)
    x = MIDDLE_X + HALF_WIDTH_PX * (1 - TAPER * t) * np.sin(turn)
    return np.stack([x, (TOP_PX + CHIN_PX) / 2 + t * (CHIN_PX - TOP_PX) / 2], axis=1)


def invert(matrix: Affine) -> Affine:
    """Invert a (2, 3) transform."""
    linear = np.linalg.inv(matrix[:, :2])
    return np.column_stack([linear, -linear @ matrix[:, 2]])


def transform(points: Points, matrix: Affine) -> Points:
    """Map (N, 2) points through a (2, 3) transform."""
    return points @ matrix[:, :2].T + matrix[:, 2]


def scale_of(matrix: Affine) -> float:
    """Return the scale of a (2, 3) similarity."""
    return float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))


def as_crop(picture: Image, size: int = CROP_PX) -> Image:
    """Resize a face picture to a crop of ``size`` px."""
    if picture.shape[:2] == (size, size):
        return picture
    how = cv2.INTER_AREA if max(picture.shape[:2]) > size else cv2.INTER_CUBIC
    return cast(Image, cv2.resize(picture, (size, size), interpolation=how))


def smoothing_weight(shrink: float) -> float:
    """Weight of each neighbour px, along each axis, that prevents aliases where a picture shrinks by 1 to 2."""
    return min(max(0.3 * (shrink - 1), 0), 0.25)


def shrink_seen(seen: Image, size: int, *, is_smoothed: bool) -> Image:
    """Resample what the model sees, (S, S, 3), to a picture of ``size`` px as in training (see ``augment``)."""
    side = smoothing_weight(seen.shape[0] / size) if is_smoothed else 0
    if side:
        weights = np.array([side, 1 - 2 * side, side])
        seen = cast(Image, cv2.sepFilter2D(seen, -1, weights, weights, borderType=cv2.BORDER_REPLICATE))
    return cast(Image, cv2.resize(seen, (size, size), interpolation=cv2.INTER_LINEAR))


def cut_crop(frame: Image, crop_from_frame: Affine, size: int = CROP_PX) -> Image:
    """Resample the part of a frame that a crop of ``size`` px shows; outside the frame its edge is repeated."""
    return warp(frame, crop_from_frame, (size, size), border=cv2.BORDER_REPLICATE)


def warp(image: Picture, to_from: Affine, size_wh: tuple[int, int], border: int) -> Picture:
    """Resample a picture through a transform, without aliasing where it becomes smaller.

    Where it shrinks by n >= 2, the part that is used is first averaged down n times.

    Args:
        image: (H, W) or (H, W, C), of any type.
        to_from: (2, 3), maps px of ``image`` to px of the result.
        size_wh: width and height of the result.
        border: OpenCV's constant for what is outside ``image``.
    """
    zoom = scale_of(to_from)
    shrink = min(int(1 / zoom), *image.shape[:2]) if zoom > 0 else 1
    source, matrix = (image, to_from) if shrink < 2 else _averaged_down(image, to_from, size_wh, shrink)
    warped = cv2.warpAffine(source, matrix, size_wh, flags=cv2.INTER_LINEAR, borderMode=border)
    return cast(Picture, warped.reshape(size_wh[1], size_wh[0], *image.shape[2:]))  # OpenCV drops a third axis of 1


def _averaged_down(image: Picture, to_from: Affine, size_wh: tuple[int, int], shrink: int) -> tuple[Picture, Affine]:
    """Average the part of a picture that a warp uses over squares of ``shrink`` px; return it and the warp from it."""
    width, height = size_wh
    corners = transform(np.array([[0, 0], [width, 0], [0, height], [width, height]], float), invert(to_from))
    low, high = corners.min(axis=0) - 2 * shrink, corners.max(axis=0) + 2 * shrink
    limits = np.array(image.shape[1::-1])
    first = np.clip(np.floor(low / shrink), 0, (limits - 1) // shrink).astype(int)
    count = np.maximum(np.clip(np.ceil(high / shrink), 1, -(-limits // shrink)).astype(int) - first, 1)
    (left, top), (right, bottom) = first * shrink, (first + count) * shrink
    part = image[top:bottom, left:right]
    missing = bottom - top - part.shape[0], right - left - part.shape[1]  # where the picture ends within a square
    if any(missing):
        part = cv2.copyMakeBorder(part, 0, missing[0], 0, missing[1], cv2.BORDER_REPLICATE)
    averaged = cv2.resize(part, (int(count[0]), int(count[1])), interpolation=cv2.INTER_AREA)
    offset = to_from[:, :2] @ (first * shrink + (shrink - 1) / 2) + to_from[:, 2]
    return cast(Picture, averaged), np.column_stack([to_from[:, :2] * shrink, offset])
