"""3 x 3 convolutions with fewer multiplications, for inference on the CPU.

Lavin & Gray 2015, "Fast Algorithms for Convolutional Neural Networks" (arXiv:1509.09308): overlapping input tiles are
transformed, multiplied elementwise by transformed weights, and transformed back to output tiles.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import TypeGuard, TypeVar

import torch
from torch import nn
from torch.nn import functional

Lines = Sequence[Sequence[float]]
Network = TypeVar("Network", bound=nn.Module)

KERNEL_PX = 3
MIN_CHANNELS = 256  # with fewer, the transforms take longer than they save
MIN_CHANNELS_FOR_TWO = 1024  # for scheme TWO: here reading the weights takes longer than multiplying


@dataclass(frozen=True)
class Scheme:
    """The transforms for output tiles of ``step`` x ``step`` px, from input tiles two px larger; in one dimension."""

    step: int
    from_picture: Lines
    from_weights: Lines
    to_picture: Lines

    @property
    def tile(self) -> int:
        """Side of an input tile, px."""
        return self.step + KERNEL_PX - 1


FOUR = Scheme(
    4,
    from_picture=[
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ],
    from_weights=[
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ],
    to_picture=[[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]],
)
"""A quarter of the multiplications, with four times the weights."""
TWO = Scheme(
    2,
    from_picture=[[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]],
    from_weights=[[1, 0, 0], [1 / 2, 1 / 2, 1 / 2], [1 / 2, -1 / 2, 1 / 2], [0, 0, 1]],
    to_picture=[[1, 1, 1, 0], [0, 1, -1, -1]],
)
"""Four ninths of the multiplications, with 1.8 times the weights."""


def _in_two_dimensions(matrix: Lines) -> torch.Tensor:
    """The matrix that applies this transform to the rows and columns of a flattened tile."""
    line = torch.tensor(matrix, dtype=torch.float32)
    return torch.kron(line, line)


class WinogradConv2d(nn.Module):
    """A 3 x 3 convolution with a padding of 1, exact to five digits; its weights cannot be trained.

    Args:
        convolution: whose weights.
        scheme: its transforms; fastest where the pictures' sides are multiples of its step.
    """

    weights: torch.Tensor
    bias: torch.Tensor
    from_picture: torch.Tensor
    to_picture: torch.Tensor

    def __init__(self, convolution: nn.Conv2d, scheme: Scheme) -> None:
        super().__init__()
        assert convolution.bias is not None
        assert (convolution.kernel_size, convolution.padding) == ((KERNEL_PX, KERNEL_PX), (1, 1))
        self._scheme = scheme
        weight = convolution.weight.detach()
        transformed = _in_two_dimensions(scheme.from_weights) @ weight.flatten(2).flatten(0, 1).T
        self.register_buffer("weights", transformed.view(-1, *weight.shape[:2]))
        self.register_buffer("bias", convolution.bias.detach().view(-1, 1, 1))
        self.register_buffer("from_picture", _in_two_dimensions(scheme.from_picture))
        self.register_buffer("to_picture", _in_two_dimensions(scheme.to_picture))

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Map (N, C, H, W) to (N, out channels, H, W)."""
        step, tile = self._scheme.step, self._scheme.tile
        count, channels, height, width = pictures.shape
        down, across = -(-height // step), -(-width // step)
        padded = functional.pad(pictures, (1, 1 + across * step - width, 1, 1 + down * step - height))
        tiles = padded.unfold(2, tile, step).unfold(3, tile, step)  # (N, C, down, across, tile, tile)
        flattened = tiles.permute(4, 5, 1, 0, 2, 3).reshape(tile**2, -1)
        transformed = (self.from_picture @ flattened).view(tile**2, channels, -1)
        products = torch.bmm(self.weights, transformed).view(tile**2, -1)
        outputs = (self.to_picture @ products).view(step, step, -1, count, down, across)
        whole = outputs.permute(3, 2, 4, 0, 5, 1).reshape(count, -1, down * step, across * step)
        return whole[..., :height, :width] + self.bias


def use_winograd(network: Network) -> Network:
    """Copy an encoder or decoder with Winograd convolutions, which are faster on a CPU; it cannot be trained."""
    copy = deepcopy(network, {id(weights): weights for weights in network.parameters()})  # these are shared
    for parent in list(copy.modules()):
        for name, layer in parent.named_children():
            if _is_plain(layer) and layer.in_channels >= MIN_CHANNELS:
                scheme = TWO if layer.in_channels >= MIN_CHANNELS_FOR_TWO else FOUR
                setattr(parent, name, WinogradConv2d(layer, scheme))
    return copy


def _is_plain(layer: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Whether a layer is a 3 x 3 convolution that keeps width and height."""
    return isinstance(layer, nn.Conv2d) and layer.kernel_size == (KERNEL_PX, KERNEL_PX) and layer.stride == (1, 1)
