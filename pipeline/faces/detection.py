"""Faces in pictures, found by MTCNN (Zhang et al. 2016, arXiv:1604.02878).

Three networks look ever closer: P-Net at every place of a pyramid of shrunken pictures, R-Net at 24 px cuts of what
P-Net proposes, O-Net at 48 px cuts of what R-Net leaves. Thresholds, strides and box regressions are the original's.
Ours is the work between the networks: pyramid and cuts are made from halved pictures, squares keep their shape at the
edge, where facenet-pytorch squeezes what is left of them, and O-Net looks twice, then once more in a mirror: shadows
that look like faces do so one way round only.

A picture at its own size, half of it, a quarter …, to make small ones from, fast and without aliasing.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.faces.mtcnn import Network, load_networks
from pipeline.types import Boxes, Face, Image

Square = tuple[int, int, int]
"""Left, top and side, px."""


MOST_FOR_WHOLE = 2  # halvings of a whole picture: odd columns left out shift the result by less than one of its px


class ImagePyramid:
    """A picture and its halvings, each made when first asked for.

    A pixel of a level is the mean of 2 x 2 px of the level before; an odd last row or column is left out.

    Args:
        image: (H, W, 3) BGR.
    """

    def __init__(self, image: Image) -> None:
        self.image = image
        self._levels = [image]

    def resized(self, size_hw: tuple[int, int]) -> Image:
        """Make the picture smaller.

        Args:
            size_hw: height and width, px; not larger than the picture.
        """
        shrink = min(self.image.shape[0] / size_hw[0], self.image.shape[1] / size_hw[1])
        level = self._level(min(_halvings(shrink), MOST_FOR_WHOLE))
        return cast(Image, cv2.resize(level, size_hw[::-1], interpolation=cv2.INTER_AREA))

    def cut(self, box: Boxes, size_px: int) -> tuple[Image, Square]:
        """Cut out the square about a box; beyond the picture its edge goes on, and far beyond it is black.

        Args:
            box: (4,) left, top, right, bottom px; its middle and longer side count.
            size_px: width and height of the result.

        Returns:
            (size, size, 3), and exactly which square of the picture it shows.
        """
        side = max(2.0, float(max(box[2] - box[0], box[3] - box[1])) + 1)
        most = min(self.image.shape[:2]).bit_length() - 1
        halvings = min(_halvings(side / size_px / 2), most)  # twice the size is left for averaging
        level, unit = self._level(halvings), 2**halvings
        side_units = round(side / unit)
        left, top = (round((float(box[i] + box[i + 2] + 1) / unit - side_units) / 2) for i in (0, 1))
        return _cut(level, (left, top, side_units), size_px), (left * unit, top * unit, side_units * unit)

    def _level(self, halvings: int) -> Image:
        while len(self._levels) <= halvings:
            finer = self._levels[-1]
            height, width = finer.shape[0] // 2, finer.shape[1] // 2
            even = finer[: 2 * height, : 2 * width]
            self._levels.append(cast(Image, cv2.resize(even, (width, height), interpolation=cv2.INTER_AREA)))
        return self._levels[halvings]


def _halvings(shrink: float) -> int:
    return int(np.log2(shrink)) if shrink > 1 else 0


def _cut(image: Image, square: Square, size_px: int) -> Image:
    left, top, side = square
    height, width = image.shape[:2]
    x0, x1, y0, y1 = max(left, 0), min(left + side, width), max(top, 0), min(top + side, height)
    if x0 >= x1 or y0 >= y1:
        return np.zeros((size_px, size_px, 3), np.uint8)
    inside = image[y0:y1, x0:x1]
    if inside.shape[:2] != (side, side):
        margins = (y0 - top, top + side - y1, x0 - left, left + side - x1)
        inside = cast(Image, cv2.copyMakeBorder(inside, *margins, cv2.BORDER_REPLICATE))
    return cast(Image, cv2.resize(inside, (size_px, size_px), interpolation=cv2.INTER_AREA))


P_PX, R_PX, O_PX = 12, 24, 48  # sides of what the networks look at
P_STRIDE = 2
PYRAMID_STEP = 0.709  # from one picture of the pyramid to the next: half the area
P_SCORE, R_SCORE = 0.6, 0.7
LIKELY_SCORE, CONFIRMED_SCORE = 0.8, 0.4  # at the first and at the second look: profiles get no more
SURE_SCORE = 0.99  # at the first look: other squares about the same face need no second one
MIRRORED_SCORE = 0.5  # seen in a mirror a shadow that looks like a face gets up to 0.37, faces 0.97 and profiles less
SAME_SCALE_IOU, SAME_PROPOSAL_IOU, INSIDE = 0.5, 0.7, 0.7  # more in common is one: at one scale, over all, at the end
STRAYED = 0.1  # by how much a second look may be less sure and still count more
LARGEST_BATCH = 64  # cuts at once
CPU_PIXELS = 2_000_000  # of pictures at once; more does not fit a CPU's caches
DECIMALS = 4  # of a px that are kept, so that what is stored is what was used

Floats = npt.NDArray[np.float64]


Place = tuple[ImagePyramid, Boxes]
"""A picture, and about where in it a face should be: (4,) left, top, right, bottom in px."""


class Detector:
    """Finds faces in pictures, and finds them again where they are expected.

    Args:
        min_face: smallest face looked for, px.
        min_confidence: smallest score that counts.
        device: where the networks run, ``cpu`` or ``cuda``.
        threads: of the CPU, for each call.
    """

    def __init__(self, min_face: int, min_confidence: float, device: str = "cpu", threads: int = 1) -> None:
        self.min_face, self.min_confidence = min_face, min_confidence
        self._device = device
        self._p_net, self._r_net, self._o_net = load_networks(device, threads)

    def detect(self, pictures: Sequence[ImagePyramid]) -> list[list[Face]]:
        """Find the faces of pictures of one size with all three networks, and look at each a second time.

        Returns:
            For each picture its faces, largest first.
        """
        pixels = pictures[0].image.shape[0] * pictures[0].image.shape[1]
        at_once = max(1, CPU_PIXELS // pixels) if self._device == "cpu" else len(pictures)
        parts = [pictures[start : start + at_once] for start in range(0, len(pictures), at_once)]
        return [faces for part in parts for faces in self._detect(part)]

    def _detect(self, pictures: Sequence[ImagePyramid]) -> list[list[Face]]:
        faces: list[list[Face]] = [[] for _ in pictures]
        owners, boxes = self._approve(pictures, *self._propose(pictures))
        first = self._look([(pictures[owner], box) for owner, box in zip(owners, boxes, strict=True)])
        for owner, face in zip(owners, first, strict=True):
            if face.score >= LIKELY_SCORE:
                faces[owner].append(face)
        likely = [(owner, face) for owner, some in enumerate(faces) for face in without_doubles(some, SURE_SCORE)]
        faces = [[] for _ in pictures]
        second = self._look([(pictures[owner], face.box) for owner, face in likely])
        for (owner, face), again in zip(likely, second, strict=True):
            score = max(face.score, again.score)
            if again.score >= CONFIRMED_SCORE and score >= self.min_confidence:
                faces[owner].append(replace(_both(face, again), score=score))
        kept = [(owner, face) for owner, some in enumerate(faces) for face in without_doubles(some)]
        if not kept:
            return faces
        _, (*_, scores) = self._look_through(self._o_net, O_PX, [(pictures[o], f.box) for o, f in kept], mirrored=True)
        faces = [[] for _ in pictures]
        for (owner, face), score in zip(kept, scores[:, 1], strict=True):
            if score >= MIRRORED_SCORE:
                faces[owner].append(face)
        return faces

    def refine(self, places: Sequence[Place], min_score: float) -> list[Face | None]:
        """Look closely at places where faces are expected, twice, with the last network alone.

        Args:
            places: where to look.
            min_score: smallest score that counts.

        Returns:
            For each place its face; None where there is none.
        """
        first = self._look(places)
        second = self._look([(picture, face.box) for (picture, _), face in zip(places, first, strict=True)])
        faces = [_both(*looks) for looks in zip(first, second, strict=True)]
        return [face if face.score >= min_score else None for face in faces]

    def _propose(self, pictures: Sequence[ImagePyramid]) -> tuple[npt.NDArray[np.int64], Floats]:
        """P-Net: places of the pictures, by number, and (N, 4) boxes."""
        height, width = pictures[0].image.shape[:2]
        found = []
        scale = P_PX / self.min_face
        while min(height, width) * scale >= P_PX:
            size_hw = (int(height * scale + 1), int(width * scale + 1))
            moves, scores = self._p_net([picture.resized(size_hw) for picture in pictures])
            owner, y, x = np.nonzero(scores[:, 1] >= P_SCORE)
            corner = np.stack([x, y, x, y], axis=1) * P_STRIDE + np.array([1, 1, P_PX, P_PX])
            boxes = np.floor(corner.astype(np.float32) / np.float32(scale)) - 1  # the original counts px from 1
            score = scores[owner, 1, y, x]
            kept = without_overlaps(boxes, score, owner, SAME_SCALE_IOU)
            found.append((boxes[kept], moves[owner, :, y, x][kept], score[kept], owner[kept]))
            scale *= PYRAMID_STEP
        if not found:
            return np.zeros(0, np.int64), np.zeros((0, 4))
        boxes, moves, score, owner = (np.concatenate(parts) for parts in zip(*found, strict=True))
        kept = without_overlaps(boxes, score, owner, SAME_PROPOSAL_IOU)
        sides = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
        return owner[kept], (boxes + moves * sides)[kept].astype(np.float64)

    def _approve(
        self, pictures: Sequence[ImagePyramid], owners: npt.NDArray[np.int64], boxes: Floats
    ) -> tuple[list[int], Floats]:
        """R-Net: which of the proposals look like faces, and where exactly."""
        if len(boxes) == 0:
            return [], boxes
        squares, (moves, scores) = self._look_through(
            self._r_net, R_PX, [(pictures[owner], box) for owner, box in zip(owners, boxes, strict=True)]
        )
        likely = np.flatnonzero(scores[:, 1] >= R_SCORE)
        kept = likely[without_overlaps(squares[likely], scores[likely, 1], owners[likely], SAME_PROPOSAL_IOU)]
        sides = squares[kept, 2] - squares[kept, 0] + 1
        return owners[kept].tolist(), squares[kept] + moves[kept] * sides[:, None]

    def _look(self, places: Sequence[Place]) -> list[Face]:
        """O-Net: a face for each place, however low its score."""
        if not places:
            return []
        squares, (moves, points, scores) = self._look_through(self._o_net, O_PX, places)
        faces = []
        for square, move, point, score in zip(squares, moves, points, scores[:, 1], strict=True):
            side = square[2] - square[0] + 1
            landmarks = square[:2] + side * point.reshape(2, 5).T
            faces.append(Face((square + side * move).round(DECIMALS), float(score), landmarks.round(DECIMALS)))
        return faces

    def _look_through(
        self, network: Network, size_px: int, places: Sequence[Place], *, mirrored: bool = False
    ) -> tuple[Floats, list[Floats]]:
        """Run a network on cuts; return (N, 4) the squares cut out, as boxes, and its (N, …) outputs."""
        cuts = [picture.cut(box, size_px) for picture, box in places]
        outputs = []
        for start in range(0, len(cuts), LARGEST_BATCH):
            images = [cut[:, ::-1] if mirrored else cut for cut, _ in cuts[start : start + LARGEST_BATCH]]
            outputs.append([output.astype(np.float64) for output in network(images)])
        squares = np.array([_as_box(square) for _, square in cuts], np.float64)
        return squares, [np.concatenate(o) for o in zip(*outputs, strict=True)]


def without_overlaps(boxes: Boxes, scores: Floats, owners: npt.NDArray[np.int64], most_iou: float) -> list[int]:
    """Of boxes of one picture that overlap keep the surest (non-maximum suppression).

    Args:
        boxes: (N, 4) left, top, right, bottom.
        scores: (N,), above 0.
        owners: (N,), number of each box's picture.
        most_iou: intersection over union up to which both are kept.

    Returns:
        Which are kept, the surest first.
    """
    if len(boxes) == 0:
        return []
    rects = np.column_stack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]])
    return list(cv2.dnn.NMSBoxesBatched(rects.tolist(), scores.tolist(), owners.tolist(), 0.0, most_iou))


def _both(first: Face, second: Face) -> Face:
    """The mean of two looks, which err in different ways; where the second has strayed, as from profiles, the first."""
    if first.score > second.score + STRAYED:
        return first
    box, landmarks = (first.box + second.box) / 2, (first.landmarks + second.landmarks) / 2
    return Face(box.round(DECIMALS), second.score, landmarks.round(DECIMALS))


def _as_box(square: Square) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of a square, the last px included."""
    left, top, side = square
    return left, top, left + side - 1, top + side - 1


def without_doubles(faces: Sequence[Face], sure: float = 0.0) -> list[Face]:
    """Of faces that lie in each other keep the surest; return them largest first.

    A face lies in another when more than 0.7 of the smaller box is common to both.

    Args:
        faces: of one picture.
        sure: score from which on a face makes those of less that lie in it go.
    """
    kept: list[Face] = []
    for face in sorted(faces, key=lambda face: face.score, reverse=True):
        if all(other.score < sure or _common(face.box, other.box) <= INSIDE for other in kept):
            kept.append(face)
    return sorted(kept, key=lambda face: face.height_px, reverse=True)


def _common(box: Boxes, other: Boxes) -> float:
    """Area common to two boxes, of the smaller one's."""
    low, high = np.maximum(box[:2], other[:2]), np.minimum(box[2:], other[2:])
    smaller = min(float(np.prod(b[2:] - b[:2])) for b in (box, other))
    return float(np.prod(np.clip(high - low, 0, None))) / max(smaller, 1e-6)
