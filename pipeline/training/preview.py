"""Pictures that show how training goes."""

from collections.abc import Mapping
from typing import cast

import cv2
import numpy as np
import torch

from models.checkpoint import Model
from pipeline.arrays import Image
from pipeline.training.augment import Augmentation, Pairs, draw_pairs
from pipeline.training.schedule import generator

FACES_SHOWN = 8
PEOPLE_SHOWN = 4  # on one sheet
JUDGED_AT_ONCE = 32
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


def swap_sheet(model: Model, faces: Mapping[str, torch.Tensor], device: torch.device) -> Image:
    """Show people's faces, each as it is, as its own decoder draws it, and as others' do: a row each.

    Args:
        model: on ``device``.
        faces: by person, (N, 3, 256, 256) uint8; of many people the first few.
        device: where to compute.

    Returns:
        (rows * 128, 8 * 128, 3) BGR; every row says what it shows.
    """
    rows, people = [], sorted(faces)[:PEOPLE_SHOWN]
    for person in people:
        pictures = straight(_spread(faces[person]), device)
        rows.append(_named(_row(pictures), person))
        with torch.inference_mode():
            encoded = model.encoder(pictures)
            others = sorted(other for other in model.decoders if other != person)
            for other in (person, *others[: PEOPLE_SHOWN - 1]):
                rows.append(_named(_row(model.decoders[other](encoded)), f"{person} as {other}"))
    widest = max(row.shape[1] for row in rows)
    return np.vstack([np.pad(row, [(0, 0), (0, widest - row.shape[1]), (0, 0)]) for row in rows])


def straight(crops: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Show crops as the model sees them, undistorted; (N, 3, 64, 64) float32 in [0, 1]."""
    return draw_pairs(crops.to(device), Augmentation(0, 0, 0, 0, 0), generator(0))[0]


def validation_l1(model: Model, person: str, crops: torch.Tensor, device: torch.device) -> float:
    """Say how far a decoder's drawings of some faces are off, undistorted: mean absolute error, in [0, 1].

    Args:
        model: on ``device``.
        person: whose faces and decoder.
        crops: (N, 3, 256, 256) uint8, N >= 1.
        device: where to compute.
    """
    errors = []
    with torch.inference_mode():
        for some in torch.split(crops, JUDGED_AT_ONCE):
            pictures = straight(some, device)
            made = model.decoders[person](model.encoder(pictures))
            errors.append((made - pictures).abs().mean(dim=(1, 2, 3)))
    return float(torch.cat(errors).mean())


def preview_pairs(crops: torch.Tensor, device: torch.device) -> Pairs:
    """Draw pairs of some faces, spread over all; the same at every call."""
    return draw_pairs(_spread(crops).to(device), Augmentation(), generator(0))


def _spread(crops: torch.Tensor) -> torch.Tensor:
    return crops[torch.linspace(0, len(crops) - 1, min(FACES_SHOWN, len(crops))).long()]


def _named(row: Image, name: str) -> Image:
    shown = name.encode("ascii", "replace").decode()  # all that OpenCV's letters are for
    for colour, width in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.putText(row, shown, (4, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.45, colour, width, cv2.LINE_AA)
    return row


def _row(pictures: torch.Tensor) -> Image:
    tiles = (pictures.detach().cpu().permute(0, 2, 3, 1).numpy() * 255).round().astype(np.uint8)
    enlarged = [cv2.resize(tile, (SHOWN_PX, SHOWN_PX), interpolation=cv2.INTER_CUBIC) for tile in tiles]
    return cast(Image, cv2.hconcat(enlarged))
