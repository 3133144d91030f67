"""Looks at everything that the stages stand on, and tries each of them for a second."""

import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import psutil
import torch
from av.video.frame import VideoFrame

from models import PICTURE_PX
from models.autoencoder import Encoder
from models.checkpoint import Model
from pipeline import __version__
from pipeline.errors import MediaError, RecastError, UsageError, WorkspaceError
from pipeline.faces.alignment import align, cut_crop
from pipeline.faces.detection import Detector, ImagePyramid
from pipeline.faces.identity import embed
from pipeline.faces.mesh import mesh_weights
from pipeline.media.canvas import PixelFormat
from pipeline.media.ffmpeg import choose_ffmpeg
from pipeline.media.mux import Segment, join
from pipeline.media.pictures import read_picture
from pipeline.media.probe import probe
from pipeline.media.writer import Encoding, SegmentWriter, pixel_formats
from pipeline.options import DoctorOptions
from pipeline.provenance.certificate import config_folder, own_identity, valid_until
from pipeline.provenance.credentials import Claim, read_credentials, sign
from pipeline.runtime import choose_device, package_file
from pipeline.training.dataset import Batch
from pipeline.training.trainer import Computing, Trainer, choose_precision

ENCODERS = ("libx264", "libx265", "libsvtav1", "libvpx-vp9", "h264_nvenc", "hevc_videotoolbox", "h264_qsv", "h264_amf")
LITTLE_DISK, LITTLE_MEMORY = 5e9, 3e9  # bytes; a model's saved states take 2, training 2.5
REINSTALL = "run: pip install -r requirements.txt"

State = Literal["ok", "note", "problem"]


@dataclass(frozen=True)
class Finding:
    """What was found of one thing.

    Attributes:
        name: what was looked at.
        state: ``ok``; ``note``: something may be missed; ``problem``: something will not work.
        words: what is there.
        remedy: what to do; empty where nothing is to be.
    """

    name: str
    state: State
    words: str
    remedy: str = ""


@dataclass
class DoctorReport:
    """What was found."""

    findings: list[Finding] = field(default_factory=list)

    def lines(self) -> list[str]:
        """A line for each thing."""
        return [
            f"{one.state:8}{one.name}: {one.words}{f'; {one.remedy}' if one.remedy else ''}" for one in self.findings
        ]

    def problems(self) -> list[str]:
        """What will not work."""
        found = [one for one in self.findings if one.state == "problem"]
        return [f"{one.name}: {one.words}{f'; {one.remedy}' if one.remedy else ''}" for one in found]


def doctor(options: DoctorOptions) -> DoctorReport:
    """Look at everything; nothing stays behind but a certificate, where there was none."""
    looks: dict[str, Callable[[], Finding]] = {
        "Recast": _recast,
        "device": _device,
        "memory": _memory,
        "disk": lambda: _disk(options.workspace),
        "ffmpeg": _ffmpeg,
        "face mesh": _mesh,
        "certificate": _certificate,
        "try extract": lambda: _timed("try extract", _find_a_face),
        "try train": lambda: _timed("try train", _take_a_step),
        "try convert": lambda: _timed("try convert", _make_a_video),
    }
    report = DoctorReport()
    for name, look in looks.items():
        try:
            report.findings.append(look())
        except RecastError as error:
            report.findings.append(Finding(name, "problem", str(error)))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what is looked for
            report.findings.append(Finding(name, "problem", f"{type(error).__name__}: {error}", REINSTALL))
    return report


def _recast() -> Finding:
    words = f"{__version__}, Python {platform.python_version()} on {platform.platform()}, torch {torch.__version__}"
    if sys.prefix == sys.base_prefix:
        return Finding("Recast", "note", words, "it runs outside a virtual environment: other programs may change its")
    return Finding("Recast", "ok", words)


def _device() -> Finding:
    if not torch.cuda.is_available():
        words = f"CPU, {os.cpu_count()} cores, {torch.get_num_threads()} threads; computes in fp32"
        return Finding("device", "note", words, "training takes hours; with an NVIDIA GPU install torch for CUDA")
    device = torch.device("cuda")
    free, total = torch.cuda.mem_get_info(device)
    name, precision = torch.cuda.get_device_name(device), choose_precision("auto", device)
    words = f"{name}, {free / 1e9:.0f} of {total / 1e9:.0f} GB free; computes in {precision}"
    return Finding("device", "ok", words)


