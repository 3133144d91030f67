"""Training pairs, held against a slow reference that works them out picture by picture and pixel by pixel."""

from dataclasses import replace

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch

from pipeline.training.augment import Augmentation, draw_pairs, draw_transforms, fit_grid

NONE = Augmentation(rotation_deg=0, zoom=0, shift=0, mirror_probability=0, warp_px=0)
FAR = Augmentation(rotation_deg=40, zoom=0.3, shift=0.4, mirror_probability=0.5, warp_px=9)

Floats = npt.NDArray[np.float64]


def smooth_crops(count: int, seed: int = 7) -> torch.Tensor:
    """Soft, lopsided pictures, (count, 3, 256, 256)."""
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 6, 6, 3), dtype=np.uint8)
    pictures = [cv2.resize(picture, (256, 256), interpolation=cv2.INTER_CUBIC) for picture in coarse]
    return torch.from_numpy(np.stack(pictures).transpose(0, 3, 1, 2).copy())


def chance(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def read_slowly(picture: Floats, x: float, y: float) -> Floats:
    """Read (3, 256, 256) at one point, bilinearly; edges are replicated."""
    x, y = min(max(x, 0.0), 255.0), min(max(y, 0.0), 255.0)
    left, top = min(int(x), 254), min(int(y), 254)
    u, v = x - left, y - top
    upper = (1 - u) * picture[:, top, left] + u * picture[:, top, left + 1]
    lower = (1 - u) * picture[:, top + 1, left] + u * picture[:, top + 1, left + 1]
    read: Floats = (1 - v) * upper + v * lower
    return read


def bend_slowly(grid: Floats, row: int, column: int) -> Floats:
    """Where a pixel of the 64 px input lies in the turned crop: between the four nodes of its 16 px cell."""
    i, j = row // 16, column // 16
    v, u = (row + 0.5) / 16 - i, (column + 0.5) / 16 - j
    upper = (1 - u) * grid[i, j] + u * grid[i, j + 1]
    lower = (1 - u) * grid[i + 1, j] + u * grid[i + 1, j + 1]
    bent: Floats = (1 - v) * upper + v * lower
    return bent


def fit_slowly(grid: Floats) -> Floats:
    """Similarity, (3, 3), from the turned crop to the 64 px target, that brings the nodes nearest to their places."""
    rows, places = [], []
    for i in range(5):
        for j in range(5):
            x, y = grid[i, j]
            rows += [[x, -y, 1, 0], [y, x, 0, 1]]
            places += [16 * j - 0.5, 16 * i - 0.5]
    a, b, s, t = np.linalg.lstsq(np.array(rows), np.array(places), rcond=None)[0]
    return np.array([[a, -b, s], [b, a, t], [0, 0, 1]])


def draw_slowly(crop: Floats, turn: Floats, grid: Floats) -> tuple[Floats, Floats]:
    turned_from_target = np.linalg.inv(fit_slowly(grid))
    made = np.empty((2, 3, 64, 64))
    for row in range(64):
        for column in range(64):
            bent = bend_slowly(grid, row, column)
            straight = (turned_from_target @ [column, row, 1])[:2]
            for kind, place in enumerate((bent, straight)):
                x, y = turn @ [*place, 1]
                made[kind, :, row, column] = read_slowly(crop, x, y)
    return made[0], made[1]


@pytest.mark.parametrize("augmentation", [Augmentation(), FAR], ids=["usual", "far"])
def test_pairs_are_what_the_slow_way_makes(augmentation: Augmentation) -> None:
    crops = smooth_crops(3)
    inputs, targets = draw_pairs(crops, augmentation, chance(11))
    turns, grids = draw_transforms(3, augmentation, chance(11))
    assert (inputs.shape, targets.shape) == ((3, 3, 64, 64), (3, 3, 64, 64))
    assert (inputs.dtype, targets.dtype) == (torch.float32, torch.float32)
    for place in range(3):
        crop, turn, grid = (t[place].double().numpy() for t in (crops, turns, grids))
        expected = draw_slowly(crop / 255, turn, grid)
        for made, slowly in zip((inputs[place], targets[place]), expected, strict=True):
            np.testing.assert_allclose(made.numpy(), slowly, atol=1e-3)


def test_without_augmentation_both_are_the_middle_of_the_crop() -> None:
    crops = smooth_crops(2)
    inputs, targets = draw_pairs(crops, NONE, chance(1))
    np.testing.assert_allclose(inputs.numpy(), targets.numpy(), atol=1e-4)
    for crop, made in zip(crops, inputs, strict=True):
        middle = crop.numpy().transpose(1, 2, 0)[38:218, 38:218]
        resized = cv2.resize(middle, (64, 64), interpolation=cv2.INTER_LINEAR).transpose(2, 0, 1) / 255
        assert np.abs(made.numpy() - resized).mean() < 1 / 255


def test_channels_stay_apart() -> None:
    crops = torch.tensor([10, 130, 250], dtype=torch.uint8)[None, :, None, None].expand(2, 3, 256, 256)
    for pictures in draw_pairs(crops, Augmentation(), chance(3)):
        np.testing.assert_allclose(pictures.amin((0, 2, 3)) * 255, [10, 130, 250], atol=1e-3)
        np.testing.assert_allclose(pictures.amax((0, 2, 3)) * 255, [10, 130, 250], atol=1e-3)


def test_a_mirrored_draw_shows_the_crop_in_a_mirror() -> None:
    crops = smooth_crops(2)
    for plain, mirrored in zip(
        draw_pairs(crops, NONE, chance(1)),
        draw_pairs(crops, replace(NONE, mirror_probability=1), chance(1)),
        strict=True,
    ):
        np.testing.assert_allclose(mirrored.numpy(), plain.flip(3).numpy(), atol=1e-4)
        assert (mirrored - plain).abs().mean() > 0.05, "the picture must not be its own mirror image"


def test_input_and_target_show_the_same_part() -> None:
    """The target undoes the warp's mean shift, turn and zoom, so that only its bending is left to learn."""
    crops = smooth_crops(4)
    inputs, targets = draw_pairs(crops, Augmentation(), chance(5))
    assert 0 < (inputs - targets).abs().mean() < 0.06
    assert (inputs - targets[[1, 2, 3, 0]]).abs().mean() > 0.15


def test_the_target_is_turned_zoomed_and_shifted_never_bent() -> None:
    _, grids = draw_transforms(20, Augmentation(), chance(2))
    found = fit_grid(grids)
    right, down = found.diff(dim=2), found.diff(dim=1)
    assert (right - right[:, :1, :1]).abs().max() < 1e-3, "even spacing"
    assert (down - down[:, :1, :1]).abs().max() < 1e-3
    (x, y), (u, v) = right[:, 0, 0].T, down[:, 0, 0].T
    np.testing.assert_allclose(u, -y, atol=1e-3)
    np.testing.assert_allclose(v, x, atol=1e-3)
    assert (x > 0).all()
    assert y.abs().max() > 0.01, "the moved grids are turned a little"


def test_a_moved_grid_moves_the_target() -> None:
    """Nodes pushed 12 px right, 6 px up: the target shows what lies there."""
    line = torch.linspace(37.5, 217.5, 5)
    y, x = torch.meshgrid(line, line, indexing="ij")
    found = fit_grid(torch.stack([x + 12, y - 6], dim=-1)[None])[0]
    step = 180 / 64
    np.testing.assert_allclose(found[0, 0], [37.5 + 12 + step / 2, 37.5 - 6 + step / 2], atol=1e-3)
    np.testing.assert_allclose(found[5, 40], found[0, 0] + torch.tensor([40 * step, 5 * step]), atol=1e-3)


def test_draws_keep_to_their_limits_and_use_them() -> None:
    turns, grids = draw_transforms(6000, Augmentation(), chance(4))
    linear, offset = turns[:, :, :2].double(), turns[:, :, 2].double()
    determinant = torch.linalg.det(linear)
    mirrored = determinant < 0
    assert 0.38 < mirrored.double().mean() < 0.42
    zoom = 1 / determinant.abs().sqrt()
    assert 0.95 <= zoom.min() < 0.951
    assert 1.049 < zoom.max() <= 1.0501
    upright = torch.where(mirrored[:, None, None], linear * torch.tensor([-1.0, 1.0]), linear)
    angle = torch.rad2deg(torch.atan2(upright[:, 1, 0], upright[:, 0, 0]))
    assert -10.001 < angle.min() < -9.9
    assert 9.9 < angle.max() < 10.001
    centre = torch.tensor([127.5, 127.5], dtype=torch.float64)
    shift = torch.linalg.solve(linear, centre - offset) - centre  # where the crop's middle lies in the turned crop
    for axis in range(2):
        assert -12.801 < shift[:, axis].min() < -12.7
        assert 12.7 < shift[:, axis].max() < 12.801
    draws = np.stack([zoom, angle, shift[:, 0], shift[:, 1], mirrored])
    assert np.abs(np.corrcoef(draws) - np.eye(len(draws))).max() < 0.06, "each is drawn by itself"

    line = torch.linspace(37.5, 217.5, 5)
    y, x = torch.meshgrid(line, line, indexing="ij")
    noise = grids - torch.stack([x, y], dim=-1)
    np.testing.assert_allclose(noise.mean(0), torch.zeros(5, 5, 2), atol=0.35)
    np.testing.assert_allclose(noise.std(0), torch.full((5, 5, 2), 5.0), atol=0.35)
    assert np.abs(np.corrcoef(noise.reshape(6000, -1).T) - np.eye(50)).max() < 0.08, "each node moves by itself"


def test_equal_generators_draw_equal_pairs_and_others_do_not() -> None:
    crops = smooth_crops(2)
    pairs, again, other = (draw_pairs(crops, Augmentation(), chance(seed)) for seed in (21, 21, 22))
    for one, same, different in zip(pairs, again, other, strict=True):
        assert torch.equal(one, same)
        assert (one - different).abs().mean() > 0.01


def test_each_crop_of_a_batch_is_drawn_by_itself() -> None:
    inputs, targets = draw_pairs(smooth_crops(1).expand(3, -1, -1, -1), Augmentation(), chance(9))
    for pictures in (inputs, targets):
        assert (pictures[0] - pictures[1]).abs().mean() > 0.01
        assert (pictures[1] - pictures[2]).abs().mean() > 0.01


def test_crops_stay_as_they_are() -> None:
    crops = smooth_crops(2)
    before = crops.clone()
    draw_pairs(crops, Augmentation(), chance(1))
    assert torch.equal(crops, before)
