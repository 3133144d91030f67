"""Frames encoded into segments: parts of a video that can be decoded on their own and joined later.

A segment is a NUT file of one video stream. Its timestamps are those of its frames plus an offset computed from them,
so that none is negative: encoders start decoding times before the first frame, and containers would shift all
timestamps if one were below zero.
"""

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import av
import ffmpeg
from av.video.frame import VideoFrame

from pipeline.errors import MediaError, UsageError
from pipeline.media.canvas import PixelFormat
from pipeline.media.ffmpeg import NUT, FfmpegPipe, VideoPacket, ffmpeg_command, find_ffmpeg, local_file, quoted_file
from pipeline.media.probe import VideoInfo

HELP_TIMEOUT_S = 20
USUAL_LOOKAHEAD, LOOKAHEAD_PIXELS = 40, 640_000_000  # frames that an encoder looks ahead, and their px: 1 GB
SAME_SAMPLES = {"yuv420p": ("yuv420p", "nv12"), "yuv420p10le": ("yuv420p10le", "p010le")}
"""Pixel formats with the same samples as ours, by our format's name, best first."""


@dataclass(frozen=True)
class Encoding:
    """Encoder settings: ffmpeg's name of the encoder, quality, and speed (None for the encoder's default)."""

    codec: str = "libx264"
    crf: int = 18
    preset: str | None = None

    def options(self, pixels: int) -> dict[str, Any]:
        """Ffmpeg's options for frames of ``pixels`` px; only those that this encoder has."""
        options = {"c:v": self.codec} | self._quality()
        if self.preset and self._has("preset"):
            options["preset"] = self.preset
        lookahead = LOOKAHEAD_PIXELS // pixels  # else large frames would take gigabytes
        if lookahead < USUAL_LOOKAHEAD and self._has("rc-lookahead"):
            options["rc-lookahead"] = max(lookahead, 1)
        return options

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
            case _ if self._has("crf"):
                return {"crf": self.crf} | ({"b:v": 0} if self.codec.startswith("libvpx") else {})
        return {}

    def _has(self, option: str) -> bool:
        return option in _describe(self.codec).options

    def notes(self) -> list[str]:
        """Describe requested options that the encoder does not have, a line each."""
        notes = []
        if not self._quality():
            notes.append(f"{self.codec} has no --crf: it encoded with its default quality")
        if self.preset and not self._has("preset"):
            notes.append(f"{self.codec} has no --preset: left out")
        return notes

    @property
    def version(self) -> str:
        """Ffmpeg's line about its version."""
        return _describe(self.codec).version

    def pixel_format(self, pixel_format: str) -> str | None:
        """Choose a format with the same samples that the encoder accepts; None to let ffmpeg choose."""
        accepted = pixel_formats(self.codec)
        return next((name for name in SAME_SAMPLES[pixel_format] if name in accepted or not accepted), None)

    def bit_depth(self, pixel_format: str) -> int:
        """Bits per colour component of the result, for frames of one of our formats."""
        chosen = self.pixel_format(pixel_format)
        return max((_bits(name) for name in ([chosen] if chosen else pixel_formats(self.codec))), default=8)


def _bits(pixel_format: str) -> int:
    try:
        return max(component.bits for component in av.VideoFormat(pixel_format).components)
    except ValueError:  # this ffmpeg is newer than PyAV's
        return 0


def pixel_formats(codec: str) -> tuple[str, ...]:
    """Pixel formats that an encoder accepts; empty if ffmpeg does not list them.

    Raises:
        UsageError: there is no such encoder.
    """
    return _describe(codec).pixel_formats


class _Encoder(NamedTuple):
    pixel_formats: tuple[str, ...]
    options: frozenset[str]
    version: str


