"""Positions and measurements smoothed in time: no trembling, no lag, nothing made up."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from cli import main
from pipeline.converting.color import ColorPair
from pipeline.converting.compose import DrawnFace, FaceStats
from pipeline.converting.smoothing import POSITION_CONTEXT, DrawnBatch, smooth_positions, smooth_stats
from pipeline.converting.timeline import PlannedSegment
from pipeline.faces.alignment import CROP_PX, invert, transform
from pipeline.faces.store import FaceStore
from pipeline.types import Affine, Points, Rect
from pipeline.workspace import Workspace

CORNERS = np.array([[x, y] for x in (0, CROP_PX - 1) for y in (0, CROP_PX - 1)], float)


def place(x: float, y: float, size_px: float = 128, turn: float = 0.0) -> Affine:
    """Where the crop of a face is whose middle is at (x, y) of a frame."""
    scale = size_px / CROP_PX
    linear = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    middle = np.full(2, (CROP_PX - 1) / 2)
    return invert(np.column_stack([linear, (x, y) - linear @ middle]))


def middles(places: Sequence[Affine]) -> Points:
    """Where the middles of crops are in the frame."""
    return np.stack([transform(np.full((1, 2), (CROP_PX - 1) / 2), invert(where))[0] for where in places])


def corners(places: Sequence[Affine]) -> Points:
    """(N, 4, 2): the corners of the crops in the frame, in px of the first crop."""
    scale = np.sqrt(np.linalg.det(places[0][:, :2]))
    return np.asarray(scale * np.stack([transform(CORNERS, invert(where)) for where in places]))


def jitter(places: Sequence[Affine]) -> float:
    return float(np.linalg.norm(np.diff(corners(places), 2, axis=0), axis=2).mean())


def trembling(frames: int, off_px: float) -> list[Affine]:
    random = np.random.default_rng(4)
    off = random.normal(0, off_px, (frames, 3))
    return [place(200 + x, 200 + y, 128 + size / 2) for x, y, size in off]


def test_a_still_face_does_not_tremble() -> None:
    places = trembling(100, 0.25)
    made = smooth_positions(range(100), places, range(100))
    assert jitter(made) < 0.15 * jitter(places)
    assert np.abs(middles(made) - 200).mean() < 0.5 * np.abs(middles(places) - 200).mean()


def test_a_parabola_is_kept_whatever_its_times() -> None:
    times = np.sort(np.random.default_rng(5).uniform(0, 60, 50))
    asked = np.linspace(2, 58, 40)
    made = smooth_positions(times.tolist(), [place(100 + 3 * t, 300 - t * t / 20) for t in times], asked.tolist())
    expected = np.column_stack([100 + 3 * asked, 300 - asked**2 / 20])
    assert np.abs(middles(made) - expected).max() < 0.05


def test_a_fast_turn_is_followed_at_once() -> None:
    """The head goes 60 px aside within eight frames: at no time is the face half a frame's way off, nor too late."""

    def x(t: float) -> float:
        s = np.clip((t - 30) / 8, 0, 1)
        return float(100 + 60 * s * s * (3 - 2 * s))

    places = [place(x(t), 200) for t in range(70)]
    made = middles(smooth_positions(range(70), places, range(70)))[:, 0]
    before = middles(places)[:, 0]
    fastest = np.abs(np.diff(before)).max()
    assert fastest > 10
    assert np.abs(made - before).max() < fastest / 2
    assert abs(float(np.sum(made - before))) < 0.5, "as much too early as too late"


def test_a_moment_that_was_missed_lies_between() -> None:
    known = [t for t in range(40) if t not in (18, 19, 20)]
    made = smooth_positions(known, [place(100 + 2 * t, 200, turn=t / 100) for t in known], range(40))
    np.testing.assert_allclose(middles(made)[:, 0], [100 + 2 * t for t in range(40)], atol=0.05)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_places_are_kept(count: int) -> None:
    places = [place(100 + 5 * t, 200) for t in range(count)]
    made = smooth_positions(range(count), places, range(count))
    np.testing.assert_allclose(middles(made), middles(places), atol=0.1)


