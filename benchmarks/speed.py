"""Speed of each stage: whole runs, beside the plain way and what no way can do without.

    python -m benchmarks.speed extract VIDEO
    python -m benchmarks.speed train BATCH STEPS | pairs BATCH | load CROPS    training and its parts, on random faces
    python -m benchmarks.speed convert VIDEO WORKSPACE | networks FACES        the whole command; the networks alone

These run one measurement and print its figures as JSON; ``python -m benchmarks`` calls them, by turns with the others.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import median

import numpy as np
import psutil
import torch
import tyro

import pipeline.train
from benchmarks.measuring import DATA, ROOT, Row, by_turns, measure, peak_mb, print_row, run_cli
from models import PICTURE_PX, checkpoint
from models.autoencoder import Decoder, Encoder
from models.checkpoint import Model
from pipeline.console import NullConsole
from pipeline.extract import Run, extract_footage
from pipeline.faces.alignment import CROP_PX, cut_crop
from pipeline.faces.crops import encode_crop
from pipeline.faces.detection import Detector, ImagePyramid
from pipeline.faces.footage import VideoFootage
from pipeline.faces.store import FaceStore, StoredFace
from pipeline.faces.tracking import pairwise_iou
from pipeline.media.pictures import write_picture
from pipeline.media.reader import VideoReader
from pipeline.options import ExtractOptions, TrainOptions
from pipeline.runtime import keep_freed_memory
from pipeline.training.augment import Augmentation, draw_pairs
from pipeline.training.dataset import load_faces
from pipeline.training.sampler import generator
from pipeline.types import Points
from pipeline.workspace import Workspace, write_bytes

CROWD = "multi/street_crowd_1080p.mp4"
EXTRACTED = ("pairs/manA_lp_d9.mp4", "pairs/manB_lp_d13.mp4", CROWD)
COMPARED = ("multi/hamilton_stage_cuts.mp4", CROWD)  # and all of pairs/
CONVERTED = ("pairs/manA_lp_d9.mp4", CROWD)
STORE = "videos/*/faces.sqlite"  # of the one video in a workspace
CORES = 2
MIN_HEIGHT_PX, MIN_SCORE = 40, 0.95  # faces of the plain loop that must be found
SAME_FACE_IOU = 0.5
FACES = 256  # random ones of each of two people to train on, so that a pass is whole batches
STEPS = {64: 24, 16: 60}  # batch size to steps
LOADED = 10_000  # crops
SAMPLE_GFLOP = 7.7  # multiplications and additions of a sample, forward and backward, at --init-dim 32
DRAWN_BATCH = 16
MEMORY_READ_EVERY_S = 0.5

Video = tyro.conf.Positional[Path]
Folder = tyro.conf.Positional[Path]
Count = tyro.conf.Positional[int]


def extract_rows(rounds: int) -> list[Row]:
    """Frames per second on three clips."""
    return [_extract_row(DATA / clip, rounds) for clip in EXTRACTED]


def _extract_row(clip: Path, rounds: int) -> Row:
    plain = ("baselines", "extract", clip, "--frames", "60")
    ours, loop = by_turns(rounds, ("speed", "extract", clip), plain)
    return {
        "extract": clip.name,
        "frames/s": ours["fps"],
        "plain loop": loop["fps"],
        "times the plain loop": ours["fps"] / loop["fps"],
        "bound": ours["bound_fps"],
        "of the bound": ours["fps"] / ours["bound_fps"],
        "peak MB": ours["peak_mb"],
    }


def face_rows(rounds: int) -> list[Row]:
    """What is found in nine clips of what the plain loop finds; measured once, whatever ``rounds`` says."""
    rows = []
    for clip in (*sorted((DATA / "pairs").glob("*.mp4")), *(DATA / clip for clip in COMPARED)):
        with tempfile.TemporaryDirectory() as folder:
            run_cli("extract", clip, "--everyone", "everyone", "--workspace", folder)
            with FaceStore(next(Path(folder).glob(STORE))) as store:
                found = compare(detect_every_frame(clip), store.faces())
        rows.append({"faces of the plain loop": clip.name, **found})
    return rows


def detect_every_frame(clip: Path) -> list[Row]:
    """Faces that the plain loop finds: ``frame``, ``box``, ``score`` and ``points`` of each."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "faces.json"
        measure("baselines", "extract", clip, "--output", output)
        found: list[Row] = json.loads(output.read_text(encoding="utf-8"))
        return found


