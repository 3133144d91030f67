"""Training pairs made from crops: a distorted face as input, the undistorted face as target; in batches.

Convention: crops are (N, 3, S, S) uint8 BGR; points are (x, y) in px, pixel centres at integers; a picture of side S
spans -0.5 … S - 0.5.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch.nn import functional

from models import PICTURE_PX
from pipeline.faces.alignment import CROP_PX, SEEN_PX, TEMPLATE, smoothing_weight

NODES = 5  # of the warp grid, along each side
SHIFT = 4  # fractional bits of an outline's corners

OUTSIDE, INSIDE, MOUTH, EYES = 0.2, 1.0, 2.0, 3.0  # weights of an error
WEIGHTS_BLUR_PX = 5  # at the edges of the weighted parts

OPPONENT_FROM_BGR = torch.tensor([[1.0, 1, 1], [2, -1, -1], [0, -1, 1]]) / torch.tensor([3.0, 6, 2]).sqrt()[:, None]
"""Orthogonal: brightness, blue against yellow, red against green; Lab's axes, but changes stay affine in BGR."""
MATCHED = 0.5  # share of the faces that get some of another person's colours
MAX_GAIN = 1.4  # of the spread of colours
HUE_DEG, SATURATION, BRIGHTNESS, BLURRED = 6.0, 0.15, 0.1, 0.3  # changes of inputs alone


@dataclass(frozen=True)
class Augmentation:
    """Strength of the random changes to training pictures."""

    rotation_deg: float = 10
    zoom: float = 0.05
    shift: float = 0.05  # of the crop's side
    mirror_probability: float = 0.4
    warp_px: float = 5  # standard deviation of each grid node, x and y


class Moments(NamedTuple):
    """Mean and standard deviation, (3,) each, of a person's opponent colours in [0, 1]."""

    mean: torch.Tensor
    deviation: torch.Tensor


class ColorChange(NamedTuple):
    """Changes of colours: (N, 3, 4) affine in BGR, of targets and of inputs; and how much inputs are blurred, (N,)."""

    targets: torch.Tensor
    inputs: torch.Tensor
    blur: torch.Tensor


@dataclass(frozen=True)
class PictureFormat:
    """The pictures of a network: their side, and whether crops with more px are smoothed before they are sampled.

    The reference tool's are not: they flicker when a face moves by fractions of a px.
    """

    px: int = PICTURE_PX
    is_smoothed: bool = False


REFERENCE_FORMAT = PictureFormat()

Draw = tuple[torch.Tensor, torch.Tensor]
"""Transforms (N, 2, 3) and moved grids (N, 5, 5, 2); see ``draw_transforms``."""


class Regions(NamedTuple):
    """What is known about the faces in crops.

    Attributes:
        outlines: (N, P, 2) on the CPU, the edges of the faces in px of a 256 crop; None if masks are not needed.
        covered: (N, 1, S, S) in [0, 1], where something is in front of the face; None if nothing is.
    """

    outlines: torch.Tensor | None = None
    covered: torch.Tensor | None = None


UNKNOWN = Regions()


class Pairs(NamedTuple):
    """Faces to learn from.

    Attributes:
        inputs: (N, 3, S, S) float32 in [0, 1], distorted.
        targets: (N, 3, S, S), undistorted.
        weights: (N, 1, S, S), how much an error in the target counts: 0 where the face is covered; None if not needed.
        masks: (N, 1, S, S) in [0, 1], where the target's face is; None if not known.
    """

    inputs: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor | None = None
    masks: torch.Tensor | None = None


def draw_pairs(
    crops: torch.Tensor,
    augmentation: Augmentation,
    generator: torch.Generator,
    pictures: PictureFormat = REFERENCE_FORMAT,
) -> Pairs:
    """Make one distorted input and one undistorted target from each of (N, 3, S, S) uint8 crops.

    The crop is turned, zoomed, shifted (edges replicated) and perhaps mirrored. A grid of 5 x 5 nodes over its central
    180 px, each node moved at random, gives the input; the similarity transform that fits the moved grid gives the
    target. Both are sampled from the crop bilinearly, once, at the composed coordinates.
    """
    return make_pairs(crops, draw_transforms(len(crops), augmentation, generator), pictures)


