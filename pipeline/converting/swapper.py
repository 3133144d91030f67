"""The model at work: faces of one person in, the same expressions on another person's face out."""

import hashlib
from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from models.checkpoint import Model
from models.networks import REFERENCE
from models.winograd import use_winograd
from pipeline.faces.occlusions import OcclusionFinder
from pipeline.types import Image, Mask

HASHED_VALUES = 1024  # of each tensor; training changes all values, so some are enough


class Drawing(NamedTuple):
    """A face as the model draws it: (S, S, 3) BGR, and (S, S), where the face is; None of the reference network."""

    face: Image
    mask: Mask | None


class Swapper:
    """Draws faces with the decoders of ``people``.

    Attributes:
        finder: finds what is in front of faces; None if that is painted over.
        device: where it draws.
        picture_px: side S of the pictures.
        draws_masks: whether drawings have masks.
        is_smoothed: whether pictures are smoothed before they shrink, as in training.
        fingerprint: changes with the weights, torch's version and the device type.
    """

    def __init__(
        self, model: Model, people: Collection[str], device: torch.device, finder: OcclusionFinder | None = None
    ) -> None:
        self.finder, self.device, self.picture_px = finder, device, model.picture_px
        self.is_smoothed = self.draws_masks = model.network != REFERENCE
        encoder = model.encoder.to(device).eval()
        decoders = {person: model.decoders[person].to(device).eval() for person in sorted(people)}
        digest = hashlib.sha256(f"{torch.__version__} {device.type}".encode())
        for network in (encoder, *decoders.values()):
            for tensor in network.state_dict().values():
                digest.update(tensor.flatten()[:HASHED_VALUES].cpu().numpy().tobytes())
        self.fingerprint = digest.hexdigest()
        self._encoder = _for_inference(model, encoder, device)
        self._decoders = {person: _for_inference(model, decoder, device) for person, decoder in decoders.items()}

    def swap(self, pictures: Sequence[Image], people: Sequence[str]) -> list[Drawing]:
        """Draw each picture, a crop's central square as (S, S, 3) BGR, as the face of its person in ``people``."""
        batch = torch.from_numpy(np.stack(pictures)).to(self.device).permute(0, 3, 1, 2).float().div_(255)
        drawings: dict[int, Drawing] = {}
        with torch.inference_mode():
            encoded = self._encoder(batch)
            for person in sorted(set(people)):
                indices = [index for index, other in enumerate(people) if other == person]
                features = encoded if len(indices) == len(people) else encoded[indices]
                drawn = self._decoders[person](features).permute(0, 2, 3, 1)
                faces = drawn[..., :3].mul(255).round_().byte().cpu().numpy()
                masks = drawn[..., 3].cpu().numpy() if drawn.shape[-1] > 3 else [None] * len(indices)
                drawings |= dict(zip(indices, map(Drawing, faces, masks), strict=True))
        return [drawings[index] for index in range(len(pictures))]


def _for_inference(model: Model, network: nn.Module, device: torch.device) -> nn.Module:
    """Make a network faster on a CPU: the reference's by Winograd convolutions, others with channels last."""
    if device.type != "cpu":
        return network
    return use_winograd(network) if model.network == REFERENCE else network.to(memory_format=torch.channels_last)
