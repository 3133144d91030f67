"""Faces in pictures, found by MTCNN (Zhang et al. 2016, arXiv:1604.02878) as facenet-pytorch carries it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from facenet_pytorch import MTCNN

from pipeline.arrays import Boxes, Image, Points


@dataclass(frozen=True)
class Face:
    """One face in one picture.

    Attributes:
        box: (4,) float64: left, top, right, bottom in px.
        score: the detector's confidence, 0 to 1.
        landmarks: (5, 2) float64, (x, y) in px: left eye, right eye, nose, left and right mouth corner as seen.
    """

    box: Boxes
    score: float
    landmarks: Points

    @property
    def height_px(self) -> float:
        """Height of the box."""
        return float(self.box[3] - self.box[1])


class Detector:
    """Finds faces in batches of pictures.

    Args:
        min_face: smallest face looked for, px.
        min_confidence: smallest score that counts.
        device: where the networks run.
    """

    def __init__(self, min_face: int, min_confidence: float, device: torch.device) -> None:
        self.min_confidence = min_confidence
        self._mtcnn = MTCNN(keep_all=True, min_face_size=min_face, device=device)

    def detect(self, images: Sequence[Image]) -> list[list[Face]]:
        """Find the faces of pictures of one size.

        Args:
            images: each (H, W, 3) BGR uint8, all of one size.

        Returns:
            For each picture its faces, largest first.
        """
        height, width = images[0].shape[:2]
        if min(height, width) < self._mtcnn.min_face_size:
            return [[] for _ in images]
        rgb = np.stack([image[..., ::-1] for image in images])
        with torch.inference_mode():
            boxes, scores, landmarks = self._mtcnn.detect(rgb, landmarks=True)
        return [self._faces(*found) for found in zip(boxes, scores, landmarks, strict=True)]

    def _faces(self, boxes: object, scores: object, landmarks: object) -> list[Face]:
        if boxes is None:  # facenet-pytorch's "no face"
            return []
        found = zip(
            np.asarray(boxes).astype(np.float64),
            np.asarray(scores).astype(np.float64),
            np.asarray(landmarks).astype(np.float64),
            strict=True,
        )
        faces = [Face(box, float(score), points) for box, score, points in found if score >= self.min_confidence]
        return sorted(faces, key=lambda face: face.height_px, reverse=True)
