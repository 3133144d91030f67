"""Where the new face shows: soft masks in crop space.

Convention: masks are (256, 256) float32 in [0, 1]; 1 shows the new face.
"""

from functools import cache

import numpy as np

from pipeline.arrays import Mask
from pipeline.faces.alignment import CROP_PX

CENTRE_XY = (127.5, 131.0)  # of a face aligned to the template: between the brows' height and the chin
HALF_WIDTH_PX, HALF_HEIGHT_PX = 66.0, 82.0  # cheek to cheek, above the brows to the chin; inside the 180 px seen
ROUNDNESS = 2.3  # exponent of the superellipse: 2 is an ellipse, more is squarer; jaws are
FEATHER = 0.32  # of the radius, over which the mask falls from 1 to 0


@cache
def outline_mask() -> Mask:
    """Draw the canonical face outline: a superellipse with a soft edge inside it. The array is not to be changed."""
    y, x = np.mgrid[0:CROP_PX, 0:CROP_PX].astype(np.float32)
    across = np.abs((x - CENTRE_XY[0]) / HALF_WIDTH_PX) ** ROUNDNESS
    along = np.abs((y - CENTRE_XY[1]) / HALF_HEIGHT_PX) ** ROUNDNESS
    radius = (across + along) ** (1 / ROUNDNESS)
    mask = smoothstep((1 - radius) / FEATHER)
    mask.setflags(write=False)
    return mask


def smoothstep(x: Mask) -> Mask:
    """Go from 0 at x <= 0 to 1 at x >= 1 with no corner at either end: 3x^2 - 2x^3."""
    x = np.clip(x, 0, 1)
    return (x * x * (3 - 2 * x)).astype(np.float32)
