"""The networks: one encoder that all people share, one decoder each.

Convention: pictures are (N, 3, 64, 64) float32 BGR in [0, 1]. Layer names and sizes are those of the reference tool,
so that its state dicts load as they are.
"""

import torch
from torch import nn

PICTURE_PX = 64  # width and height of what goes in and comes out
LEAK = 0.1  # slope of the leaky ReLUs below zero


def _downscale(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels_in, channels_out, 5, stride=2, padding=2), nn.LeakyReLU(LEAK))


def _upscale(channels_in: int, channels_out: int) -> nn.Sequential:
    """Double width and height by sub-pixel convolution (Shi et al. 2016, arXiv:1609.05158)."""
    return nn.Sequential(nn.Conv2d(channels_in, 4 * channels_out, 3, padding=1), nn.LeakyReLU(LEAK), nn.PixelShuffle(2))


class Encoder(nn.Module):
    """From a face to a code that every decoder understands.

    Args:
        init_dim: channels of the first convolution; each further one doubles them.
        code_dim: length of the code in the middle.
    """

    def __init__(self, init_dim: int = 32, code_dim: int = 1024) -> None:
        super().__init__()
        self.init_dim, self.code_dim = init_dim, code_dim
        self.conv1 = _downscale(3, init_dim)
        self.conv2 = _downscale(init_dim, 2 * init_dim)
        self.conv3 = _downscale(2 * init_dim, 4 * init_dim)
        self.conv4 = _downscale(4 * init_dim, 8 * init_dim)
        self.linear1 = nn.Linear(8 * init_dim * 4 * 4, code_dim)
        self.linear2 = nn.Linear(code_dim, 1024 * 4 * 4)
        self.upscale = _upscale(1024, 512)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Map (N, 3, 64, 64) pictures to (N, 512, 8, 8)."""
        features = self.conv4(self.conv3(self.conv2(self.conv1(pictures))))
        code = self.linear2(self.linear1(features.flatten(1)))
        upscaled: torch.Tensor = self.upscale(code.view(-1, 1024, 4, 4))
        return upscaled


class Decoder(nn.Module):
    """From the encoder's output to one person's face."""

    def __init__(self) -> None:
        super().__init__()
        self.upscale1 = _upscale(512, 256)
        self.upscale2 = _upscale(256, 128)
        self.upscale3 = _upscale(128, 64)
        self.conv = nn.Conv2d(64, 3, 5, padding=2)

    def forward(self, encoded: torch.Tensor) -> torch.Tensor:
        """Map (N, 512, 8, 8) to (N, 3, 64, 64) pictures."""
        return torch.sigmoid(self.conv(self.upscale3(self.upscale2(self.upscale1(encoded)))))
