"""Measures of faces: sharpness, yaw, near-duplicates.

Convention: crops are (256, 256, 3) BGR, aligned as extract does; only the central square that the model sees counts.
"""

import cv2
import numpy as np
import numpy.typing as npt

from models import PICTURE_PX
from pipeline.faces.alignment import SEEN, SEEN_PX
from pipeline.types import Image, Points

FACE = (slice(54, 214), slice(68, 188))  # rows and columns of a crop that are mostly face
MIN_CONTRAST = 4.0  # grey levels; below it noise would count as detail
BLURRED = 0.35  # sharpness of a sharp face after a Gaussian blur of one px of the model's picture (docs/log.md)
NOSE_DEPTH = 0.6  # of the nose's tip in front of the eyes, in eye distances
THUMBNAIL_PX = 16
NEAR_DUPLICATE = 5.0  # root mean square of the difference of two thumbnails, of 255 grey levels

Floats = npt.NDArray[np.float32]


def sharpness(crop: Image) -> float:
    """Measure the fine detail that the model sees: the Laplacian's deviation at 64 px, relative to the contrast.

    Returns:
        About 0.2 where it is blurred, 0.6 and more where it is sharp; the same in dim light.
    """
    face = cv2.cvtColor(crop[FACE], cv2.COLOR_BGR2GRAY)
    scale = PICTURE_PX / SEEN_PX  # finer detail is not learned
    small = cv2.resize(face, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA).astype(np.float64)
    return float(cv2.Laplacian(small, cv2.CV_64F).std() / max(MIN_CONTRAST, small.std()))


def nose_offset(landmarks: Points) -> float:
    """Offset of the nose from the middle of the eyes, along their line, in eye distances; positive to the right."""
    eyes = landmarks[1] - landmarks[0]
    middle = (landmarks[0] + landmarks[1]) / 2
    return float((landmarks[2] - middle) @ eyes / max(1e-6, float(eyes @ eyes)))


def yaw_deg(landmarks: Points) -> float:
    """Estimate how far a face is turned: 0 is frontal, positive to the right as seen, about 10 degrees uncertain.

    The eyes of a head turned by yaw are cos(yaw) of their distance apart, its nose, ``NOSE_DEPTH`` in front of them,
    is shifted by sin(yaw) of that depth (own derivation, parallel projection).
    """
    return float(np.degrees(np.arctan(nose_offset(landmarks) / NOSE_DEPTH)))


def thumbnail(crop: Image) -> Floats:
    """Make (256,) grey levels of what the model sees, to compare crops by."""
    grey = cv2.cvtColor(crop[SEEN, SEEN], cv2.COLOR_BGR2GRAY)
    small = cv2.resize(grey, (THUMBNAIL_PX, THUMBNAIL_PX), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.float32).ravel()


def group_near_duplicates(thumbnails: Floats) -> list[int]:
    """Group pictures that hardly differ.

    Args:
        thumbnails: (N, P), in order of time.

    Returns:
        For each picture the index of its group's first picture; its own index if it starts a group.
    """
    firsts, indices = np.empty_like(thumbnails), list[int]()  # of the groups found so far
    groups = []
    for index, picture in enumerate(thumbnails):
        differences = ((firsts[: len(indices)] - picture) ** 2).mean(axis=1)
        nearest = int(differences.argmin()) if indices else -1
        if indices and differences[nearest] <= NEAR_DUPLICATE**2:
            groups.append(indices[nearest])
            continue
        firsts[len(indices)] = picture
        indices.append(index)
        groups.append(index)
    return groups


def spread_evenly(count: int, max_count: int) -> list[int]:
    """Choose at most ``max_count`` indices of ``count`` items, evenly spaced from first to last."""
    return [int(index) for index in np.linspace(0, count - 1, min(count, max_count)).round()]
