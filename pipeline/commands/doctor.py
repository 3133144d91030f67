"""The command doctor: check everything that the stages need, and try each stage for about a second."""

import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import psutil
import torch
from av.video.frame import VideoFrame

from models import PICTURE_PX, CheckpointError
from models.autoencoder import Encoder
from models.checkpoint import Model
from models.pretrained import load_builtin
from models.segmenter import load_segmenter
from pipeline import __version__
from pipeline.console import Report
from pipeline.errors import MediaError, RecastError, UsageError, WorkspaceError
from pipeline.faces.alignment import align, cut_crop
from pipeline.faces.detection import Detector, ImagePyramid
from pipeline.faces.identity import embed
from pipeline.faces.mesh import mesh_weights
from pipeline.media.canvas import PixelFormat
from pipeline.media.ffmpeg import choose_ffmpeg
from pipeline.media.mux import inspect_segment, join
from pipeline.media.pictures import read_picture
from pipeline.media.probe import probe
from pipeline.media.writer import Encoding, SegmentWriter, pixel_formats
from pipeline.options import DoctorOptions
from pipeline.provenance.certificate import config_folder, own_identity, valid_until
from pipeline.provenance.credentials import Disclosure, read_credentials, sign
from pipeline.runtime import choose_device, package_file
from pipeline.training.augment import Pairs
from pipeline.training.dataset import Batch
from pipeline.training.trainer import Computing, Trainer, choose_precision

ENCODERS = ("libx264", "libx265", "libsvtav1", "libvpx-vp9", "h264_nvenc", "hevc_videotoolbox", "h264_qsv", "h264_amf")
LOW_DISK_BYTES, LOW_MEMORY_BYTES = 5e9, 3e9  # bytes; a model's saved states take 2, training 2.5
REINSTALL = "run: pip install -r requirements.txt"

