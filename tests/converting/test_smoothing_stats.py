"""What is measured of faces smoothed in time: no flicker, no lag, light that changes is followed."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from pipeline.converting.color import ColorPair
from pipeline.converting.compose import DrawnFace, FaceStats
from pipeline.converting.smoothing import DrawnBatch, smooth_stats
from pipeline.converting.timeline import PlannedSegment
from pipeline.types import Rect

NOWHERE = np.array([[1.0, 0, 0], [0, 1, 0]])
SEGMENT = PlannedSegment(0, (), {})
Numbers = npt.NDArray[np.float64]


def face(light: float, track: int = 0, softness: float = 0.0, shift: float = 0.0) -> DrawnFace:
    colors = np.array([[light, 10, 20], [9, 4, 5]], float)
    outline = np.array([[60.0, 80], [190, 80], [128, 210]]) + shift
    stats = FaceStats(ColorPair(np.full((2, 3), 30.0), colors), softness, outline)
    return DrawnFace(Rect(0, 0, 2, 2), NOWHERE, np.zeros((2, 2, 3), np.uint8), track, stats)


def batches(frames: Sequence[Sequence[DrawnFace]], size: int, first: int = 0) -> list[DrawnBatch]:
    starts = range(0, len(frames), size)
    return [
        DrawnBatch(SEGMENT, first + start, [], frames[start : start + size], start + size >= len(frames))
        for start in starts
    ]


def lights(made: Sequence[DrawnBatch], track: int = 0) -> Numbers:
    faces = [face for batch in made for some in batch.faces for face in some if face.track == track]
    return np.array([face.stats.colors.original[0, 0] for face in faces if face.stats.colors is not None])


def evened_lights(levels: Sequence[float], size: int = 10) -> Numbers:
    return lights(list(smooth_stats(batches([[face(level)] for level in levels], size))))


def flicker(levels: Numbers) -> float:
    return float(np.abs(np.diff(levels, 2)).mean())


def noise(seed: int, count: int, deviation: float) -> Numbers:
    return np.random.default_rng(seed).normal(0, deviation, count)


@pytest.mark.parametrize("size", [1, 4, 16, 100])
def test_flicker_goes(size: int) -> None:
    levels = 60 + noise(1, 60, 0.5)
    made = evened_lights(levels.tolist(), size)
    assert flicker(made) < 0.15 * flicker(levels)
    assert np.abs(made - 60).max() < 0.6


def test_light_that_rises_is_not_late() -> None:
    levels = np.linspace(40, 70, 90)
    made = evened_lights((levels + noise(2, 90, 0.3)).tolist())
    assert np.abs(made - levels)[6:-6].mean() < 0.35
    assert abs((made - levels)[6:-6].mean()) < 0.1


@pytest.mark.parametrize("after", [40, 41, 47, 50])
def test_a_lamp_that_is_switched_on_lights_the_face_at_once(after: int) -> None:
    levels = np.where(np.arange(80) < after, 40.0, 65.0)
    np.testing.assert_allclose(evened_lights(levels.tolist()), levels, atol=2)


def test_a_flash_lights_its_frame_alone() -> None:
    levels = np.full(50, 50.0)
    levels[25] = 85
    made = evened_lights(levels.tolist())
    assert made[25] == pytest.approx(85, abs=0.01)
    assert np.abs(np.delete(made, 25) - 50).max() < 4


def test_tracks_are_apart_and_faces_stay_in_their_places() -> None:
    frames = [[face(40, 1), face(80, 2)] if number % 3 else [face(80, 2)] for number in range(40)]
    made = list(smooth_stats(batches(frames, 7)))
    assert [len(some) for batch in made for some in batch.faces] == [len(some) for some in frames]
    np.testing.assert_allclose(lights(made, 1), 40, atol=1e-6)
    np.testing.assert_allclose(lights(made, 2), 80, atol=1e-6)


def test_borders_of_segments_do_not_show() -> None:
    """Made in one run or in two, with the frames around looked at, they come out the same."""
    frames = [[face(level)] for level in 60 + noise(3, 50, 1)]
    together = lights(list(smooth_stats([*batches(frames[:30], 8), *batches(frames[30:], 8, 30)])))
    first = lights(list(smooth_stats([*batches(frames[:30], 8), *batches(frames[30:36], 8, 30)])))[:30]
    second = lights(list(smooth_stats([*batches(frames[24:30], 8, 24), *batches(frames[30:], 8, 30)])))[6:]
    np.testing.assert_array_equal(together, [*first, *second])


def test_it_looks_no_farther_ahead_than_it_needs() -> None:
    """Frames wait in memory for those after them: not for all of the segment."""
    taken: list[int] = []

    def watched() -> Iterator[DrawnBatch]:
        for batch in batches([[face(50)] for _ in range(200)], 4):
            taken.append(batch.first)
            yield batch

    next(smooth_stats(watched()))
    assert len(taken) <= 4


def test_batches_come_whole_and_in_order() -> None:
    given = batches([[face(50)] if number % 2 else [] for number in range(23)], 5)
    made = list(smooth_stats(given))
    assert [(batch.first, len(batch.faces), batch.is_last) for batch in made] == [
        (batch.first, len(batch.faces), batch.is_last) for batch in given
    ]


@pytest.mark.parametrize(
    ("of", "value"),
    [
        (lambda stats: stats.softness, lambda level: face(50, softness=level)),
        (
            lambda stats: float(edge[1, 0]) if (edge := stats.outline) is not None else 0,
            lambda level: face(50, shift=level),
        ),
    ],
    ids=["softness", "outline"],
)
def test_softness_and_outline_are_smoothed_too(
    of: Callable[[FaceStats], float], value: Callable[[float], DrawnFace]
) -> None:
    levels = np.abs(2 + noise(5, 60, 0.2))
    made = list(smooth_stats(batches([[value(level)] for level in levels], 10)))
    smooth = np.array([of(face.stats) for batch in made for some in batch.faces for face in some])
    assert flicker(smooth) < 0.2 * flicker(levels)


def test_a_face_seen_once_and_looks_without_colours() -> None:
    one = face(50)
    (made,) = smooth_stats(batches([[one]], 5))
    assert made.faces[0][0].stats == one.stats
    bare = replace(one, stats=FaceStats(None, 0.0, None))
    (made,) = smooth_stats(batches([[bare], [bare], [bare]], 5))
    assert [face.stats for faces in made.faces for face in faces] == [bare.stats] * 3
