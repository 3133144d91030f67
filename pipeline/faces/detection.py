"""Faces in pictures, detected by MTCNN (Zhang et al. 2016, arXiv:1604.02878).

P-Net runs over a pyramid of shrunken pictures, R-Net on 24 px cuts of P-Net's proposals, O-Net on 48 px cuts of what
R-Net keeps. Thresholds, strides and box regressions are the original's. Different here: pyramid and cuts are made from
halved pictures; squares keep their shape at the edge of the picture, where facenet-pytorch distorts them; and O-Net
runs twice, then once more on the mirrored cut, which rejects shadows that look like a face in one direction only.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import cast

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.faces.mtcnn import Network, load_networks
from pipeline.types import Boxes, Face, Image

P_PX, R_PX, O_PX = 12, 24, 48  # sides of the networks' inputs
P_STRIDE = 2
PYRAMID_STEP = 0.709  # from one picture of the pyramid to the next: half the area
P_SCORE, R_SCORE = 0.6, 0.7
FIRST_O_SCORE, SECOND_O_SCORE = 0.8, 0.4  # in the first and second pass: profiles get no more in the second
SURE_SCORE = 0.99  # in the first pass: other squares around the same face need no second pass
MIRRORED_SCORE = 0.5  # mirrored, shadows that look like faces get up to 0.37, faces 0.97 and profiles less
SAME_SCALE_IOU, SAME_PROPOSAL_IOU = 0.5, 0.7  # boxes that overlap more are merged: within one scale, and across scales
SAME_FACE_OVERLAP = 0.7  # of the smaller box
MAX_SCORE_DROP = 0.1  # if the second pass scores lower by more, only the first counts
MAX_BATCH = 64  # cuts
CPU_PIXELS = 2_000_000  # per batch of pictures; more does not fit a CPU's caches
DECIMALS = 4  # of a px; rounded here, so that stored values equal the values used
MAX_HALVINGS = 2  # of a whole picture: dropping odd columns then shifts the result by less than one of its px

Floats = npt.NDArray[np.float64]
Square = tuple[int, int, int]
"""Left, top and side, px."""


class ImagePyramid:
    """A picture, (H, W, 3) BGR, and its halvings, each made when first asked for.

    A pixel of a level is the mean of 2 x 2 px of the level before; an odd last row or column is dropped.
    """

    def __init__(self, image: Image) -> None:
        self.image = image
        self._levels = [image]

    def resized(self, size_hw: tuple[int, int]) -> Image:
        """Return the whole picture at a smaller size."""
        shrink = min(self.image.shape[0] / size_hw[0], self.image.shape[1] / size_hw[1])
        level = self._level(min(_halvings(shrink), MAX_HALVINGS))
        return cast(Image, cv2.resize(level, size_hw[::-1], interpolation=cv2.INTER_AREA))

    def cut(self, box: Boxes, size_px: int) -> tuple[Image, Square]:
        """Cut the square around a box. Edge px are repeated outside the picture; a square fully outside is black.

        Args:
            box: (4,); its centre and longer side count.
            size_px: width and height of the result.

        Returns:
            (size, size, 3), and the exact square of the picture that it shows.
        """
        side_px = max(2.0, float(max(box[2] - box[0], box[3] - box[1])) + 1)
        max_halvings = min(self.image.shape[:2]).bit_length() - 1
        halvings = min(_halvings(side_px / size_px / 2), max_halvings)  # twice the size is left for averaging
        level, unit = self._level(halvings), 2**halvings
        side = round(side_px / unit)
        left, top = (round((float(box[i] + box[i + 2] + 1) / unit - side) / 2) for i in (0, 1))
        shown = (left * unit, top * unit, side * unit)
        height, width = level.shape[:2]
        x0, x1, y0, y1 = max(left, 0), min(left + side, width), max(top, 0), min(top + side, height)
        if x0 >= x1 or y0 >= y1:
            return np.zeros((size_px, size_px, 3), np.uint8), shown
        inside = level[y0:y1, x0:x1]
        if inside.shape[:2] != (side, side):
            margins = (y0 - top, top + side - y1, x0 - left, left + side - x1)
            inside = cast(Image, cv2.copyMakeBorder(inside, *margins, cv2.BORDER_REPLICATE))
        return cast(Image, cv2.resize(inside, (size_px, size_px), interpolation=cv2.INTER_AREA)), shown

    def _level(self, halvings: int) -> Image:
        while len(self._levels) <= halvings:
            finer = self._levels[-1]
            height, width = finer.shape[0] // 2, finer.shape[1] // 2
            even = finer[: 2 * height, : 2 * width]
            self._levels.append(cast(Image, cv2.resize(even, (width, height), interpolation=cv2.INTER_AREA)))
        return self._levels[halvings]


def _halvings(shrink: float) -> int:
    return int(np.log2(shrink)) if shrink > 1 else 0


Region = tuple[ImagePyramid, Boxes]
"""A picture and a box, (4,) px, in it where a face is expected."""

Detection = tuple[int, Face]
"""The index of a picture, and a face in it."""


class Detector:
    """Detects faces of at least ``min_face`` px and ``min_confidence``, and refines them where they are expected."""

    def __init__(self, min_face: int, min_confidence: float, device: str = "cpu", threads: int = 1) -> None:
        self.min_face, self.min_confidence, self._device = min_face, min_confidence, device
        self._p_net, self._r_net, self._o_net = load_networks(device, threads)

    def detect(self, pictures: Sequence[ImagePyramid]) -> list[list[Face]]:
        """Detect the faces of pictures of one size, largest first, with all three networks."""
        pixels = pictures[0].image.shape[0] * pictures[0].image.shape[1]
        batch = max(1, CPU_PIXELS // pixels) if self._device == "cpu" else len(pictures)
        batches = [pictures[start : start + batch] for start in range(0, len(pictures), batch)]
        return [faces for batch_of_pictures in batches for faces in self._detect(batch_of_pictures)]

    def _detect(self, pictures: Sequence[ImagePyramid]) -> list[list[Face]]:
        owners, boxes = self._run_r_net(pictures, *self._run_p_net(pictures))
        first = self._run_o_net([(pictures[owner], box) for owner, box in zip(owners, boxes, strict=True)])
        likely = [(owner, face) for owner, face in zip(owners, first, strict=True) if face.score >= FIRST_O_SCORE]
        likely = suppress_nested(likely, SURE_SCORE)
        second = self._run_o_net([(pictures[owner], face.box) for owner, face in likely])
        confirmed = []
        for (owner, face), again in zip(likely, second, strict=True):
            score = max(face.score, again.score)
            if again.score >= SECOND_O_SCORE and score >= self.min_confidence:
                confirmed.append((owner, replace(_mean_face(face, again), score=score)))
        confirmed = suppress_nested(confirmed)
        faces: list[list[Face]] = [[] for _ in pictures]
        if confirmed:
            regions = [(pictures[owner], face.box) for owner, face in confirmed]
            _, (*_, scores) = self._run(self._o_net, O_PX, regions, mirrored=True)
            for (owner, face), score in zip(confirmed, scores[:, 1], strict=True):
                if score >= MIRRORED_SCORE:
                    faces[owner].append(face)
        return faces

    def refine(self, regions: Sequence[Region], min_score: float) -> list[Face | None]:
        """Run O-Net twice where faces are expected; return a face for each region, or None where it scores lower."""
        first = self._run_o_net(regions)
        second = self._run_o_net([(picture, face.box) for (picture, _), face in zip(regions, first, strict=True)])
        faces = [_mean_face(*passes) for passes in zip(first, second, strict=True)]
        return [face if face.score >= min_score else None for face in faces]

    def _run_p_net(self, pictures: Sequence[ImagePyramid]) -> tuple[npt.NDArray[np.int64], Floats]:
        """Propose boxes, (N, 4), and the index of each box's picture, (N,)."""
        height, width = pictures[0].image.shape[:2]
        proposals = []
        scale = P_PX / self.min_face
        while min(height, width) * scale >= P_PX:
            size_hw = (int(height * scale + 1), int(width * scale + 1))
            moves, scores = self._p_net([picture.resized(size_hw) for picture in pictures])
            owner, y, x = np.nonzero(scores[:, 1] >= P_SCORE)
            corner = np.stack([x, y, x, y], axis=1) * P_STRIDE + np.array([1, 1, P_PX, P_PX])
            boxes = np.floor(corner.astype(np.float32) / np.float32(scale)) - 1  # the original counts px from 1
            score = scores[owner, 1, y, x]
            kept = suppress_overlaps(boxes, score, owner, SAME_SCALE_IOU)
            proposals.append((boxes[kept], moves[owner, :, y, x][kept], score[kept], owner[kept]))
            scale *= PYRAMID_STEP
        if not proposals:
            return np.zeros(0, np.int64), np.zeros((0, 4))
        boxes, moves, score, owner = (np.concatenate(parts) for parts in zip(*proposals, strict=True))
        kept = suppress_overlaps(boxes, score, owner, SAME_PROPOSAL_IOU)
        sides = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
        return owner[kept], (boxes + moves * sides)[kept].astype(np.float64)

    def _run_r_net(
        self, pictures: Sequence[ImagePyramid], owners: npt.NDArray[np.int64], boxes: Floats
    ) -> tuple[list[int], Floats]:
        """Keep the proposals that look like faces, and move their boxes."""
        if len(boxes) == 0:
            return [], boxes
        regions = [(pictures[owner], box) for owner, box in zip(owners, boxes, strict=True)]
        squares, (moves, scores) = self._run(self._r_net, R_PX, regions)
        likely = np.flatnonzero(scores[:, 1] >= R_SCORE)
        kept = likely[suppress_overlaps(squares[likely], scores[likely, 1], owners[likely], SAME_PROPOSAL_IOU)]
        sides = squares[kept, 2] - squares[kept, 0] + 1
        return owners[kept].tolist(), squares[kept] + moves[kept] * sides[:, None]

    def _run_o_net(self, regions: Sequence[Region]) -> list[Face]:
        """Return a face for each region, however low its score."""
        if not regions:
            return []
        squares, (moves, points, scores) = self._run(self._o_net, O_PX, regions)
        faces = []
        for square, move, point, score in zip(squares, moves, points, scores[:, 1], strict=True):
            side = square[2] - square[0] + 1
            landmarks = square[:2] + side * point.reshape(2, 5).T
            faces.append(Face((square + side * move).round(DECIMALS), float(score), landmarks.round(DECIMALS)))
        return faces

    def _run(
        self, network: Network, size_px: int, regions: Sequence[Region], *, mirrored: bool = False
    ) -> tuple[Floats, list[Floats]]:
        """Run a network on cuts; return the squares that were cut, as (N, 4) boxes, and its (N, …) outputs."""
        cuts, squares = zip(*(picture.cut(box, size_px) for picture, box in regions), strict=True)
        outputs = []
        for start in range(0, len(cuts), MAX_BATCH):
            images = [cut[:, ::-1] if mirrored else cut for cut in cuts[start : start + MAX_BATCH]]
            outputs.append([output.astype(np.float64) for output in network(images)])
        boxes = [(left, top, left + side - 1, top + side - 1) for left, top, side in squares]
        return np.array(boxes, np.float64), [np.concatenate(parts) for parts in zip(*outputs, strict=True)]


