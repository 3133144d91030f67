from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from av.video.frame import VideoFrame
from hypothesis import given, settings
from hypothesis import strategies as st

from models.autoencoder import Decoder, Encoder
from models.checkpoint import Model
from pipeline.converting.compose import FaceSwap, compose, draw_faces, paste_face
from pipeline.converting.masks import face_mask
from pipeline.converting.swapper import Swapper
from pipeline.faces.alignment import SEEN, SEEN_PX, cut_crop, invert, transform, warp
from pipeline.media.canvas import Canvas, PixelFormat
from pipeline.media.probe import Colour
from pipeline.options import DEFAULT_LOOK, Look, MaskShape, ResultView
from pipeline.types import Affine, Image, Mask, Patch, Points, Rect
from tests.clips import scene

WIDTH, HEIGHT = 420, 300
PIXELS = PixelFormat("yuv420p", WIDTH, HEIGHT, Colour(1, 1, 1, 1))
WHOLE = Rect(0, 0, WIDTH, HEIGHT)


class SameEncoder(Encoder):
    """Hands on what it gets."""

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        assert pictures.shape[1:] == (3, 64, 64)
        assert float(pictures.max()) <= 1
        return pictures


class SameDecoder(Decoder):
    """Draws what the encoder got."""

    def forward(self, encoded: torch.Tensor) -> torch.Tensor:
        return encoded.clone()


class NegativeDecoder(Decoder):
    """Draws light what was dark."""

    def forward(self, encoded: torch.Tensor) -> torch.Tensor:
        return 1 - encoded


@pytest.fixture(scope="module")
def swapper() -> Swapper:
    model = Model(SameEncoder(8, 64), {"same": SameDecoder(), "negative": NegativeDecoder()})
    return Swapper(model, ["same", "negative"], torch.device("cpu"))


def canvas(smooth: float = 4) -> Canvas:
    image = cv2.GaussianBlur(scene(1, WIDTH, HEIGHT), (0, 0), smooth).astype(np.uint8)
    picture = VideoFrame.from_ndarray(image, format="bgr24")
    return Canvas(PIXELS.convert(picture), PIXELS)


def swap_faces(
    canvases: list[Canvas], swaps: list[list[FaceSwap]], swapper: Swapper, look: Look = DEFAULT_LOOK
) -> None:
    """Each frame by itself; these scenes show no faces that something could be in front of."""
    look = replace(look, paint_over=True)
    for target, faces in zip(canvases, draw_faces(canvases, swaps, swapper, look), strict=True):
        compose(target, faces, look)


def at(left: float, top: float, scale: float = 0.8, degrees: float = 12) -> Affine:
    """``crop_from_frame`` of a face whose crop begins about there."""
    turn = np.exp(1j * np.deg2rad(degrees)) / scale
    linear = np.array([[turn.real, -turn.imag], [turn.imag, turn.real]])
    return np.column_stack([linear, -linear @ (left, top)])


def shown(canvas: Canvas) -> npt.NDArray[np.int64]:
    return canvas.part(WHOLE).astype(np.int64)


def mask_in_frame(crop_from_frame: Affine) -> npt.NDArray[np.float32]:
    return warp(face_mask(), invert(crop_from_frame), (WIDTH, HEIGHT), border=cv2.BORDER_CONSTANT)


def luma_of(canvas: Canvas) -> Image:
    return np.asarray(canvas.frame.to_ndarray()[:HEIGHT], np.uint8)


@pytest.mark.parametrize("place", [at(60, 20), at(150, 60, 0.5, -30), at(-60, -40), at(-200, -150, 2.0, 3)])
def test_networks_that_change_nothing_change_nothing(swapper: Swapper, place: Affine) -> None:
    """The face comes back with the detail of 64 px, upright, in its place and in its colours."""
    made, before = canvas(), canvas()
    swap_faces([made], [[FaceSwap(place, "same")]], swapper)
    difference = np.abs(shown(made) - shown(before))
    assert difference.mean() < 1.2
    assert np.percentile(difference, 99.9) <= 10


