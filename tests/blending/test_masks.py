import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.blending.masks import outline_mask, smoothstep
from pipeline.faces.alignment import CROP_PX, SEEN_PX, TEMPLATE

MARGIN_PX = (CROP_PX - SEEN_PX) // 2


def test_shape_and_range() -> None:
    mask = outline_mask()
    assert mask.shape == (CROP_PX, CROP_PX)
    assert mask.dtype == np.float32
    assert mask.min() == 0
    assert mask.max() == 1


def test_nothing_shows_at_the_border_of_what_the_model_sees_or_beyond() -> None:
    outside = outline_mask().copy()
    outside[MARGIN_PX + 1 : -MARGIN_PX - 1, MARGIN_PX + 1 : -MARGIN_PX - 1] = 0
    assert not outside.any()


def test_the_middle_shows_fully() -> None:
    mask = outline_mask()
    for x, y in TEMPLATE.astype(int):  # eyes, nose, corners of the mouth
        assert mask[y, x] > 0.95
    assert (mask[105:160, 110:147] == 1).all()


def test_left_and_right_are_alike() -> None:
    np.testing.assert_allclose(outline_mask(), outline_mask()[:, ::-1], atol=1e-6)


def test_it_is_taller_than_wide_and_reaches_from_the_brows_to_the_chin() -> None:
    rows, columns = np.flatnonzero(outline_mask().any(axis=1)), np.flatnonzero(outline_mask().any(axis=0))
    assert rows[-1] - rows[0] > columns[-1] - columns[0] > 100
    assert (rows[0] + rows[-1]) / 2 == pytest.approx(141, abs=4)  # lower than the middle of the crop
    assert 64 < rows[0] < 80  # below a fringe or the brim of a hat, above the brows
    assert rows[-1] > 205


def test_the_edge_is_soft() -> None:
    mask = outline_mask()
    assert np.abs(np.diff(mask, axis=0)).max() < 0.1
    assert np.abs(np.diff(mask, axis=1)).max() < 0.1


def test_it_falls_from_the_middle_outwards() -> None:
    mask = outline_mask()
    assert (np.diff(mask[:, :128], axis=1) >= 0).all()
    assert (np.diff(mask[131:], axis=0) <= 0).all()
    assert (np.diff(mask[:131], axis=0) >= 0).all()


def test_nobody_can_change_it() -> None:
    with pytest.raises(ValueError, match="read-only"):
        outline_mask()[0, 0] = 1


@settings(deadline=None)
@given(st.lists(st.floats(-3, 3, width=32), min_size=2, max_size=20))
def test_smoothstep_rises_from_0_to_1(values: list[float]) -> None:
    x = np.sort(np.array(values, np.float32))
    y = smoothstep(x)
    assert y.dtype == np.float32
    assert (np.diff(y) >= 0).all()
    assert (y[x <= 0] == 0).all()
    assert (y[x >= 1] == 1).all()
    np.testing.assert_allclose(smoothstep(1 - x), 1 - y, atol=1e-6)


def test_smoothstep_by_hand() -> None:
    x = np.array([0.25, 0.5], np.float32)
    np.testing.assert_allclose(smoothstep(x), [0.15625, 0.5])
    np.testing.assert_array_equal(x, [0.25, 0.5])
