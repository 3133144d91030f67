"""Training pairs, held against a slow reference that works them out picture by picture and pixel by pixel."""

from dataclasses import replace

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch

from pipeline.faces.alignment import TEMPLATE
from pipeline.training.augment import (
    INSIDE,
    OUTSIDE,
    REFERENCE_FORMAT,
    Augmentation,
    ColorChange,
    Pairs,
    PictureFormat,
    Regions,
    draw_color_changes,
    draw_pairs,
    draw_transforms,
    fit_grid,
    make_pairs,
    measure_colors,
    weight_map,
)

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


def pictures_of(pairs: Pairs) -> tuple[torch.Tensor, torch.Tensor]:
    return pairs.inputs, pairs.targets


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
    inputs, targets, *_ = draw_pairs(crops, augmentation, chance(11))
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
    inputs, targets, *_ = draw_pairs(crops, NONE, chance(1))
    np.testing.assert_allclose(inputs.numpy(), targets.numpy(), atol=1e-4)
    for crop, made in zip(crops, inputs, strict=True):
        middle = crop.numpy().transpose(1, 2, 0)[38:218, 38:218]
        resized = cv2.resize(middle, (64, 64), interpolation=cv2.INTER_LINEAR).transpose(2, 0, 1) / 255
        assert np.abs(made.numpy() - resized).mean() < 1 / 255


def test_channels_stay_apart() -> None:
    crops = torch.tensor([10, 130, 250], dtype=torch.uint8)[None, :, None, None].expand(2, 3, 256, 256)
    for pictures in pictures_of(draw_pairs(crops, Augmentation(), chance(3))):
        np.testing.assert_allclose(pictures.amin((0, 2, 3)) * 255, [10, 130, 250], atol=1e-3)
        np.testing.assert_allclose(pictures.amax((0, 2, 3)) * 255, [10, 130, 250], atol=1e-3)


def test_a_mirrored_draw_shows_the_crop_in_a_mirror() -> None:
    crops = smooth_crops(2)
    for plain, mirrored in zip(
        pictures_of(draw_pairs(crops, NONE, chance(1))),
        pictures_of(draw_pairs(crops, replace(NONE, mirror_probability=1), chance(1))),
        strict=True,
    ):
        np.testing.assert_allclose(mirrored.numpy(), plain.flip(3).numpy(), atol=1e-4)
        assert (mirrored - plain).abs().mean() > 0.05, "the picture must not be its own mirror image"


def test_input_and_target_show_the_same_part() -> None:
    """The target undoes the warp's mean shift, turn and zoom, so that only its bending is left to learn."""
    crops = smooth_crops(4)
    inputs, targets, *_ = draw_pairs(crops, Augmentation(), chance(5))
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
    pairs, again, other = (pictures_of(draw_pairs(crops, Augmentation(), chance(seed))) for seed in (21, 21, 22))
    for one, same, different in zip(pairs, again, other, strict=True):
        assert torch.equal(one, same)
        assert (one - different).abs().mean() > 0.01


def test_each_crop_of_a_batch_is_drawn_by_itself() -> None:
    inputs, targets, *_ = draw_pairs(smooth_crops(1).expand(3, -1, -1, -1), Augmentation(), chance(9))
    for pictures in (inputs, targets):
        assert (pictures[0] - pictures[1]).abs().mean() > 0.01
        assert (pictures[1] - pictures[2]).abs().mean() > 0.01


def test_crops_stay_as_they_are() -> None:
    crops = smooth_crops(2)
    before = crops.clone()
    draw_pairs(crops, Augmentation(), chance(1))
    assert torch.equal(crops, before)


# Averaged pictures


def stripes(period_px: int = 2) -> torch.Tensor:
    """A checkerboard, (2, 3, 256, 256)."""
    rows, columns = np.mgrid[0:256, 0:256] // (period_px // 2)
    board = ((rows + columns) % 2 * 255).astype(np.uint8)
    return torch.from_numpy(board).expand(2, 3, 256, 256)


@pytest.mark.parametrize(("px", "rest"), [(64, 0.4), (128, 0.3)])
@pytest.mark.parametrize("augmentation", [NONE, Augmentation()], ids=["undistorted", "usual"])
def test_what_is_finer_than_a_picture_is_smoothed_and_not_picked_from(
    augmentation: Augmentation, px: int, rest: float
) -> None:
    averaged, plain = (
        draw_pairs(stripes(), augmentation, chance(1), PictureFormat(px, is_smoothed)) for is_smoothed in (True, False)
    )
    for even, aliased in zip(pictures_of(averaged), pictures_of(plain), strict=True):
        assert even.shape == aliased.shape == (2, 3, px, px)
        assert aliased.std() > 0.1, "a pattern that the crop does not have"
        assert even.std() < rest * aliased.std()
        assert even.mean() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("px", [128, 192, 256])
