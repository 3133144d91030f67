"""Convert: whole runs beside re-encoding and the model alone, whose sum no conversion can be much faster than.

python -m benchmarks.convert run VIDEO WORKSPACE     convert a video of the workspace and print its figures as JSON
python -m benchmarks.convert model FACES             the model alone on so many faces
"""

import json
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psutil
import torch

from benchmarks.table import Row, measured, middle
from models import PICTURE_PX, checkpoint
from models.autoencoder import Decoder, Encoder
from models.checkpoint import Model
from pipeline.runtime import keep_freed_memory
from pipeline.workspace import Workspace

TIMED = ("pairs/manA_lp_d9.mp4", "multi/street_crowd_1080p.mp4")
BATCH = 16
ROOT = Path(__file__).resolve().parent.parent
WATCH_EVERY_S = 0.5


def speed(data: Path, plain: Path, rounds: int) -> list[Row]:
    """Measure whole runs on two clips, all of whose faces are swapped."""
    with tempfile.TemporaryDirectory() as folder:
        _write_model(Workspace(Path(folder)))
        return [_speed(data / clip, Path(folder), plain, rounds) for clip in TIMED]


def _write_model(workspace: Workspace) -> None:
    model = Model(Encoder())
    for person in ("someone", "other"):
        model.add_person(person)
        model.trained[person].samples = 1
    checkpoint.save(workspace.model("model"), model)


def _speed(clip: Path, workspace: Path, plain: Path, rounds: int) -> Row:
    _output_of("cli.py", "extract", str(clip), "--everyone", "someone", "--workspace", str(workspace))
    ours, transcodes, models = [], [], []
    for _ in range(rounds):
        ours.append(measured("-m", "benchmarks.convert", "run", str(clip), str(workspace)))
        transcodes.append(measured(str(plain), "transcode", str(clip)))
        models.append(measured("-m", "benchmarks.convert", "model", str(ours[0]["faces"])))
    ours_s, transcode_s, model_s = (middle(rows, "seconds") for rows in (ours, transcodes, models))
    return {
        "convert": clip.name,
        "faces": ours[0]["faces"],
        "whole command s": ours_s,
        "transcode alone s": transcode_s,
        "model alone s": model_s,
        "both / command": (transcode_s + model_s) / ours_s,
        "peak MB": middle(ours, "peak_mb"),
        "ffmpegs' peak MB": middle(ours, "ffmpeg_mb"),
    }


def _output_of(*command: str) -> str:
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"error: {' '.join(command)} failed: {done.stderr.strip()[-500:]}")
    return done.stdout


def run(clip: str, workspace: str) -> Row:
    """Time the whole command, its start included, and watch how much memory it and its ffmpegs hold."""
    command = [sys.executable, "cli.py", "convert", clip, "--swap", "someone:other", "--workspace", workspace]
    begin = time.perf_counter()
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        own, ffmpegs = _watch(process)
        seconds = time.perf_counter() - begin
        said = process.communicate()[0]
    faces = int(said.split("swapped ")[1].split()[0])
    return {"seconds": seconds, "faces": faces, "peak_mb": own, "ffmpeg_mb": ffmpegs}


def _watch(process: "subprocess.Popen[str]") -> tuple[float, float]:
    """Return the most MB that a process, and that all it started together, held until it ended."""
    watched = psutil.Process(process.pid)
    own = others = 0
    while process.poll() is None:
        with suppress(psutil.NoSuchProcess):
            own = max(own, watched.memory_info().rss)
            others = max(others, sum(child.memory_info().rss for child in watched.children()))
        with suppress(subprocess.TimeoutExpired):
            process.wait(WATCH_EVERY_S)
    return own / 2**20, others / 2**20


def model(faces: int) -> Row:
    """Time the networks alone, on all cores, in batches of 16."""
    keep_freed_memory()
    encoder, decoder = Encoder().eval(), Decoder().eval()
    pictures = torch.rand(BATCH, 3, PICTURE_PX, PICTURE_PX)
    with torch.inference_mode():
        decoder(encoder(pictures))
        begin = time.perf_counter()
        for _ in range(faces // BATCH):
            decoder(encoder(pictures))
        seconds = time.perf_counter() - begin
    return {"seconds": seconds * faces / (faces // BATCH * BATCH)}


if __name__ == "__main__":
    kinds = {"run": lambda: run(*sys.argv[2:]), "model": lambda: model(int(sys.argv[2]))}
    print(json.dumps(kinds[sys.argv[1]]()))
