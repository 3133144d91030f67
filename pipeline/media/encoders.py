"""Video encoders: what each calls quality and speed, and which samples it takes."""

import re
import subprocess
from dataclasses import dataclass
from functools import cache
from typing import Any

import av

from pipeline.errors import UsageError
from pipeline.media.pipe import find_ffmpeg

ANSWER_S = 20  # within which ffmpeg says what an encoder can do
BY_CRF = frozenset({"libx264", "libx264rgb", "libx265", "libsvtav1", "libaom-av1", "libvpx", "libvpx-vp9"})
SAME_SAMPLES = {"yuv420p": ("yuv420p", "nv12"), "yuv420p10le": ("yuv420p10le", "p010le")}
"""What holds the same samples as what we make, by its name, the best first."""


@dataclass(frozen=True)
class Encoding:
    """How to encode: ffmpeg's name of the encoder, its quality and speed (None: the encoder's own)."""

    codec: str = "libx264"
    crf: int = 18
    preset: str | None = None

    def options(self) -> dict[str, Any]:
        """The same in ffmpeg's words for this encoder; one that knows no quality gets none."""
        quality: dict[str, Any] = {}
        match self.codec.rsplit("_", 1)[-1]:
            case "nvenc":
                quality = {"rc": "vbr", "cq": self.crf, "b:v": 0}
            case "videotoolbox":
                quality = {"q:v": max(1, 100 - 2 * self.crf)}  # 1 to 100, larger is better
            case "qsv":
                quality = {"global_quality": self.crf}
            case "amf":
                quality = {"rc": "cqp", "qp_i": self.crf, "qp_p": self.crf}
            case _ if self.codec in BY_CRF:
                quality = {"crf": self.crf} | ({"b:v": 0} if self.codec.startswith("libvpx") else {})
        return {"c:v": self.codec} | quality | ({"preset": self.preset} if self.preset else {})

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


@cache
def pixel_formats(codec: str) -> tuple[str, ...]:
    """Ask ffmpeg which pixel formats an encoder takes; empty where it does not say.

    Raises:
        UsageError: this ffmpeg has no such encoder.
    """
    command = [find_ffmpeg(), "-hide_banner", "-h", f"encoder={codec}"]
    told = subprocess.run(command, capture_output=True, timeout=ANSWER_S, check=False).stdout.decode(errors="replace")
    if not told.startswith("Encoder "):
        raise UsageError(f"this ffmpeg has no encoder {codec!r}; see: {find_ffmpeg()} -encoders")
    said = re.search(r"Supported pixel formats: (.*)", told)
    return tuple(said[1].split()) if said else ()
