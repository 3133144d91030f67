"""The model at work: faces of one person in, the same expressions on another person's face out."""

import hashlib
from collections.abc import Collection, Sequence

import numpy as np
import torch

from models.checkpoint import Model
from models.winograd import use_winograd
from pipeline.types import Image

HASHED_VALUES = 1024  # of each tensor; training changes all values, so some are enough


class Swapper:
    """Draws faces anew with the decoders of ``people``.

    Attributes:
        fingerprint: changes with the weights, torch's version and the device type.
    """

    def __init__(self, model: Model, people: Collection[str], device: torch.device) -> None:
        self._device = device
        encoder = model.encoder.to(device).eval()
        decoders = {person: model.decoders[person].to(device).eval() for person in sorted(people)}
        digest = hashlib.sha256(f"{torch.__version__} {device.type}".encode())
        for network in (encoder, *decoders.values()):
            for tensor in network.state_dict().values():
                digest.update(tensor.flatten()[:HASHED_VALUES].cpu().numpy().tobytes())
        self.fingerprint = digest.hexdigest()
        on_cpu = device.type == "cpu"
        self._encoder = use_winograd(encoder) if on_cpu else encoder
        self._decoders = {person: use_winograd(decoder) if on_cpu else decoder for person, decoder in decoders.items()}

    def swap(self, pictures: Sequence[Image], people: Sequence[str]) -> list[Image]:
        """Draw each picture, a crop's central square as (64, 64, 3) BGR, as the face of its person in ``people``."""
        batch = torch.from_numpy(np.stack(pictures)).to(self._device).permute(0, 3, 1, 2).float().div_(255)
        results: list[Image] = [*pictures]
        with torch.inference_mode():
            encoded = self._encoder(batch)
            for person in sorted(set(people)):
                indices = [index for index, other in enumerate(people) if other == person]
                features = encoded if len(indices) == len(people) else encoded[indices]
                drawn = self._decoders[person](features).mul_(255).round_().byte()
                for index, face in zip(indices, drawn.permute(0, 2, 3, 1).cpu().numpy(), strict=True):
                    results[index] = face
        return results