def make_pairs(
    crops: torch.Tensor,
    draw: Draw,
    pictures: PictureFormat = REFERENCE_FORMAT,
    regions: Regions = UNKNOWN,
    colors: ColorChange | None = None,
) -> Pairs:
    """Make inputs and targets of (N, 3, S, S) uint8 crops from what was drawn for them."""
    masks = None if regions.outlines is None else draw_masks(regions.outlines, draw, pictures.px)
    turn, grid = (drawn.to(crops.device, non_blocking=True) for drawn in draw)
    inputs, targets = apply(turn, spread_grid(grid, pictures.px)), apply(turn, fit_grid(grid, pictures.px))
    smooth = _smooth(crops.float(), pictures) if pictures.is_smoothed else crops.float()
    both = sample(smooth, torch.cat([inputs, targets], dim=1)).div_(255)
    weights = sample(weight_map().to(crops.device).expand(len(crops), -1, -1, -1), targets)
    if regions.covered is not None:
        weights = weights * (1 - sample(regions.covered.to(crops.device, non_blocking=True), targets))
    if masks is not None:
        masks = masks.to(crops.device, non_blocking=True)
    drawn_inputs, drawn_targets = both[:, :, : pictures.px], both[:, :, pictures.px :]
    if colors is not None:
        drawn_inputs = _blur(_change_colors(drawn_inputs, colors.inputs), colors.blur)
        drawn_targets = _change_colors(drawn_targets, colors.targets)
    return Pairs(drawn_inputs, drawn_targets, weights, masks)


def measure_colors(crops: torch.Tensor) -> Moments:
    """Measure the colours of (N, 3, S, S) uint8 crops inside the face."""
    size = crops.shape[-1]
    is_face = functional.interpolate(weight_map(), (size, size))[0, 0] >= INSIDE
    opponent = torch.einsum("oc,ncp->nop", OPPONENT_FROM_BGR, crops[:, :, is_face].float() / 255)
    return Moments(opponent.mean(dim=(0, 2)), opponent.std(dim=(0, 2)))


def draw_color_changes(count: int, own: Moments, others: Sequence[Moments], generator: torch.Generator) -> ColorChange:
    """Draw changes towards other people's colours, for input and target alike, and small ones of the input alone."""

    def uniform(low: float, high: float) -> torch.Tensor:
        return torch.rand(count, generator=generator) * (high - low) + low

    fraction = uniform(0, 1) * (uniform(0, 1) < MATCHED)
    chosen = torch.randint(max(len(others), 1), (count,), generator=generator)
    mean = torch.stack([other.mean for other in others] or [own.mean])[chosen]
    deviation = torch.stack([other.deviation for other in others] or [own.deviation])[chosen]
    ratio = (deviation / own.deviation.clamp(min=1e-3)).clamp(1 / MAX_GAIN, MAX_GAIN)
    gain = 1 + fraction[:, None] * (ratio - 1)
    shift = own.mean * (1 - gain) + fraction[:, None] * (mean - own.mean)
    targets = _affine(torch.diag_embed(gain), shift)

    angle, saturation = torch.deg2rad(uniform(-HUE_DEG, HUE_DEG)), uniform(1 - SATURATION, 1 + SATURATION)
    cos, sin, zeros = torch.cos(angle) * saturation, torch.sin(angle) * saturation, torch.zeros(count)
    brightness = uniform(1 - BRIGHTNESS, 1 + BRIGHTNESS)
    rows = [[brightness, zeros, zeros], [zeros, cos, -sin], [zeros, sin, cos]]
    change = torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)
    inputs = _affine(change @ torch.diag_embed(gain), (change @ shift[..., None])[..., 0])
    return ColorChange(targets, inputs, uniform(0, 1) * (uniform(0, 1) < BLURRED))


