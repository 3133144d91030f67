"""The hd networks: pictures of 128, 192 or 256 px, with a mask of the face beside its colours.

Convention: pictures are (N, 3, S, S) float32 BGR in [0, 1].

The reference network spends 94 % of its time in four wide 3 x 3 convolutions before its pixel shuffles. Here 1 x 1
convolutions widen the features, and residual blocks (He et al. 2016, arXiv:1512.03385) do the drawing, so 128 px take
no more time than the reference's 64. hd128, billions of multiplications for one picture, forward:

    encoder   pixel unshuffle, 3 x 3 to 32 at 64 px        0.014
              3 x 3, stride 2: 64, 128, 256 at 8 px        0.057
              residual block of 256                        0.076
              dense to 512, dense to 256 x 8 x 8           0.017
    decoder   2 residual blocks of 256 at 8 px             0.151
              1 x 1 and shuffle, block of 192 at 16 px     0.182
              1 x 1 and shuffle, block of 128 at 32 px     0.327
              1 x 1 and shuffle, block of 64 at 64 px      0.336
              3 x 3 and shuffle to BGR and mask at 128 px  0.038

1.2 in all: 7.2 GFLOP forward and backward; 18.4 million weights are shared, 3.7 million are each person's.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

from models.autoencoder import LEAK, initialized, start_shuffled_equal

DRAWN_CHANNELS = 4  # blue, green, red, mask
RESIDUAL_SCALE = 0.3  # of the initial weights that end a residual block, which so starts near the identity


@dataclass(frozen=True)
class Layout:
    """Sizes of a pair of networks.

    Attributes:
        picture_px: width and height of the pictures.
        encoder: channels at 1/2 of the picture's side, 1/4, 1/8 …; the last also those of the dense layers' output.
        decoder: channels from the smallest side to half of the picture's.
        code_dim: length of the code between the dense layers.
    """

    picture_px: int
    encoder: tuple[int, ...]
    decoder: tuple[int, ...]
    code_dim: int = 512

    @property
    def smallest_px(self) -> int:
        """Side of the features between encoder and decoder."""
        return self.picture_px >> len(self.decoder)


LAYOUTS = {
    "hd128": Layout(128, encoder=(32, 64, 128, 256), decoder=(256, 192, 128, 64)),
    "hd192": Layout(192, encoder=(32, 64, 128, 256, 384), decoder=(384, 256, 192, 128, 64)),
    "hd256": Layout(256, encoder=(32, 64, 128, 256, 256), decoder=(256, 256, 192, 128, 64)),
}


class HdEncoder(nn.Module):
    """Maps a face to the features from which every decoder draws."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        first, *rest = layout.encoder
        layers: list[nn.Module] = [HalfSide(), _convolution(12, first), nn.LeakyReLU(LEAK)]
        channels = first
        for wider in rest:
            layers += [_convolution(channels, wider, stride=2), nn.LeakyReLU(LEAK)]
            channels = wider
        self.convolutions = nn.Sequential(*layers, Residual(channels))
        self._shape = (layout.decoder[0], layout.smallest_px, layout.smallest_px)
        values = layout.smallest_px**2
        self.linear1 = initialized(nn.Linear(channels * values, layout.code_dim), 1)
        self.linear2 = initialized(nn.Linear(layout.code_dim, layout.decoder[0] * values), 1)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Map (N, 3, S, S) pictures to (N, C, s, s) features."""
        code = self.linear1(self.convolutions(pictures).flatten(1))
        features: torch.Tensor = self.linear2(code).view(-1, *self._shape)
        return features


class HdDecoder(nn.Module):
    """Draws one person's face, and where it is, from the encoder's output."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        channels = layout.decoder
        layers: list[nn.Module] = [Residual(channels[0])]
        for here, finer in pairwise(channels):
            widen = start_shuffled_equal(initialized(nn.Conv2d(here, 4 * finer, 1), 1))
            layers += [Residual(here), widen, nn.PixelShuffle(2)]
        draw = start_shuffled_equal(_convolution(channels[-1], 4 * DRAWN_CHANNELS, slope=1))
        self.layers = nn.Sequential(*layers, Residual(channels[-1]), draw, nn.PixelShuffle(2))

    def forward(self, encoded: torch.Tensor) -> torch.Tensor:
        """Map (N, C, s, s) features to (N, 4, S, S): BGR and mask."""
        return torch.sigmoid(self.layers(encoded))


class HalfSide(nn.Module):
    """Moves each square of 2 x 2 px into channels, as ``nn.PixelUnshuffle`` does; torch 2.6 exports that wrongly."""

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Map (N, C, H, W) to (N, 4 C, H / 2, W / 2)."""
        _, channels, height, width = pictures.shape
        squares = pictures.reshape(-1, channels, height // 2, 2, width // 2, 2).permute(0, 1, 3, 5, 2, 4)
        return squares.reshape(-1, 4 * channels, height // 2, width // 2)


class Residual(nn.Module):
    """Two 3 x 3 convolutions whose result is added to their input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = _convolution(channels, channels), _convolution(channels, channels)
        with torch.no_grad():
            self.conv2.weight.mul_(RESIDUAL_SCALE)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Map (N, C, H, W) to the same shape."""
        change = self.conv2(functional.leaky_relu(self.conv1(features), LEAK))
        return functional.leaky_relu(features + change, LEAK)


def _convolution(channels_in: int, channels_out: int, stride: int = 1, slope: float = LEAK) -> nn.Conv2d:
    return initialized(nn.Conv2d(channels_in, channels_out, 3, stride, padding=1), slope)
