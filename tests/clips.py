"""Small videos for tests, and colours by the book.

``scene`` has no symmetry, so that whatever is turned, mirrored, shifted or mixed up shows.
"""

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from pipeline.media.canvas import Canvas, PixelFormat
from pipeline.media.ffmpeg import find_ffmpeg
from pipeline.media.mux import Part, inspect_segment, join
from pipeline.media.probe import Colour, VideoInfo
from pipeline.media.reader import VideoReader
from pipeline.media.writer import Encoding, SegmentWriter
from pipeline.types import Image, Samples

SOUND_HZ = 48000
IRREGULAR = (0, 1, 5, 6, 14, 15, 31, 33)  # timestamps of eight frames
LIMITED, FULL = 1, 2  # ffmpeg's numbers for 16 … 235 and 0 … 255
RED_AND_BLUE = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 9: (0.2627, 0.0593)}  # Kr and Kb of ITU-T H.273, table 4


@dataclass(frozen=True)
class Turn:
    """What a display matrix asks for: degrees counter-clockwise, then a mirror."""

    degrees: int
    mirrored: bool = False


@dataclass(frozen=True)
class Sound:
    """A sound track of noise."""

    length_s: float
    codec: str = "aac"


@dataclass(frozen=True)
class Video:
    """How a test video is stored.

    Attributes:
        codec: ffmpeg's name of the encoder.
        pix_fmt: ffmpeg's name of the stored pixel format.
        time_base: seconds per unit of the timestamps, also asked of the container.
        options: of the encoder.
        colour: what the file says of its colours.
        aspect: sample aspect ratio.
        turn: how the picture is to be shown.
        sounds: its sound tracks.
    """

    codec: str = "libx264"
    pix_fmt: str = "yuv420p"
    time_base: Fraction = Fraction(1, 25)
    options: Mapping[str, str] | None = None
    colour: Colour | None = None
    aspect: Fraction | None = None
    turn: Turn | None = None
    sounds: tuple[Sound, ...] = ()


RHYTHMS: dict[str, tuple[Video, list[int]]] = {
    "fine.mp4": (Video(time_base=Fraction(1, 90000)), [1800 * t + 900 for t in IRREGULAR]),
    "late.mp4": (Video(time_base=Fraction(1, 90)), [t + 50 for t in IRREGULAR]),
    "odd.mov": (Video(time_base=Fraction(1, 7)), [t + 1 for t in IRREGULAR]),
    "ms.mkv": (Video(time_base=Fraction(1, 1000)), [17 * t + 5 for t in IRREGULAR]),
    "b_frames.mp4": (Video(time_base=Fraction(1, 600), options={"bf": "3"}), [11 * t for t in IRREGULAR]),
    "ntsc.mp4": (Video(time_base=Fraction(1, 30000)), [1001 * t for t in range(8)]),
    "ntsc.avi": (Video("mpeg4", time_base=Fraction(1001, 30000)), list(range(8))),
    "stream.ts": (Video(time_base=Fraction(1, 90000)), [1800 * t + 900_000 for t in IRREGULAR]),
}
"""Files of eight frames, by name: how they are stored, and their timestamps."""


