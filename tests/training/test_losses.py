"""Losses, beside independent references."""

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from pipeline.training.trainer import LOSSES, SSIM_WEIGHT, WINDOW_PX, l1, ssim
from tests.training.test_trainer import pictures


def noisy(faces: torch.Tensor, amount: float) -> torch.Tensor:
    return (faces + amount * torch.randn(faces.shape, generator=torch.Generator().manual_seed(1))).clamp(0, 1)


def test_ssim_is_that_of_scikit_image() -> None:
    faces, others = pictures(3), noisy(pictures(3), 0.1)
    edge = WINDOW_PX // 2
    for one, other, found in zip(faces.numpy(), others.numpy(), ssim(faces, others).tolist(), strict=True):
        _, everywhere = structural_similarity(  # type: ignore[no-untyped-call]
            one, other, win_size=WINDOW_PX, channel_axis=0, data_range=1, full=True
        )
        assert found == pytest.approx(float(np.mean(everywhere[:, edge:-edge, edge:-edge])), abs=1e-4)


def test_ssim_is_one_for_the_same_and_falls_with_what_is_missing() -> None:
    faces = pictures(2)
    assert ssim(faces, faces).tolist() == pytest.approx([1, 1])
    found = [float(ssim(faces, noisy(faces, amount)).mean()) for amount in (0.02, 0.1, 0.5)]
    assert found == sorted(found, reverse=True)


def test_both_losses_fall_to_nothing_and_can_be_learnt_from() -> None:
    faces = pictures(2)
    for loss in LOSSES.values():
        assert float(loss(faces, faces)) == pytest.approx(0, abs=1e-6)
        made = torch.full_like(faces, 0.5, requires_grad=True)
        loss(made, faces).backward()  # type: ignore[no-untyped-call]
        assert made.grad is not None
        assert torch.isfinite(made.grad).all(), "flat pictures have no contrast to divide by"


def test_l1_and_ssim_weighs_both() -> None:
    faces, others = pictures(2), noisy(pictures(2), 0.2)
    expected = float(l1(faces, others)) + SSIM_WEIGHT * (1 - float(ssim(faces, others).mean()))
    assert float(LOSSES["l1+ssim"](faces, others)) == pytest.approx(expected)
