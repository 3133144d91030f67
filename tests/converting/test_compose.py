import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from av.video.frame import VideoFrame

from models.autoencoder import Decoder, Encoder
from models.checkpoint import Model
from pipeline.converting.compose import FaceSwap, compose, draw_faces
from pipeline.converting.masks import face_mask
from pipeline.converting.swapper import Swapper
from pipeline.faces.alignment import SEEN, SEEN_PX, invert, transform, warp
from pipeline.media.canvas import Canvas, PixelFormat
from pipeline.media.probe import Colour
from pipeline.options import DEFAULT_LOOK, Look, MaskShape, ResultView
from pipeline.types import Affine, Image, Rect
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
    """Each frame by itself."""
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
    (faces,) = draw_faces([canvas()], [[FaceSwap(crop_from_frame, "same")]], swapper, look)
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
