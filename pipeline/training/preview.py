"""Pictures that show how training goes."""

from typing import cast

import cv2
import numpy as np
import torch

from models.checkpoint import Model
from pipeline.arrays import Image
from pipeline.training.augment import Augmentation, Pairs, draw_pairs
from pipeline.training.schedule import generator

FACES_SHOWN = 8
SHOWN_PX = 128  # side of each picture on the sheet


def preview_sheet(model: Model, person: str, crops: torch.Tensor, device: torch.device) -> Image:
    """Show what a person's decoder makes of some faces: rows of input, output and target.

    The same faces, distorted in the same way, at every call, so that sheets can be compared.

    Args:
        model: on ``device``.
        person: whose decoder.
        crops: (N, 3, 256, 256) uint8, the person's faces.
        device: where to compute.

    Returns:
        (3 * 128, 8 * 128, 3) BGR; narrower where there are fewer than 8 faces.
    """
    inputs, targets = preview_pairs(crops, device)
    with torch.inference_mode():
        outputs = model.decoders[person](model.encoder(inputs))
    return cast(Image, cv2.vconcat([_row(pictures) for pictures in (inputs, outputs, targets)]))


def preview_pairs(crops: torch.Tensor, device: torch.device) -> Pairs:
    """Draw pairs of some faces, spread over all; the same at every call."""
    chosen = crops[torch.linspace(0, len(crops) - 1, min(FACES_SHOWN, len(crops))).long()]
    return draw_pairs(chosen.to(device), Augmentation(), generator(0))


def _row(pictures: torch.Tensor) -> Image:
    tiles = (pictures.detach().cpu().permute(0, 2, 3, 1).numpy() * 255).round().astype(np.uint8)
    enlarged = [cv2.resize(tile, (SHOWN_PX, SHOWN_PX), interpolation=cv2.INTER_CUBIC) for tile in tiles]
    return cast(Image, cv2.hconcat(enlarged))
