"""Make the weights of the network that finds what is in front of a face: learned on portraits with things drawn over.

    python -m demo.segmenter CROPS [--minutes 30]

``CROPS`` is a folder of faces as ``extract`` makes them. Some are held out; how well the network finds what was drawn
in front of these is printed.
"""

import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import torch
import tyro
from torch.nn import functional

from demo.occluders import PX, occlude
from models.pretrained import FOLDER, write_stored
from models.segmenter import WEIGHTS, OcclusionNet
from pipeline.converting.masks import face_mask
from pipeline.faces.alignment import SEEN, as_crop
from pipeline.media.pictures import read_picture
from pipeline.options import Look
from pipeline.types import Image
from pipeline.workspace import list_pictures

HELD_OUT, TEST_PICTURES = 80, 400
BATCH, LEARNING_RATE = 16, 2e-3
OUTSIDE_WEIGHT = 0.1  # of errors outside the face
REPORT_EVERY = 500  # steps


@dataclass(frozen=True)
class Options:
    """Make the weights of the network that finds what is in front of a face."""

    crops: Annotated[Path, tyro.conf.Positional]
    """Folder of aligned faces, of as many people as possible."""
    minutes: float = 30
    """How long to train."""
    output: Path = FOLDER / WEIGHTS
    """File for the weights."""


def main() -> int:
    """Train, report, write; return the exit code."""
    options = tyro.cli(Options, prog="python -m demo.segmenter", description=__doc__)
    with ThreadPoolExecutor() as pool:
        crops = list(pool.map(lambda path: as_crop(read_picture(path)), list_pictures(options.crops)))
    held_out, trained = crops[:HELD_OUT], crops[HELD_OUT:]
    test = batch(held_out, np.random.default_rng(1), TEST_PICTURES)
    torch.manual_seed(1)
    network, weights = OcclusionNet(), face_weights()
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=1e-3)
    rng, began, step, shown = np.random.default_rng(2), time.monotonic(), 0, 0.0
    while (done := (time.monotonic() - began) / (60 * options.minutes)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * min(1, (step + 1) / 100) * 0.5 * (1 + np.cos(np.pi * done))
        pictures, masks = batch(trained, rng, BATCH)
        loss = error(network(pictures), masks, weights)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        step, shown = step + 1, loss.item() if not step else 0.98 * shown + 0.02 * loss.item()
        if step % REPORT_EVERY == 0:
            print(f"{step} steps, loss {shown:.4f}, {measure(network, *test, weights)}", flush=True)
            write(network, options.output)
    print(f"{step} steps, {measure(network, *test, weights)}")
    write(network, options.output)
    return 0


def write(network: OcclusionNet, path: Path) -> None:
    """Store the weights in half precision."""
    weights = {name: tensor for name, tensor in network.state_dict().items() if tensor.is_floating_point()}
    write_stored(path, {name: tensor.half().contiguous() for name, tensor in weights.items()})


def batch(crops: Sequence[Image], rng: np.random.Generator, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw pictures, (N, 3, 128, 128) in [0, 1], and where something is in front of the face, (N, 1, 128, 128)."""
    pictures, masks = zip(
        *(occlude(crops[int(rng.integers(len(crops)))], crops, rng) for _ in range(count)), strict=True
    )
    stacked = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255
    return stacked, torch.from_numpy(np.stack(masks))[:, None]


def face_weights() -> torch.Tensor:
    """How much errors count, (1, 1, 128, 128): most in the face and a little around it."""
    wide = face_mask(Look(mask="outline", erode=-10, feather=5))[SEEN, SEEN]
    small = cv2.resize(wide, (PX, PX), interpolation=cv2.INTER_AREA)
    return torch.from_numpy(OUTSIDE_WEIGHT + (1 - OUTSIDE_WEIGHT) * small)[None, None].float()


def error(logits: torch.Tensor, masks: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Cross-entropy, and the overlap that is missing (Dice)."""
    entropy = functional.binary_cross_entropy_with_logits(logits, masks, reduction="none")
    found = torch.sigmoid(logits)
    overlap = 2 * (weights * found * masks).sum() + 1
    dice = 1 - overlap / ((weights * (found + masks)).sum() + 1)
    total: torch.Tensor = (entropy * weights).mean() / weights.mean() + 0.3 * dice
    return total


def measure(network: OcclusionNet, pictures: torch.Tensor, masks: torch.Tensor, weights: torch.Tensor) -> str:
    """Say how well the network finds the face that is not covered, and what covers it."""
    network.eval()
    with torch.inference_mode():
        found = torch.cat([network(part) for part in torch.split(pictures, 50)]) > 0
    network.train()
    inside, covered = (weights > 0.5).expand_as(found), masks > 0.5
    face = ((~found & ~covered & inside).sum() / ((~found | ~covered) & inside).sum()).item()
    things = ((found & covered & inside).sum() / ((found | covered) & inside).sum()).item()
    bare = masks.amax(dim=(1, 2, 3)) == 0
    wrong = (found[bare] & inside[bare]).sum().item() / max(inside[bare].sum().item(), 1)
    return f"IoU of the face {face:.3f}, of what covers it {things:.3f}; {100 * wrong:.2f} % wrong on faces uncovered"


if __name__ == "__main__":
    sys.exit(main())
