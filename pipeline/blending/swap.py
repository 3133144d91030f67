"""Faces through the model: in as crops of one person, out as the other."""

from collections.abc import Sequence

import cv2
import numpy as np
import torch

from models.autoencoder import PICTURE_PX
from models.checkpoint import Model
from pipeline.arrays import Image
from pipeline.faces.alignment import SEEN, SEEN_PX


class Swapper:
    """Draws crops anew with one person's decoder.

    Args:
        model: a trained one.
        to_person: whose decoder.
        device: where to compute.
    """

    def __init__(self, model: Model, to_person: str, device: torch.device) -> None:
        self._device = device
        self._encoder = model.encoder.to(device).eval()
        self._decoder = model.decoders[to_person].to(device).eval()

    def swap(self, crops: Sequence[Image]) -> list[Image]:
        """Draw faces anew, as the same crops; outside what the model sees they stay as they were.

        Args:
            crops: each (256, 256, 3) BGR.

        Returns:
            As many crops.
        """
        size = (PICTURE_PX, PICTURE_PX)
        # sampled as in training: bilinear, without averaging
        seen = np.stack([cv2.resize(crop[SEEN, SEEN], size, interpolation=cv2.INTER_LINEAR) for crop in crops])
        pictures = torch.from_numpy(seen).to(self._device).permute(0, 3, 1, 2).float().div_(255)
        with torch.inference_mode():
            drawn = self._decoder(self._encoder(pictures)).mul_(255).round_().byte()
        faces = drawn.permute(0, 2, 3, 1).cpu().numpy()
        return [_enlarged(face, crop) for face, crop in zip(faces, crops, strict=True)]


def _enlarged(face: Image, crop: Image) -> Image:
    made = crop.copy()
    made[SEEN, SEEN] = cv2.resize(face, (SEEN_PX, SEEN_PX), interpolation=cv2.INTER_LANCZOS4)
    return made