@cache
def _describe(codec: str) -> _Encoder:
    """Parse ffmpeg's help on an encoder."""
    program = find_ffmpeg()
    command = [program, "-h", f"encoder={codec}"]
    try:
        answer = subprocess.run(command, capture_output=True, timeout=HELP_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MediaError(f"{program} does not run: {error}; take it off PATH, or install another") from error
    text = answer.stdout.decode(errors="replace")
    if not text.startswith("Encoder "):
        raise UsageError(f"this ffmpeg has no encoder {codec!r}; see: {program} -encoders")
    formats = re.search(r"Supported pixel formats: (.*)", text)
    options = frozenset(re.findall(r"^ +-(\S+) ", text, re.MULTILINE))
    version = answer.stderr.decode(errors="replace").partition("\n")[0]
    return _Encoder(tuple(formats[1].split()) if formats else (), options, version)


def build_encode_command(output: Path, like: VideoInfo, pixels: PixelFormat, encoding: Encoding) -> list[str]:
    """Build the ffmpeg command that encodes one segment; pixel shape and time base are those of ``like``."""
    options = encoding.options(pixels.width * pixels.height)
    if (pixel_format := encoding.pixel_format(pixels.name)) is not None:
        options["pix_fmt"] = pixel_format
    # Raw frames have no pixel aspect and colours. By default setsar rounds to terms up to 100.
    aspect, colour = like.sample_aspect_ratio, pixels.colour
    tags = (
        f"setsar=sar={aspect.numerator}/{aspect.denominator}:max={max(aspect.numerator, aspect.denominator)},"
        f"setparams=range={colour.range}:colorspace={colour.matrix}"
        f":color_primaries={colour.primaries}:color_trc={colour.transfer}"
    )
    options |= {
        "format": "nut",
        "vf": tags,
        "fps_mode": "passthrough",
        "enc_time_base:v": f"{like.time_base.numerator}:{like.time_base.denominator}",
    }
    frames = ffmpeg.input("pipe:0", format="nut")["v:0"]
    return ffmpeg_command(ffmpeg.output(frames, quoted_file(output), **options).get_args())


class SegmentWriter(FfmpegPipe):
    """Encodes consecutive frames into a segment.

    Args:
        output: file to write; give a temporary name and rename it after the block succeeds.
        like: the original.
        pixels: format of the frames.
        encoding: encoder and its settings.
        pts: timestamps of the frames, ascending, in units of the original's time base.
    """

    def __init__(
        self, output: Path, like: VideoInfo, pixels: PixelFormat, encoding: Encoding, pts: Sequence[int]
    ) -> None:
        self._time_base, self._pts, self._written = like.time_base, pts, 0
        command = build_encode_command(output, like, pixels, encoding)
        super().__init__(command, f"encode {like.path} with {encoding.codec}", NUT)
        try:
            self._stream = self.container.add_stream("rawvideo", rate=like.average_rate or 25)
            self._stream.width, self._stream.height, self._stream.pix_fmt = pixels.width, pixels.height, pixels.name
            self._stream.time_base = self._stream.codec_context.time_base = like.time_base
        except BaseException:
            self.abandon()
            raise

    def write(self, frame: VideoFrame) -> None:
        """Encode the next frame, with the next of the given timestamps."""
        frame.pts, frame.time_base = self._pts[self._written] + _offset(self._pts), self._time_base
        self._written += 1
        self.mux(self._stream.encode(frame))

    def close(self) -> None:
        """End the segment; it is complete when this returns."""
        self.mux(self._stream.encode(None))
        super().close()


def read_segment(path: Path, pts: Sequence[int], time_base: Fraction) -> "list[VideoPacket] | None":
    """Read the packets of a segment, in decoding order, with the timestamps of its frames in the original.

    Returns None unless the file holds exactly the frames with these timestamps.
    """
    try:
        with av.open(local_file(path), format="nut") as container:
            packets = [packet for packet in container.demux(video=0) if packet.size]
    except (av.error.FFmpegError, OSError, IndexError):
        return None
    for packet in packets:
        if packet.is_corrupt or packet.pts is None or packet.time_base is None:
            return None
        units = packet.pts * packet.time_base / time_base  # ffmpeg may have chosen a finer unit
        if units.denominator != 1:
            return None
        packet.pts, packet.time_base = int(units) - _offset(pts), time_base
    return packets if sorted(packet.pts or 0 for packet in packets) == list(pts) else None


def _offset(pts: Sequence[int]) -> int:
    """Units added to a segment's timestamps: its length, as no encoder starts earlier than that before it."""
    return 1 + pts[-1] - 2 * pts[0]