def compare(plain: Sequence[Row], faces: Sequence[StoredFace]) -> Row:
    """Say how many of the plain loop's faces are found, how near, and how steady both are.

    Jitter is the mean change of velocity of the landmarks from frame to frame, relative to the eye distance.
    """
    wanted = [face for face in plain if face["score"] >= MIN_SCORE and face["box"][3] - face["box"][1] >= MIN_HEIGHT_PX]
    by_frame = _by_frame(faces)
    tracks: dict[int, dict[int, Points]] = defaultdict(dict)  # track and frame to landmarks, (2, 5, 2) px: plain, ours
    for face in wanted:
        candidates = by_frame[face["frame"]]
        boxes = np.array([candidate.face.box for candidate in candidates]).reshape(-1, 4)
        iou = pairwise_iou(np.array([face["box"]]), boxes)[0]
        if iou.max(initial=0) >= SAME_FACE_IOU:
            match = candidates[int(iou.argmax())]
            tracks[match.track][face["frame"]] = np.stack([face["points"], match.face.landmarks])
    pairs = [pair for track in tracks.values() for pair in track.values()]
    if not pairs:
        return {"wanted": len(wanted), "found %": 0.0}
    changes = [
        _distance(track[i - 1] - 2 * pair + track[i + 1]) / _eyes_px(pair)
        for track in tracks.values()
        for i, pair in track.items()
        if i - 1 in track and i + 1 in track
    ]
    plain_jitter, jitter = np.mean(changes, axis=0) if changes else (np.nan, np.nan)
    return {
        "wanted": len(wanted),
        "found %": 100 * len(pairs) / len(wanted),
        "landmarks apart, % of eye distance": 100
        * float(np.median([_distance(pair[0] - pair[1]) / _eyes_px(pair) for pair in pairs])),
        "jitter %": 100 * float(jitter),
        "plain loop's jitter %": 100 * float(plain_jitter),
    }


def _by_frame(faces: Iterable[StoredFace]) -> dict[int, list[StoredFace]]:
    by_frame: dict[int, list[StoredFace]] = defaultdict(list)
    for face in faces:
        by_frame[face.frame].append(face)
    return by_frame


def _distance(offsets: Points) -> Points:
    """Mean length over the landmarks."""
    return np.asarray(np.linalg.norm(offsets, axis=-1).mean(axis=-1))


def _eyes_px(pair: Points) -> float:
    return float(np.linalg.norm(pair[0, 1] - pair[0, 0]))


def extract(video: Video) -> Row:
    """Do what the plain loop does: find faces, write crops and store, tell nobody apart; then measure the bound.

    The clock starts when the detector is loaded, as in the plain loop. The bound is the processor time of what cannot
    be left out (decoding, a close look at each face, its crop), on two cores that never wait.
    """
    with tempfile.TemporaryDirectory() as folder:
        options = ExtractOptions(videos=(video,), workspace=Path(folder), everyone="everyone")
        detector = Detector(options.min_face, options.min_confidence)
        begin = time.perf_counter()
        with VideoReader(video) as reader:
            frames = extract_footage(VideoFootage(reader), Run(options, detector, (), NullConsole())).frames
        row = {"fps": frames / (time.perf_counter() - begin), "peak_mb": peak_mb()}
        with FaceStore(next(Path(folder).glob(STORE))) as store:
            by_frame = _by_frame(store.faces())
        begin = time.process_time()
        with VideoReader(video) as reader:
            for frame in reader:
                pyramid = ImagePyramid(frame.image)
                detector.refine([(pyramid, face.face.box) for face in by_frame[frame.index]], 0)
                for face in by_frame[frame.index]:
                    crop = encode_crop(cut_crop(frame.image, face.crop_from_frame))
                    write_bytes(Path(folder) / "crop.jpg", crop)
        return {**row, "bound_fps": frames * CORES / (time.process_time() - begin)}


def train_rows(rounds: int) -> list[Row]:
    """Steps, augmentation and start-up on random faces."""
    pairs, warps = by_turns(
        rounds, ("speed", "pairs", "64"), ("baselines", "train", "--batch-size", "64", "--steps", "2")
    )
    augmentation = {
        "augmentation": "batch 64",
        "pairs/s": pairs["pairs_per_s"],
        "per-picture warps": warps["pairs_per_s"],
        "times": pairs["pairs_per_s"] / warps["pairs_per_s"],
    }
    loading = {"crops": LOADED, **by_turns(rounds, ("speed", "load", str(LOADED)))[0]}
    return [*(_steps_row(batch, steps, rounds) for batch, steps in STEPS.items()), augmentation, loading]


