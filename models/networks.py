"""The networks by name: the reference tool's, and the hd networks beside it."""

from torch import nn

from models import PICTURE_PX
from models.autoencoder import Decoder, Encoder
from models.hd import LAYOUTS, HdDecoder, HdEncoder

REFERENCE = "reference"
NAMES = (REFERENCE, *LAYOUTS)


def picture_px(network: str) -> int:
    """Width and height of a network's pictures."""
    return PICTURE_PX if network == REFERENCE else LAYOUTS[network].picture_px


def make_encoder(network: str, init_dim: int, code_dim: int) -> nn.Module:
    """Make an untrained encoder; the sizes are the reference network's."""
    return Encoder(init_dim, code_dim) if network == REFERENCE else HdEncoder(LAYOUTS[network])


def make_decoder(network: str) -> nn.Module:
    """Make an untrained decoder: it draws (N, 3, S, S) BGR; hd networks (N, 4, S, S), with a mask."""
    return Decoder() if network == REFERENCE else HdDecoder(LAYOUTS[network])
