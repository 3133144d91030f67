"""Training pairs made from crops: a distorted face as input, the undistorted face as target; in batches.

Convention: crops are (N, 3, S, S) uint8 BGR; points are (x, y) in px, pixel centres at integers; a picture of side S
spans -0.5 … S - 0.5.
"""

from dataclasses import dataclass

import torch
from torch.nn import functional

from models import PICTURE_PX
from pipeline.faces.alignment import CROP_PX, SEEN_PX

NODES = 5  # of the warp grid, along each side


@dataclass(frozen=True)
class Augmentation:
    """Strength of the random changes to training pictures."""

    rotation_deg: float = 10
    zoom: float = 0.05
    shift: float = 0.05  # of the crop's side
    mirror_probability: float = 0.4
    warp_px: float = 5  # standard deviation of each grid node, x and y


Draw = tuple[torch.Tensor, torch.Tensor]
"""Transforms (N, 2, 3) and moved grids (N, 5, 5, 2); see ``draw_transforms``."""

Pairs = tuple[torch.Tensor, torch.Tensor]
"""Inputs and targets, each (N, 3, 64, 64) float32 in [0, 1]."""


def draw_pairs(crops: torch.Tensor, augmentation: Augmentation, generator: torch.Generator) -> Pairs:
    """Make one distorted input and one undistorted target from each of (N, 3, 256, 256) uint8 crops.

    The crop is turned, zoomed, shifted (edges replicated) and perhaps mirrored. A grid of 5 x 5 nodes over its central
    180 px, each node moved at random, gives the input; the similarity transform that fits the moved grid gives the
    target. Both are sampled from the crop bilinearly, once, at the composed coordinates.
    """
    return make_pairs(crops, draw_transforms(len(crops), augmentation, generator))


def make_pairs(crops: torch.Tensor, draw: Draw) -> Pairs:
    """Make inputs and targets of (N, 3, 256, 256) uint8 crops from what was drawn for them."""
    turn, grid = draw
    turn, grid = turn.to(crops.device, non_blocking=True), grid.to(crops.device, non_blocking=True)
    inputs = apply(turn, spread_grid(grid))
    targets = apply(turn, fit_grid(grid))
    both = sample(crops.float(), torch.cat([inputs, targets], dim=1)).div_(255)
    return both[:, :, :PICTURE_PX], both[:, :, PICTURE_PX:]


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


def spread_grid(grid: torch.Tensor) -> torch.Tensor:
    """Interpolate moved nodes to a coordinate for every picture px.

    Nodes lie on the borders of 16 x 16 px cells: at -0.5, 15.5 … 63.5 of the picture.

    Args:
        grid: (N, 5, 5, 2).

    Returns:
        (N, 64, 64, 2).
    """
    cells = (torch.arange(PICTURE_PX, device=grid.device) + 0.5) * (NODES - 1) / PICTURE_PX
    nodes = torch.arange(NODES, device=grid.device)
    weights = (1 - (cells[:, None] - nodes[None, :]).abs()).clamp(min=0)
    return torch.einsum("pi,qj,nijc->npqc", weights, weights, grid)


def fit_grid(grid: torch.Tensor) -> torch.Tensor:
    """Find the similarity transform nearest to the moved grid, as a coordinate for every picture px.

    Least squares in closed form (see ``alignment.fit_similarity``), from the moved nodes to where they lie in the
    picture, inverted.

    Args:
        grid: (N, 5, 5, 2).

    Returns:
        (N, 64, 64, 2).
    """
    line = torch.linspace(0, PICTURE_PX, NODES, device=grid.device) - 0.5
    y, x = torch.meshgrid(line, line, indexing="ij")
    to_points = torch.complex(x, y).flatten()
    from_points = torch.view_as_complex(grid.contiguous()).flatten(1)
    a, b = from_points - from_points.mean(dim=1, keepdim=True), to_points - to_points.mean()
    turn = (a.conj() * b).sum(dim=1, keepdim=True) / a.abs().square().sum(dim=1, keepdim=True)
    pixels = torch.arange(PICTURE_PX, device=grid.device, dtype=grid.dtype)
    rows, columns = torch.meshgrid(pixels, pixels, indexing="ij")
    picture = torch.complex(columns, rows).flatten()
    points = (picture - to_points.mean()) / turn + from_points.mean(dim=1, keepdim=True)
    return torch.view_as_real(points).view(-1, PICTURE_PX, PICTURE_PX, 2)


def apply(matrices: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Map (N, H, W, 2) points through one (2, 3) transform per picture, (N, 2, 3)."""
    return torch.einsum("nij,nhwj->nhwi", matrices[:, :, :2], points) + matrices[:, None, None, :, 2]


def sample(pictures: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Read pictures at points, bilinearly; edges are replicated.

    Args:
        pictures: (N, C, S, S) float32.
        points: (N, H, W, 2), px.

    Returns:
        (N, C, H, W).
    """
    normalised = (points + 0.5) * (2 / pictures.shape[-1]) - 1  # grid_sample's own scale: -1 … 1 from border to border
    return functional.grid_sample(pictures, normalised, padding_mode="border", align_corners=False)
