"""3 x 3 convolutions with a quarter of the multiplications, for drawing on the CPU.

Lavin & Gray 2015, "Fast Algorithms for Convolutional Neural Networks" (arXiv:1509.09308), F(4 x 4, 3 x 3): squares of
6 x 6 px overlap by two; each becomes 36 numbers per channel that are multiplied by 36 instead of 16 x 9 weights.
"""

from collections.abc import Sequence
from copy import deepcopy
from typing import TypeVar

import torch
from torch import nn
from torch.nn import functional

from models.autoencoder import Decoder, Encoder

Lines = Sequence[Sequence[float]]
Network = TypeVar("Network", Encoder, Decoder)

STEP_PX, SQUARE_PX, KERNEL_PX = 4, 6, 3
FEWEST_CHANNELS = 256  # of which the numbers made outweigh what it takes to make them

_FROM_PICTURE: Lines = [
    [4, 0, -5, 0, 1, 0],
    [0, -4, -4, 1, 1, 0],
    [0, 4, -4, -1, 1, 0],
    [0, -2, -1, 2, 1, 0],
    [0, 2, -1, -2, 1, 0],
    [0, 4, 0, -5, 0, 1],
]
_FROM_WEIGHTS: Lines = [
    [1 / 4, 0, 0],
    [-1 / 6, -1 / 6, -1 / 6],
    [-1 / 6, 1 / 6, -1 / 6],
    [1 / 24, 1 / 12, 1 / 6],
    [1 / 24, -1 / 12, 1 / 6],
    [0, 0, 1],
]
_TO_PICTURE: Lines = [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]


def _in_two_directions(matrix: Lines) -> torch.Tensor:
    """The matrix that does to rows and columns of a flattened square what this one does to a line."""
    one = torch.tensor(matrix, dtype=torch.float32)
    return torch.kron(one, one)


class WinogradConv2d(nn.Module):
    """Computes what a 3 x 3 convolution with a padding of 1 does, to five digits; its weights cannot be trained.

    For pictures whose sides are multiples of 4 px.

    Args:
        convolution: whose weights.
    """

    products: torch.Tensor
    bias: torch.Tensor
    from_picture: torch.Tensor
    to_picture: torch.Tensor

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        assert convolution.bias is not None
        assert (convolution.kernel_size, convolution.padding) == ((KERNEL_PX, KERNEL_PX), (1, 1))
        weight = convolution.weight.detach()
        products = _in_two_directions(_FROM_WEIGHTS) @ weight.flatten(2).flatten(0, 1).T
        self.register_buffer("products", products.view(-1, *weight.shape[:2]))
        self.register_buffer("bias", convolution.bias.detach().view(-1, 1, 1))
        self.register_buffer("from_picture", _in_two_directions(_FROM_PICTURE))
        self.register_buffer("to_picture", _in_two_directions(_TO_PICTURE))

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Map (N, C, H, W) to (N, out channels, H, W)."""
        count, channels, height, width = pictures.shape
        down, across = height // STEP_PX, width // STEP_PX
        padded = functional.pad(pictures, (1, 1, 1, 1))
        squares = padded.unfold(2, SQUARE_PX, STEP_PX).unfold(3, SQUARE_PX, STEP_PX)  # (N, C, down, across, 6, 6)
        numbers = squares.permute(4, 5, 1, 0, 2, 3).reshape(SQUARE_PX**2, -1)
        spread = (self.from_picture @ numbers).view(SQUARE_PX**2, channels, -1)
        products = torch.bmm(self.products, spread).view(SQUARE_PX**2, -1)
        made = (self.to_picture @ products).view(STEP_PX, STEP_PX, -1, count, down, across)
        return made.permute(3, 2, 4, 0, 5, 1).reshape(count, -1, height, width) + self.bias


def faster(network: Network) -> Network:
    """Make a copy of an encoder or a decoder that computes the same faster on a CPU, and cannot be trained."""
    made = deepcopy(network, {id(weights): weights for weights in network.parameters()})  # which are shared
    for part in made.children():
        if isinstance(part, nn.Sequential) and isinstance(first := part[0], nn.Conv2d) and _gains(first):
            part[0] = WinogradConv2d(first)
    return made


def _gains(convolution: nn.Conv2d) -> bool:
    return convolution.kernel_size == (KERNEL_PX, KERNEL_PX) and convolution.in_channels >= FEWEST_CHANNELS