def test_what_is_far_off_changes_nothing() -> None:
    """So a segment planned by itself is what it is in the whole."""
    places = [place(200 + 5 * np.sin(t), 200 + 9 * np.cos(t / 2)) for t in range(100)]
    whole = smooth_positions(range(100), places, range(100))[40:60]
    near = range(40 - POSITION_CONTEXT, 60 + POSITION_CONTEXT)
    np.testing.assert_allclose(smooth_positions(near, [places[t] for t in near], range(40, 60)), whole, atol=1e-9)


def test_nothing_asked_gives_nothing() -> None:
    assert smooth_positions([1.0], [place(1, 1)], []) == []


@pytest.mark.parametrize("clip", ["manE_obama_address", "manA_lp_d9"])
def test_real_faces_tremble_less_than_half_and_lag_nowhere(clip: str, real_data: Path, tmp_path: Path) -> None:
    assert main(["extract", str(real_data / "pairs" / f"{clip}.mp4"), "--workspace", str(tmp_path)]) == 0
    with FaceStore(Workspace(tmp_path).store(clip)) as store:
        faces = store.faces()
    frames, found = [face.frame for face in faces], [face.crop_from_frame for face in faces]
    made = smooth_positions(frames, found, frames)
    assert jitter(made) < 0.4 * jitter(found)
    before, after = (np.diff(middles(places)[:, 0]) for places in (found, made))
    likeness = [np.corrcoef(before[5:-5], after[5 + lag : len(after) - 5 + lag])[0, 1] for lag in (-1, 0, 1)]
    earlier, now, later = likeness
    assert abs((earlier - later) / (earlier - 2 * now + later) / 2) < 0.1, "frames, at the peak of a parabola"


# Measurements of faces: no flicker, no lag, light that changes is followed

NOWHERE = np.array([[1.0, 0, 0], [0, 1, 0]])
SEGMENT = PlannedSegment(0, (), {})
Numbers = npt.NDArray[np.float64]


def face(light: float, track: int = 0, softness: float = 0.0, shift: float = 0.0) -> DrawnFace:
    colors = np.array([[light, 10, 20], [9, 4, 5]], float)
    outline = np.array([[60.0, 80], [190, 80], [128, 210]]) + shift
    stats = FaceStats(ColorPair(np.full((2, 3), 30.0), colors), softness, outline)
    return DrawnFace(Rect(0, 0, 2, 2), NOWHERE, np.zeros((2, 2, 3), np.uint8), track, stats)


def batches(frames: Sequence[Sequence[DrawnFace]], size: int, first: int = 0) -> list[DrawnBatch[PlannedSegment]]:
    starts = range(0, len(frames), size)
    return [
        DrawnBatch(SEGMENT, first + start, [], frames[start : start + size], start + size >= len(frames))
        for start in starts
    ]


def lights(made: Sequence[DrawnBatch[PlannedSegment]], track: int = 0) -> Numbers:
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

    def watched() -> Iterator[DrawnBatch[PlannedSegment]]:
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


def test_each_face_keeps_the_mask_that_was_drawn_for_it() -> None:
    masks = [np.full((4, 4), level, np.float32) for level in (0.2, 0.4, 0.9)]
    frames = [[replace(face(50), learned_mask=mask)] for mask in masks]
    for batch in smooth_stats(batches(frames, 2)):
        for number, (drawn,) in enumerate(batch.faces, batch.first):
            assert drawn.learned_mask is masks[number]


def test_a_face_seen_once_and_looks_without_colours() -> None:
    one = face(50)
    (made,) = smooth_stats(batches([[one]], 5))
    assert made.faces[0][0].stats == one.stats
    bare = replace(one, stats=FaceStats(None, 0.0, None))
    (made,) = smooth_stats(batches([[bare], [bare], [bare]], 5))
    assert [face.stats for faces in made.faces for face in faces] == [bare.stats] * 3
