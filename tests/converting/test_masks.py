import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.converting.masks import core_mask, face_mask, learned_mask, mesh_mask, smoothstep
from pipeline.faces.alignment import CHIN_PX, CROP_PX, SEEN, SEEN_PX, TEMPLATE, TOP_PX
from pipeline.options import Look, MaskShape
from pipeline.types import Points

SHAPES: tuple[MaskShape, ...] = ("outline", "ellipse", "box")
MARGIN_PX = (CROP_PX - SEEN_PX) // 2


def test_shape_and_range() -> None:
    mask = face_mask()
    assert mask.shape == (CROP_PX, CROP_PX)
    assert mask.dtype == np.float32
    assert mask.min() == 0
    assert mask.max() == 1


def test_nothing_shows_at_the_border_of_what_the_model_sees_or_beyond() -> None:
    outside = face_mask().copy()
    outside[MARGIN_PX + 1 : -MARGIN_PX - 1, MARGIN_PX + 1 : -MARGIN_PX - 1] = 0
    assert not outside.any()


def test_the_middle_shows_fully() -> None:
    mask = face_mask()
    for x, y in TEMPLATE.astype(int):  # eyes, nose, corners of the mouth
        assert mask[y, x] > 0.95
    assert (mask[105:160, 110:147] == 1).all()


def test_left_and_right_are_alike() -> None:
    np.testing.assert_allclose(face_mask(), face_mask()[:, ::-1], atol=1e-6)


def test_it_is_taller_than_wide_and_reaches_from_the_brows_to_the_chin() -> None:
    rows, columns = np.flatnonzero(face_mask().any(axis=1)), np.flatnonzero(face_mask().any(axis=0))
    assert rows[-1] - rows[0] > columns[-1] - columns[0] > 100
    assert (rows[0] + rows[-1]) / 2 == pytest.approx(141, abs=4)  # lower than the middle of the crop
    assert 64 < rows[0] < 80  # below a fringe or the brim of a hat, above the brows
    assert rows[-1] > 205


def test_the_edge_is_soft() -> None:
    mask = face_mask()
    assert np.abs(np.diff(mask, axis=0)).max() < 0.1
    assert np.abs(np.diff(mask, axis=1)).max() < 0.1


def test_it_falls_from_the_middle_outwards() -> None:
    mask = face_mask()
    assert (np.diff(mask[:, :128], axis=1) >= 0).all()
    assert (np.diff(mask[135:], axis=0) <= 0).all()
    assert (np.diff(mask[:132], axis=0) >= 0).all()


def test_nobody_can_change_it() -> None:
    with pytest.raises(ValueError, match="read-only"):
        face_mask()[0, 0] = 1


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


@pytest.mark.parametrize("shape", ["outline", "ellipse", "box"])
@pytest.mark.parametrize(("erode", "feather"), [(0.0, 0.0), (0.0, 50.0), (10.0, 14.0), (40.0, 14.0)])
def test_no_look_shows_the_border_of_what_the_model_sees(shape: MaskShape, erode: float, feather: float) -> None:
    mask = face_mask(Look(mask=shape, erode=erode, feather=feather)).copy()
    assert mask[140, 128] > 0.2
    mask[MARGIN_PX + 1 : -MARGIN_PX - 1, MARGIN_PX + 1 : -MARGIN_PX - 1] = 0
    assert not mask.any()


def test_shapes_differ_where_they_should() -> None:
    outline, ellipse, box = (face_mask(Look(mask=shape)) for shape in SHAPES)
    assert (box >= ellipse).all()
    assert box.sum() > 1.15 * ellipse.sum()
    np.testing.assert_allclose(ellipse, ellipse[::-1][np.arange(256) - 27], atol=1e-6, err_msg="as wide above as below")
    assert outline[190].sum() < ellipse[190].sum(), "an outline is narrow at the chin"
    assert outline[90].sum() > ellipse[90].sum(), "and wide at the brows"


