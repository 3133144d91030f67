import numpy as np
import numpy.typing as npt
import pytest
from skimage.color import rgb2lab

from pipeline.converting.color import (
    MAX_GAIN,
    ColorPair,
    Method,
    features_mask,
    match_colors,
    measure_colors,
    skin_mask,
)
from pipeline.types import Image, Mask
from tests.clips import scene

SIZE = 64


def muted(index: int, contrast: float, shift_bgr: tuple[float, float, float]) -> Image:
    """A scene far enough from black, white and pure colours to be shifted and stretched without clipping."""
    return (110 + contrast * (scene(index, SIZE, SIZE) - 110.0) + shift_bgr).round().astype(np.uint8)


def spot() -> Mask:
    """A mask off the centre, wider than tall."""
    y, x = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32)
    mask: Mask = np.clip(1.3 - ((x - 36) / 24) ** 2 - ((y - 25) / 15) ** 2, 0, 1)
    return mask


def statistics(image: Image, mask: Mask) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Mean and standard deviation in Lab, weighted, by another library's conversion."""
    lab = rgb2lab(image[..., ::-1]).reshape(-1, 3)
    mean = np.average(lab, axis=0, weights=mask.ravel())
    return mean, np.sqrt(np.average((lab - mean) ** 2, axis=0, weights=mask.ravel()))


def match_color(face: Image, original: Image, mask: Mask, how: Method = "reinhard") -> Image:
    return match_colors(face, ColorPair(measure_colors(face, mask, how), measure_colors(original, mask, how)), how)


def test_mean_and_spread_become_those_of_the_original() -> None:
    face, original, mask = muted(1, 0.4, (-12, 8, 20)), muted(1, 0.45, (15, -10, -5)), spot()
    assert np.abs(statistics(face, mask)[1] - statistics(original, mask)[1]).max() > 0.9
    assert np.abs(statistics(face, mask)[0] - statistics(original, mask)[0]).max() > 5
    mean, spread = statistics(match_color(face, original, mask), mask)
    np.testing.assert_allclose(mean, statistics(original, mask)[0], atol=0.5)
    np.testing.assert_allclose(spread, statistics(original, mask)[1], atol=0.25)


def test_only_what_the_mask_shows_counts() -> None:
    face, original, mask = muted(1, 0.4, (0, 0, 0)), muted(4, 0.5, (15, -10, -5)), (spot() > 0.5).astype(np.float32)
    elsewhere = original.copy()
    elsewhere[mask == 0] = (250, 3, 130)
    np.testing.assert_array_equal(match_color(face, elsewhere, mask), match_color(face, original, mask))


def test_a_face_matched_to_itself_stays() -> None:
    face = muted(2, 0.6, (5, -5, 10))
    np.testing.assert_allclose(match_color(face, face, spot()).astype(int), face, atol=1)


def test_contrast_is_raised_only_so_far() -> None:
    face, original, mask = muted(1, 0.1, (0, 0, 0)), muted(1, 0.7, (0, 0, 0)), spot()
    spread = statistics(match_color(face, original, mask), mask)[1]
    assert (statistics(original, mask)[1] > 4 * statistics(face, mask)[1]).all()
    np.testing.assert_allclose(spread / statistics(face, mask)[1], MAX_GAIN, rtol=0.1)


def test_contrast_is_lowered_only_so_far() -> None:
    face, original, mask = muted(1, 0.7, (0, 0, 0)), muted(1, 0.1, (0, 0, 0)), spot()
    spread = statistics(match_color(face, original, mask), mask)[1]
    lowered = spread / statistics(face, mask)[1]
    assert lowered[0] == pytest.approx(1 / MAX_GAIN, rel=0.1)
    assert (lowered[1:] < 0.5).all(), "hues as far as need be: grey footage has none"


def test_colours_that_would_leave_the_range_are_clipped() -> None:
    light = np.clip(scene(3, SIZE, SIZE) * 1.5 + 60, 0, 255).astype(np.uint8)
    made = match_color(scene(1, SIZE, SIZE), light, spot())
    assert made.dtype == np.uint8
    assert made.max() == 255
    assert statistics(made, spot())[0][0] > statistics(scene(1, SIZE, SIZE), spot())[0][0]


def test_a_flat_original_gives_its_colour() -> None:
    face, mask = muted(1, 0.35, (0, 0, 0)), spot()
    original = np.full_like(face, (70, 110, 190))
    made = match_color(face, original, mask)
    np.testing.assert_allclose(statistics(made, mask)[0], statistics(original, mask)[0], atol=0.5)


@pytest.mark.parametrize("end", [0, 255], ids=["black", "white"])
def test_black_and_white_originals(end: int) -> None:
    face = muted(1, 0.35, (0, 0, 0))
    made = match_color(face, np.full_like(face, end), spot())
    assert np.abs(made[spot() > 0].astype(int) - end).mean() < 20  # half of the contrast stays


@pytest.mark.parametrize("flat", [(0, 0, 0), (255, 255, 255), (40, 90, 200)], ids=["black", "white", "skin"])
def test_a_flat_face_takes_the_mean_colour(flat: tuple[int, int, int]) -> None:
    original, mask = muted(4, 0.5, (15, -10, -5)), spot()
    made = match_color(np.full_like(original, flat), original, mask)
    assert np.ptp(made.reshape(-1, 3), axis=0).max() <= 1
    np.testing.assert_allclose(statistics(made, mask)[0], statistics(original, mask)[0], atol=0.7)


