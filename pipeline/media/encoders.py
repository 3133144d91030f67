"""Video encoders: what each calls quality and speed, and which samples it takes."""

import re
import subprocess
from dataclasses import dataclass
from functools import cache
from typing import Any

import av

from pipeline.errors import MediaError, UsageError
from pipeline.media.program import find_ffmpeg

ANSWER_S = 20  # within which ffmpeg says what an encoder can do
USUAL_AHEAD, AHEAD_PIXELS = 40, 640_000_000  # frames an encoder looks ahead, and px of them: 1 GB
SAME_SAMPLES = {"yuv420p": ("yuv420p", "nv12"), "yuv420p10le": ("yuv420p10le", "p010le")}
"""What holds the same samples as what we make, by its name, the best first."""


@dataclass(frozen=True)
class Encoding:
    """How to encode: ffmpeg's name of the encoder, its quality and speed (None: the encoder's own)."""

    codec: str = "libx264"
    crf: int = 18
    preset: str | None = None

    def options(self) -> dict[str, Any]:
        """The same in ffmpeg's words for this encoder, without what it does not know."""
        return {"c:v": self.codec} | self._quality() | self._speed()

    def _quality(self) -> dict[str, Any]:
        match self.codec.rsplit("_", 1)[-1]:
            case "nvenc":
                return {"rc": "vbr", "cq": self.crf, "b:v": 0}
            case "videotoolbox":
                return {"q:v": max(1, 100 - 2 * self.crf)}  # 1 to 100, larger is better
            case "qsv":
                return {"global_quality": self.crf}
            case "amf":
                return {"rc": "cqp", "qp_i": self.crf, "qp_p": self.crf}
            case _ if "crf" in _ask(self.codec).options:
                return {"crf": self.crf} | ({"b:v": 0} if self.codec.startswith("libvpx") else {})
        return {}

    def _speed(self) -> dict[str, Any]:
        return {"preset": self.preset} if self.preset and "preset" in _ask(self.codec).options else {}

    def memory(self, pixels: int) -> dict[str, Any]:
        """Options that keep the encoder from holding many large frames; none where they are not large."""
        ahead = AHEAD_PIXELS // pixels
        knows = "rc-lookahead" in _ask(self.codec).options
        return {"rc-lookahead": max(ahead, 1)} if knows and ahead < USUAL_AHEAD else {}

    def notes(self) -> list[str]:
        """Say what of the quality and speed asked for the encoder does not know, a line each."""
        notes = []
        if not self._quality():
            notes.append(f"{self.codec} knows no --crf: it encoded at a quality of its own")
        if self.preset and not self._speed():
            notes.append(f"{self.codec} knows no --preset: left out")
        return notes

    @property
    def version(self) -> str:
        """Which ffmpeg encodes."""
        return _ask(self.codec).version

    def samples(self, made: str) -> str | None:
        """Name the pixel format to encode frames of ours in.

        Args:
            made: the frames' own, ``yuv420p`` or ``yuv420p10le``.

        Returns:
            One that holds the same samples; None where the encoder takes none, and ffmpeg is to choose.
        """
        taken = pixel_formats(self.codec)
        return next((name for name in SAME_SAMPLES[made] if name in taken or not taken), None)

    def bit_depth(self, made: str) -> int:
        """Bits per colour component of what comes out, for frames of ours."""
        formats = [name] if (name := self.samples(made)) else pixel_formats(self.codec)
        return max((_bits(name) for name in formats), default=8)


def _bits(pixel_format: str) -> int:
    try:
        return max(component.bits for component in av.VideoFormat(pixel_format).components)
    except ValueError:  # a newer ffmpeg's
        return 0


def pixel_formats(codec: str) -> tuple[str, ...]:
    """Say which pixel formats an encoder takes; empty where ffmpeg does not tell.

    Raises:
        UsageError: this ffmpeg has no such encoder.
        MediaError: ffmpeg does not run.
    """
    return _ask(codec).pixel_formats


@dataclass(frozen=True)
class _Encoder:
    """What ffmpeg tells of an encoder, and of itself."""

    pixel_formats: tuple[str, ...]
    options: frozenset[str]
    version: str


@cache
def _ask(codec: str) -> _Encoder:
    command = [find_ffmpeg(), "-h", f"encoder={codec}"]
    try:
        answer = subprocess.run(command, capture_output=True, timeout=ANSWER_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MediaError(f"{command[0]} does not run: {error}; take it off PATH, or install another") from error
    told = answer.stdout.decode(errors="replace")
    if not told.startswith("Encoder "):
        raise UsageError(f"this ffmpeg has no encoder {codec!r}; see: {find_ffmpeg()} -encoders")
    formats = re.search(r"Supported pixel formats: (.*)", told)
    options = frozenset(re.findall(r"^ +-(\S+) ", told, re.MULTILINE))
    version = answer.stderr.decode(errors="replace").partition("\n")[0]
    return _Encoder(tuple(formats[1].split()) if formats else (), options, version)