def test_eroding_takes_as_much_off_all_around() -> None:
    whole, less = face_mask(Look(feather=0)) > 0, face_mask(Look(feather=0, erode=10)) > 0
    for line in (whole[:, 128], whole[141]), (less[:, 128], less[141]):
        assert all(part.any() for part in line)
    tall, wide = (np.flatnonzero(whole[:, 128]), np.flatnonzero(whole[141]))
    less_tall, less_wide = (np.flatnonzero(less[:, 128]), np.flatnonzero(less[141]))
    for before, after in ((tall, less_tall), (wide, less_wide)):
        assert after[0] - before[0] == pytest.approx(14.6, abs=1.5)
        assert before[-1] - after[-1] == pytest.approx(14.6, abs=1.5)


def test_a_wider_feather_is_softer() -> None:
    hard, soft = face_mask(Look(feather=2)), face_mask(Look(feather=30))
    assert np.abs(np.diff(hard[141])).max() > 5 * np.abs(np.diff(soft[141])).max()
    np.testing.assert_array_equal(hard > 0, soft > 0)


def ring(radius: float, points: int = 36) -> Points:
    """Corners of a circle about the middle of a face."""
    angles = np.linspace(0, 2 * np.pi, points, endpoint=False)
    return np.column_stack([127.5 + radius * np.sin(angles), 140 - radius * np.cos(angles)])


def test_a_mesh_mask_is_the_outline_faded_inwards() -> None:
    mask = mesh_mask(Look(feather=10, erode=5), ring(60))
    y, x = np.mgrid[0:CROP_PX, 0:CROP_PX]
    depth = 60 - np.hypot(x - 127.5, y - 140)
    expected = smoothstep(((depth - 7.3) / 14.6).astype(np.float32))
    assert np.abs(mask - expected).max() < 0.09
    assert np.abs(mask - expected).mean() < 0.005


def test_a_mesh_mask_moves_by_less_than_px() -> None:
    before, after = mesh_mask(Look(), ring(60)), mesh_mask(Look(), ring(60) + np.array([0.5, 0]))
    moved = (before - after)[90:190, 40:128].sum(axis=1).mean()
    assert moved == pytest.approx(0.5, abs=0.15)


@pytest.mark.parametrize("radius", [85, 120, 400])
def test_a_face_that_fills_the_crop_shows_no_border(radius: float) -> None:
    mask = mesh_mask(Look(feather=5), ring(radius))
    assert mask[140, 128] == 1
    mask[MARGIN_PX + 1 : -MARGIN_PX - 1, MARGIN_PX + 1 : -MARGIN_PX - 1] = 0
    assert not mask.any()


@pytest.mark.parametrize("size", [64, 180])
def test_the_core_lies_where_the_mask_shows_all(size: int) -> None:
    inside = core_mask(size)
    assert inside.shape == (size, size)
    assert set(np.unique(inside)) == {0, 1}
    assert 0.15 < inside.mean() < 0.5


def test_a_mask_grows_below_zero_and_stays_inside_what_the_model_sees() -> None:
    plain, larger = (face_mask(Look(erode=erode, feather=5)) for erode in (0, -10))
    grown = 0.1 * (CHIN_PX - TOP_PX)
    width = [int((mask[141] > 0.5).sum()) for mask in (plain, larger)]
    assert width[1] - width[0] == pytest.approx(2 * grown, abs=2)
    largest = face_mask(Look(erode=-20, feather=5))
    assert largest[: SEEN.start].max() == largest[SEEN.stop :].max() == largest[SEEN.start].max() == 0


def test_a_learned_mask_is_where_the_model_drew_it() -> None:
    drawn = np.zeros((128, 128), np.float32)
    drawn[30:90, 40:100] = 1
    mask = learned_mask(Look(feather=0), drawn)
    rows, columns = np.flatnonzero(mask.max(axis=1) > 0.5), np.flatnonzero(mask.max(axis=0) > 0.5)
    scale = SEEN_PX / 128
    expected = [SEEN.start + scale * edge for edge in (30, 90, 40, 100)]
    assert [rows[0], rows[-1] + 1, columns[0], columns[-1] + 1] == pytest.approx(expected, abs=2)
