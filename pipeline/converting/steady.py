"""Where a face lies, smoothed in time: a pasted face must not tremble, nor lag behind a turn of the head.

Every moment gets the value of a parabola fitted to the moments around it (local regression: Savitzky & Golay 1964; here
with Gaussian weights, for timestamps are not always even). It looks as far ahead as back, so it does not lag, and a
parabola follows a face that speeds up. A wide one is taken where the face keeps still or moves evenly, a narrow one
where they differ by more than landmarks tremble.
"""

from collections.abc import Sequence
from typing import cast

import numpy as np
import numpy.typing as npt

from pipeline.arrays import Affine
from pipeline.faces.alignment import CROP_PX, invert, transform

Numbers = npt.NDArray[np.float64]

NARROW, WIDE = 1.0, 3.0  # standard deviations of the weights, in frames
REACH = 3  # how many of them are looked at
TREMBLE_PX = 1.5  # of the crop: what landmarks, and outlines, of a face that keeps still may be off by (docs/log.md)
SIDES = np.array([[0, (CROP_PX - 1) / 2], [CROP_PX - 1, (CROP_PX - 1) / 2]])  # of a crop: its left and right middle
MARGIN = 16  # frames: what is farther off changes nothing


def steadied(times: Sequence[float], crops_from_frame: Sequence[Affine], at: Sequence[float]) -> list[Affine]:
    """Smooth the places of one face.

    Args:
        times: of the places known, rising, in frames.
        crops_from_frame: (2, 3) each, the places.
        at: times to say places for.

    Returns:
        (2, 3) each, ``crop_from_frame``.
    """
    if not at:
        return []
    known, wanted = np.asarray(times, float), np.asarray(at, float)
    sides = np.stack([transform(SIDES, invert(crop_from_frame)).ravel() for crop_from_frame in crops_from_frame])
    across = np.linalg.norm(sides[:, 2:] - sides[:, :2], axis=1)  # px of the frame
    tremble = np.interp(wanted, known, across) * TREMBLE_PX / (CROP_PX - 1)
    return [_crop_from_frame(place) for place in smoothed(known, sides, wanted, tremble)]


def smoothed(times: Numbers, values: Numbers, at: Numbers, tremble: Numbers | float, degree: int = 2) -> Numbers:
    """Smooth what varies in time, more where it only trembles than where it really moves.

    Args:
        times: (N,), rising, in frames.
        values: (N, K).
        at: (M,), rising: times to say values for.
        tremble: by how much values are off that do not really change; (M,) or one for all.
        degree: of the polynomials: 2 follows what speeds up; 0 never leaves the range of the values.

    Returns:
        (M, K).
    """
    narrow, wide = (_fitted(times, values, at, width, degree) for width in (NARROW, WIDE))
    apart = np.abs(wide - narrow).max(axis=1)
    apart = _fitted(at, _largest_near(at, apart)[:, None], at, NARROW, degree=0)[:, 0]
    return wide + np.clip(apart / tremble - 1, 0, 1)[:, None] * (narrow - wide)


def _fitted(times: Numbers, values: Numbers, at: Numbers, width: float, degree: int) -> Numbers:
    """Fit a polynomial around each wanted time.

    Args:
        times: (N,).
        values: (N, K).
        at: (M,).
        width: standard deviation of the weights; larger where few times are known.
        degree: of the polynomial.

    Returns:
        (M, K).
    """
    away = times - at[:, None]
    needed = min(degree + 1, len(times))  # of the nearest, to fix the polynomial where few are known
    apart = np.partition(np.abs(away), needed - 1, axis=1)[:, needed - 1]
    away /= np.maximum(apart, width)[:, None]
    weights = np.exp(-0.5 * away**2) * (np.abs(away) <= REACH)
    powers = away[..., None] ** np.arange(degree + 1)  # (M, N, degree + 1)
    weighted = (powers * weights[..., None]).swapaxes(1, 2)
    level = np.diag([0.0, *[1e-6] * degree])  # what is not fixed at all
    solved = np.linalg.solve(weighted @ powers + level, weighted @ values)
    return cast(Numbers, solved[:, 0])


def _largest_near(times: Numbers, values: Numbers) -> Numbers:
    near = np.abs(times - times[:, None]) <= REACH * NARROW
    return cast(Numbers, np.where(near, values, 0).max(axis=1))


def _crop_from_frame(sides: Numbers) -> Affine:
    left, right = sides[:2], sides[2:]
    across = (right - left) / (CROP_PX - 1)
    linear = np.array([[across[0], -across[1]], [across[1], across[0]]])
    return invert(np.column_stack([linear, left - linear @ SIDES[0]]))