State = Literal["ok", "note", "problem"]


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        state: ``ok``; ``note``: a feature may be missing; ``problem``: something will not work.
        words: what was found.
        remedy: what to do about it; may be empty.
    """

    state: State
    words: str
    remedy: str = ""


def doctor(options: DoctorOptions) -> Report:
    """Check everything; only a signing certificate is created, if there is none."""
    checks: dict[str, Callable[[], Finding]] = {
        "Recast": _check_recast,
        "device": _check_device,
        "memory": _check_memory,
        "disk": lambda: _check_disk(options.workspace),
        "ffmpeg": _check_ffmpeg,
        "face mesh": _check_mesh,
        "weights": _check_weights,
        "certificate": _check_certificate,
        "try extract": lambda: _timed(_find_a_face),
        "try train": lambda: _timed(_take_two_steps),
        "try convert": lambda: _timed(_make_a_video),
    }
    report, facts = Report(), list[dict[str, str]]()
    for name, check in checks.items():
        try:
            finding = check()
        except RecastError as error:
            finding = Finding("problem", str(error))
        except Exception as error:  # noqa: BLE001 - any error is what the doctor looks for
            finding = Finding("problem", f"{type(error).__name__}: {error}", REINSTALL)
        line = f"{name}: {finding.words}{f'; {finding.remedy}' if finding.remedy else ''}"
        report.lines.append(f"{finding.state:8}{line}")
        if finding.state == "problem":
            report.problems.append(line)
        facts.append({"name": name, **asdict(finding)})
    report.facts = {"findings": facts}
    return report


def _check_recast() -> Finding:
    words = f"{__version__}, Python {platform.python_version()} on {platform.platform()}, torch {torch.__version__}"
    if sys.prefix == sys.base_prefix:
        return Finding("note", words, "not in a virtual environment: other programs may change its packages")
    return Finding("ok", words)


def _check_device() -> Finding:
    if not torch.cuda.is_available():
        words = f"CPU, {os.cpu_count()} cores, {torch.get_num_threads()} threads; computes in fp32"
        return Finding("note", words, "training takes hours; with an NVIDIA GPU install torch for CUDA")
    device = torch.device("cuda")
    free, total = torch.cuda.mem_get_info(device)
    name, precision = torch.cuda.get_device_name(device), choose_precision("auto", device)
    return Finding("ok", f"{name}, {free / 1e9:.0f} of {total / 1e9:.0f} GB free; computes in {precision}")


def _check_memory() -> Finding:
    memory = psutil.virtual_memory()
    words = f"{memory.available / 1e9:.1f} of {memory.total / 1e9:.1f} GB free"
    if memory.available < LOW_MEMORY_BYTES:
        return Finding("note", words, "training takes about 2.5 GB: close other programs")
    return Finding("ok", words)


def _check_disk(workspace: Path) -> Finding:
    folder = next(folder for folder in (workspace.resolve(), *workspace.resolve().parents) if folder.exists())
    if not os.access(folder, os.W_OK):
        return Finding("problem", f"{folder} cannot be written to", "choose another --workspace")
    free = shutil.disk_usage(folder).free
    words = f"{free / 1e9:.0f} GB free in {folder}"
    if free < LOW_DISK_BYTES:
        return Finding("note", words, "a model takes about 2 GB, crops 20 MB per minute: free some space")
    return Finding("ok", words)


def _check_ffmpeg() -> Finding:
    version = Encoding().version.removeprefix("ffmpeg version ").partition(" ")[0]
    available = []
    for codec in ENCODERS:
        with suppress(UsageError):
            pixel_formats(codec)
            available.append(codec)
    path, rejected = choose_ffmpeg()
    words = "; ".join([
        f"{version} at {path}, with {', '.join(available)}",
        *(f"rejected: {line}" for line in rejected),
    ])  # fmt: skip
    if "libx264" not in available:
        return Finding("problem", words, "it lacks libx264: take it off PATH, then the ffmpeg of the package is used")
    return Finding("note" if rejected else "ok", words)


def _check_weights() -> Finding:
    try:
        load_builtin("hd128")
        load_segmenter()
    except CheckpointError as error:
        return Finding("problem", str(error))
    return Finding("ok", "those that come with Recast are whole")


def _check_mesh() -> Finding:
    try:
        return Finding("ok", f"weights at {mesh_weights()}")
    except UsageError as error:
        return Finding("note", str(error), "only --mask mesh needs it")


def _check_certificate() -> Finding:
    identity = own_identity()
    return Finding("ok", f"in {config_folder()}, valid until {valid_until(identity):%Y-%m-%d}")


def _timed(attempt: Callable[[], str]) -> Finding:
    began = time.monotonic()
    words = attempt()
    return Finding("ok", f"{words} in {time.monotonic() - began:.1f} s")


def _find_a_face() -> str:
    """Detect and embed the face of a portrait in matplotlib's sample data."""
    picture = read_picture(package_file("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"))
    detector = Detector(40, 0.95, choose_device(no_cuda=False))
    (faces,) = detector.detect([ImagePyramid(picture)])
    if len(faces) != 1:
        raise WorkspaceError(f"MTCNN found {len(faces)} faces instead of one; {REINSTALL}")
    length = float(np.linalg.norm(embed(cut_crop(picture, align(faces[0].landmarks)))))
    return f"MTCNN found the face, dlib embedded it (length {length:.2f})"


def _take_two_steps() -> str:
    device = torch.device(choose_device(no_cuda=False))
    model = Model(Encoder(8, 64))
    model.add_person("somebody")
    trainer = Trainer(model, 1e-4, False, Computing(device, choose_precision("auto", device)))
    faces = torch.rand(4, 3, PICTURE_PX, PICTURE_PX, device=device)
    for _ in range(2):
        trainer.step(Batch({"somebody": Pairs(faces, faces)}, len(faces)))
    return f"two steps on {device}, L1 {trainer.read_losses(wait=True):.2f}"


def _make_a_video() -> str:
    """Encode, join, sign and verify two frames."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        source, segment, result = folder / "source.y4m", folder / "segment.nut", folder / "result.mp4"
        frame = b"FRAME\n" + bytes(64 * 48) + bytes([128]) * (2 * 32 * 24)
        source.write_bytes(b"YUV4MPEG2 W64 H48 F25:1 Ip A1:1 C420jpeg\n" + 2 * frame)
        info = probe(source)
        with SegmentWriter(segment, info, PixelFormat.for_video(info), Encoding(), (0, 1)) as writer:
            for shade in (0, 200):
                samples = np.full((48 * 3 // 2, 64), shade, np.uint8)
                writer.write(VideoFrame.from_ndarray(samples, format="yuv420p"))
        finished = inspect_segment(segment, (0, 1), info.time_base)
        if finished is None:
            raise MediaError("ffmpeg did not encode both frames of a test video")
        join([finished], result, info)
        sign(result, Disclosure("none", {}), own_identity(), source)
        state = read_credentials(result, []).state
        if state != "valid":
            raise MediaError(f"the signature of a new file is read as {state!r}")
    return "two frames encoded, joined, signed"
