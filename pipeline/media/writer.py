"""Frames encoded into segments: runs of a video that can be decoded by themselves and joined later.

A segment is a NUT file of one video stream. Its timestamps are those of its frames, moved by a number of units that
follows from them, so that nothing in it is negative: encoders number frames from before the first one shown, and
containers would move all timestamps where that is below zero.

Video encoders: what each calls quality and speed, and which samples it takes.
"""

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import ffmpeg
from av.video.frame import VideoFrame

from pipeline.errors import MediaError, UsageError
from pipeline.media.canvas import PixelFormat
from pipeline.media.ffmpeg import NUT, FfmpegPipe, VideoPacket, as_input, find_ffmpeg, quiet
from pipeline.media.probe import VideoInfo

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


def build_encode_command(output: Path, like: VideoInfo, pixels: PixelFormat, encoding: Encoding) -> list[str]:
    """Build the arguments of the ffmpeg process that encodes one segment.

    Args:
        output: file to write.
        like: the original, whose pixel shape and time base are kept.
        pixels: of the frames that come through the pipe.
        encoding: how to encode.
    """
    samples = encoding.samples(pixels.name)
    options = (
        encoding.options() | encoding.memory(pixels.width * pixels.height) | ({"pix_fmt": samples} if samples else {})
    )
    time_base = f"{like.time_base.numerator}:{like.time_base.denominator}"
    frames = ffmpeg.input("pipe:0", format="nut")["v:0"]
    command = ffmpeg.output(
        frames,
        as_input(output),
        format="nut",
        vf=_tag_filters(like, pixels),
        fps_mode="passthrough",
        **options,
        **{"enc_time_base:v": time_base},
    )
    return quiet(command.get_args())


def _tag_filters(like: VideoInfo, pixels: PixelFormat) -> str:
    """Ffmpeg filters that say what the raw frames cannot: pixel shape and colours; samples stay as they are."""
    aspect, colour = like.sample_aspect_ratio, pixels.colour
    names = {
        "range": colour.range,
        "colorspace": colour.matrix,
        "color_primaries": colour.primaries,
        "color_trc": colour.transfer,
    }
    said = ":".join(f"{name}={value}" for name, value in names.items())
    # setsar rounds to terms of at most 100 if it is not told otherwise
    exact = max(aspect.numerator, aspect.denominator)
    return f"setsar=sar={aspect.numerator}/{aspect.denominator}:max={exact},setparams={said}"


class SegmentWriter:
    """Encodes consecutive frames into a segment.

    Args:
        output: file to write; give a temporary name and rename it when the block has ended well.
        like: the original.
        pixels: of the frames that will come.
        encoding: how to encode.
        pts: timestamps of the frames that will come, in units of the original's time base, rising.

    Raises:
        MediaError: ffmpeg ends early; the message has its last words.
    """

    def __init__(
        self, output: Path, like: VideoInfo, pixels: PixelFormat, encoding: Encoding, pts: Sequence[int]
    ) -> None:
        self._time_base, self._pts, self._written = like.time_base, pts, 0
        command = build_encode_command(output, like, pixels, encoding)
        self._pipe = FfmpegPipe(command, f"encode {like.path} with {encoding.codec}", NUT)
        try:
            self._stream = self._pipe.container.add_stream("rawvideo", rate=like.average_rate or 25)
            self._stream.width, self._stream.height, self._stream.pix_fmt = pixels.width, pixels.height, pixels.name
            self._stream.time_base = self._stream.codec_context.time_base = like.time_base
        except BaseException:
            self._pipe.abandon()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self.abandon()

    def write(self, frame: VideoFrame) -> None:
        """Encode the next frame, at the timestamp announced for it."""
        frame.pts, frame.time_base = self._pts[self._written] + _moved_by(self._pts), self._time_base
        self._written += 1
        self._pipe.mux(self._stream.encode(frame))

    def close(self) -> None:
        """End the segment; it is whole when this returns."""
        self._pipe.mux(self._stream.encode(None))
        self._pipe.close()

    def abandon(self) -> None:
        """Stop encoding; what was written is not to be used."""
        self._pipe.abandon()


def read_segment(path: Path, pts: Sequence[int], time_base: Fraction) -> "list[VideoPacket] | None":
    """Read the packets of a segment, in order of decoding, with the timestamps that its frames have in the original.

    Args:
        path: of the segment.
        pts: what ``SegmentWriter`` was given.
        time_base: seconds per unit of them.

    Returns:
        The packets; None where the file does not hold exactly these frames.
    """
    try:
        with av.open(as_input(path), format="nut") as container:
            packets = [packet for packet in container.demux(video=0) if packet.size]
    except (av.error.FFmpegError, OSError, IndexError):
        return None
    for packet in packets:
        if packet.is_corrupt or packet.pts is None or packet.time_base is None:
            return None
        units = packet.pts * packet.time_base / time_base  # ffmpeg may have chosen a finer unit
        if units.denominator != 1:
            return None
        packet.pts, packet.time_base = int(units) - _moved_by(pts), time_base
    return packets if sorted(packet.pts or 0 for packet in packets) == list(pts) else None


def _moved_by(pts: Sequence[int]) -> int:
    """By how many units the timestamps in a segment are later: its length, which no encoder reaches back."""
    return 1 + pts[-1] - 2 * pts[0]
