from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.converting.compose import paste_face
from pipeline.converting.masks import face_mask
from pipeline.faces.alignment import cut_crop, invert, transform
from pipeline.options import Look
from pipeline.types import Affine, Image, Mask, Patch, Points
from tests.clips import scene

WIDTH, HEIGHT, SIZE = 151, 110, 48
Floats = npt.NDArray[np.float64]


def apply_patch(frame: Image, patch: Patch) -> Image:
    """A copy of a frame with a patch in it."""
    height, width = patch.changed.shape
    made = frame.copy()
    made[patch.top : patch.top + height, patch.left : patch.left + width] = patch.image
    return made


def placed(scale: float, degrees: float, centre_xy: tuple[float, float], size: int = SIZE) -> Affine:
    """``frame_from_crop`` that puts the middle of a crop somewhere, turned and scaled."""
    turn = scale * np.exp(1j * np.deg2rad(degrees))
    linear = np.array([[turn.real, -turn.imag], [turn.imag, turn.real]])
    return np.column_stack([linear, np.array(centre_xy) - linear @ np.full(2, (size - 1) / 2)])


def anywhere(scales: tuple[float, float]) -> st.SearchStrategy[Affine]:
    """Places in the frame, across its edges and beyond them."""
    centres = st.tuples(st.floats(-40, WIDTH + 40), st.floats(-40, HEIGHT + 40))
    return st.builds(placed, st.floats(*scales), st.floats(-180, 180), centres)


def spot(softness: float = 1.0) -> Mask:
    """A mask off the centre, wider than tall, zero towards the edges of the crop."""
    y, x = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32)
    mask: Mask = np.clip((1 - ((x - 26) / 19) ** 2 - ((y - 20) / 14) ** 2) / softness, 0, 1)
    return mask


