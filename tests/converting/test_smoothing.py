"""Places smoothed in time: no trembling, no lag, nothing made up."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from cli import main
from pipeline.converting.smoothing import POSITION_CONTEXT, smooth_positions
from pipeline.faces.alignment import CROP_PX, invert, transform
from pipeline.faces.store import FaceStore
from pipeline.types import Affine, Points
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
