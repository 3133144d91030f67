"""Losses, beside independent references."""

import numpy as np
import numpy.typing as npt
import pytest
import torch
from skimage.metrics import structural_similarity

from pipeline.faces.alignment import CROP_PX, SEEN, TEMPLATE
from pipeline.training.augment import Pairs, weight_map
from pipeline.training.trainer import DETAIL_WEIGHT, LOSSES, SSIM_WEIGHT, WINDOW_PX, l1, l1_and_ssim, ssim, weighted
from tests.training.test_trainer import pictures


def noisy(faces: torch.Tensor, amount: float) -> torch.Tensor:
    return (faces + amount * torch.randn(faces.shape, generator=torch.Generator().manual_seed(1))).clamp(0, 1)


def test_ssim_is_that_of_scikit_image() -> None:
    faces, others = pictures(3), noisy(pictures(3), 0.1)
    window_px = WINDOW_PX[64]
    edge = window_px // 2
    for one, other, found in zip(
        faces.numpy(), others.numpy(), ssim(faces, others).mean(dim=(1, 2, 3)).tolist(), strict=True
    ):
        _, everywhere = structural_similarity(  # type: ignore[no-untyped-call]
            one, other, win_size=window_px, channel_axis=0, data_range=1, full=True
        )
        assert found == pytest.approx(float(np.mean(everywhere[:, edge:-edge, edge:-edge])), abs=1e-4)


def test_ssim_is_one_for_the_same_and_falls_with_what_is_missing() -> None:
    faces = pictures(2)
    torch.testing.assert_close(ssim(faces, faces), torch.ones(2, 3, 58, 58))
    found = [float(ssim(faces, noisy(faces, amount)).mean()) for amount in (0.02, 0.1, 0.5)]
    assert found == sorted(found, reverse=True)


def test_losses_fall_to_nothing_and_can_be_learnt_from() -> None:
    faces = pictures(2)
    for loss in LOSSES.values():
        pairs = Pairs(faces, faces, torch.ones(2, 1, 64, 64))
        assert float(loss(faces, pairs)) == pytest.approx(0, abs=1e-6)
        made = torch.full_like(faces, 0.5, requires_grad=True)
        loss(made, pairs).backward()  # type: ignore[no-untyped-call]
        assert made.grad is not None
        assert torch.isfinite(made.grad).all(), "flat pictures have no contrast to divide by"


def test_l1_and_ssim_weighs_both() -> None:
    faces, others = pictures(2), noisy(pictures(2), 0.2)
    expected = float(l1(faces, Pairs(others, others))) + SSIM_WEIGHT * (1 - float(ssim(faces, others).mean()))
    assert float(LOSSES["l1+ssim"](faces, Pairs(others, others))) == pytest.approx(expected)


def seen_weights(side: int) -> torch.Tensor:
    """The weights of an undistorted picture, (1, 1, side, side)."""
    return torch.nn.functional.interpolate(weight_map()[:, :, SEEN, SEEN], size=side, mode="bilinear")


@pytest.mark.parametrize("side", WINDOW_PX)
def test_equal_weights_are_l1_and_ssim(side: int) -> None:
    targets = torch.nn.functional.interpolate(pictures(2), size=side, mode="bilinear")
    drawn = noisy(targets, 0.2)
    pairs = Pairs(targets, targets, torch.ones(2, 1, side, side))
    expected = float(l1_and_ssim(drawn, pairs)) + DETAIL_WEIGHT * missing_detail(drawn.numpy(), targets.numpy())
    assert float(weighted(drawn, pairs)) == pytest.approx(expected, rel=1e-5)
    doubled = pairs._replace(weights=torch.full((2, 1, side, side), 2.0))
    assert float(weighted(drawn, doubled)) == pytest.approx(2 * float(weighted(drawn, pairs)), rel=1e-5)


def missing_detail(drawn: npt.NDArray[np.float32], targets: npt.NDArray[np.float32]) -> float:
    """Mean difference of how much neighbouring px differ, over every second square of 7 x 7."""

    def detail(faces: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        differences = np.abs(np.diff(faces, axis=3))[:, :, :-1] + np.abs(np.diff(faces, axis=2))[..., :-1]
        squares = np.lib.stride_tricks.sliding_window_view(differences, (7, 7), axis=(2, 3))
        return np.asarray(squares[:, :, ::2, ::2].mean(axis=(4, 5)))

    return float(np.abs(detail(drawn) - detail(targets)).mean())


def test_blur_costs_more_than_its_colours_do_and_a_shift_of_detail_costs_little() -> None:
    targets = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(5))
    pairs = Pairs(targets, targets, torch.ones(2, 1, 64, 64))
    blurred, moved = torch.nn.functional.avg_pool2d(targets, 5, 1, 2), targets.roll(1, dims=3)

    def beyond_structure(drawn: torch.Tensor) -> float:
        return float(weighted(drawn, pairs) - l1_and_ssim(drawn, pairs))

    assert beyond_structure(blurred) > 5 * beyond_structure(moved)


@pytest.mark.parametrize("side", [64, 128])
def test_an_error_in_an_eye_counts_more_than_one_outside_the_face(side: int) -> None:
    """The same error in the same texture; the second place is the right eye, which is not the left one mirrored."""
    scale = side / (SEEN.stop - SEEN.start)
    points = {"eye": TEMPLATE[1], "mouth": TEMPLATE[3:].mean(axis=0), "cheek": (95, 145), "corner": (CROP_PX - 52, 52)}
    targets, losses, parts = torch.full((1, 3, side, side), 0.5), {}, {}
    pairs = Pairs(targets, targets, seen_weights(side))
    half = side // 32
    for name, point in points.items():
        column, row = (round((value - SEEN.start) * scale) for value in point)
        drawn = targets.clone()
        drawn[:, :, row - half : row + half, column - half : column + half] += 0.3
        losses[name] = float(weighted(drawn, pairs))
        parts[name] = float(((drawn - targets).abs() * seen_weights(side)).mean())
    assert losses["eye"] > 1.2 * losses["mouth"] > 1.2 * 1.2 * losses["cheek"] > 1.2 * 1.2 * 3 * losses["corner"]
    structure = {name: losses[name] - parts[name] for name in losses}
    assert structure["eye"] > 1.5 * structure["cheek"] > 1.5 * 2 * structure["corner"], "SSIM is weighted too"