def test_only_the_mask_is_touched(swapper: Swapper) -> None:
    place = at(60, 20)
    made, before = canvas(), canvas()
    swap_faces([made], [[FaceSwap(place, "negative")]], swapper)
    luma, old = luma_of(made), luma_of(before)
    mask = mask_in_frame(place)
    np.testing.assert_array_equal(luma[mask == 0], old[mask == 0])
    assert np.abs(luma.astype(int) - old)[mask > 0.9].mean() > 3


def test_each_frame_and_face_gets_its_own_person(swapper: Swapper) -> None:
    canvases = [canvas(), canvas(), canvas()]
    left, right = at(20, 30, 0.6), at(230, 40, 0.6)
    swaps = [[FaceSwap(left, "same"), FaceSwap(right, "negative")], [], [FaceSwap(left, "negative")]]
    swap_faces(canvases, swaps, swapper)
    before = shown(canvas())
    changed = [
        [np.abs(shown(made) - before)[mask_in_frame(place) > 0.9].mean() > 3 for place in (left, right)]
        for made in canvases
    ]
    assert changed == [[False, True], [False, False], [True, False]]


def test_a_later_face_lies_over_an_earlier_one(swapper: Swapper) -> None:
    """Where two overlap, the second is blended over what the first left, and its soft edge shows that."""
    both, first, second = canvas(), canvas(), canvas()
    under, over = FaceSwap(at(60, 20), "negative"), FaceSwap(at(130, 40), "same")
    swap_faces([both], [[under, over]], swapper)
    swap_faces([first, second], [[under], [over]], swapper)
    mask = mask_in_frame(over.crop_from_frame)
    np.testing.assert_allclose(shown(both)[mask > 0.99], shown(second)[mask > 0.99], atol=4)  # colours share samples
    np.testing.assert_array_equal(luma_of(both)[mask == 0], luma_of(first)[mask == 0])
    edge = (mask > 0.02) & (mask < 0.2) & (mask_in_frame(under.crop_from_frame) > 0.9)
    nearer = np.abs(shown(both) - shown(first))[edge].mean()
    assert nearer < np.abs(shown(both) - shown(second))[edge].mean()


def test_a_face_outside_the_frame_is_passed_over(swapper: Swapper) -> None:
    made = canvas()
    swap_faces([made], [[FaceSwap(at(5000, 5000), "negative"), FaceSwap(at(60, 20), "same")]], swapper)
    assert np.abs(shown(made) - shown(canvas())).mean() < 0.6


@pytest.mark.parametrize("scale", [0.9, 1.1])
def test_a_larger_face_covers_more_about_the_same_middle(swapper: Swapper, scale: float) -> None:
    place = at(60, 20)
    changed = []
    for look in (Look(feather=1), Look(feather=1, scale=scale)):
        made = canvas()
        swap_faces([made], [[FaceSwap(place, "negative")]], swapper, look)
        changed.append(np.abs(luma_of(made).astype(int) - luma_of(canvas())) > 2)
    plain, scaled = (np.argwhere(pixels) for pixels in changed)
    assert len(scaled) / len(plain) == pytest.approx(scale**2, rel=0.06)
    middle = (SEEN_PX - 1) / 2 + SEEN.start
    in_frame = transform(np.array([[middle, middle]]), invert(place))[0][::-1]
    np.testing.assert_allclose(
        scaled.mean(axis=0) - in_frame, scale * (plain.mean(axis=0) - in_frame), atol=1.5, err_msg="about the middle"
    )


@pytest.mark.parametrize("shape", ["outline", "box"])
def test_a_larger_face_ends_where_its_mask_ends(swapper: Swapper, shape: MaskShape) -> None:
    """And not at the square that the model sees: that would be a straight seam across the chin."""
    crop_from_frame, look = at(40, 20, degrees=0), Look(shape, feather=2, scale=1.1)
    (faces,) = draw_faces([canvas()], [[FaceSwap(crop_from_frame, "same")]], swapper, replace(look, paint_over=True))
    black = compose(canvas(), faces, look, ResultView("mask"))
    middle = (SEEN_PX - 1) / 2 + SEEN.start
    larger = np.array([[1.1, 0, -0.1 * middle], [0, 1.1, -0.1 * middle]])
    frame_from_crop = invert(crop_from_frame)
    matrix = np.column_stack([frame_from_crop[:, :2] * 1.1, transform(larger[:, 2:].T, frame_from_crop).T])
    expected = warp(face_mask(look), matrix, (WIDTH, HEIGHT), border=cv2.BORDER_CONSTANT)
    np.testing.assert_allclose(shown(black)[..., 1] / 255, expected, atol=0.06)


