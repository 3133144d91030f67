"""A finished video: frames encoded by one ffmpeg process, sound and all else taken over from the original.

Frames go to ffmpeg through a pipe in the NUT format, with their own timestamps, so that a variable frame rate
survives exactly. The original is ffmpeg's second input, from which streams are copied.
"""

import re
import shutil
import subprocess
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import ffmpeg
import imageio_ffmpeg
from av.container import OutputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from pipeline.arrays import Patch
from pipeline.errors import MediaError, UsageError
from pipeline.media.pixels import PixelFormat, compose
from pipeline.media.probe import VideoInfo
from pipeline.media.reader import Frame

WORDS = 3  # lines of ffmpeg's that an error shows: the first, for what follows is its consequence
END_TIMEOUT_S = 600  # for ffmpeg to finish after the last frame; it may have a queue of large frames left
BROKEN_PIPE = (OSError, ValueError, av.error.FFmpegError)  # what writing raises when ffmpeg has gone
FAILING_TIMEOUT_S = 5  # for ffmpeg to say why, once it no longer takes frames
TEXT_SUBTITLES = frozenset(
    {"subrip", "srt", "ass", "ssa", "mov_text", "webvtt", "text"}
)  # MP4 takes these, as mov_text
BROWSER_AUDIO = frozenset({"aac", "mp3", "opus", "flac", "ac3", "eac3", "alac"})  # what MP4 takes as it is


@dataclass(frozen=True)
class Encoding:
    """How to encode: ffmpeg's name of the encoder, its quality and speed."""

    codec: str = "libx264"
    crf: int = 18
    preset: str = "medium"


def find_ffmpeg() -> str:
    """Return the ffmpeg on PATH, or else the one that comes with imageio-ffmpeg.

    Raises:
        MediaError: there is neither.
    """
    try:
        return shutil.which("ffmpeg") or imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError as error:
        raise MediaError("no ffmpeg found; run: pip install imageio-ffmpeg") from error


def build_command(output: Path, like: VideoInfo, pixels: PixelFormat, encoding: Encoding) -> list[str]:
    """Build the arguments of the ffmpeg process that encodes and puts everything together.

    Args:
        output: file to write; its suffix chooses the container.
        like: the original, whose sound, subtitles, chapters and metadata are kept.
        pixels: of the frames that come through the pipe.
        encoding: how to encode.
    """
    frames = ffmpeg.input("pipe:0", format="nut")
    original = ffmpeg.input(f"file:{like.path}", protocol_whitelist="file")
    mp4 = is_mp4(output)
    subtitles = [
        original[f"s:{i}"] for i, codec in enumerate(like.subtitle_codecs) if not mp4 or codec in TEXT_SUBTITLES
    ]
    options: dict[str, Any] = {
        "c:v": encoding.codec,
        "pix_fmt": pixels.name,
        "vf": _tag_filters(like, pixels),
        "fps_mode": "passthrough",
        "enc_time_base:v": f"{like.time_base.numerator}:{like.time_base.denominator}",
        "crf": encoding.crf,
        "preset": encoding.preset,
        "c:a": "copy",
        "c:s": "copy",
        "map_metadata": "1",
        "map_chapters": "1",
        "max_interleave_delta": "0",
    }
    if mp4:
        options["movflags"] = "+faststart"
        if like.time_base.numerator == 1:
            options["video_track_timescale"] = like.time_base.denominator
        options["c:s"] = "mov_text"
        options.update({f"c:a:{i}": "aac" for i, codec in enumerate(like.audio_codecs) if codec not in BROWSER_AUDIO})
    if encoding.codec in ("libx265", "hevc_nvenc", "hevc_videotoolbox") and mp4:
        options["tag:v"] = "hvc1"
    command = ffmpeg.output(frames["v:0"], original["a?"], *subtitles, f"file:{output}", **options)
    quiet = command.global_args("-hide_banner", "-nostdin", "-loglevel", "error", "-copyts", "-y")
    return list(map(str, quiet.compile(cmd=find_ffmpeg())))