def _steps_row(batch: int, steps: int, rounds: int) -> Row:
    plain = ("--batch-size", str(batch), "--steps", str(steps // 3))
    ours, bare, loop, products = by_turns(
        rounds,
        ("speed", "train", str(batch), str(steps)),
        ("baselines", "step", *plain),
        ("baselines", "train", *plain),
        ("baselines", "sgemm"),
    )
    rate = ours["samples_per_s"]
    return {
        "train, batch": batch,
        "samples/s": rate,
        "bare step": bare["samples_per_s"],
        "of the bare step": rate / bare["samples_per_s"],
        "plain loop": loop["samples_per_s"],
        "times the plain loop": rate / loop["samples_per_s"],
        "of sgemm": rate * SAMPLE_GFLOP / products["gflops"],
        "peak MB": ours["peak_mb"],
    }


def train(batch: Count, steps: Count) -> Row:
    """Train for some steps: all that a run does but its start and its saves, which take 2 % of a long one at most."""
    with tempfile.TemporaryDirectory() as folder:
        _write_faces(Path(folder), FACES)
        clock = _Clock()
        options = TrainOptions(
            workspace=Path(folder), batch_size=batch, inner_loop=1, max_steps=steps, log_interval=10**6
        )
        pipeline.train.train(options, clock)
    return {"samples_per_s": clock.rate(), "peak_mb": peak_mb()}


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


def pairs(batch: Count) -> Row:
    """Draw training pairs alone."""
    keep_freed_memory()
    crops = torch.randint(0, 256, (batch, 3, CROP_PX, CROP_PX), dtype=torch.uint8)
    times = []
    for number in range(20):
        begin = time.perf_counter()
        draw_pairs(crops, Augmentation(), generator(number))
        times.append(time.perf_counter() - begin)
    return {"pairs_per_s": batch / median(times[3:])}


def load(crops: Count) -> Row:
    """Read crops twice, as two starts do, just after they were written: the system may still hold the files."""
    with tempfile.TemporaryDirectory() as folder:
        _write_faces(Path(folder), crops // 2)
        seconds = []
        for _ in range(2):
            begin = time.perf_counter()
            faces = load_faces(Path(folder) / "data", NullConsole(), Path(folder) / "spill")
            seconds.append(time.perf_counter() - begin)
            assert sum(map(len, faces.people.values())) == crops // 2 * 2
            del faces
    return {"first start s": seconds[0], "next start s": seconds[1], "peak MB": peak_mb()}


def _write_faces(folder: Path, count: int) -> None:
    """Crops of noise that is as detailed as a face: 30 kB each."""
    rng = np.random.default_rng(1)
    for person in ("someone", "other"):
        for number in range(count):
            coarse = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            write_picture(folder / "data" / person / f"{number:05d}.jpg", np.kron(coarse, np.ones((8, 8, 1), np.uint8)))


def convert_rows(rounds: int) -> list[Row]:
    """Whole runs on two clips, all of whose faces are swapped."""
    with tempfile.TemporaryDirectory() as folder:
        write_untrained_model(Workspace(Path(folder)), Encoder(), ("someone", "other"))
        return [_convert_row(DATA / clip, Path(folder), rounds) for clip in CONVERTED]


def write_untrained_model(workspace: Workspace, encoder: Encoder, people: tuple[str, ...]) -> None:
    """Save a model that draws, though not well."""
    torch.manual_seed(1)
    model = Model(encoder)
    for person in people:
        model.add_person(person)
        model.trained[person].samples = 1
    checkpoint.save(workspace.model("model"), model)


def _convert_row(clip: Path, workspace: Path, rounds: int) -> Row:
    report = run_cli("extract", clip, "--everyone", "someone", "--workspace", workspace)
    faces = report.split(" faces in ")[0].split()[-1]
    ours, transcode, networks = by_turns(
        rounds, ("speed", "convert", clip, workspace), ("baselines", "transcode", clip), ("speed", "networks", faces)
    )
    return {
        "convert": clip.name,
        "faces": int(faces),
        "whole command s": ours["seconds"],
        "transcode alone s": transcode["seconds"],
        "model alone s": networks["seconds"],
        "both / command": (transcode["seconds"] + networks["seconds"]) / ours["seconds"],
        "peak MB": ours["peak_mb"],
        "ffmpegs' peak MB": ours["ffmpeg_mb"],
    }


def convert(video: Video, workspace: Folder) -> Row:
    """Time the whole command, its start included; read the memory of it and of its ffmpegs while it runs."""
    command: list[str | Path] = [
        sys.executable,
        "cli.py",
        "convert",
        video,
        "--swap",
        "someone:other",
        "--workspace",
        workspace,
    ]
    own = ffmpegs = 0
    begin = time.perf_counter()
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            with suppress(psutil.NoSuchProcess):
                own = max(own, watched.memory_info().rss)
                ffmpegs = max(ffmpegs, sum(child.memory_info().rss for child in watched.children()))
            with suppress(subprocess.TimeoutExpired):
                process.wait(MEMORY_READ_EVERY_S)
        seconds = time.perf_counter() - begin
    return {"seconds": seconds, "peak_mb": own / 2**20, "ffmpeg_mb": ffmpegs / 2**20}


def networks(faces: Count) -> Row:
    """Time the networks alone, on all cores, in batches of 16."""
    keep_freed_memory()
    encoder, decoder = Encoder().eval(), Decoder().eval()
    pictures = torch.rand(DRAWN_BATCH, 3, PICTURE_PX, PICTURE_PX)
    batches = max(1, faces // DRAWN_BATCH)
    with torch.inference_mode():
        decoder(encoder(pictures))
        begin = time.perf_counter()
        for _ in range(batches):
            decoder(encoder(pictures))
        seconds = time.perf_counter() - begin
    return {"seconds": seconds * faces / (batches * DRAWN_BATCH)}


if __name__ == "__main__":
    measurements = (extract, train, pairs, load, convert, networks)
    print_row(measurements)