def _affine(matrix: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """Turn a (N, 3, 3) matrix and a (N, 3) shift of opponent colours into a (N, 3, 4) transform of BGR."""
    bgr_from_opponent = OPPONENT_FROM_BGR.T
    linear = bgr_from_opponent @ matrix @ OPPONENT_FROM_BGR
    return torch.cat([linear, (bgr_from_opponent @ shift[..., None])], dim=2)


def _change_colors(pictures: torch.Tensor, transforms: torch.Tensor) -> torch.Tensor:
    transforms = transforms.to(pictures.device)
    changed = torch.einsum("nij,njhw->nihw", transforms[:, :, :3], pictures) + transforms[:, :, 3, None, None]
    return changed.clamp_(0, 1)


def _blur(pictures: torch.Tensor, amount: torch.Tensor) -> torch.Tensor:
    """Mix pictures with what a blur over 5 px makes of them."""
    padded = functional.pad(pictures, (2, 2, 2, 2), mode="replicate")
    blurred = functional.avg_pool2d(functional.avg_pool2d(padded, 3, stride=1), 3, stride=1)
    return torch.lerp(pictures, blurred, amount.to(pictures.device)[:, None, None, None])


def _smooth(crops: torch.Tensor, pictures: PictureFormat) -> torch.Tensor:
    """Smooth (N, 3, S, S) crops so that sampling them makes no aliases."""
    side = smoothing_weight(crops.shape[-1] * SEEN_PX / CROP_PX / pictures.px)
    if side:
        for dim in (2, 3):
            size = crops.shape[dim]
            padded = torch.cat([crops.narrow(dim, 0, 1), crops, crops.narrow(dim, size - 1, 1)], dim=dim)
            neighbours = padded.narrow(dim, 0, size) + padded.narrow(dim, 2, size)
            crops = neighbours.mul_(side).add_(crops, alpha=1 - 2 * side)
    return crops


@cache
def weight_map() -> torch.Tensor:
    """(1, 1, 256, 256): how much an error counts in each px of a crop; most on eyes and mouth of the template."""
    (left_eye, right_eye, _, left_corner, right_corner), weights = TEMPLATE, np.full((CROP_PX, CROP_PX), OUTSIDE)
    parts = [
        ((128, 140), (66, 78), INSIDE),
        (left_eye, (24, 15), EYES),
        (right_eye, (24, 15), EYES),
        ((left_corner + right_corner) / 2, (34, 20), MOUTH),
    ]
    for (x, y), axes, weight in parts:
        cv2.ellipse(weights, (round(x), round(y)), axes, 0, 0, 360, weight, cv2.FILLED)
    blurred = cv2.GaussianBlur(weights, (0, 0), WEIGHTS_BLUR_PX).astype(np.float32)
    return torch.from_numpy(blurred)[None, None]


def draw_masks(outlines: torch.Tensor, draw: Draw, px: int) -> torch.Tensor:
    """Draw where the faces are in the targets: (N, 1, S, S), 1 inside the (N, P, 2) outlines."""
    turn, grid = draw
    corners = apply(turn, fit_grid(grid, px)[:, :: px - 1, :: px - 1])  # top left, top right …, in px of the crop
    origin, right, down = corners[:, 0, 0], corners[:, 0, 1], corners[:, 1, 0]
    crop_from_target = torch.stack([right - origin, down - origin], dim=2) / (px - 1)
    points = (outlines - origin[:, None]) @ torch.linalg.inv(crop_from_target).transpose(1, 2)
    masks = np.zeros((len(outlines), px, px), np.uint8)
    for mask, polygon in zip(masks, (points * (1 << SHIFT)).round().int().numpy(), strict=True):
        cv2.fillPoly(mask, [polygon], 255, cv2.LINE_AA, SHIFT)
    return torch.from_numpy(masks)[:, None].float().div_(255)


def draw_transforms(count: int, augmentation: Augmentation, generator: torch.Generator) -> Draw:
    """Draw random transforms and warp grids, on the CPU.

    Returns:
        ``crop_from_turned`` (N, 2, 3): maps px of the turned, shifted, perhaps mirrored crop to px of the crop; and
        the moved grid (N, 5, 5, 2): nodes (row, column) with their (x, y) in the turned crop.
    """

    def uniform(limit: float) -> torch.Tensor:
        return (torch.rand(count, generator=generator) * 2 - 1) * limit

    angle = torch.deg2rad(uniform(augmentation.rotation_deg))
    zoom = 1 + uniform(augmentation.zoom)
    shift = torch.stack([uniform(augmentation.shift * CROP_PX) for _ in "xy"], dim=1)
    mirrored = torch.rand(count, generator=generator) < augmentation.mirror_probability
    # turned = zoom * R(angle) (crop - centre) + centre + shift, then mirrored; this is its inverse.
    cos, sin = torch.cos(angle) / zoom, torch.sin(angle) / zoom
    linear = torch.stack([torch.stack([cos, sin], dim=1), torch.stack([-sin, cos], dim=1)], dim=1)
    centre = torch.tensor([(CROP_PX - 1) / 2] * 2)
    mirror = torch.where(mirrored, -1.0, 1.0)
    flip = torch.stack([mirror, torch.ones(count)], dim=1)  # about the centre: (x - c) -> -(x - c)
    matrix = linear * flip[:, None, :]
    offset = centre - (matrix @ centre[:, None])[..., 0] - (linear @ shift[..., None])[..., 0]
    turn = torch.cat([matrix, offset[..., None]], dim=2)

    line = torch.linspace(-SEEN_PX / 2, SEEN_PX / 2, NODES) + (CROP_PX - 1) / 2
    y, x = torch.meshgrid(line, line, indexing="ij")
    noise = torch.randn(count, NODES, NODES, 2, generator=generator) * augmentation.warp_px
    return turn, torch.stack([x, y], dim=-1) + noise


def spread_grid(grid: torch.Tensor, px: int = PICTURE_PX) -> torch.Tensor:
    """Interpolate (N, 5, 5, 2) moved nodes to a coordinate for every picture px: (N, S, S, 2).

    Nodes lie on the borders of 4 x 4 cells: for 64 px at -0.5, 15.5 … 63.5 of the picture.
    """
    cells = (torch.arange(px, device=grid.device) + 0.5) * (NODES - 1) / px
    nodes = torch.arange(NODES, device=grid.device)
    weights = (1 - (cells[:, None] - nodes[None, :]).abs()).clamp(min=0)
    return torch.einsum("pi,qj,nijc->npqc", weights, weights, grid)


def fit_grid(grid: torch.Tensor, px: int = PICTURE_PX) -> torch.Tensor:
    """Find the similarity transform nearest to a (N, 5, 5, 2) moved grid: a coordinate for every px, (N, S, S, 2).

    Least squares in closed form (see ``alignment.fit_similarity``), from the moved nodes to where they lie in the
    picture, inverted.
    """
    line = torch.linspace(0, px, NODES, device=grid.device) - 0.5
    y, x = torch.meshgrid(line, line, indexing="ij")
    to_points = torch.complex(x, y).flatten()
    from_points = torch.view_as_complex(grid.contiguous()).flatten(1)
    a, b = from_points - from_points.mean(dim=1, keepdim=True), to_points - to_points.mean()
    turn = (a.conj() * b).sum(dim=1, keepdim=True) / a.abs().square().sum(dim=1, keepdim=True)
    pixels = torch.arange(px, device=grid.device, dtype=grid.dtype)
    rows, columns = torch.meshgrid(pixels, pixels, indexing="ij")
    picture = torch.complex(columns, rows).flatten()
    points = (picture - to_points.mean()) / turn + from_points.mean(dim=1, keepdim=True)
    return torch.view_as_real(points).view(-1, px, px, 2)


def apply(matrices: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Map (N, H, W, 2) points through one (2, 3) transform per picture, (N, 2, 3)."""
    return torch.einsum("nij,nhwj->nhwi", matrices[:, :, :2], points) + matrices[:, None, None, :, 2]


def sample(pictures: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Read pictures at points, bilinearly; edges are replicated.

    Args:
        pictures: (N, C, S, S) float32, crops of any size.
        points: (N, H, W, 2), in px of a 256 crop.

    Returns:
        (N, C, H, W).
    """
    normalised = (points + 0.5) * (2 / CROP_PX) - 1  # grid_sample's own scale: -1 … 1 from border to border
    return functional.grid_sample(pictures, normalised, padding_mode="border", align_corners=False)
