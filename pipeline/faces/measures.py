"""What can be measured of a face: how sharp, how far turned, how like its neighbours.

Convention: crops are (256, 256, 3) BGR, aligned as extract does; only the central square that the model sees counts.
"""

import cv2
import numpy as np
import numpy.typing as npt

from models import PICTURE_PX
from pipeline.faces.alignment import SEEN, SEEN_PX
from pipeline.types import Image, Points

FACE = (slice(54, 214), slice(68, 188))  # rows and columns of a crop that are mostly face
LEAST_CONTRAST = 4.0  # grey levels; below it noise would count as detail
BLURRED = 0.35  # sharpness that a Gaussian blur of one px of the model's picture leaves of a sharp face (docs/log.md)
NOSE_DEPTH = 0.6  # of the tip of the nose before the eyes, of the eye distance
THUMBNAIL_PX = 16
NEAR_DUPLICATE = 5.0  # root mean square of the difference of two thumbnails, of 255 grey levels

Floats = npt.NDArray[np.float32]


def sharpness(crop: Image) -> float:
    """Say how much fine detail the model sees of a face: the Laplacian's spread at 64 px, of the face's contrast.

    Returns:
        About 0.2 where it is blurred, 0.6 and more where it is sharp; the same in dim light.
    """
    face = cv2.cvtColor(crop[FACE], cv2.COLOR_BGR2GRAY)
    scale = PICTURE_PX / SEEN_PX  # finer detail is not learned
    small = cv2.resize(face, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA).astype(np.float64)
    return float(cv2.Laplacian(small, cv2.CV_64F).std() / max(LEAST_CONTRAST, small.std()))


def nose_offset(landmarks: Points) -> float:
    """Say how far the nose is beside the middle of the eyes, along them, of their distance; right is positive.

    Args:
        landmarks: (5, 2): left eye, right eye, nose and mouth corners, in whatever upright or turned picture.
    """
    eyes = landmarks[1] - landmarks[0]
    middle = (landmarks[0] + landmarks[1]) / 2
    return float((landmarks[2] - middle) @ eyes / max(1e-6, float(eyes @ eyes)))


def yaw_deg(landmarks: Points) -> float:
    """Estimate how far a face is turned: 0 is frontal, positive to the right as seen, about 10 degrees uncertain.

    The eyes of a head turned by yaw are cos(yaw) of their distance apart, its nose, ``NOSE_DEPTH`` before them,
    sin(yaw) of that depth aside (own derivation, parallel projection).
    """
    return float(np.degrees(np.arctan(nose_offset(landmarks) / NOSE_DEPTH)))


def thumbnail(crop: Image) -> Floats:
    """Make (256,) grey levels of what the model sees, to compare crops by."""
    grey = cv2.cvtColor(crop[SEEN, SEEN], cv2.COLOR_BGR2GRAY)
    small = cv2.resize(grey, (THUMBNAIL_PX, THUMBNAIL_PX), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.float32).ravel()


def group_near_duplicates(thumbnails: Floats) -> list[int]:
    """Put pictures that hardly differ together.

    Args:
        thumbnails: (N, P), in the order of time.

    Returns:
        For each picture the place of the first one of its group: itself where none before is like it.
    """
    firsts = np.empty_like(thumbnails)
    places: list[int] = []
    groups = []
    for place, one in enumerate(thumbnails):
        apart = ((firsts[: len(places)] - one) ** 2).mean(axis=1)
        nearest = int(apart.argmin()) if places else -1
        if places and apart[nearest] <= NEAR_DUPLICATE**2:
            groups.append(places[nearest])
            continue
        firsts[len(places)] = one
        places.append(place)
        groups.append(place)
    return groups
