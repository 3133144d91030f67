"""The plain way of each stage, as a script without this project would do it: what its speed is compared with.

    python -m benchmarks.baselines extract VIDEO [--frames N] [--output FACES.json]    MTCNN on every frame
    python -m benchmarks.baselines train --batch-size 64 --steps 5     one picture warped after the other, plain Adam
    python -m benchmarks.baselines step --batch-size 64 --steps 5      the networks alone, on data that is ready
    python -m benchmarks.baselines sgemm                               matrix products: what the processor can do
    python -m benchmarks.baselines transcode VIDEO                     decode and encode, with no face drawn

Each prints one line of JSON. Nothing here imports the pipeline.
"""

import json
import subprocess
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from statistics import median

import av
import cv2
import numpy as np
import numpy.typing as npt
import torch
import tyro
from torch import nn

from benchmarks.measuring import Row, print_row

MIN_SCORE = 0.95
CROP_PX, SEEN_PX, MODEL_PX = 256, 180, 64
TEMPLATE = np.array([[91, 95], [165, 95], [128, 138], [98, 181], [158, 181]], np.float32)  # five landmarks in a crop
FACES = 32  # random crops of each of two people
LEARNING_RATE, BETAS = 5e-5, (0.5, 0.999)
MATRIX_SIDE, PRODUCTS = 2048, 20

Picture = npt.NDArray[np.float64]
"""(H, W, 3) in [0, 1]: the usual script keeps its pictures in 64 bits."""


def extract(video: tyro.conf.Positional[Path], frames: int | None = None, output: Path | None = None) -> Row:
    """Run all of MTCNN on every frame and write each face as PNG; ``output`` gets what was found."""
    from facenet_pytorch import MTCNN  # noqa: PLC0415 - only this baseline waits for it

    detector, faces, count = MTCNN(keep_all=True, device="cpu"), list[Row](), 0
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, av.open(str(video)) as container:
        container.streams.video[0].thread_type = "AUTO"
        for frame in container.decode(video=0):
            if count == frames:
                break
            picture = frame.to_ndarray(format="rgb24")
            boxes, scores, landmarks = detector.detect(picture, landmarks=True)
            for box, score, points in zip(boxes, scores, landmarks, strict=True) if boxes is not None else ():
                if score < MIN_SCORE:
                    continue
                points_xy = np.asarray(points, np.float32)
                crop_from_frame, _ = cv2.estimateAffinePartial2D(points_xy, TEMPLATE, method=cv2.LMEDS)
                if crop_from_frame is not None:
                    crop = cv2.warpAffine(picture, crop_from_frame, (CROP_PX, CROP_PX), flags=cv2.INTER_AREA)
                    cv2.imwrite(f"{folder}/{count}_{len(faces)}.png", cv2.cvtColor(crop, cv2.COLOR_RGB2BGR))
                face = {"frame": count, "box": [float(edge) for edge in box], "score": float(score)}
                faces.append({**face, "points": points_xy.tolist()})
            count += 1
    seconds = time.perf_counter() - begin
    if output is not None:
        output.write_text(json.dumps(faces), encoding="utf-8")
    return {"frames": count, "faces": len(faces), "fps": count / seconds}


def train(batch_size: int = 64, steps: int = 5) -> Row:
    """Warp each picture by itself with OpenCV, then take a step of Adam; two people by turns."""
    rng = np.random.default_rng(1)
    people = [[rng.random((CROP_PX, CROP_PX, 3)) for _ in range(FACES)] for _ in range(2)]
    network = build_network()
    optimizer = torch.optim.Adam(network.parameters(), LEARNING_RATE, betas=BETAS)
    warping, taken = list[float](), list[float]()
    for number in range(steps + 1):
        begin, crops = time.perf_counter(), people[number % 2]
        pairs = [warp_pair(crops[i], rng) for i in rng.integers(0, len(crops), batch_size)]
        warped, target = (torch.from_numpy(np.stack(side).transpose(0, 3, 1, 2)) for side in zip(*pairs, strict=True))
        warping.append(time.perf_counter() - begin)
        take_step(network, optimizer, warped.float(), target.float())
        taken.append(time.perf_counter() - begin)
    samples = batch_size * steps  # the first step makes the optimizer's state: it does not count
    return {"samples_per_s": samples / sum(taken[1:]), "pairs_per_s": samples / sum(warping[1:])}


