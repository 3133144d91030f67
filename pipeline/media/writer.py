"""Frames encoded into segments: runs of a video that can be decoded by themselves and joined later.

A segment is a NUT file of one video stream. Its timestamps are those of its frames, moved by a number of units that
follows from them, so that nothing in it is negative: encoders number frames from before the first one shown, and
containers would move all timestamps where that is below zero.
"""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import av
import ffmpeg
from av.video.frame import VideoFrame

from pipeline.media.encoders import Encoding
from pipeline.media.pipe import NUT, FfmpegPipe, VideoPacket, as_input, quiet
from pipeline.media.pixels import PixelFormat
from pipeline.media.probe import VideoInfo


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

    def is_whole(self, output: Path) -> bool:
        """Say whether a file holds all the frames announced."""
        return read_segment(output, self._pts, self._time_base) is not None

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
