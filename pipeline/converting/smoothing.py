"""Positions and measurements of faces smoothed over time, so that a drawn face does not tremble, flicker or lag.

Each value is taken from a polynomial fitted to the values around it (local regression: Savitzky & Golay 1964; here with
Gaussian weights, as timestamps can be uneven). It looks as far ahead as back, so it does not lag. A wide window is used
where a face keeps still or moves evenly, a narrow one where the two results differ by more than noise.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar, cast

import numpy as np
import numpy.typing as npt

from pipeline.converting.color import ColorPair
from pipeline.converting.compose import DrawnFace, FaceStats
from pipeline.converting.occlusions import median_of_three
from pipeline.faces.alignment import CROP_PX, invert, transform
from pipeline.media.canvas import Canvas
from pipeline.types import Affine, Mask

T = TypeVar("T")
Numbers = npt.NDArray[np.float64]

NARROW, WIDE = 1.0, 3.0  # standard deviations of the weights, in frames
REACH = 3  # standard deviations of the weights; values farther away are ignored
JITTER_PX = 1.5  # of the crop: noise of the landmarks and outlines of a still face (docs/log.md)
FLICKER_LAB = 1.0  # noise of the colours of an unchanged face (docs/log.md)
LIGHT_LAB = 3.0  # a larger difference from the smoothed colours is a change of light
FLICKER_SOFTNESS = 0.5  # px
SIDES = np.array([[0, (CROP_PX - 1) / 2], [CROP_PX - 1, (CROP_PX - 1) / 2]])  # middles of a crop's left and right edge
STATS_CONTEXT = 6  # frames before and after that are used to smooth measurements
POSITION_CONTEXT = 16  # frames before and after that are used to smooth positions


def smooth_positions(times: Sequence[float], crops_from_frame: Sequence[Affine], at: Sequence[float]) -> list[Affine]:
    """Smooth the positions of one face.

    Args:
        times: of the given positions, ascending, in frames.
        crops_from_frame: (2, 3) each, the given positions.
        at: times of the positions to return, ascending.
    """
    if not at:
        return []
    given_times, result_times = np.asarray(times, float), np.asarray(at, float)
    sides = np.stack([transform(SIDES, invert(crop_from_frame)).ravel() for crop_from_frame in crops_from_frame])
    widths_px = np.linalg.norm(sides[:, 2:] - sides[:, :2], axis=1)  # of the frame
    jitter = np.interp(result_times, given_times, widths_px) * JITTER_PX / (CROP_PX - 1)
    return [_crop_from_sides(pair) for pair in smooth_values(given_times, sides, result_times, jitter)]


def _crop_from_sides(sides: Numbers) -> Affine:
    """Find the ``crop_from_frame`` that maps two points of the frame, (4,), to the sides of a crop."""
    left, right = sides[:2], sides[2:]
    across = (right - left) / (CROP_PX - 1)
    linear = np.array([[across[0], -across[1]], [across[1], across[0]]])
    return invert(np.column_stack([linear, left - linear @ SIDES[0]]))


def smooth_values(times: Numbers, values: Numbers, at: Numbers, noise: Numbers | float, degree: int = 2) -> Numbers:
    """Smooth values over time, more where they vary only by noise than where they really change.

    Args:
        times: (N,), ascending, in frames.
        values: (N, K).
        at: (M,), ascending: times of the values to return.
        noise: of values that do not really change; (M,) or one for all.
        degree: of the polynomials: 2 follows acceleration; 0 never leaves the range of the values.

    Returns:
        (M, K).
    """
    narrow, wide = (_fit_polynomials(times, values, at, width, degree) for width in (NARROW, WIDE))
    difference = np.abs(wide - narrow).max(axis=1)
    is_near = np.abs(at - at[:, None]) <= REACH * NARROW
    largest = np.where(is_near, difference, 0).max(axis=1)
    difference = _fit_polynomials(at, largest[:, None], at, NARROW, degree=0)[:, 0]
    return wide + np.clip(difference / noise - 1, 0, 1)[:, None] * (narrow - wide)


def _fit_polynomials(times: Numbers, values: Numbers, at: Numbers, width: float, degree: int) -> Numbers:
    """Evaluate, at each time, the polynomial fitted around it; ``width`` grows if few times are near."""
    offsets = times - at[:, None]
    needed = min(degree + 1, len(times))  # values that determine the polynomial
    reach = np.partition(np.abs(offsets), needed - 1, axis=1)[:, needed - 1]
    offsets /= np.maximum(reach, width)[:, None]
    weights = np.exp(-0.5 * offsets**2) * (np.abs(offsets) <= REACH)
    powers = offsets[..., None] ** np.arange(degree + 1)  # (M, N, degree + 1)
    weighted = (powers * weights[..., None]).swapaxes(1, 2)
    ridge = np.diag([0.0, *[1e-6] * degree])  # for coefficients that the values do not determine
    solved = np.linalg.solve(weighted @ powers + ridge, weighted @ values)
    return cast(Numbers, solved[:, 0])


@dataclass(frozen=True)
class DrawnBatch(Generic[T]):
    """Consecutive frames whose new faces are drawn, but not pasted yet.

    Attributes:
        segment: of the frames; None if they only serve to smooth their neighbours.
        first: number of the first frame.
        canvases: one for each frame; empty if there is no segment.
        faces: of each frame.
        is_last: whether the segment ends with this batch.
    """

    segment: T | None
    first: int
    canvases: Sequence[Canvas]
    faces: Sequence[Sequence[DrawnFace]]
    is_last: bool

    @property
    def end(self) -> int:
        """Number of the frame after the last."""
        return self.first + len(self.faces)


def smooth_stats(batches: Iterable[DrawnBatch[T]]) -> Iterator[DrawnBatch[T]]:
    """Smooth measurements along tracks; a batch waits only for the few frames after it.

    Frames beyond the ends of a segment count too, so that segment borders are invisible and all runs give the same
    result.
    """
    waiting: deque[DrawnBatch[T]] = deque()
    history: dict[int, list[tuple[int, FaceStats]]] = {}  # frame and measurements, by track
    for batch in batches:
        waiting.append(batch)
        for frame, faces in enumerate(batch.faces, batch.first):
            for face in faces:
                history.setdefault(face.track, []).append((frame, face.stats))
        while waiting and waiting[0].end + STATS_CONTEXT <= batch.end:
            yield _smooth_batch(waiting.popleft(), history)
        oldest = (waiting[0].first if waiting else batch.end) - STATS_CONTEXT
        history = {
            track: [entry for entry in track_stats if entry[0] >= oldest] for track, track_stats in history.items()
        }
    while waiting:
        yield _smooth_batch(waiting.popleft(), history)


def _smooth_batch(batch: DrawnBatch[T], history: dict[int, list[tuple[int, FaceStats]]]) -> DrawnBatch[T]:
    frames_by_track: dict[int, list[int]] = {}
    for frame, faces in enumerate(batch.faces, batch.first):
        for face in faces:
            frames_by_track.setdefault(face.track, []).append(frame)
    smooth = {
        (frame, track): stats
        for track, frames in frames_by_track.items()
        for frame, stats in zip(frames, _smooth_track(history[track], frames), strict=True)
    }
    smooth_faces = [
        [replace(face, stats=smooth[frame, face.track]) for face in faces]
        for frame, faces in enumerate(batch.faces, batch.first)
    ]
    return replace(batch, faces=smooth_faces)


def _smooth_track(track_stats: Sequence[tuple[int, FaceStats]], frames: Sequence[int]) -> list[FaceStats]:
    """Smooth the measurements of some frames of a track."""
    first, end = frames[0] - STATS_CONTEXT, frames[-1] + STATS_CONTEXT
    near = [(frame, stats) for frame, stats in track_stats if first <= frame <= end]
    if len(near) < 2:
        return [stats for _, stats in near]
    times, at = np.array([frame for frame, _ in near], float), np.array(frames, float)
    softness = np.array([[stats.softness] for _, stats in near])
    softness = np.maximum(smooth_values(times, softness, at, FLICKER_SOFTNESS, degree=0), 0)
    colors: list[ColorPair | None] = [None] * len(frames)
    if pairs := [stats.colors for _, stats in near if stats.colors is not None]:
        values = np.array(pairs)  # (N, 2, K, 3)
        smooth = _smooth_colors(times, values.reshape(len(times), -1), at).reshape(len(at), *values.shape[1:])
        colors = [ColorPair(drawn, original) for drawn, original in smooth]
    outlines: list[Numbers | None] = [None] * len(frames)
    if edges := [stats.outline for _, stats in near if stats.outline is not None]:
        outlines = [
            *smooth_values(times, np.array(edges).reshape(len(times), -1), at, JITTER_PX).reshape(len(at), -1, 2)
        ]
    measured = dict(near)

    def occlusion_at(frame: int) -> Mask | None:
        stats = measured.get(frame)
        return None if stats is None else stats.occlusion

    return [
        replace(
            measured[frame],
            colors=colors_here,
            softness=softness_here,
            outline=outline,
            occlusion=median_of_three(*map(occlusion_at, (frame - 1, frame, frame + 1))),
        )
        for frame, colors_here, softness_here, outline in zip(
            frames, colors, softness[:, 0].tolist(), outlines, strict=True
        )
    ]


def _smooth_colors(times: Numbers, values: Numbers, at: Numbers) -> Numbers:
    """Smooth colours, but keep the measured ones where the light changes suddenly."""
    smooth = smooth_values(times, values, at, FLICKER_LAB, degree=0)
    measured = values[np.searchsorted(times, at)]
    share = np.clip(np.abs(smooth - measured) / LIGHT_LAB - 1, 0, 1)
    return smooth + share * (measured - smooth)