def step(batch_size: int = 64, steps: int = 5) -> Row:
    """Take training steps on a batch that is there already."""
    network, pictures = build_network(), torch.rand(batch_size, 3, MODEL_PX, MODEL_PX)
    optimizer = torch.optim.Adam(network.parameters(), LEARNING_RATE, betas=BETAS, fused=True)
    seconds = [_timed(lambda: take_step(network, optimizer, pictures, pictures)) for _ in range(steps + 1)]
    return {"samples_per_s": batch_size / median(seconds[1:])}


def sgemm() -> Row:
    """Multiply large matrices."""
    matrix = torch.rand(MATRIX_SIDE, MATRIX_SIDE)
    seconds = min(_timed(lambda: matrix @ matrix) for _ in range(PRODUCTS))
    return {"gflops": 2 * MATRIX_SIDE**3 / seconds / 1e9}


def transcode(video: tyro.conf.Positional[Path], crf: int = 18, preset: str = "medium") -> Row:
    """Decode and encode a video as ``convert`` does by default; its sound is copied."""
    import imageio_ffmpeg  # noqa: PLC0415 - only this baseline needs it

    with tempfile.TemporaryDirectory() as folder:
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(video), "-map", "0:v:0", "-map", "0:a?"]
        command += ["-c:v", "libx264", "-crf", str(crf), "-preset", preset, "-c:a", "copy", f"{folder}/result.mp4"]
        return {"seconds": _timed(lambda: subprocess.run(command, check=True))}


def build_network(init_dim: int = 32, code_dim: int = 1024) -> nn.Sequential:
    """The reference tool's encoder with one decoder, from plain layers; (N, 3, 64, 64) to the same, in [0, 1]."""
    torch.manual_seed(1)
    layers: list[nn.Module] = []
    for before, after in pairwise([3, *(init_dim * 2**level for level in range(4))]):
        layers += [nn.Conv2d(before, after, 5, stride=2, padding=2), nn.LeakyReLU(0.1)]
    flat = 8 * init_dim * 4 * 4
    layers += [
        nn.Flatten(),
        nn.Linear(flat, code_dim),
        nn.Linear(code_dim, 1024 * 4 * 4),
        nn.Unflatten(1, (1024, 4, 4)),
    ]
    for before, after in pairwise([1024, 512, 256, 128, 64]):
        layers += [nn.Conv2d(before, 4 * after, 3, padding=1), nn.LeakyReLU(0.1), nn.PixelShuffle(2)]
    return nn.Sequential(*layers, nn.Conv2d(64, 3, 5, padding=2), nn.Sigmoid())


def warp_pair(crop: Picture, rng: np.random.Generator) -> tuple[Picture, Picture]:
    """Distort a crop, (256, 256, 3): what goes into the network and what should come out, (64, 64, 3) each."""
    middle = CROP_PX / 2
    turn = cv2.getRotationMatrix2D((middle, middle), rng.uniform(-10, 10), rng.uniform(0.95, 1.05))
    turn[:, 2] = turn[:, 2] + rng.uniform(-0.05, 0.05, 2) * CROP_PX
    moved = cv2.warpAffine(crop, turn, (CROP_PX, CROP_PX), borderMode=cv2.BORDER_REPLICATE)
    if rng.random() < 0.4:
        moved = moved[:, ::-1]
    nodes = np.linspace(middle - SEEN_PX / 2, middle + SEEN_PX / 2, 5)
    grid = np.stack(np.meshgrid(nodes, nodes)) + rng.normal(0, 5, (2, 5, 5))
    map_x, map_y = (cv2.resize(axis, (80, 80))[8:72, 8:72].astype(np.float32) for axis in grid)
    warped = cv2.remap(moved, map_x, map_y, cv2.INTER_LINEAR)
    straight = np.stack(np.meshgrid(*[np.linspace(0, MODEL_PX, 5)] * 2), axis=-1).reshape(-1, 2)
    small_from_crop, _ = cv2.estimateAffinePartial2D(grid.reshape(2, -1).T, straight, method=cv2.LMEDS)
    return np.asarray(warped), np.asarray(cv2.warpAffine(moved, small_from_crop, (MODEL_PX, MODEL_PX)))


def take_step(network: nn.Module, optimizer: torch.optim.Optimizer, given: torch.Tensor, target: torch.Tensor) -> None:
    """One step of training towards ``target``, by mean absolute error."""
    optimizer.zero_grad()
    nn.functional.l1_loss(network(given), target).backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def _timed(action: Callable[[], object]) -> float:
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin


if __name__ == "__main__":
    print_row((extract, train, step, sgemm, transcode))