def test_averaging_leaves_everything_in_its_place(px: int) -> None:
    averaged, plain = (draw_pairs(smooth_crops(3), FAR, chance(1), PictureFormat(px, flag)) for flag in (True, False))
    for mean, point in zip(pictures_of(averaged), pictures_of(plain), strict=True):
        assert (mean - point).abs().max() < 0.01
        assert (mean - point.roll(1, dims=3)).abs().max() > 0.02, "a shift of one px would show"


def test_pictures_of_128_px_show_what_those_of_64_px_show() -> None:
    small, large = (draw_pairs(smooth_crops(3), FAR, chance(1), PictureFormat(px)) for px in (64, 128))
    for name in ("inputs", "targets", "weights"):
        halved = torch.nn.functional.avg_pool2d(getattr(large, name), 2)
        assert (halved - getattr(small, name)).abs().max() < 0.02


def test_crops_of_512_px_give_the_pictures_of_256_px() -> None:
    crops = smooth_crops(2)
    larger = torch.nn.functional.interpolate(crops.float(), size=512, mode="bilinear").round().byte()
    pictures = PictureFormat(128, is_smoothed=True)
    pairs, fine = (draw_pairs(source, FAR, chance(6), pictures) for source in (crops, larger))
    assert pairs.weights is not None
    assert fine.weights is not None
    assert torch.equal(fine.weights, pairs.weights)
    for picture, other in zip(pictures_of(fine), pictures_of(pairs), strict=True):
        assert (picture - other).abs().max() < 0.01


def test_larger_crops_bring_their_detail() -> None:
    """A pattern of 2 px, which a crop of 256 px would lose, reaches pictures of 256 px."""
    board = stripes(4)[..., :256]
    fine = torch.cat([torch.cat([board, board], dim=2)] * 2, dim=3)
    assert fine.shape[2:] == (512, 512)
    pairs = draw_pairs(fine, NONE, chance(1), PictureFormat(256, is_smoothed=True))
    assert pairs.targets.std() > 0.15


# Weights and masks

POLYGON = np.array([[100.0, 70], [150, 60], [190, 110], [170, 190], [120, 200], [75, 150]])


def test_an_error_counts_most_on_the_eyes_then_on_the_mouth() -> None:
    weights = weight_map()[0, 0]
    left_eye, right_eye, nose, left_corner, right_corner = TEMPLATE.round().astype(int)
    mouth = (left_corner + right_corner) // 2
    on_eyes = min(float(weights[y, x]) for x, y in (left_eye, right_eye))
    assert float(weights.max()) - on_eyes < 0.1
    assert on_eyes > 1.3 * weights[mouth[1], mouth[0]] > 1.3 * 1.3 * weights[nose[1], nose[0]]
    assert weights[nose[1], nose[0]] == pytest.approx(INSIDE, abs=0.1)
    for corner in weights[[0, 0, -1, -1], [0, -1, 0, -1]]:
        assert float(corner) == pytest.approx(OUTSIDE, abs=0.01)


@pytest.mark.parametrize("pictures", [PictureFormat(), PictureFormat(128, is_smoothed=True)], ids=["plain", "averaged"])
def test_weights_lie_where_the_target_shows_what_they_weigh(pictures: PictureFormat) -> None:
    """Crops that show the weights themselves: mirrored, turned and shifted as the weights must be."""
    shift = replace(FAR, mirror_probability=0.5)
    crops = (weight_map() * 80).round().byte().expand(6, 3, -1, -1)
    turns, _ = draw_transforms(6, shift, chance(2))
    assert 0 < (torch.linalg.det(turns[:, :, :2]) < 0).sum() < 6, "some are mirrored"
    pairs = draw_pairs(crops, shift, chance(2), pictures)
    assert pairs.weights is not None
    assert pairs.weights.shape == (6, 1, pictures.px, pictures.px)
    assert (pairs.weights - pairs.targets[:, :1] * 255 / 80).abs().max() < 0.05


def filled_crop(side: int) -> torch.Tensor:
    """The polygon, white on black, (3, side, side)."""
    fine = 8 * side
    corners = ((POLYGON + 0.5) * fine / 256 - 0.5) * 16
    drawn = cv2.fillPoly(np.zeros((fine, fine), np.uint8), [corners.round().astype(np.int32)], 255, shift=4)
    return torch.from_numpy(cv2.resize(drawn, (side, side), interpolation=cv2.INTER_AREA)).expand(3, -1, -1)