def suppress_overlaps(boxes: Boxes, scores: Floats, owners: npt.NDArray[np.int64], max_iou: float) -> list[int]:
    """Keep the highest-scoring of overlapping boxes, per picture (non-maximum suppression).

    Args:
        boxes: (N, 4).
        scores: (N,), above 0.
        owners: (N,), index of each box's picture.
        max_iou: intersection over union up to which both are kept.

    Returns:
        Indices of the kept boxes, highest score first.
    """
    if len(boxes) == 0:
        return []
    rects = np.column_stack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]])
    return list(cv2.dnn.NMSBoxesBatched(rects.tolist(), scores.tolist(), owners.tolist(), 0.0, max_iou))


def _mean_face(first: Face, second: Face) -> Face:
    """Average two passes, whose errors differ; return the first if the second fails, as on profiles."""
    if first.score > second.score + MAX_SCORE_DROP:
        return first
    box, landmarks = (first.box + second.box) / 2, (first.landmarks + second.landmarks) / 2
    return Face(box.round(DECIMALS), second.score, landmarks.round(DECIMALS))


def suppress_nested(faces: Iterable[Detection], min_score: float = 0.0) -> list[Detection]:
    """Keep the highest-scoring of nested faces, per picture; return each picture's faces largest first.

    Args:
        faces: two are nested if more than 0.7 of the smaller box is common to both.
        min_score: only faces with at least this score remove others.
    """
    kept: list[Detection] = []
    for owner, face in sorted(faces, key=lambda detection: detection[1].score, reverse=True):
        others = [other for other_owner, other in kept if other_owner == owner and other.score >= min_score]
        if all(_overlap(face.box, other.box) <= SAME_FACE_OVERLAP for other in others):
            kept.append((owner, face))
    return sorted(kept, key=lambda detection: (detection[0], -detection[1].height_px))


def _overlap(box: Boxes, other: Boxes) -> float:
    """Common area of two boxes, as a fraction of the smaller one's."""
    low, high = np.maximum(box[:2], other[:2]), np.minimum(box[2:], other[2:])
    smaller = min(float(np.prod(b[2:] - b[:2])) for b in (box, other))
    return float(np.prod(np.clip(high - low, 0, None))) / max(smaller, 1e-6)