def _memory() -> Finding:
    memory = psutil.virtual_memory()
    words = f"{memory.available / 1e9:.1f} of {memory.total / 1e9:.1f} GB free"
    if memory.available < LITTLE_MEMORY:
        return Finding("memory", "note", words, "training takes about 2.5 GB: close other programs")
    return Finding("memory", "ok", words)


def _disk(workspace: Path) -> Finding:
    there = next(folder for folder in (workspace.resolve(), *workspace.resolve().parents) if folder.exists())
    if not os.access(there, os.W_OK):
        return Finding("disk", "problem", f"{there} cannot be written to", "choose another --workspace")
    free = shutil.disk_usage(there).free
    words = f"{free / 1e9:.0f} GB free in {there}"
    if free < LITTLE_DISK:
        return Finding("disk", "note", words, "a model takes some 2 GB, crops 20 MB a minute: make room")
    return Finding("disk", "ok", words)


def _ffmpeg() -> Finding:
    version = Encoding().version.removeprefix("ffmpeg version ").partition(" ")[0]
    there = []
    for codec in ENCODERS:
        try:
            pixel_formats(codec)
        except UsageError:
            continue
        there.append(codec)
    chosen = choose_ffmpeg()
    words = "; ".join(
        [
            f"{version} at {chosen.path}, with {', '.join(there)}",
            *(f"passed over: {line}" for line in chosen.passed_over),
        ]
    )
    if "libx264" not in there:
        return Finding("ffmpeg", "problem", words, "it lacks libx264: take it off PATH, and the one inside is used")
    if chosen.passed_over:
        return Finding("ffmpeg", "note", words)
    return Finding("ffmpeg", "ok", words)


def _mesh() -> Finding:
    try:
        return Finding("face mesh", "ok", f"weights at {mesh_weights()}")
    except UsageError as error:
        return Finding("face mesh", "note", str(error), "only --mask mesh needs it")


def _certificate() -> Finding:
    identity = own_identity()
    return Finding("certificate", "ok", f"in {config_folder()}, valid until {valid_until(identity):%Y-%m-%d}")


def _timed(name: str, attempt: Callable[[], str]) -> Finding:
    began = time.monotonic()
    words = attempt()
    return Finding(name, "ok", f"{words} in {time.monotonic() - began:.1f} s")


def _find_a_face() -> str:
    """Find and recognise the portrait that lies inside matplotlib."""
    picture = read_picture(package_file("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"))
    detector = Detector(40, 0.95, choose_device(no_cuda=False))
    (faces,) = detector.detect([ImagePyramid(picture)])
    if len(faces) != 1:
        raise WorkspaceError(f"MTCNN found {len(faces)} faces where there is one; {REINSTALL}")
    length = float(np.linalg.norm(embed(cut_crop(picture, align(faces[0].landmarks)))))
    return f"MTCNN found the face, dlib knows it (length {length:.2f})"


def _take_a_step() -> str:
    device = torch.device(choose_device(no_cuda=False))
    model = Model(Encoder(8, 64))
    model.add_person("somebody")
    trainer = Trainer(model, 1e-4, False, Computing(device, choose_precision("auto", device)))
    faces = torch.rand(4, 3, PICTURE_PX, PICTURE_PX, device=device)
    for _ in range(2):
        trainer.step(Batch({"somebody": (faces, faces)}, len(faces)))
    return f"two steps on {device}, L1 {trainer.read_losses(wait=True):.2f}"


def _make_a_video() -> str:
    """Encode, join, sign and verify two frames."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        source, segment, made = folder / "source.y4m", folder / "segment.nut", folder / "made.mp4"
        frame = b"FRAME\n" + bytes(64 * 48) + bytes([128]) * (2 * 32 * 24)
        source.write_bytes(b"YUV4MPEG2 W64 H48 F25:1 Ip A1:1 C420jpeg\n" + 2 * frame)
        info = probe(source)
        with SegmentWriter(segment, info, PixelFormat.for_video(info), Encoding(), (0, 1)) as writer:
            for shade in (0, 200):
                samples = np.full((48 * 3 // 2, 64), shade, np.uint8)
                writer.write(VideoFrame.from_ndarray(samples, format="yuv420p"))
        join([Segment(segment, (0, 1))], made, info)
        sign(made, Claim("none", {}), own_identity(), source)
        state = read_credentials(made, []).state
        if state != "valid":
            raise MediaError(f"what was signed reads as {state}")
    return "two frames encoded, joined, signed"
