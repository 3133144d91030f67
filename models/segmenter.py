"""A small network that finds what is in front of a face: hands, microphones, hair.

Convention: pictures are (N, 3, 128, 128) float32 BGR in [0, 1], what a swap network sees; masks are (N, 1, 128, 128)
logits, above 0 where something is in front of the face. Outside the face they mean nothing.

A U-Net (Ronneberger et al. 2015, arXiv:1505.04597) with residual blocks: 0.5 million weights, 0.14 billion
multiplications for one picture.
"""

import torch
from safetensors.torch import load
from torch import nn
from torch.nn import functional

from models.hd import HalfSide
from models.pretrained import read_stored

WEIGHTS = "occlusion.safetensors"
CHANNELS = (16, 32, 64, 112)  # at 64 px, 32, 16, 8


class OcclusionNet(nn.Module):
    """Maps what a swap network sees to where something is in front of the face."""

    def __init__(self) -> None:
        super().__init__()
        first, *rest = CHANNELS
        self.start = nn.Sequential(HalfSide(), _convolution(12, first))
        self.down = nn.ModuleList()
        channels = first
        for wider in rest:
            self.down.append(nn.Sequential(_convolution(channels, wider, stride=2), _Block(wider)))
            channels = wider
        self.narrow, self.up = nn.ModuleList(), nn.ModuleList()
        for narrower in reversed(CHANNELS[:-1]):
            self.narrow.append(nn.Conv2d(channels, narrower, 1))
            self.up.append(_Block(narrower))
            channels = narrower
        self.end = nn.Sequential(nn.Conv2d(first, 4, 3, padding=1), nn.PixelShuffle(2))

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Map (N, 3, 128, 128) to (N, 1, 128, 128) logits."""
        levels = [self.start(2 * pictures - 1)]
        for down in self.down:
            levels.append(down(levels[-1]))
        features = levels.pop()
        for narrow, up in zip(self.narrow, self.up, strict=True):
            features = up(functional.interpolate(narrow(features), scale_factor=2.0) + levels.pop())
        logits: torch.Tensor = self.end(features)
        return logits


class _Block(nn.Module):
    """Two convolutions whose result is added to their input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(_convolution(channels, channels), _convolution(channels, channels))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        changed: torch.Tensor = features + self.layers(features)
        return changed


def _convolution(channels_in: int, channels_out: int, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(channels_out), nn.ReLU(inplace=True))


def load_segmenter() -> OcclusionNet:
    """Load the network with the weights that come with Recast.

    Raises:
        CheckpointError: they are missing or damaged.
    """
    network = OcclusionNet()
    stored = load(read_stored(WEIGHTS, "add --paint-over"))
    counters = {name: tensor for name, tensor in network.state_dict().items() if not tensor.is_floating_point()}
    network.load_state_dict({**counters, **{name: tensor.float() for name, tensor in stored.items()}})
    return network
