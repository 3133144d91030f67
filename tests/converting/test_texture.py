import cv2
import numpy as np
import numpy.typing as npt
import pytest

from pipeline.converting.texture import MAX_GRAIN, add_grain, measure_grain, measure_softness, sharpen, soften
from pipeline.types import Image, Mask
from tests.clips import scene

EVERYWHERE: npt.NDArray[np.bool_] = np.ones((128, 128), bool)


def smooth() -> Image:
    return np.asarray(cv2.GaussianBlur(scene(1, 128, 128), (0, 0), 3), np.uint8)


def noisy(deviation: float) -> Image:
    noise = np.random.default_rng(1).normal(0, deviation, (128, 128, 1))
    return np.asarray(np.clip(smooth() * 0.6 + 50 + noise, 0, 255).round(), np.uint8)


@pytest.mark.parametrize("deviation", [2.0, 5.0, 10.0])
def test_grain_is_measured(deviation: float) -> None:
    assert measure_grain(noisy(deviation), EVERYWHERE) == pytest.approx(deviation, rel=0.15)


def test_edges_are_no_grain() -> None:
    assert measure_grain(scene(1, 128, 128), EVERYWHERE) < 0.7
    assert measure_grain(scene(1, 128, 128), ~EVERYWHERE) == 0


def test_a_smooth_face_becomes_as_grainy_as_what_it_covers() -> None:
    under = noisy(6)
    made = add_grain(smooth(), under, EVERYWHERE)
    assert measure_grain(made, EVERYWHERE) == pytest.approx(measure_grain(under, EVERYWHERE), rel=0.2)
    np.testing.assert_array_equal(made, add_grain(smooth(), under, EVERYWHERE))
    assert abs(made.astype(int).mean() - smooth().mean()) < 0.5


def test_a_grainy_face_stays_and_wild_footage_gives_only_so_much() -> None:
    np.testing.assert_array_equal(add_grain(noisy(6), smooth(), EVERYWHERE), noisy(6))
    assert measure_grain(add_grain(smooth(), noisy(40), EVERYWHERE), EVERYWHERE) < 1.3 * MAX_GRAIN


def test_sharpening_adds_detail_and_keeps_flat_colours() -> None:
    def detail(image: Image) -> float:
        return float(np.abs(cv2.Laplacian(image.astype(np.float32), cv2.CV_32F)).mean())

    face = smooth()
    assert detail(sharpen(face, 1)) > 1.3 * detail(face)
    flat = np.full((32, 32, 3), (40, 90, 200), np.uint8)
    np.testing.assert_array_equal(sharpen(flat, 2), flat)


def fine(blur: float) -> Image:
    """Detail of all sizes, blurred."""
    noise = np.random.default_rng(3).normal(0, 1, (180, 180, 3))
    detail = sum(cv2.GaussianBlur(noise, (0, 0), width) * width * 12 for width in (1, 2, 4, 8))
    image = np.clip(128 + detail, 0, 255).astype(np.uint8)
    return np.asarray(cv2.GaussianBlur(image, (0, 0), blur) if blur else image, np.uint8)


ALL_OF_IT: Mask = np.ones((180, 180), np.float32)


@pytest.mark.parametrize("blur", [1.0, 1.7, 3.0])
def test_a_face_sharper_than_the_picture_is_made_as_soft(blur: float) -> None:
    softness = measure_softness(fine(0), fine(blur), ALL_OF_IT)
    assert softness == pytest.approx(blur, abs=0.25)
    assert np.abs(soften(fine(0), softness).astype(int) - fine(blur)).mean() < 1.5


def test_a_face_softer_than_the_picture_stays() -> None:
    assert measure_softness(fine(2), fine(0), ALL_OF_IT) == 0
    np.testing.assert_array_equal(soften(fine(2), 0), fine(2))


def test_softness_is_measured_where_it_counts_and_has_an_end() -> None:
    half = ALL_OF_IT.copy()
    half[:, 90:] = 0
    mixed = np.hstack([fine(0)[:, :90], fine(3)[:, 90:]])
    assert measure_softness(fine(0), mixed, half) < 0.4
    assert measure_softness(fine(0), np.full_like(fine(0), 90), ALL_OF_IT) == 4
