"""Where a face lies: transforms found, inverted, scaled, and pictures resampled through them."""

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.faces.alignment import (
    CROP_PX,
    TEMPLATE,
    align,
    cut_crop,
    fit_similarity,
    invert,
    scale_crop,
    transform,
    warp,
)
from pipeline.types import Affine, Image, Points

LANDMARKS = np.array([[204.5, 101.2], [247.4, 103.4], [225.7, 129.7], [201.6, 139.7], [245.4, 142.0]])
GRID = np.array([[x, y] for y in (-40.0, 0.0, 77.0) for x in (-15.0, 3.0, 250.0)])

angles = st.floats(-np.pi, np.pi)
scales = st.floats(0.05, 20)
shifts = st.tuples(st.floats(-2000, 2000), st.floats(-2000, 2000))
seeds = st.integers(0, 2**32 - 1)


def similarity(angle: float, scale: float, shift: tuple[float, float]) -> Affine:
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    return np.array([[cos, -sin, shift[0]], [sin, cos, shift[1]]])


similarities = st.builds(similarity, angles, scales, shifts)


def fit_by_equations(from_points: Points, to_points: Points) -> Affine:
    """Solve x' = a x - b y + s, y' = b x + a y + t for a, b, s, t."""
    rows = [row for x, y in from_points for row in ([x, -y, 1, 0], [y, x, 0, 1])]
    a, b, s, t = np.linalg.lstsq(np.array(rows), to_points.reshape(-1), rcond=None)[0]
    return np.array([[a, -b, s], [b, a, t]])


def slanted_picture(width: int, height: int) -> Image:
    return np.rint(slanted(*np.meshgrid(np.arange(width), np.arange(height)))).astype(np.uint8)


