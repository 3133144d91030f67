"""Small pictures made from halved ones, against averaging by hand."""

import numpy as np
import pytest

from pipeline.faces.detection import ImagePyramid
from pipeline.types import Image


def slope(height: int, width: int) -> Image:
    """A picture whose colours say where they are: blue by column, green by row, red by both."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    return np.stack([x / 4, y / 3, (x + 2 * y) / 8], axis=-1).round().astype(np.uint8)


def expected(left: float, top: float, side: float, size: int) -> np.ndarray:
    """The slope at the middles of the parts a square is divided into."""
    at = (np.arange(size) + 0.5) * side / size - 0.5
    y, x = np.meshgrid(top + at, left + at, indexing="ij")
    return np.stack([x / 4, y / 3, (x + 2 * y) / 8], axis=-1)


@pytest.mark.parametrize("side", [30, 48, 101, 250, 397, 500])
def test_a_cut_shows_the_square_it_says(side: int) -> None:
    box = np.array([101.0, 60, 100 + side, 59 + 0.8 * side])
    cut, (left, top, true_side) = ImagePyramid(slope(600, 700)).cut(box, 48)
    assert cut.shape == (48, 48, 3)
    assert abs(true_side - side) <= max(1, side / 48)
    assert abs(left - 101) <= max(1, side / 24)
    assert abs(top - (60 - 0.1 * side)) <= max(1, side / 24)
    np.testing.assert_allclose(cut, expected(left, top, true_side, 48), atol=1.6)


def test_beyond_the_picture_its_edge_goes_on() -> None:
    cut, square = ImagePyramid(slope(90, 120)).cut(np.array([-20.0, -10, 39, 49]), 30)
    assert square == (-20, -10, 60)
    assert (cut[:, :9, 0] == 0).all()
    assert (cut[:4, :, 1] == 0).all()
    np.testing.assert_allclose(cut[8:, 12:], expected(-20, -10, 60, 30)[8:, 12:], atol=1)
    nothing, _ = ImagePyramid(slope(90, 120)).cut(np.array([500.0, 0, 560, 60]), 30)
    assert not nothing.any()


@pytest.mark.parametrize("size_hw", [(241, 361), (120, 180), (77, 97), (13, 19), (2, 3)])
def test_resizing_keeps_the_borders(size_hw: tuple[int, int]) -> None:
    picture = slope(241, 361)
    made = ImagePyramid(picture).resized(size_hw)
    assert made.shape == (*size_hw, 3)
    y, x = ((np.arange(n) + 0.5) * whole / n - 0.5 for n, whole in zip(size_hw, (241, 361), strict=True))
    np.testing.assert_allclose(made[..., 0], np.broadcast_to(x / 4, size_hw), atol=1.8)
    np.testing.assert_allclose(made[..., 1], np.broadcast_to(y[:, None] / 3, size_hw), atol=1.8)


def test_a_fine_checkerboard_becomes_even_grey() -> None:
    rows, columns = np.mgrid[0:512, 0:640]
    board = np.repeat(np.where((rows + columns) % 2, 255, 0).astype(np.uint8)[..., None], 3, axis=2)
    levels = ImagePyramid(board)
    assert np.abs(levels.resized((60, 80)).astype(int) - 127.5).max() < 12
    assert np.abs(levels.cut(np.array([10.0, 10, 480, 480]), 48)[0].astype(int) - 127.5).max() < 12
    assert (levels.image == board).all()
