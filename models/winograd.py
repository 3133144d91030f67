"""3 x 3 convolutions with fewer multiplications, for drawing on the CPU.

Lavin & Gray 2015, "Fast Algorithms for Convolutional Neural Networks" (arXiv:1509.09308): overlapping squares of a
picture become as many numbers per channel, which are multiplied by as many instead of 9 weights for every pixel made.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import nn
from torch.nn import functional

from models.autoencoder import Decoder, Encoder

Lines = Sequence[Sequence[float]]
Network = TypeVar("Network", Encoder, Decoder)

KERNEL_PX = 3
FEWEST_CHANNELS = 256  # of which the numbers made outweigh what it takes to make them
MANY_CHANNELS = 1024  # whose weights take longer to read than the numbers to multiply


@dataclass(frozen=True)
class Scheme:
    """A way of computing squares of ``step`` x ``step`` px at once, from squares two px larger."""

    step: int
    from_picture: Lines
    from_weights: Lines
    to_picture: Lines

    @property
    def square(self) -> int:
        """Side of what a square is computed from."""
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
"""Four ninths of the multiplications, with not quite twice the weights."""


def _in_two_directions(matrix: Lines) -> torch.Tensor:
    """The matrix that does to rows and columns of a flattened square what this one does to a line."""
    one = torch.tensor(matrix, dtype=torch.float32)
    return torch.kron(one, one)


class WinogradConv2d(nn.Module):
    """Computes what a 3 x 3 convolution with a padding of 1 does, to five digits; its weights cannot be trained.

    Args:
        convolution: whose weights.
        scheme: how; the pictures' sides must be multiples of its step.
    """

    products: torch.Tensor
    bias: torch.Tensor
    from_picture: torch.Tensor
    to_picture: torch.Tensor

    def __init__(self, convolution: nn.Conv2d, scheme: Scheme) -> None:
        super().__init__()
        assert convolution.bias is not None
        assert (convolution.kernel_size, convolution.padding) == ((KERNEL_PX, KERNEL_PX), (1, 1))
        self._scheme = scheme
        weight = convolution.weight.detach()
        products = _in_two_directions(scheme.from_weights) @ weight.flatten(2).flatten(0, 1).T
        self.register_buffer("products", products.view(-1, *weight.shape[:2]))
        self.register_buffer("bias", convolution.bias.detach().view(-1, 1, 1))
        self.register_buffer("from_picture", _in_two_directions(scheme.from_picture))
        self.register_buffer("to_picture", _in_two_directions(scheme.to_picture))

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Map (N, C, H, W) to (N, out channels, H, W)."""
        step, square = self._scheme.step, self._scheme.square
        count, channels, height, width = pictures.shape
        down, across = height // step, width // step
        padded = functional.pad(pictures, (1, 1, 1, 1))
        squares = padded.unfold(2, square, step).unfold(3, square, step)  # (N, C, down, across, square, square)
        numbers = squares.permute(4, 5, 1, 0, 2, 3).reshape(square**2, -1)
        spread = (self.from_picture @ numbers).view(square**2, channels, -1)
        products = torch.bmm(self.products, spread).view(square**2, -1)
        made = (self.to_picture @ products).view(step, step, -1, count, down, across)
        return made.permute(3, 2, 4, 0, 5, 1).reshape(count, -1, height, width) + self.bias


def faster(network: Network) -> Network:
    """Make a copy of an encoder or a decoder that computes the same faster on a CPU, and cannot be trained."""
    made = deepcopy(network, {id(weights): weights for weights in network.parameters()})  # which are shared
    for part in made.children():
        if isinstance(part, nn.Sequential) and isinstance(first := part[0], nn.Conv2d) and _gains(first):
            part[0] = WinogradConv2d(first, TWO if first.in_channels >= MANY_CHANNELS else FOUR)
    return made


def _gains(convolution: nn.Conv2d) -> bool:
    return convolution.kernel_size == (KERNEL_PX, KERNEL_PX) and convolution.in_channels >= FEWEST_CHANNELS
