"""What is fuzzed: a seed to begin from, and what reads it. Nothing but a RecastError may come out."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import torch
from av.video.stream import VideoStream

from models import CheckpointError, checkpoint
from models.autoencoder import Encoder
from models.checkpoint import Model
from pipeline.errors import RecastError
from pipeline.faces.store import FaceStore, StoredFace, StoredFrame
from pipeline.media.pictures import read_picture, write_picture
from pipeline.media.reader import VideoReader
from pipeline.provenance.credentials import read_credentials
from pipeline.types import Face

MOST_FRAMES = 40  # read of a video; a damaged header may promise many

Seeds = dict[str, bytes]
"""Contents by file name."""


@dataclass(frozen=True)
class Target:
    """Something that reads files.

    Attributes:
        seeds: makes whole files, in a folder.
        read: reads a file.
    """

    seeds: Callable[[Path], Seeds]
    read: Callable[[Path], None]

    def survives(self, path: Path) -> None:
        """Read a file; an expected failure is none."""
        try:
            self.read(path)
        except (RecastError, CheckpointError):
            return


def _videos(folder: Path) -> Seeds:
    noise = np.random.default_rng(1).integers(0, 255, (48, 64, 3), np.uint8)
    for name, codec, pixels in (
        ("a.mp4", "libx264", "yuv420p"),
        ("a.mkv", "libx264", "yuv420p"),
        ("a.webm", "libvpx-vp9", "yuv420p"),
        ("a.gif", "gif", "rgb8"),
        ("a.avi", "mpeg4", "yuv420p"),
        ("a.ts", "mpeg2video", "yuv420p"),
        ("a.y4m", "wrapped_avframe", "yuv420p"),
    ):
        with av.open(str(folder / name), "w") as container:
            stream = container.add_stream(codec, rate=25, width=64, height=48, pix_fmt=pixels)
            assert isinstance(stream, VideoStream)
            for number in range(3):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(np.roll(noise, number), "rgb24")))
            container.mux(stream.encode())
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def _read_video(path: Path) -> None:
    with VideoReader(path) as reader:
        for frame in reader:
            if frame.index >= MOST_FRAMES:
                break
    read_credentials(path, [])


def _pictures(folder: Path) -> Seeds:
    noise = np.random.default_rng(2).integers(0, 255, (24, 32, 3), np.uint8)
    for suffix in (".png", ".jpg", ".bmp", ".webp", ".tif"):
        write_picture(folder / f"a{suffix}", noise)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def _read_picture(path: Path) -> None:
    read_picture(path)
    read_credentials(path, [])


def _stores(folder: Path) -> Seeds:
    path = folder / "faces.sqlite"
    with FaceStore(path, create=True) as store:
        chance = np.random.default_rng(3)
        for number in range(20):
            face = Face(chance.uniform(0, 99, 4), 0.99, chance.uniform(0, 99, (5, 2)))
            stored = StoredFace(number, number % 2, "ann", f"a_{number}_0.jpg", face, chance.uniform(0, 9, (2, 3)))
            store.record([StoredFrame(number, 40 * number, number // 10)], [stored])
        store.record_facts(source="a.mp4", fingerprint="1-2", finished=True)
        store.record_embedding(0, chance.uniform(0, 1, 128))
    return {path.name: path.read_bytes()}


def _read_store(path: Path) -> None:
    with FaceStore(path) as store:
        for key in ("source", "fingerprint", "finished"):
            store.fact(key)
        store.faces()
        store.labels()
        store.embeddings()
        store.people()
        store.timestamps()
        store.brief_faces(3)


def _models(folder: Path) -> Seeds:
    """The facts of a model; its weights stay where they are."""
    torch.manual_seed(1)
    model = Model(Encoder(8, 16))
    model.add_person("ann")
    facts = (checkpoint.save(folder / "model", model) / "model.json").read_bytes()
    return {"model.json": facts, "deep.json": b'{"people": ' + 9000 * b"[" + 9000 * b"]" + b"}"}


def _read_model(path: Path) -> None:
    """Put the facts beside the weights of the seed."""
    folder = path.parent / "seeds" / "model"
    path.replace(next(folder.glob("state-*")) / "model.json")
    checkpoint.load(folder)


TARGETS = {
    "video": Target(_videos, _read_video),
    "picture": Target(_pictures, _read_picture),
    "store": Target(_stores, _read_store),
    "model": Target(_models, _read_model),
}