def test_flat_onto_flat() -> None:
    face, original = np.full((SIZE, SIZE, 3), (10, 20, 30), np.uint8), np.full((SIZE, SIZE, 3), (90, 60, 200), np.uint8)
    np.testing.assert_allclose(match_color(face, original, spot()).astype(int), original, atol=1)


def test_a_mask_that_shows_nothing_gives_a_picture_all_the_same() -> None:
    face = muted(1, 0.5, (0, 0, 0))
    made = match_color(face, muted(4, 0.5, (0, 0, 0)), np.zeros((SIZE, SIZE), np.float32))
    np.testing.assert_allclose(made.astype(int), face, atol=1)


def test_inputs_stay_as_they_were() -> None:
    face, original, mask = muted(1, 0.5, (0, 0, 0)), muted(4, 0.5, (15, -10, -5)), spot()
    before = face.copy(), original.copy(), mask.copy()
    made = match_color(face, original, mask)
    assert (made != face).any()
    for now, then in zip((face, original, mask), before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_mean_moves_colours_and_keeps_their_spread() -> None:
    face, original, mask = muted(1, 0.4, (-12, 8, 20)), muted(4, 0.3, (15, -10, -5)), spot()
    mean, spread = statistics(match_color(face, original, mask, "mean"), mask)
    np.testing.assert_allclose(mean, statistics(original, mask)[0], atol=0.5)
    np.testing.assert_allclose(spread, statistics(face, mask)[1], atol=0.3)


def even(level: int, tint: tuple[int, int, int] = (0, 10, 30)) -> Image:
    """A face of one colour with fine grain."""
    grain = np.random.default_rng(level).normal(0, 4, (SIZE, SIZE, 1))
    return np.clip(level + np.array(tint) + grain, 0, 255).round().astype(np.uint8)


def lightness(image: Image) -> npt.NDArray[np.float64]:
    return np.asarray(rgb2lab(image[..., ::-1])[..., 0])


def test_skin_takes_the_light_that_falls_from_one_side() -> None:
    fall = np.linspace(0.6, 1.2, SIZE)[None, :, None]
    original = (even(140) * fall).clip(0, 255).round().astype(np.uint8)
    matched = match_color(even(120), original, np.ones((SIZE, SIZE), np.float32), "skin")
    columns = slice(SIZE // 4, -SIZE // 4)  # inside the face
    rows = slice(SIZE * 5 // 8, SIZE * 6 // 8)  # cheeks
    found, expected = (lightness(image)[rows, columns].mean(axis=0) for image in (matched, original))
    assert expected[-1] - expected[0] > 15
    assert np.abs(found - expected).max() < 4


def test_skin_is_matched_whatever_eyes_mouth_and_glasses_look_like() -> None:
    face, original = even(120), even(150, (10, 0, 20))
    spoilt = original.copy()
    spoilt[skin_mask(SIZE) < 0.5] = (0, 0, 255)  # eyes, mouth, hair
    spoilt[30:33, 10:54] = 0  # the rim of glasses over the cheeks
    mask = np.ones((SIZE, SIZE), np.float32)
    expected, found = (match_color(face, each, mask, "skin") for each in (original, spoilt))
    assert np.abs(expected.astype(int) - found).max() <= 2


def test_eyes_keep_their_hues_and_the_mouth_in_part() -> None:
    face = even(120)
    matched = match_color(face, even(120, (40, 0, 0)), np.ones((SIZE, SIZE), np.float32), "skin")
    lab_before, lab_after = (rgb2lab(image[..., ::-1])[..., 1:] for image in (face, matched))
    change = np.abs(lab_after - lab_before).max(axis=2)
    features, skin = features_mask(SIZE), change[skin_mask(SIZE) > 0.5].mean()
    assert skin > 8
    assert change[features > 0.99].max() < 1.5
    assert 0.3 * skin < change[(features > 0.39) & (features < 0.41)].mean() < 0.8 * skin


def test_skin_makes_no_blotches() -> None:
    """What is added is smooth, whatever the original shows: no step between neighbours is larger than a few levels."""
    face, original = even(120), muted(4, 0.9, (0, 0, 0))
    added = lightness(match_color(face, original, np.ones((SIZE, SIZE), np.float32), "skin")) - lightness(face)
    smooth = np.abs(np.diff(added, axis=1)).max()
    assert smooth < 4


@pytest.mark.parametrize("how", ["mean", "reinhard", "skin"])
def test_grey_footage_makes_a_grey_face(how: Method) -> None:
    grey = np.repeat(muted(1, 0.4, (0, 0, 0))[..., :1], 3, axis=2)
    made = match_color(muted(4, 0.5, (15, -10, -5)), grey, spot(), how)
    inside = made[spot() > 0.5].astype(int)
    assert np.ptp(inside, axis=1).mean() <= 2
    assert inside.std() > 5


@pytest.mark.parametrize("how", ["mean", "reinhard", "skin"])
@pytest.mark.parametrize("level", [0, 128, 255])
def test_flat_and_grey_pictures_divide_by_nothing(how: Method, level: int) -> None:
    flat, grey = np.full((SIZE, SIZE, 3), level, np.uint8), np.repeat(muted(1, 0.4, (0, 0, 0))[..., :1], 3, axis=2)
    with np.errstate(all="raise"):
        made = match_color(muted(1, 0.4, (0, 0, 0)), flat, spot(), how)
        also = match_color(flat, grey, spot(), how)
        grey_made = match_color(grey, grey, spot(), how)
    assert made.dtype == also.dtype == np.uint8
    assert int(np.ptp(grey_made.astype(int), axis=2).max()) <= 2, "grey stays grey"
