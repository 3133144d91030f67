"""Train: samples per second beside the bare step and the plain loop; augmentation beside per-picture warps.

python -m benchmarks.train step BATCH STEPS      train on random faces and print the figures as JSON
python -m benchmarks.train warp BATCH            draw training pairs alone
python -m benchmarks.train load FACES            read so many crops
"""

import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import torch

from benchmarks.table import Row, measured, middle
from pipeline.console import NullConsole
from pipeline.media.pictures import write_picture
from pipeline.options import TrainOptions
from pipeline.runtime import keep_freed_memory
from pipeline.train import train
from pipeline.training.augment import Augmentation, draw_pairs
from pipeline.training.dataset import load_faces
from pipeline.training.sampler import generator

FACES = 256  # of each of two people, so that a pass is whole batches
STEPS = {64: 24, 16: 60}
LOADED = 10_000  # crops
SAMPLE_GFLOP = 7.7  # multiplications and additions of a sample, forward and backward, at --init-dim 32


def speed(data: Path, plain: Path, rounds: int) -> list[Row]:
    """Measure steps, augmentation and start-up on made-up faces; ``data`` is not needed."""
    steps = [_steps(plain, batch, rounds) for batch in STEPS]
    return [*steps, _warps(plain, rounds), _loading(rounds)]


def _steps(plain: Path, batch: int, rounds: int) -> Row:
    size = ("-b", str(batch))
    ours, bare, loops, peaks = [], [], [], []
    for _ in range(rounds):
        ours.append(measured("-m", "benchmarks.train", "step", str(batch), str(STEPS[batch])))
        bare.append(measured(str(plain), "step", *size, "--steps", str(STEPS[batch] // 3)))
        loops.append(measured(str(plain), "train", *size, "--steps", str(STEPS[batch] // 3)))
        peaks.append(measured(str(plain), "sgemm"))
    rate, step, loop = (middle(rows, "samples_per_s") for rows in (ours, bare, loops))
    return {
        "train, batch": batch,
        "samples/s": rate,
        "bare step": step,
        "of the bare step": rate / step,
        "plain loop": loop,
        "times the plain loop": rate / loop,
        "of sgemm": rate * SAMPLE_GFLOP / middle(peaks, "gflops"),
        "peak MB": middle(ours, "peak_mb"),
    }


def _warps(plain: Path, rounds: int) -> Row:
    ours, loops = [], []
    for _ in range(rounds):
        ours.append(measured("-m", "benchmarks.train", "warp", "64"))
        loops.append(measured(str(plain), "train", "-b", "64", "--steps", "2"))
    rate, loop = middle(ours, "pairs_per_s"), middle(loops, "warp_samples_per_s")
    return {"augmentation": "batch 64", "pairs/s": rate, "per-picture warps": loop, "times": rate / loop}


def _loading(rounds: int) -> Row:
    rows = [measured("-m", "benchmarks.train", "load", str(LOADED)) for _ in range(rounds)]
    return {"crops": LOADED, **{key: middle(rows, key) for key in ("first start s", "next start s", "peak MB")}}


def step(batch: int, steps: int) -> Row:
    """Train for some steps: all that a run does but its start and its saves, which take 2 % of a long one at most."""
    with tempfile.TemporaryDirectory() as folder:
        _write_faces(Path(folder), FACES)
        clock = _Clock()
        options = TrainOptions(
            workspace=Path(folder), batch_size=batch, inner_loop=1, max_steps=steps, log_interval=10**6
        )
        train(options, clock)
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"samples_per_s": clock.rate(), "peak_mb": peak_mb}


class _Clock(NullConsole):
    """Notes when each step was done; the median is robust against what else the machine does."""

    def __init__(self) -> None:
        self._times: list[float] = []
        self._samples = 0

    def advance(self, count: int = 1) -> None:
        """Note the time of a step; reading faces counts them one by one."""
        self._samples = count
        if count > 1:
            self._times.append(time.perf_counter())

    def rate(self) -> float:
        """Samples per second over the second half of the steps."""
        return self._samples / median(np.diff(self._times[len(self._times) // 2 :]).tolist())


def warp(batch: int) -> Row:
    """Draw training pairs alone."""
    keep_freed_memory()
    crops = torch.randint(0, 256, (batch, 3, 256, 256), dtype=torch.uint8)
    times = []
    for number in range(20):
        begin = time.perf_counter()
        draw_pairs(crops, Augmentation(), generator(number))
        times.append(time.perf_counter() - begin)
    return {"pairs_per_s": batch / median(times[3:])}


def load(count: int) -> Row:
    """Read crops twice, as two starts do, just after they were written: the system may still hold the files."""
    with tempfile.TemporaryDirectory() as folder:
        _write_faces(Path(folder), count // 2)
        seconds = []
        for _ in range(2):
            begin = time.perf_counter()
            faces = load_faces(Path(folder) / "data", NullConsole(), Path(folder) / "spill")
            seconds.append(time.perf_counter() - begin)
            assert sum(map(len, faces.people.values())) == count // 2 * 2
            del faces
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"first start s": seconds[0], "next start s": seconds[1], "peak MB": peak}


def _write_faces(folder: Path, count: int) -> None:
    """Crops of noise that is as detailed as a face: 30 kB each."""
    chance = np.random.default_rng(1)
    for person in ("one", "other"):
        for number in range(count):
            coarse = chance.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            write_picture(folder / "data" / person / f"{number:05d}.jpg", np.kron(coarse, np.ones((8, 8, 1), np.uint8)))


if __name__ == "__main__":
    kinds: dict[str, Callable[..., Row]] = {"step": step, "warp": warp, "load": load}
    print(json.dumps(kinds[sys.argv[1]](*map(int, sys.argv[2:]))))