def is_mp4(output: Path) -> bool:
    """Say whether a file's name asks for MP4 or its like."""
    return output.suffix.lower() in (".mp4", ".mov", ".m4v")


def not_copied(output: Path, like: VideoInfo) -> list[str]:
    """What of the original's sound and subtitles the output's container cannot hold as it is, a line each."""
    if not is_mp4(output):
        return []
    sound = [codec for codec in like.audio_codecs if codec not in BROWSER_AUDIO]
    pictures = [codec for codec in like.subtitle_codecs if codec not in TEXT_SUBTITLES]
    return [
        *(f"sound re-encoded to AAC: MP4 cannot hold {codec}" for codec in sound),
        *(f"subtitles left out: MP4 cannot hold {codec}" for codec in pictures),
    ]


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


class VideoWriter:
    """Encodes frames into a video file that has the sound and metadata of the original.

    Args:
        output: file to write; give a temporary name and rename it when the block has ended well.
        like: the original.
        encoding: how to encode.

    Raises:
        UsageError: the encoder refuses what was asked of it.
        MediaError: ffmpeg ends early; the message has its last words.
    """

    def __init__(self, output: Path, like: VideoInfo, encoding: Encoding) -> None:
        self.pixels = PixelFormat.for_video(like)
        self._like, self._encoding, self._time_base = like, encoding, like.time_base
        command = build_command(output, like, self.pixels, encoding)
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
        )
        self._words: list[str] = []
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        self._pipe, self._stream = self._open_pipe(like.average_rate)

    def _open_pipe(self, rate: Fraction | None) -> tuple[OutputContainer, VideoStream]:
        assert self._process.stdin is not None
        pipe = av.open(self._process.stdin, "w", format="nut", options={"write_index": "0"})
        stream = pipe.add_stream("rawvideo", rate=rate or 25)
        stream.width, stream.height, stream.pix_fmt = self.pixels.width, self.pixels.height, self.pixels.name
        stream.time_base = stream.codec_context.time_base = self._time_base
        return pipe, stream

    def _listen(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as lines:
            for line in lines:
                if len(self._words) < WORDS:
                    self._words.append(re.sub(r"\[[^]]* @ 0x[0-9a-f]+\] ?", "", line.decode(errors="replace")).strip())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self.abandon()

    def write(self, frame: Frame, patches: Sequence[Patch] = ()) -> None:
        """Encode a frame with what was drawn into it, at the frame's own timestamp."""
        native = compose(frame.native, patches, self.pixels)
        native.pts, native.time_base = frame.pts, self._time_base
        self._mux(native)

    def _mux(self, native: VideoFrame | None) -> None:
        try:
            self._pipe.mux(self._stream.encode(native))
        except BROKEN_PIPE as error:
            raise self._failure() from error

    def close(self) -> None:
        """End the file; it is whole when this returns.

        Raises:
            MediaError: ffmpeg failed.
        """
        self._mux(None)
        try:
            self._pipe.close()
            assert self._process.stdin is not None
            self._process.stdin.close()
        except BROKEN_PIPE as error:
            raise self._failure() from error
        if self._process.wait(END_TIMEOUT_S) != 0:
            raise self._failure()
        self._listener.join()

    def abandon(self) -> None:
        """Stop ffmpeg; what it wrote is not to be used."""
        assert self._process.stdin is not None
        self._process.kill()
        self._process.wait()
        self._listener.join()
        with suppress(*BROKEN_PIPE):  # what is still on its way, nobody reads
            self._pipe.close()
        with suppress(OSError):
            self._process.stdin.close()

    def _failure(self) -> MediaError | UsageError:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(FAILING_TIMEOUT_S)
        self.abandon()
        words = " / ".join(self._words) or f"exit code {self._process.returncode}"
        if "Unknown encoder" in words:
            return UsageError(f"this ffmpeg has no encoder {self._encoding.codec!r}; see: {find_ffmpeg()} -encoders")
        return MediaError(f"ffmpeg could not encode {self._like.path}: {words}")