@pytest.mark.parametrize(("px", "side"), [(128, 256), (192, 512)])
def test_a_mask_lies_where_the_target_shows_the_outline(px: int, side: int) -> None:
    crops = filled_crop(side).expand(6, -1, -1, -1)
    outlines = torch.from_numpy(POLYGON).float().expand(6, -1, -1)
    draw = draw_transforms(6, FAR, chance(2))
    assert 0 < (torch.linalg.det(draw[0][:, :, :2]) < 0).sum() < 6, "some are mirrored"
    pairs = make_pairs(crops, draw, PictureFormat(px, is_smoothed=True), Regions(outlines))
    assert pairs.masks is not None
    assert pairs.masks.shape == (6, 1, px, px)
    assert pairs.masks.dtype == torch.float32
    differences = (pairs.masks - pairs.targets[:, :1]).abs()
    assert differences.mean() < 0.007, "half a px along the edge"
    assert (pairs.masks.roll(2, dims=3) - pairs.targets[:, :1]).abs().mean() > 0.01, "a shift would show"
    assert (pairs.masks.mean((1, 2, 3)) > 0.02).all()


def test_a_face_outside_the_picture_has_no_mask_and_is_no_error() -> None:
    draw = draw_transforms(2, NONE, chance(1))
    outlines = torch.from_numpy(POLYGON + np.array([5000, -4000])).float().expand(2, -1, -1)
    pairs = make_pairs(smooth_crops(2), draw, PictureFormat(128, is_smoothed=True), Regions(outlines))
    assert pairs.masks is not None
    assert not pairs.masks.any()


def test_without_outlines_there_are_no_masks() -> None:
    assert draw_pairs(smooth_crops(1), Augmentation(), chance(1)).masks is None


def color_crops(bgr: tuple[float, float, float], spread: float, seed: int) -> torch.Tensor:
    noise = torch.randn(6, 3, 256, 256, generator=chance(seed)) * spread
    return (torch.tensor(bgr)[:, None, None] + noise).clamp(0, 255).byte()


def test_colours_go_towards_another_persons_and_no_farther() -> None:
    own, other = color_crops((90, 110, 150), 12, 1), color_crops((140, 120, 120), 25, 2)
    moments, others = measure_colors(own), measure_colors(other)
    draw = draw_transforms(6, NONE, chance(1))
    straight = make_pairs(own, draw)
    means = []
    for seed in range(12):
        changes = draw_color_changes(6, moments, [others], chance(seed))
        changed = make_pairs(own, draw, colors=changes)
        means.append(changed.targets[:, :, 16:48, 16:48].mean(dim=(2, 3)))
    means_of_all = torch.cat(means)
    low, high = torch.tensor([90, 110, 120]) / 255, torch.tensor([140, 120, 150]) / 255
    assert (means_of_all > low - 0.02).all()
    assert (means_of_all < high + 0.02).all()
    plain = straight.targets[:, :, 16:48, 16:48].mean()
    is_changed = (means_of_all - means_of_all.median(dim=0).values).abs().max(dim=1).values > 0.01
    assert 0.2 < is_changed.float().mean() < 0.8, f"about half of them ({plain:.2f})"


def test_inputs_vary_more_than_targets() -> None:
    crops = color_crops((90, 110, 150), 12, 1)
    moments = measure_colors(crops)
    changes = draw_color_changes(200, moments, [], chance(3))
    unchanged = torch.eye(3, 4).expand(200, -1, -1)
    torch.testing.assert_close(changes.targets, unchanged, atol=1e-5, rtol=0)
    assert (changes.inputs - unchanged).abs().amax(dim=(1, 2)).median() > 0.02
    assert 0.1 < (changes.blur > 0).float().mean() < 0.5


def test_a_blurred_input_is_softer_and_as_bright() -> None:
    crops = color_crops((90, 110, 150), 40, 1)
    draw, plain = draw_transforms(6, NONE, chance(1)), torch.eye(3, 4).expand(6, -1, -1)
    sharp, soft = (make_pairs(crops, draw, colors=ColorChange(plain, plain, torch.full((6,), by))) for by in (0.0, 1.0))
    assert soft.inputs.std() < 0.8 * sharp.inputs.std()
    assert float(soft.inputs.mean()) == pytest.approx(float(sharp.inputs.mean()), abs=0.005)
    assert torch.equal(soft.targets, sharp.targets)


@pytest.mark.parametrize("pictures", [REFERENCE_FORMAT, PictureFormat(128, is_smoothed=True)])
def test_errors_count_nothing_where_something_is_in_front(pictures: PictureFormat) -> None:
    covered = torch.from_numpy(filled_crop(128).numpy()[:1].copy()).float().expand(4, 1, -1, -1) / 255
    crops = filled_crop(256).expand(4, -1, -1, -1)  # white where the face is covered
    draw = draw_transforms(4, Augmentation(), chance(2))
    bare, seen = make_pairs(crops, draw, pictures), make_pairs(crops, draw, pictures, Regions(covered=covered))
    assert bare.weights is not None
    assert seen.weights is not None
    assert torch.equal(bare.targets, seen.targets)
    hidden, free = seen.targets[:, :1] > 0.99, seen.targets[:, :1] < 0.01
    assert hidden.any()
    assert seen.weights[hidden].sum() < 0.03 * bare.weights[hidden].sum()
    assert seen.weights[free].sum() > 0.98 * bare.weights[free].sum()
