"""A small network that finds what is in front of a face: hands, microphones, hair; and glasses.

Convention: pictures are (N, 3, 128, 128) float32 BGR in [0, 1], what a swap network sees; masks are (N, 2, 128, 128)
logits, above 0 where something is in front of the face, and where its glasses are: frames and dark lenses. Outside the
face they mean nothing.

A U-Net (Ronneberger et al. 2015, arXiv:1505.04597) with residual blocks: 0.5 million weights, 0.14 billion
multiplications for one picture.
"""

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save_file
from torch import nn
from torch.nn import functional

from models import CheckpointError
from models.checkpoint import Tensors, flush
from models.hd import HalfSide
from models.pretrained import read_stored

WEIGHTS = "occlusion.safetensors"  # of those that come with Recast, and of a model's own in its folder
OUTPUTS = 2  # things, glasses
OCCLUSION_PX = 128  # side of the pictures
VERSION = "2"  # of a model's own weights
CHANNELS = (16, 32, 64, 112)  # at 64 px, 32, 16, 8


class OcclusionNet(nn.Module):
    """Maps what a swap network sees to where something is in front of the face, and where its glasses are.

    Attributes:
        knows_people: whether it has learned on the people that it is used for; what it finds is then surer.
    """

    knows_people = False

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
        self.end = nn.Sequential(nn.Conv2d(first, 4 * OUTPUTS, 3, padding=1), nn.PixelShuffle(2))

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Map (N, 3, 128, 128) to (N, 2, 128, 128) logits."""
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


def load_segmenter(folder: Path | None = None) -> OcclusionNet:
    """Load the network with a model's own weights, or with those that come with Recast if it has none.

    Args:
        folder: of the model; None for the weights that come with Recast.

    Raises:
        CheckpointError: the weights are missing, damaged or of a newer version.
    """
    own = None if folder is None else folder / WEIGHTS
    network = OcclusionNet()
    network.knows_people = own is not None and own.is_file()
    try:
        if own is None or not network.knows_people:
            stored = load(read_stored(WEIGHTS, "for convert and preview add --paint-over"))
        else:
            with safe_open(own, "pt") as file:
                version = (file.metadata() or {}).get("version", "")
                stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            if version != VERSION:
                raise CheckpointError(
                    f"{own} is of another version of Recast: delete it, then the weights that come with Recast are used"
                )
        counters = {name: tensor for name, tensor in network.state_dict().items() if not tensor.is_floating_point()}
        network.load_state_dict({**counters, **{name: tensor.float() for name, tensor in stored.items()}})
    except OSError as error:
        raise CheckpointError(f"cannot read {own or WEIGHTS}: {error.strerror or error}") from error
    except (ValueError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(
            f"{own or WEIGHTS} is damaged ({str(error)[:200]}): delete it, then the weights that come with Recast "
            "are used"
        ) from error
    return network


def save_segmenter(folder: Path, network: OcclusionNet) -> Path:
    """Write a model's own weights, in half precision; return the file.

    Raises:
        CheckpointError: they cannot be written; those of before are kept.
    """
    final = folder / WEIGHTS
    part = final.with_name(f".{WEIGHTS}.part")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_file(stored_weights(network), part, {"version": VERSION})
        flush(part)
        with safe_open(part, "pt") as file:  # refuses a file whose length does not fit its header
            file.metadata()
        part.replace(final)
        flush(folder)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"cannot write {final}: {error}") from error
    finally:
        part.unlink(missing_ok=True)
    return final


def stored_weights(network: OcclusionNet) -> Tensors:
    """The weights of a network in half precision; what only training needs is left out."""
    weights = {name: tensor for name, tensor in network.state_dict().items() if tensor.is_floating_point()}
    return {name: tensor.half().contiguous() for name, tensor in weights.items()}
