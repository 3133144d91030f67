"""Make the weights of the network that finds what is in front of a face: learned on portraits with things drawn over.

    python -m demo.segmenter CROPS [--minutes 30]

``CROPS`` is a folder of faces as ``extract`` makes them. Some are held out; how well the network finds what was drawn
in front of these is printed.
"""

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro

from models.pretrained import FOLDER, write_stored
from models.segmenter import WEIGHTS, OcclusionNet, load_segmenter, stored_weights
from pipeline.faces.alignment import as_crop
from pipeline.media.pictures import read_picture
from pipeline.training.segmenter import SegmenterTrainer, Trial, find_wearers
from pipeline.workspace import list_pictures

HELD_OUT, TEST_PICTURES = 80, 400
LEARNING_RATE = 2e-3
REPORT_EVERY = 500  # steps
WEARERS_AT = 0.25  # of the training: then the network itself finds who wears real glasses


@dataclass(frozen=True)
class Options:
    """Make the weights of the network that finds what is in front of a face."""

    crops: Annotated[Path, tyro.conf.Positional]
    """Folder of aligned faces, of as many people as possible."""
    minutes: float = 30
    """How long to train."""
    start: Path | None = None
    """Folder with weights to start from, as train --only-mask saves them."""
    output: Path = FOLDER / WEIGHTS
    """File for the weights."""


def main() -> int:
    """Train, report, write; return the exit code."""
    options = tyro.cli(Options, prog="python -m demo.segmenter", description=__doc__)
    with ThreadPoolExecutor() as pool:
        crops = list(pool.map(lambda path: as_crop(read_picture(path)), list_pictures(options.crops)))
    held_out, trained = crops[:HELD_OUT], crops[HELD_OUT:]
    torch.manual_seed(1)
    network = load_segmenter(options.start) if options.start else OcclusionNet()
    test, trainer = Trial(held_out, TEST_PICTURES), SegmenterTrainer(network, trained, LEARNING_RATE)
    began, step, shown = time.monotonic(), 0, 0.0
    while (done := (time.monotonic() - began) / (60 * options.minutes)) < 1:
        if trainer.wearers is None and done > WEARERS_AT:
            trainer.wearers = find_wearers(network, trained)
            print(f"{step} steps: {len(trainer.wearers)} of {len(trained)} wear glasses", flush=True)
        loss = trainer.step(done)
        step, shown = step + 1, 0.98 * shown + 0.02 * loss if step else loss
        if step % REPORT_EVERY == 0:
            print(f"{step} steps, loss {shown:.4f}, {test.measure(network)}", flush=True)
            write_stored(options.output, stored_weights(network))
    print(f"{step} steps, {test.measure(network)}")
    write_stored(options.output, stored_weights(network))
    return 0


if __name__ == "__main__":
    sys.exit(main())
