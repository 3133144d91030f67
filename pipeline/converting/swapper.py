"""Faces through the model: in as one person's, out as another's."""

import hashlib
from collections.abc import Collection, Sequence

import numpy as np
import torch

from models.checkpoint import Model
from models.winograd import use_winograd
from pipeline.types import Image

HASHED_VALUES = 1024  # of each tensor: training changes them all


class Swapper:
    """Draws faces anew with the decoders of ``people``.

    Attributes:
        fingerprint: changes with the weights, and with what computes with them.
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
        """Draw each picture, (64, 64, 3) BGR, the central square of a crop, as the face of the person beside it."""
        batch = torch.from_numpy(np.stack(pictures)).to(self._device).permute(0, 3, 1, 2).float().div_(255)
        results: list[Image] = [*pictures]
        with torch.inference_mode():
            codes = self._encoder(batch)
            for person in sorted(set(people)):
                indices = [index for index, other in enumerate(people) if other == person]
                chosen = codes if len(indices) == len(people) else codes[indices]
                drawn = self._decoders[person](chosen).mul_(255).round_().byte()
                for index, face in zip(indices, drawn.permute(0, 2, 3, 1).cpu().numpy(), strict=True):
                    results[index] = face
        return results
