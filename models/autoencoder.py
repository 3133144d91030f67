"""The networks: one encoder that all people share, one decoder each.

Convention: pictures are (N, 3, 64, 64) float32 BGR in [0, 1]. Layer names and sizes are those of the reference tool,
so its state dicts load unchanged.
"""

from typing import TypeVar

import torch
from torch import nn
from torch.nn import functional

LEAK = 0.1  # slope of the leaky ReLUs below zero

Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)


def _downscale(channels_in: int, channels_out: int) -> nn.Sequential:
    layer = initialized(nn.Conv2d(channels_in, channels_out, 5, stride=2, padding=2), LEAK)
    return nn.Sequential(layer, nn.LeakyReLU(LEAK))


def _upscale(channels_in: int, channels_out: int, convolution: type[nn.Conv2d] = nn.Conv2d) -> nn.Sequential:
    """Double width and height by sub-pixel convolution (Shi et al. 2016, arXiv:1609.05158).

    The four output px of one input px start with the same weights, so there is no checkerboard (Aitken et al. 2017,
    arXiv:1707.02937).
    """
    layer = start_shuffled_equal(initialized(convolution(channels_in, 4 * channels_out, 3, padding=1), LEAK))
    return nn.Sequential(layer, nn.LeakyReLU(LEAK), nn.PixelShuffle(2))


def start_shuffled_equal(convolution: Layer) -> Layer:
    """Start the four output px that a pixel shuffle makes of one with the same weights."""
    with torch.no_grad():
        convolution.weight.copy_(convolution.weight[::4].repeat_interleave(4, dim=0))
    return convolution


def initialized(layer: Layer, slope: float) -> Layer:
    """Draw initial weights that keep a signal's variance (He et al. 2015, arXiv:1502.01852, eq. 15).

    PyTorch's default shrinks the differences between faces at each of eleven layers; that took three times the steps
    (docs/log.md).

    Args:
        layer: a convolution or a linear layer.
        slope: below zero, of the leaky ReLU after it; 1 where there is none.
    """
    if not layer.weight.is_meta:  # else weights are loaded later, and drawing them would waste a second
        nn.init.kaiming_normal_(layer.weight, slope)
        nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer


class _SmallConv2d(nn.Conv2d):
    """A 3 x 3 convolution for pictures of a few px: on the CPU a single matrix product is faster."""

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Map (N, C, H, W) to (N, out channels, H, W)."""
        if pictures.device.type != "cpu":
            return super().forward(pictures)
        count, _, height, width = pictures.shape
        weight = self.weight.flatten(1)
        patches = functional.unfold(pictures, 3, padding=1).transpose(1, 2).reshape(-1, weight.shape[1])
        product = functional.linear(patches, weight, self.bias).view(count, height * width, -1)
        return product.transpose(1, 2).reshape(count, -1, height, width)


class _ConvAfterShuffle(nn.Conv2d):
    """A 5 x 5 convolution of a pixel shuffle's output, computed before the shuffle.

    It works on four times the channels at half the width and height, because convolutions with only three output
    channels are slow. The same sums in another order.
    """

    def forward(self, unshuffled: torch.Tensor) -> torch.Tensor:
        """Map (N, 4C, H, W), not yet shuffled, to (N, 3, 2H, 2W).

        Output row 2i + a (a = 0, 1) reads rows 2i + a - 2 … 2i + a + 2 of the shuffled picture, which are in rows
        i - 1 … i + 1 of the unshuffled one. With a row of zeros before (a = 1) or after (a = 0), the 5 x 5 weights
        become 6 x 6, which are 3 x 3 blocks of 2 x 2 (own derivation).
        """
        out, channels = self.weight.shape[:2]
        shifted = [functional.pad(self.weight, (b, 1 - b, a, 1 - a)) for a in (0, 1) for b in (0, 1)]
        folded = torch.stack(shifted, dim=1).view(out, 4, channels, 3, 2, 3, 2).permute(0, 1, 2, 4, 6, 3, 5)
        weight = folded.reshape(4 * out, 4 * channels, 3, 3)
        bias = None if self.bias is None else torch.stack([self.bias] * 4, dim=1).flatten()
        return functional.pixel_shuffle(functional.conv2d(unshuffled, weight, bias, padding=1), 2)


class Encoder(nn.Module):
    """Maps a face to the features from which every decoder draws.

    Args:
        init_dim: channels of the first convolution; each further one doubles them.
        code_dim: length of the code between the linear layers.
    """

    def __init__(self, init_dim: int = 32, code_dim: int = 1024) -> None:
        super().__init__()
        self.init_dim, self.code_dim = init_dim, code_dim
        self.conv1 = _downscale(3, init_dim)
        self.conv2 = _downscale(init_dim, 2 * init_dim)
        self.conv3 = _downscale(2 * init_dim, 4 * init_dim)
        self.conv4 = _downscale(4 * init_dim, 8 * init_dim)
        self.linear1 = initialized(nn.Linear(8 * init_dim * 4 * 4, code_dim), 1)
        self.linear2 = initialized(nn.Linear(code_dim, 1024 * 4 * 4), 1)
        self.upscale = _upscale(1024, 512, _SmallConv2d)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Map (N, 3, 64, 64) pictures to (N, 512, 8, 8)."""
        features = self.conv4(self.conv3(self.conv2(self.conv1(pictures))))
        code = self.linear2(self.linear1(features.flatten(1)))
        upscaled: torch.Tensor = self.upscale(code.view(-1, 1024, 4, 4))
        return upscaled


class Decoder(nn.Module):
    """Draws one person's face from the encoder's output."""

    def __init__(self) -> None:
        super().__init__()
        self.upscale1 = _upscale(512, 256)
        self.upscale2 = _upscale(256, 128)
        self.upscale3 = _upscale(128, 64)
        self.conv = initialized(_ConvAfterShuffle(64, 3, 5, padding=2), 1)

    def forward(self, encoded: torch.Tensor) -> torch.Tensor:
        """Map (N, 512, 8, 8) to (N, 3, 64, 64) pictures."""
        convolve, activate, _ = self.upscale3  # self.conv does its pixel shuffle
        return torch.sigmoid(self.conv(activate(convolve(self.upscale2(self.upscale1(encoded))))))
