"""Where a face lies, smoothed in time: a pasted face must not tremble, nor lag behind a turn of the head.

Every moment gets the value of a parabola fitted to the moments around it (local regression: Savitzky & Golay 1964; here
with Gaussian weights, for timestamps are not always even). It looks as far ahead as back, so it does not lag, and a
parabola follows a face that speeds up. A wide one is taken where the face keeps still or moves evenly, a narrow one
where they differ by more than landmarks tremble.

What is measured of faces, smoothed in time while batches of frames pass by, so that nothing flickers.

Every frame is looked at some frames ahead and some back, so nothing lags; beyond the ends of its segment too, so that
their borders do not show, and each segment comes out the same whichever run makes it.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import numpy as np
import numpy.typing as npt

from pipeline.converting.compose import FaceStats, NewFace
from pipeline.faces.alignment import CROP_PX, invert, transform
from pipeline.media.canvas import Canvas
from pipeline.types import Affine

if TYPE_CHECKING:
    from pipeline.converting.timeline import PlannedSegment


Numbers = npt.NDArray[np.float64]

NARROW, WIDE = 1.0, 3.0  # standard deviations of the weights, in frames
REACH = 3  # how many of them are looked at
TREMBLE_PX = 1.5  # of the crop: what landmarks, and outlines, of a face that keeps still may be off by (docs/log.md)
SIDES = np.array([[0, (CROP_PX - 1) / 2], [CROP_PX - 1, (CROP_PX - 1) / 2]])  # of a crop: its left and right middle
AHEAD = 6  # frames looked at before and behind each, to smooth what is measured of its faces
MARGIN = 16  # frames: what is farther off changes nothing


def smooth_positions(times: Sequence[float], crops_from_frame: Sequence[Affine], at: Sequence[float]) -> list[Affine]:
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


FLICKER_LAB = 1.0  # by which colours differ from frame to frame although nothing changes (docs/log.md)
LIGHT_LAB = 3.0  # by which they differ from smoothed ones where the light changes at once: a flash, a lamp
FLICKER_SOFTNESS = 0.5  # px

Known = dict[int, list[tuple[int, FaceStats]]]
"""Frames and traits of each track."""


@dataclass(frozen=True)
class DrawnBatch:
    """A batch of frames whose new faces are drawn, and not yet put in.

    Attributes:
        segment: they belong to; None for those that are only looked at with their neighbours.
        first: number of the first of them.
        canvases: one for each frame.
        faces: those of each frame.
        is_last: whether the segment ends with them.
    """

    segment: "PlannedSegment | None"
    first: int
    canvases: Sequence[Canvas]
    faces: Sequence[Sequence[NewFace]]
    is_last: bool


def smooth_stats(batches: Iterable[DrawnBatch]) -> Iterator[DrawnBatch]:
    """Smooth the traits of faces along their tracks.

    Args:
        batches: of consecutive frames; drawn from as far ahead as is needed.

    Yields:
        The same, in order.
    """
    waiting: deque[DrawnBatch] = deque()
    known: Known = {}
    for batch in batches:
        waiting.append(batch)
        for frame, faces in enumerate(batch.faces, batch.first):
            for face in faces:
                known.setdefault(face.track, []).append((frame, face.traits))
        while waiting and _end(waiting[0]) + AHEAD <= _end(batch):
            yield _evened(waiting.popleft(), known)
        oldest = (waiting[0].first if waiting else _end(batch)) - AHEAD
        known = {track: [one for one in seen if one[0] >= oldest] for track, seen in known.items()}
    while waiting:
        yield _evened(waiting.popleft(), known)


def _end(batch: DrawnBatch) -> int:
    return batch.first + len(batch.faces)


def _evened(batch: DrawnBatch, known: Known) -> DrawnBatch:
    wanted: dict[int, list[int]] = {}
    for frame, faces in enumerate(batch.faces, batch.first):
        for face in faces:
            wanted.setdefault(face.track, []).append(frame)
    made = {
        (frame, track): traits
        for track, frames in wanted.items()
        for frame, traits in zip(frames, _traits(known[track], frames), strict=True)
    }
    numbered = enumerate(batch.faces, batch.first)
    smooth = [[replace(face, traits=made[frame, face.track]) for face in some] for frame, some in numbered]
    return replace(batch, faces=smooth)


def _traits(seen: Sequence[tuple[int, FaceStats]], frames: Sequence[int]) -> list[FaceStats]:
    """Smooth what was seen of one track, for some of its frames."""
    near = [(frame, traits) for frame, traits in seen if frames[0] - AHEAD <= frame <= frames[-1] + AHEAD]
    times, at = np.array([frame for frame, _ in near], float), np.array(frames, float)
    if len(times) < 2:
        return [traits for _, traits in near]
    first = near[0][1]
    own, wanted, outline = (
        np.stack([getattr(traits, name).ravel() for _, traits in near]) for name in ("own", "wanted", "outline")
    )
    softness = np.array([[traits.softness] for _, traits in near])
    colors = _colors(times, np.column_stack([own, wanted]), at)
    outlines = smoothed(times, outline, at, TREMBLE_PX) if outline.size else np.zeros((len(at), 0))
    soft = np.maximum(smoothed(times, softness, at, FLICKER_SOFTNESS, degree=0), 0)
    return [
        FaceStats(new.reshape(first.own.shape), old.reshape(first.own.shape), float(blur[0]), edge.reshape(-1, 2))
        for new, old, blur, edge in zip(*np.hsplit(colors, 2), soft, outlines, strict=True)
    ]


def _colors(times: Numbers, values: Numbers, at: Numbers) -> Numbers:
    """Smooth colours; where the light changes at once they are as they were seen."""
    if not values.size:
        return np.zeros((len(at), 0))
    even = smoothed(times, values, at, FLICKER_LAB, degree=0)
    seen = values[np.searchsorted(times, at)]
    share = np.clip(np.abs(even - seen) / LIGHT_LAB - 1, 0, 1)
    return even + share * (seen - even)