def smooth(width: int, height: int, phase: float) -> Image:
    """A picture without edges, so that resampling costs nothing."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    waves = [np.sin(x / 17 + phase), np.cos(y / 13 - phase), np.sin((x + 2 * y) / 29 + phase)]
    return np.stack([120 + 60 * wave for wave in waves], axis=-1).round().astype(np.uint8)


def sample(image: npt.NDArray[Any], points_xy: Points) -> Floats:
    """Bilinear interpolation by the formula; outside the picture its edge goes on."""
    height, width = image.shape[:2]
    x, y = np.clip(points_xy[:, 0], 0, width - 1), np.clip(points_xy[:, 1], 0, height - 1)
    left, top = np.minimum(x.astype(int), width - 2), np.minimum(y.astype(int), height - 2)
    dx, dy = (part.reshape(-1, *[1] * (image.ndim - 2)) for part in (x - left, y - top))
    upper = image[top, left] * (1 - dx) + image[top, left + 1] * dx
    lower = image[top + 1, left] * (1 - dx) + image[top + 1, left + 1] * dx
    made: Floats = upper * (1 - dy) + lower * dy
    return made


def blended_by_hand(frame: Image, crop: Image, mask: Mask, frame_from_crop: Affine) -> tuple[Floats, Floats]:
    """The whole frame with the face in it, and how much of the face shows at each px."""
    height, width = frame.shape[:2]
    y, x = np.mgrid[0:height, 0:width]
    there = transform(np.column_stack([x.ravel(), y.ravel()]).astype(np.float64), invert(frame_from_crop))
    share = sample(np.pad(mask, 1), there + 1).reshape(height, width)
    face = sample(crop, there).reshape(frame.shape)
    return frame + (face - frame) * share[..., None], share


@settings(deadline=None)
@given(anywhere((0.55, 2.5)))
def test_it_is_the_blend_over_the_whole_frame(frame_from_crop: Affine) -> None:
    frame, crop, mask = smooth(WIDTH, HEIGHT, 0), smooth(SIZE, SIZE, 2), spot()
    expected, share = blended_by_hand(frame, crop, mask, frame_from_crop)
    patch = paste_face(frame, crop, mask, frame_from_crop)
    if patch is None:
        assert share.max() < 0.02
    else:
        np.testing.assert_allclose(apply_patch(frame, patch).astype(float), expected, atol=2)


@settings(deadline=None)
@given(anywhere((0.05, 4)))
def test_nothing_else_is_touched(frame_from_crop: Affine) -> None:
    frame = scene(0, WIDTH, HEIGHT)
    patch = paste_face(frame, scene(3, SIZE, SIZE), spot(), frame_from_crop)
    if patch is None:
        return
    height, width = patch.changed.shape
    assert patch.image.shape == (height, width, 3)
    assert patch.image.dtype == np.uint8
    assert patch.changed.dtype == np.bool_
    changed = np.zeros((HEIGHT, WIDTH), bool)
    changed[patch.top : patch.top + height, patch.left : patch.left + width] = patch.changed
    np.testing.assert_array_equal(apply_patch(frame, patch)[~changed], frame[~changed])


@settings(deadline=None)
@given(anywhere((0.05, 4)))
def test_patches_lie_on_whole_chroma_samples(frame_from_crop: Affine) -> None:
    patch = paste_face(scene(0, WIDTH, HEIGHT), scene(3, SIZE, SIZE), spot(), frame_from_crop)
    if patch is None:
        return
    height, width = patch.changed.shape
    right, bottom = patch.left + width, patch.top + height
    assert 0 <= patch.left < right <= WIDTH
    assert 0 <= patch.top < bottom <= HEIGHT
    assert patch.left % 2 == patch.top % 2 == 0
    assert right % 2 == 0 or right == WIDTH
    assert bottom % 2 == 0 or bottom == HEIGHT


@settings(deadline=None)
@given(anywhere((0.05, 4)))
def test_a_mask_of_zeros_changes_nothing(frame_from_crop: Affine) -> None:
    frame = scene(0, WIDTH, HEIGHT)
    assert paste_face(frame, scene(3, SIZE, SIZE), np.zeros((SIZE, SIZE), np.float32), frame_from_crop) is None


@settings(deadline=None)
@given(anywhere((0.05, 4)))
def test_a_mask_too_faint_to_see_changes_nothing(frame_from_crop: Affine) -> None:
    faint = np.full((SIZE, SIZE), 1e-4, np.float32)
    patch = paste_face(scene(0, WIDTH, HEIGHT), scene(3, SIZE, SIZE), faint, frame_from_crop)
    assert patch is None or not patch.changed.any()


@pytest.mark.parametrize("offset_xy", [(20, 30), (21, 35), (0, 0), (101, 61)])
def test_a_crop_that_is_not_turned_or_scaled_is_copied(offset_xy: tuple[int, int]) -> None:
    frame, crop = scene(0, WIDTH, HEIGHT), scene(3, SIZE, SIZE)
    x, y = offset_xy
    shift = np.array([[1.0, 0, x], [0, 1, y]])
    patch = paste_face(frame, crop, np.ones((SIZE, SIZE), np.float32), shift)
    assert patch is not None
    expected = frame.copy()
    expected[y : y + SIZE, x : x + SIZE] = crop
    np.testing.assert_array_equal(apply_patch(frame, patch), expected)
    assert patch.changed.sum() == SIZE * SIZE


def test_half_a_mask_shows_half_of_each() -> None:
    frame, crop = np.full((60, 80, 3), (10, 200, 90), np.uint8), np.full((SIZE, SIZE, 3), (110, 100, 30), np.uint8)
    half = np.full((SIZE, SIZE), 0.5, np.float32)
    patch = paste_face(frame, crop, half, np.array([[1.0, 0, 8], [0, 1, 6]]))
    assert patch is not None
    made = apply_patch(frame, patch)
    assert (made[6 : 6 + SIZE, 8 : 8 + SIZE] == (60, 150, 60)).all()


@settings(deadline=None)
@given(anywhere((0.05, 4)))
def test_a_face_of_the_frames_own_colour_leaves_no_edge(frame_from_crop: Affine) -> None:
    frame, crop = (
        np.full((HEIGHT, WIDTH, 3), (40, 90, 200), np.uint8),
        np.full((SIZE, SIZE, 3), (40, 90, 200), np.uint8),
    )
    patch = paste_face(frame, crop, np.ones((SIZE, SIZE), np.float32), frame_from_crop)
    if patch is not None:
        np.testing.assert_array_equal(apply_patch(frame, patch), frame)


@pytest.mark.parametrize(
    ("centre_xy", "seen"),
    [((2, 50), "left"), ((WIDTH - 3, 50), "right"), ((70, 2), "top"), ((70, HEIGHT - 3), "bottom"), ((1, 1), "corner")],
)
def test_a_face_across_the_edge_is_cut_there(centre_xy: tuple[float, float], seen: str) -> None:
    frame, crop, mask = smooth(WIDTH, HEIGHT, 0), smooth(SIZE, SIZE, 2), spot()
    frame_from_crop = placed(1.2, 25, centre_xy)
    patch = paste_face(frame, crop, mask, frame_from_crop)
    assert patch is not None
    edges = {
        "left": patch.changed[:, 0] & (patch.left == 0),
        "right": patch.changed[:, -1] & (patch.left + patch.changed.shape[1] == WIDTH),
        "top": patch.changed[0] & (patch.top == 0),
        "bottom": patch.changed[-1] & (patch.top + patch.changed.shape[0] == HEIGHT),
        "corner": patch.changed[:1, 0] & (patch.left == patch.top == 0),
    }
    assert edges[seen].any()
    expected, _ = blended_by_hand(frame, crop, mask, frame_from_crop)
    np.testing.assert_allclose(apply_patch(frame, patch).astype(float), expected, atol=2)


@pytest.mark.parametrize("centre_xy", [(-60, 50), (WIDTH + 60, 50), (70, -60), (70, HEIGHT + 60), (-1e4, 3e4)])
def test_a_face_outside_the_frame_gives_nothing(centre_xy: tuple[float, float]) -> None:
    frame = scene(0, WIDTH, HEIGHT)
    assert paste_face(frame, scene(3, SIZE, SIZE), spot(), placed(1.1, 30, centre_xy)) is None


def test_a_face_larger_than_the_frame_covers_it() -> None:
    frame, crop = scene(0, WIDTH, HEIGHT), np.full((SIZE, SIZE, 3), (1, 2, 3), np.uint8)
    patch = paste_face(frame, crop, np.ones((SIZE, SIZE), np.float32), placed(9, 40, (80, 50)))
    assert patch is not None
    assert (apply_patch(frame, patch) == (1, 2, 3)).all()


def test_a_tiny_face_is_averaged_and_not_picked_from() -> None:
    """A face eight times smaller in the frame: stripes of one px become grey, whatever px they fall on."""
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::2] = 200
    frame = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    patch = paste_face(frame, stripes, face_mask(), placed(1 / 8, 0, (70.3, 50.8), 256))
    assert patch is not None
    np.testing.assert_allclose(apply_patch(frame, patch)[48:54, 68:73].astype(int), 100, atol=12)


@settings(deadline=None)
@given(
    st.builds(
        placed,
        st.floats(0.2, 0.9),
        st.floats(-180, 180),
        st.tuples(st.floats(90, 230), st.floats(70, 190)),
        st.just(256),
    )
)
def test_a_crop_pasted_back_is_nearly_the_frame(frame_from_crop: Affine) -> None:
    frame = smooth(320, 260, 1)
    crop = cut_crop(frame, invert(frame_from_crop))
    patch = paste_face(frame, crop, face_mask(), frame_from_crop)
    assert patch is not None
    height, width = patch.changed.shape
    under = frame[patch.top : patch.top + height, patch.left : patch.left + width]
    error = np.abs(patch.image.astype(int) - under)[patch.changed]
    assert error.mean() < 1
    assert error.max() <= 4


@pytest.mark.parametrize("shape", [(SIZE, SIZE - 1), (SIZE + 2, SIZE), (256, 256)])
def test_a_mask_of_another_size_is_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="differ in size"):
        paste_face(scene(0, WIDTH, HEIGHT), scene(3, SIZE, SIZE), np.ones(shape, np.float32), placed(1, 0, (70, 50)))


def test_inputs_stay_as_they_were() -> None:
    frame, crop, mask, frame_from_crop = (
        scene(0, WIDTH, HEIGHT),
        scene(3, SIZE, SIZE),
        spot(),
        placed(1.3, 20, (60, 50)),
    )
    before = frame.copy(), crop.copy(), mask.copy(), frame_from_crop.copy()
    patch = paste_face(frame, crop, mask, frame_from_crop)
    assert patch is not None
    assert (apply_patch(frame, patch) != frame).any()
    patch.image[:] = 77  # nor is the patch a view of the frame
    for now, then in zip((frame, crop, mask, frame_from_crop), before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_half_the_opacity_is_half_of_the_change() -> None:
    frame, crop = smooth(WIDTH, HEIGHT, 0), smooth(SIZE, SIZE, 2)
    place = placed(1.3, 20, (70, 50))
    whole, half = (paste_face(frame, crop, spot(), place, Look(opacity=opacity)) for opacity in (1.0, 0.5))
    assert whole is not None
    assert half is not None
    changes = [apply_patch(frame, patch).astype(int) - frame for patch in (whole, half)]
    np.testing.assert_allclose(changes[1], changes[0] / 2, atol=1)


@pytest.mark.parametrize("centre", [(70, 50), (4, 6), (WIDTH - 5, 60)])
def test_poisson_takes_the_brightness_of_what_is_around(centre: tuple[int, int]) -> None:
    """A face that is 60 too light all over hardly shows its edge, keeps its own pattern, and stays in the mask."""
    frame = smooth(WIDTH, HEIGHT, 0)
    place = placed(1.3, 20, centre)
    face = np.clip(cut_crop(frame, invert(place), SIZE).astype(int) + 60, 0, 255).astype(np.uint8)
    plain, bent = (paste_face(frame, face, spot(), place, Look(blend=blend)) for blend in ("feather", "poisson"))
    assert plain is not None
    assert bent is not None
    np.testing.assert_array_equal(plain.changed, bent.changed)
    off = [np.abs(apply_patch(frame, patch).astype(int) - frame).mean() for patch in (plain, bent)]
    assert off[0] > 1
    assert off[1] < 0.25 * off[0]
    outside = np.ones(frame.shape[:2], bool)
    outside[bent.top : bent.top + bent.changed.shape[0], bent.left : bent.left + bent.changed.shape[1]] = ~bent.changed
    np.testing.assert_array_equal(apply_patch(frame, bent)[outside], frame[outside])
