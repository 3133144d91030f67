"""Faces through the model: in as one person's, out as another's."""

import hashlib
from collections.abc import Collection, Sequence

import numpy as np
import torch

from models.checkpoint import Model
from models.winograd import faster
from pipeline.types import Image

VALUES = 1024  # of each tensor that tell a model from others: training changes them all


class Swapper:
    """Draws pictures of faces anew with other people's decoders.

    Args:
        model: a trained one.
        people: whose decoders are wanted.
        device: where to compute.

    Attributes:
        fingerprint: tells these weights, and what computes with them, from others.
    """

    def __init__(self, model: Model, people: Collection[str], device: torch.device) -> None:
        self._device = device
        encoder = model.encoder.to(device).eval()
        decoders = {person: model.decoders[person].to(device).eval() for person in sorted(people)}
        known = hashlib.sha256(f"{torch.__version__} {device.type}".encode())
        for network in (encoder, *decoders.values()):
            for tensor in network.state_dict().values():
                known.update(tensor.flatten()[:VALUES].cpu().numpy().tobytes())
        self.fingerprint = known.hexdigest()
        on_cpu = device.type == "cpu"
        self._encoder = faster(encoder) if on_cpu else encoder
        self._decoders = {person: faster(decoder) if on_cpu else decoder for person, decoder in decoders.items()}

    def swap(self, pictures: Sequence[Image], people: Sequence[str]) -> list[Image]:
        """Draw faces anew.

        Args:
            pictures: each (64, 64, 3) BGR, the central square of a crop.
            people: whose face each becomes.

        Returns:
            As many pictures, in order.
        """
        seen = torch.from_numpy(np.stack(pictures)).to(self._device).permute(0, 3, 1, 2).float().div_(255)
        made: list[Image] = [*pictures]
        with torch.inference_mode():
            encoded = self._encoder(seen)
            for person in sorted(set(people)):
                places = [place for place, other in enumerate(people) if other == person]
                chosen = encoded if len(places) == len(people) else encoded[places]
                drawn = self._decoders[person](chosen).mul_(255).round_().byte()
                for place, face in zip(places, drawn.permute(0, 2, 3, 1).cpu().numpy(), strict=True):
                    made[place] = face
        return made