def scene(index: int = 0, width: int = 96, height: int = 64) -> Image:
    """Draw a colourful picture without any symmetry, (H, W, 3) BGR; each index gives another."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    blue = 40 + 150 * x / width + 20 * np.sin(y / 9 + index)
    green = 200 - 120 * y / height + 25 * np.cos(x / 13 - index)
    red = 30 + 90 * (x / width) * (y / height) + 15 * (index % 10)
    image = np.stack([blue, green, red], axis=-1).round().astype(np.uint8)
    image[height // 8 : height // 3, width // 10 : width // 4] = (25, 60, 215)  # a mark near one corner
    return image


def write_video(
    path: Path,
    frames: Sequence[Image | VideoFrame],
    kind: Video | None = None,
    pts: Sequence[int] | None = None,
) -> Path:
    """Encode pictures of one size as a video.

    Args:
        path: file to write; its suffix chooses the container.
        frames: BGR pictures, or frames in the pixel format of the video.
        kind: how to store them.
        pts: of each frame, in units of the time base; 0, 1, 2 … if not given.

    Returns:
        The path.
    """
    kind = kind or Video()
    timescale = {"video_track_timescale": str(kind.time_base.denominator)} if path.suffix in (".mp4", ".mov") else {}
    with av.open(str(path), "w", options=timescale) as container:
        video = _add_video(container, kind, frames[0])
        tracks = [container.add_stream(sound.codec, rate=SOUND_HZ, layout="mono") for sound in kind.sounds]
        for moment, picture in zip(pts or range(len(frames)), frames, strict=True):
            frame = picture if isinstance(picture, VideoFrame) else VideoFrame.from_ndarray(picture, format="bgr24")
            frame = frame.reformat(format=kind.pix_fmt)
            frame.pts, frame.time_base = moment, kind.time_base
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        for seed, (track, sound) in enumerate(zip(tracks, kind.sounds, strict=True)):
            assert isinstance(track, AudioStream)
            container.mux(track.encode(_noise(sound.length_s, track.format.name, seed)))
            container.mux(track.encode(None))
    return path


def _add_video(container: OutputContainer, kind: Video, first: Image | VideoFrame) -> VideoStream:
    stream = container.add_stream(kind.codec, rate=1 / kind.time_base, options=dict(kind.options or {}))
    assert isinstance(stream, VideoStream)
    size_hw = (first.height, first.width) if isinstance(first, VideoFrame) else first.shape[:2]
    context = stream.codec_context
    context.height, context.width = size_hw
    context.pix_fmt = kind.pix_fmt
    stream.time_base = context.time_base = kind.time_base
    if kind.aspect is not None:
        context.sample_aspect_ratio = kind.aspect
    if kind.turn is not None:
        stream.set_display_rotation(kind.turn.degrees, hflip=kind.turn.mirrored)
    if kind.colour is not None:
        context.colorspace, context.color_primaries = kind.colour.matrix, kind.colour.primaries
        context.color_trc, context.color_range = kind.colour.transfer, kind.colour.range
    return stream


def _noise(length_s: float, sample_format: str, seed: int) -> av.AudioFrame:
    samples = np.random.default_rng(seed).uniform(-0.4, 0.4, (1, round(length_s * SOUND_HZ))).astype(np.float32)
    if sample_format == "s16":
        samples = (samples * 32767).astype(np.int16)
    frame = av.AudioFrame.from_ndarray(samples, format=sample_format, layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = SOUND_HZ, 0, Fraction(1, SOUND_HZ)
    return frame


def sound_packets(path: Path, track: int = 0) -> list[tuple[Fraction, bytes]]:
    """Give time (s) and bytes of each packet of a sound track."""
    with av.open(str(path)) as container:
        assert isinstance(container, InputContainer)
        packets = [packet for packet in container.demux(audio=track) if packet.size]
        return [(Fraction((packet.pts or 0) * packet.time_base), bytes(packet)) for packet in packets]


def damage(path: Path, packets: Sequence[int]) -> None:
    """Write zeros over video packets, by their order in the file (MP4 and MOV)."""
    with av.open(str(path)) as container:
        assert isinstance(container, InputContainer)
        places = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    content = bytearray(path.read_bytes())
    for index in packets:
        start, size = places[index]
        assert start is not None
        content[start : start + size] = bytes(size)
    path.write_bytes(content)


def ffmpeg(*arguments: str | Path) -> bytes:
    """Run ffmpeg, the independent witness, and give what it writes to its standard output."""
    command = [find_ffmpeg(), "-v", "error", "-nostdin", "-y", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True).stdout


def planes(frame: VideoFrame) -> list[Samples]:
    """Copy the sample planes of a frame, (H, W) each."""
    kind = np.dtype(np.uint16 if frame.format.components[0].bits > 8 else np.uint8)
    copies = []
    for plane in frame.planes:
        lines = np.frombuffer(bytes(plane), kind).reshape(plane.height, -1)
        copies.append(lines[:: -1 if plane.line_size < 0 else 1, : plane.width].copy())  # below 0: bottom line first
    return copies


def yuv_from_bgr(bgr: npt.ArrayLike, matrix: int, value_range: int) -> npt.NDArray[np.float64]:
    """Luma and chroma of colours, on the 8-bit scale and not rounded (ITU-T H.273, 8.3).

    Args:
        bgr: (..., 3) in 0 … 255.
        matrix: a key of ``RED_AND_BLUE``.
        value_range: ``LIMITED`` or ``FULL``.
    """
    blue, green, red = np.moveaxis(np.asarray(bgr, dtype=np.float64) / 255, -1, 0)
    of_red, of_blue = RED_AND_BLUE[matrix]
    luma = of_red * red + (1 - of_red - of_blue) * green + of_blue * blue
    differences = (blue - luma) / (2 - 2 * of_blue), (red - luma) / (2 - 2 * of_red)
    black, white, swing = (16, 219, 224) if value_range == LIMITED else (0, 255, 255)
    return np.stack([black + white * luma, *(128 + swing * difference for difference in differences)], axis=-1)


def bgr_from_yuv(yuv: npt.ArrayLike, matrix: int, value_range: int) -> npt.NDArray[np.float64]:
    """Undo ``yuv_from_bgr``."""
    origin = yuv_from_bgr(np.zeros(3), matrix, value_range)
    columns = [yuv_from_bgr(255 * unit, matrix, value_range) - origin for unit in np.eye(3)]
    return 255 * (np.asarray(yuv, dtype=np.float64) - origin) @ np.linalg.inv(np.stack(columns))


def encode_colours(image: Image, matrix: int, value_range: int) -> VideoFrame:
    """Make the 4:2:0 frame of a picture of even size, by the formula."""
    luma, *chroma = np.moveaxis(yuv_from_bgr(image, matrix, value_range).round(), -1, 0)
    quarters = [(c[::2, ::2] + c[::2, 1::2] + c[1::2, ::2] + c[1::2, 1::2]) / 4 for c in chroma]
    flat = np.concatenate([samples.round().astype(np.uint8).ravel() for samples in (luma, *quarters)])
    shape = (image.shape[0] * 3 // 2, image.shape[1])
    return VideoFrame.from_ndarray(flat.reshape(shape), format="yuv420p" if value_range == LIMITED else "yuvj420p")


def rewrite(path: Path, output: Path, encoding: Encoding, length: int = 3, part: Part | None = None) -> VideoInfo:
    """Write a video, or a part of it, again, with nothing drawn into it, in segments of so many frames."""
    with VideoReader(path) as reader:
        pixels = PixelFormat.for_video(reader.info)
        unit, segments = reader.info.time_base, []
        frames = [frame for frame in reader if part is None or part.start_s <= frame.pts * unit < part.end_s]
        for start in range(0, len(frames), length):
            own = frames[start : start + length]
            segment, pts = output.with_name(f"{output.stem}_{start}.nut"), [frame.pts for frame in own]
            with SegmentWriter(segment, reader.info, pixels, encoding, pts) as writer:
                for frame in own:
                    writer.write(Canvas(frame.native, pixels).frame)
            finished = inspect_segment(segment, pts, reader.info.time_base)
            assert finished is not None
            segments.append(finished)
        join(segments, output, reader.info, part)
        return reader.info