def test_sharpening_shows(swapper: Swapper) -> None:
    made = [canvas(1.5), canvas(1.5)]
    for target, look in zip(made, (Look(), Look(sharpen=2)), strict=True):
        swap_faces([target], [[FaceSwap(at(60, 20), "same")]], swapper, look)
    inside = mask_in_frame(at(60, 20)) > 0.9
    detail = [np.abs(cv2.Laplacian(luma_of(target).astype(np.float32), cv2.CV_32F))[inside].mean() for target in made]
    assert detail[1] > 1.3 * detail[0]


# Pasting one face

FRAME_W, FRAME_H, SIZE = 151, 110, 48
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
    centres = st.tuples(st.floats(-40, FRAME_W + 40), st.floats(-40, FRAME_H + 40))
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
    frame, crop, mask = smooth(FRAME_W, FRAME_H, 0), smooth(SIZE, SIZE, 2), spot()
    expected, share = blended_by_hand(frame, crop, mask, frame_from_crop)
    patch = paste_face(frame, crop, mask, frame_from_crop)
    if patch is None:
        assert share.max() < 0.02
    else:
        np.testing.assert_allclose(apply_patch(frame, patch).astype(float), expected, atol=2)


@settings(deadline=None)
@given(anywhere((0.05, 4)))
def test_nothing_else_is_touched(frame_from_crop: Affine) -> None:
    frame = scene(0, FRAME_W, FRAME_H)
    patch = paste_face(frame, scene(3, SIZE, SIZE), spot(), frame_from_crop)
    if patch is None:
        return
    height, width = patch.changed.shape
    assert patch.image.shape == (height, width, 3)
    assert patch.image.dtype == np.uint8
    assert patch.changed.dtype == np.bool_
    changed = np.zeros((FRAME_H, FRAME_W), bool)
    changed[patch.top : patch.top + height, patch.left : patch.left + width] = patch.changed
    np.testing.assert_array_equal(apply_patch(frame, patch)[~changed], frame[~changed])


@settings(deadline=None)
@given(anywhere((0.05, 4)))
def test_patches_lie_on_whole_chroma_samples(frame_from_crop: Affine) -> None:
    patch = paste_face(scene(0, FRAME_W, FRAME_H), scene(3, SIZE, SIZE), spot(), frame_from_crop)
    if patch is None:
        return
    height, width = patch.changed.shape
    right, bottom = patch.left + width, patch.top + height
    assert 0 <= patch.left < right <= FRAME_W
    assert 0 <= patch.top < bottom <= FRAME_H
    assert patch.left % 2 == patch.top % 2 == 0
    assert right % 2 == 0 or right == FRAME_W
    assert bottom % 2 == 0 or bottom == FRAME_H


@settings(deadline=None)
@given(anywhere((0.05, 4)))
def test_a_mask_of_zeros_changes_nothing(frame_from_crop: Affine) -> None:
    frame = scene(0, FRAME_W, FRAME_H)
    assert paste_face(frame, scene(3, SIZE, SIZE), np.zeros((SIZE, SIZE), np.float32), frame_from_crop) is None


@settings(deadline=None)
@given(anywhere((0.05, 4)))
def test_a_mask_too_faint_to_see_changes_nothing(frame_from_crop: Affine) -> None:
    faint = np.full((SIZE, SIZE), 1e-4, np.float32)
    patch = paste_face(scene(0, FRAME_W, FRAME_H), scene(3, SIZE, SIZE), faint, frame_from_crop)
    assert patch is None or not patch.changed.any()