def slanted(x: npt.NDArray[Any], y: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Colours that tell the place: each channel a plane, so that exact resampling keeps it exactly."""
    return np.stack([2.5 * x, 4.0 * y, 250 - 1.2 * x - 1.9 * y], axis=-1)


@settings(deadline=None)
@given(similarities)
def test_a_known_similarity_is_found(known: Affine) -> None:
    found = fit_similarity(LANDMARKS, transform(LANDMARKS, known))
    np.testing.assert_allclose(found[:, :2], known[:, :2], atol=1e-9)
    np.testing.assert_allclose(found[:, 2], known[:, 2], atol=1e-6)


@settings(deadline=None)
@given(similarities, seeds, st.integers(2, 7))
def test_noisy_points_are_fitted_as_by_solving_the_equations(known: Affine, seed: int, count: int) -> None:
    noise = np.random.default_rng(seed)
    from_points = noise.uniform(-60, 90, (count, 2))
    to_points = transform(from_points, known) + noise.normal(0, 5, (count, 2))
    found, reference = fit_similarity(from_points, to_points), fit_by_equations(from_points, to_points)
    np.testing.assert_allclose(transform(GRID, found), transform(GRID, reference), rtol=1e-6, atol=1e-4)


@settings(deadline=None)
@given(similarities)
def test_a_face_seen_in_a_mirror_is_turned_never_mirrored(known: Affine) -> None:
    mirrored = transform(LANDMARKS, known) * [-1, 1]
    linear = fit_similarity(LANDMARKS, mirrored)[:, :2]
    assert np.linalg.det(linear) > 0
    assert linear[0, 0] == linear[1, 1]
    assert linear[0, 1] == -linear[1, 0]


@settings(deadline=None)
@given(st.integers(2, 7), st.floats(0, 4000), st.floats(0, 4000))
@example(3, 0.1, 0.7)  # their mean is not exactly what they are
def test_points_in_one_place_are_refused(count: int, x: float, y: float) -> None:
    with pytest.raises(ValueError, match="one place"):
        fit_similarity(np.full((count, 2), [x, y]), TEMPLATE[:count] if count <= 5 else GRID[:count])


@settings(deadline=None)
@given(similarities, st.sampled_from([64, 256, 300]))
def test_aligned_landmarks_lie_on_the_template(frame_from_crop: Affine, size: int) -> None:
    landmarks = transform(TEMPLATE, frame_from_crop)
    on_crop = (TEMPLATE + 0.5) * size / CROP_PX - 0.5
    np.testing.assert_allclose(transform(landmarks, align(landmarks, size)), on_crop, atol=1e-6)


@settings(deadline=None)
@given(similarities)
def test_a_transform_and_its_inverse_undo_each_other(matrix: Affine) -> None:
    np.testing.assert_allclose(transform(transform(GRID, matrix), invert(matrix)), GRID, atol=1e-6)
    np.testing.assert_allclose(transform(transform(GRID, invert(matrix)), matrix), GRID, atol=1e-6)


def test_points_are_x_then_y() -> None:
    matrix = np.array([[2.0, 0.0, 5.0], [0.0, 3.0, -7.0]])
    assert transform(np.array([[10.0, 100.0], [0.0, 1.0]]), matrix).tolist() == [[25, 293], [5, -4]]
    np.testing.assert_allclose(invert(matrix), [[1 / 2, 0, -5 / 2], [0, 1 / 3, 7 / 3]], atol=1e-12)


@settings(deadline=None)
@given(similarities, st.integers(1, 2000))
def test_a_crop_of_another_size_has_the_same_borders(crop_from_frame: Affine, size: int) -> None:
    corners = np.array([[-0.5, -0.5], [255.5, -0.5], [-0.5, 255.5]])
    in_frame = transform(corners, invert(crop_from_frame))
    end = size - 0.5
    expected = [[-0.5, -0.5], [end, -0.5], [-0.5, end]]
    np.testing.assert_allclose(transform(in_frame, scale_crop(crop_from_frame, size)), expected, atol=1e-5)


@pytest.mark.parametrize("size", [300, 128, 24, 12])
def test_a_crop_shows_what_was_at_that_place(size: int) -> None:
    width, height = 97, 61
    crop_from_frame = scale_crop(invert(similarity(0.4, 0.17, (33.0, 6.0))), size)
    crop = cut_crop(slanted_picture(width, height), crop_from_frame, size)
    assert crop.shape == (size, size, 3)
    assert crop.dtype == np.uint8
    pixels = np.stack(np.meshgrid(np.arange(size), np.arange(size)), axis=-1).reshape(-1, 2).astype(np.float64)
    x, y = transform(pixels, invert(crop_from_frame)).T
    reach = 0.17 * CROP_PX / size + 1  # averaging near the frame's edge mixes in what was repeated
    inside = (x > reach) & (x < width - 1 - reach) & (y > reach) & (y < height - 1 - reach)
    assert 0.5 < inside.mean() < 1
    np.testing.assert_allclose(crop.reshape(-1, 3)[inside], slanted(x, y)[inside], atol=1)


@pytest.mark.parametrize("zoom", [1.4, 0.4, 0.15], ids=["enlarged", "shrunk", "shrunk far"])
def test_a_wide_picture_is_resampled_in_its_place(zoom: float) -> None:
    to_from = similarity(-0.2, zoom, (1.7, 4.2))
    made = warp(slanted_picture(97, 61), to_from, (30, 11), cv2.BORDER_REPLICATE)
    pixels = np.stack(np.meshgrid(np.arange(30), np.arange(11)), axis=-1).reshape(-1, 2).astype(np.float64)
    x, y = transform(pixels, invert(to_from)).T
    reach = 1 / zoom + 1
    inside = (x > reach) & (x < 96 - reach) & (y > reach) & (y < 60 - reach)
    assert inside.sum() > 30
    np.testing.assert_allclose(made.reshape(-1, 3)[inside], slanted(x, y)[inside], atol=1.2)  # rounded twice


def test_outside_the_frame_its_edge_goes_on() -> None:
    frame = slanted_picture(20, 12)
    crop = cut_crop(frame, np.array([[1.0, 0.0, 9.0], [0.0, 1.0, 16.0]]), 64)
    np.testing.assert_array_equal(crop[16:28, 9:29], frame)
    assert (crop[:17, :10] == frame[0, 0]).all()
    assert (crop[27:, 28:] == frame[-1, -1]).all()
    np.testing.assert_array_equal(crop[40, 9:29], frame[-1])
    np.testing.assert_array_equal(crop[16:28, 60], frame[:, -1])


@pytest.mark.parametrize("times", [2, 2.7, 3, 4, 5.3, 8])
@pytest.mark.parametrize("place", [0.0, 0.31])
def test_a_fine_checkerboard_shrinks_to_even_grey(times: float, place: float) -> None:
    rows, columns = np.mgrid[0:300, 0:400]
    board = np.where((rows + columns) % 2, 255, 0).astype(np.uint8)
    zoom = 1 / times
    made = warp(board, np.array([[zoom, 0, place], [0, zoom, place]]), (40, 30), cv2.BORDER_REFLECT_101)
    assert np.abs(made.astype(int) - 127.5).max() < 30, "plain bilinear sampling is 127 off"


@pytest.mark.parametrize("zoom", [1.3, 0.2], ids=["enlarged", "shrunk"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [(), (3,), (4,)])
def test_warp_keeps_type_and_channels(zoom: float, dtype: type[np.generic], channels: tuple[int, ...]) -> None:
    values = np.random.default_rng(5).integers(100, 120, (33, 47, *channels)).astype(dtype)
    made = warp(values, np.array([[zoom, 0, 0.4], [0, zoom, -0.3]]), (31, 17), cv2.BORDER_REPLICATE)
    assert made.shape == (17, 31, *channels)
    assert made.dtype == dtype
    assert 100 <= made.min() <= made.max() < 120


def test_warp_keeps_the_axis_of_a_single_channel() -> None:
    assert warp(np.ones((20, 30, 1), np.float32), np.eye(2, 3), (9, 8), cv2.BORDER_CONSTANT).shape == (8, 9, 1)


def test_warp_fills_with_nothing_where_it_is_told_to() -> None:
    white = np.ones((10, 14), np.float32)
    made = warp(white, np.array([[1.0, 0.0, 5.0], [0.0, 1.0, 2.0]]), (30, 20), cv2.BORDER_CONSTANT)
    assert made.sum() == white.size
    assert made[2:12, 5:19].all()
