"""Array types and small value types shared by modules.

Pictures are BGR, rows first; points are (x, y) in px with pixel centres at integers; transforms are named
``<to>_from_<from>`` and map column vectors (x, y, 1).
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
"""(H, W, 3) BGR, 8 bits per channel."""

Mask = npt.NDArray[np.float32]
"""(H, W) in [0, 1]."""

Points = npt.NDArray[np.float64]
"""(N, 2): x, y."""

Boxes = npt.NDArray[np.float64]
"""(N, 4) or (4,): left, top, right, bottom."""

Affine = npt.NDArray[np.float64]
"""(2, 3)."""

Embedding = npt.NDArray[np.float64]
"""(128,): identity of a face; small distances mean the same person."""

Samples = npt.NDArray[Any]
"""(H, W) samples of one plane of a frame, 8 or 16 bits."""


class Rect(NamedTuple):
    """A part of a frame, in px."""

    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True)
class Patch:
    """A redrawn part of a frame.

    Attributes:
        left, top: position in the frame, px; even.
        image: (H, W, 3) BGR, H and W even or reaching the frame's edge.
        changed: (H, W) bool, where it differs from the frame.
    """

    left: int
    top: int
    image: Image
    changed: npt.NDArray[np.bool_]

    def moved(self, right: int, down: int) -> "Patch":
        """Shift the patch, by an even number of px each way."""
        return Patch(self.left + right, self.top + down, self.image, self.changed)


@dataclass(frozen=True)
class Face:
    """One face in one picture.

    Attributes:
        box: (4,) float64: left, top, right, bottom in px, inclusive.
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