@pytest.mark.parametrize("offset_xy", [(20, 30), (21, 35), (0, 0), (101, 61)])
def test_a_crop_that_is_not_turned_or_scaled_is_copied(offset_xy: tuple[int, int]) -> None:
    frame, crop = scene(0, FRAME_W, FRAME_H), scene(3, SIZE, SIZE)
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
        np.full((FRAME_H, FRAME_W, 3), (40, 90, 200), np.uint8),
        np.full((SIZE, SIZE, 3), (40, 90, 200), np.uint8),
    )
    patch = paste_face(frame, crop, np.ones((SIZE, SIZE), np.float32), frame_from_crop)
    if patch is not None:
        np.testing.assert_array_equal(apply_patch(frame, patch), frame)


@pytest.mark.parametrize(
    ("centre_xy", "seen"),
    [
        ((2, 50), "left"),
        ((FRAME_W - 3, 50), "right"),
        ((70, 2), "top"),
        ((70, FRAME_H - 3), "bottom"),
        ((1, 1), "corner"),
    ],
)
def test_a_face_across_the_edge_is_cut_there(centre_xy: tuple[float, float], seen: str) -> None:
    frame, crop, mask = smooth(FRAME_W, FRAME_H, 0), smooth(SIZE, SIZE, 2), spot()
    frame_from_crop = placed(1.2, 25, centre_xy)
    patch = paste_face(frame, crop, mask, frame_from_crop)
    assert patch is not None
    edges = {
        "left": patch.changed[:, 0] & (patch.left == 0),
        "right": patch.changed[:, -1] & (patch.left + patch.changed.shape[1] == FRAME_W),
        "top": patch.changed[0] & (patch.top == 0),
        "bottom": patch.changed[-1] & (patch.top + patch.changed.shape[0] == FRAME_H),
        "corner": patch.changed[:1, 0] & (patch.left == patch.top == 0),
    }
    assert edges[seen].any()
    expected, _ = blended_by_hand(frame, crop, mask, frame_from_crop)
    np.testing.assert_allclose(apply_patch(frame, patch).astype(float), expected, atol=2)


@pytest.mark.parametrize("centre_xy", [(-60, 50), (FRAME_W + 60, 50), (70, -60), (70, FRAME_H + 60), (-1e4, 3e4)])
def test_a_face_outside_the_frame_gives_nothing(centre_xy: tuple[float, float]) -> None:
    frame = scene(0, FRAME_W, FRAME_H)
    assert paste_face(frame, scene(3, SIZE, SIZE), spot(), placed(1.1, 30, centre_xy)) is None


def test_a_face_larger_than_the_frame_covers_it() -> None:
    frame, crop = scene(0, FRAME_W, FRAME_H), np.full((SIZE, SIZE, 3), (1, 2, 3), np.uint8)
    patch = paste_face(frame, crop, np.ones((SIZE, SIZE), np.float32), placed(9, 40, (80, 50)))
    assert patch is not None
    assert (apply_patch(frame, patch) == (1, 2, 3)).all()


def test_a_tiny_face_is_smoothed_and_not_picked_from() -> None:
    """A face eight times smaller in the frame: stripes of one px become grey, whatever px they fall on."""
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::2] = 200
    frame = np.zeros((FRAME_H, FRAME_W, 3), np.uint8)
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
        paste_face(scene(0, FRAME_W, FRAME_H), scene(3, SIZE, SIZE), np.ones(shape, np.float32), placed(1, 0, (70, 50)))


def test_inputs_stay_as_they_were() -> None:
    frame, crop, mask, frame_from_crop = (
        scene(0, FRAME_W, FRAME_H),
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
    frame, crop = smooth(FRAME_W, FRAME_H, 0), smooth(SIZE, SIZE, 2)
    place = placed(1.3, 20, (70, 50))
    whole, half = (paste_face(frame, crop, spot(), place, Look(opacity=opacity)) for opacity in (1.0, 0.5))
    assert whole is not None
    assert half is not None
    changes = [apply_patch(frame, patch).astype(int) - frame for patch in (whole, half)]
    np.testing.assert_allclose(changes[1], changes[0] / 2, atol=1)


@pytest.mark.parametrize("centre", [(70, 50), (4, 6), (FRAME_W - 5, 60)])
def test_poisson_takes_the_brightness_of_what_is_around(centre: tuple[int, int]) -> None:
    """A face that is 60 too light all over hardly shows its edge, keeps its own pattern, and stays in the mask."""
    frame = smooth(FRAME_W, FRAME_H, 0)
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
