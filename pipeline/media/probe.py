"""Which paths are files, what kind of media a file holds, and the facts of a video.

The content decides the kind, not the name. Only regular files are opened: reading a pipe could block forever.
"""

import math
import re
import stat
from collections.abc import Collection
from contextlib import suppress
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import PIL.Image
from av.audio.frame import AudioFrame
from av.container import InputContainer
from av.stream import Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from pipeline.errors import MediaError
from pipeline.workspace import PICTURE_SUFFIXES

ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:/", re.IGNORECASE)
SUFFIXES = {"JPEG": ".jpg", "MPO": ".jpg", "PNG": ".png", "WEBP": ".webp", "TIFF": ".tif", "BMP": ".bmp"}
"""Suffixes of still pictures, by Pillow's name of their format; an MPO is a JPEG with more pictures behind it."""
READ_FORMATS = tuple({*SUFFIXES, "GIF"} - {"MPO"})  # Pillow opens an MPO as JPEG
VIDEO_TYPES = {"mov": "video/mp4", "avi": "video/avi"}  # others are video/x-<ffmpeg's name>
MOTION_JPEG = "mjpeg"  # what ffmpeg takes a damaged JPEG for
MAX_SIDE_PX = 16_384  # width or height; no camera films more
PLAIN_FILES = (
    "aiff,apng,asf,avi,av1,dv,flv,gif,gxf,h264,hevc,ivf,live_flv,m4v,matroska,mjpeg,mov,mp4,mpeg,mpegts,mpegvideo,mxf,nsv,"
    "nut,obu,ogg,pva,rm,vc1,wav,webm,wtv,yuv4mpegpipe"
)
"""Formats that contain their media; others list addresses or other files (HLS, DASH, concat, SDP …)."""
OPEN_OPTIONS = {"protocol_whitelist": "file", "format_whitelist": PLAIN_FILES}
"""Options for ffmpeg's libraries and program: read local files only, and no files that these refer to."""
HDR_TRANSFERS = frozenset({16, 18})  # SMPTE ST 2084 (PQ) and ARIB STD-B67 (HLG), ITU-T H.273 table 3


def is_file(path: Path) -> bool:
    """Return whether a path names a regular file."""
    try:
        require_file(path)
    except MediaError:
        return False
    return True


def require_file(path: Path, max_bytes: float = math.inf) -> None:
    """Raise MediaError unless a path names a regular file of at most ``max_bytes``; does not open it."""
    try:
        facts = path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        if ADDRESS.match(str(path)):
            raise MediaError(f"{path} is an address, and only files are read: download it first") from error
        raise MediaError(f"no such file: {path}") from error
    except (OSError, ValueError) as error:
        raise MediaError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    if stat.S_ISDIR(facts.st_mode):
        raise MediaError(f"{path} is a folder: name a file in it")
    if not stat.S_ISREG(facts.st_mode):
        raise MediaError(f"{path} is a pipe, a socket or a device, and only files are read: name a file")
    if facts.st_size > max_bytes:
        size, limit = facts.st_size / 1e6, max_bytes / 1e6
        raise MediaError(f"{path} has {size:.0f} MB, and at most {limit:.0f} MB are read: is it the right file?")


def is_picture(path: Path) -> bool:
    """Return whether a path names a still picture; the suffix decides if the content does not."""
    has_picture_name = path.suffix.lower() in PICTURE_SUFFIXES
    if not is_file(path):
        return has_picture_name
    if (picture := _picture_format(path)) is not None:
        return picture in SUFFIXES
    return has_picture_name and _container_format(path) in (None, MOTION_JPEG)


def picture_suffix(path: Path) -> str:
    """Return the suffix for a picture made from this one: the same, if it is a suffix of pictures."""
    if path.suffix.lower() in PICTURE_SUFFIXES:
        return path.suffix
    return SUFFIXES.get(_picture_format(path) or "", ".png")


def media_type(path: Path) -> str | None:
    """Return the media type of a regular file; None if it is not recognised."""
    if (picture := _picture_format(path)) is not None:
        return PIL.Image.MIME[picture.replace("MPO", "JPEG")]
    container = _container_format(path)
    return container and VIDEO_TYPES.get(container, f"video/x-{container}")


def _picture_format(path: Path) -> str | None:
    """Return Pillow's name of a picture's format, from its header; None if it is no picture."""
    try:
        with PIL.Image.open(path, formats=READ_FORMATS) as opened:
            return opened.format
    except Exception:  # noqa: BLE001 - Pillow raises errors of any type on a damaged header
        return None


def _container_format(path: Path) -> str | None:
    """Return ffmpeg's first name of the format of a file with video; None if it has none."""
    try:
        with open_container(path) as container:
            return str(container.format.name).partition(",")[0] if container.streams.video else None
    except MediaError:
        return None


@dataclass(frozen=True)
class Colour:
    """Colour coding, in ffmpeg's numbers (ITU-T H.273); unknown is 2, and 0 for the range."""

    matrix: int
    primaries: int
    transfer: int
    range: int


@dataclass(frozen=True)
class OtherStream:
    """A stream besides the main video.

    Attributes:
        index: number in the file.
        kind: audio, subtitle, cover (a picture), video, data or attachment.
        codec: ffmpeg's name; "unknown" if it has none.
    """

    index: int
    kind: str
    codec: str


@dataclass(frozen=True)
class VideoInfo:
    """Facts of a video's main video stream, upright as shown.

    Attributes:
        width, height: of the upright picture, px.
        time_base: seconds per timestamp unit, exact.
        average_rate: frames per second, exact; None if the file does not say.
        frames_claimed: number of frames by the header, which can be wrong; 0 if it does not say.
        duration_s: of the longest stream, by the header; None if it does not say.
        upright_filters: names and arguments of the ffmpeg filters that turn a decoded picture upright.
        sample_aspect_ratio: width of a pixel over its height, upright; 1 is square.
        pixel_format: of the decoded frames, ffmpeg's name.
        bit_depth: bits per colour component.
        is_interlaced: whether the first frame is, as stored.
        index: number of the video stream in the file.
        others: the file's other streams, in order.
    """

    path: Path
    width: int
    height: int
    time_base: Fraction
    average_rate: Fraction | None
    frames_claimed: int
    duration_s: float | None
    upright_filters: tuple[tuple[str, str], ...]
    sample_aspect_ratio: Fraction
    pixel_format: str
    bit_depth: int
    colour: Colour
    is_interlaced: bool
    index: int
    others: tuple[OtherStream, ...]

    @property
    def audio_codecs(self) -> tuple[str, ...]:
        """Ffmpeg's names of the codecs of the sound tracks, in order."""
        return tuple(stream.codec for stream in self.others if stream.kind == "audio")

    @property
    def is_hdr(self) -> bool:
        """Whether the transfer function is one for high dynamic range: PQ or HLG."""
        return self.colour.transfer in HDR_TRANSFERS

    def facts(self) -> dict[str, Any]:
        """The facts as JSON values; fractions as text."""
        return {key: str(value) if isinstance(value, Path | Fraction) else value for key, value in asdict(self).items()}


def probe(path: Path) -> VideoInfo:
    """Read the facts of a video file.

    Raises:
        MediaError: it is missing, is no video, or no frame can be decoded.
    """
    with open_container(path) as container:
        stream = video_stream(container, path)
        frame = _first_frame(container, stream, path)
        upright = _upright_filters(frame)
        turned = is_turned(upright)
        aspect = Fraction(stream.sample_aspect_ratio or 1)
        width, height = (frame.height, frame.width) if turned else (frame.width, frame.height)
        return VideoInfo(
            path=path,
            width=width,
            height=height,
            time_base=Fraction(stream.time_base or Fraction(1, 1000)),
            average_rate=Fraction(stream.average_rate) if stream.average_rate else None,
            frames_claimed=stream.frames,
            duration_s=container.duration / av.time_base if container.duration else None,
            upright_filters=upright,
            sample_aspect_ratio=1 / aspect if turned else aspect,
            pixel_format=frame.format.name,
            bit_depth=max(component.bits for component in frame.format.components),
            colour=Colour(frame.colorspace, frame.color_primaries, frame.color_trc, frame.color_range),
            is_interlaced=bool(frame.interlaced_frame),
            index=stream.index,
            others=tuple(_describe_stream(s) for s in container.streams if s.index != stream.index),
        )


def open_container(path: Path) -> InputContainer:
    """Open a local media file for reading; MediaError if it is missing or no media file."""
    require_file(path)
    if path.stat().st_size == 0:
        raise MediaError(f"{path} is empty (0 bytes): copy it again from its source")
    try:
        # With the prefix ffmpeg does not read a name with a colon as the name of a protocol.
        container = av.open(f"file:{path}", options=OPEN_OPTIONS, metadata_errors="replace")
    except av.error.ArgumentError as error:  # the format was recognised, and is not on the list
        raise MediaError(f"{path} is a playlist, damaged, or of a kind that is not read: name a video file") from error
    except (av.error.FFmpegError, OSError) as error:
        raise MediaError(
            f"cannot read {path} as video: {error.strerror or error}; is it complete, and does it play elsewhere?"
        ) from error
    assert isinstance(container, InputContainer)
    return container


def video_stream(container: InputContainer, path: Path) -> VideoStream:
    """Return the main video stream: ffmpeg's choice, never a cover picture."""
    moving = [stream for stream in container.streams.video if not _is_cover(stream)]
    if not moving:
        raise MediaError(f"{path} has no video stream: name a file that shows pictures")
    best = container.streams.best("video")
    stream = best if best in moving else moving[0]
    assert isinstance(stream, VideoStream)
    if stream.codec_context is None:  # PyAV's types do not say that it can be
        raise MediaError(f"cannot decode {path}: its video codec is not known")
    if max(stream.codec_context.width, stream.codec_context.height) > MAX_SIDE_PX:
        size = f"{stream.codec_context.width}x{stream.codec_context.height}"
        raise MediaError(f"{path} claims to be {size} px; at most {MAX_SIDE_PX} a side are read: scale it down first")
    stream.codec_context.options = {"max_pixels": str(MAX_SIDE_PX**2)}  # for pictures that are larger than claimed
    # Frame threads decode faster (docs/log.md), but PyAV's flush at the end of a file stops at the first damaged
    # packet in them: frames would be lost, more of them on machines with more cores.
    stream.thread_type = "SLICE"
    if stream.codec_context.name == "h264":
        stream.codec_context.thread_count = 1  # its slice threads do not conceal errors: damaged parts would be green
    return stream


def _first_frame(container: InputContainer, stream: VideoStream, path: Path) -> VideoFrame:
    try:
        for packet in container.demux(stream):
            with suppress(av.error.FFmpegError):  # damaged: the next may be whole
                for frame in packet.decode():
                    assert isinstance(frame, VideoFrame)
                    return frame
    except av.error.FFmpegError as error:
        raise MediaError(f"cannot decode {path}: {error.strerror or error}") from error
    raise MediaError(f"cannot decode {path}: not one frame can be decoded")


def time_before_zero_s(path: Path, indices: Collection[int]) -> Fraction:
    """How long before time 0 the earliest of some streams starts, in seconds; 0 if none does.

    For sound the first audible sample counts: decoders drop some samples at the start.
    """
    with open_container(path) as container:
        starts_s = {s.index: (s.start_time or 0) * Fraction(s.time_base or 0) for s in container.streams}
        starts_s = {index: start_s for index, start_s in starts_s.items() if index in indices and start_s < 0}
        pending = {index for index in starts_s if container.streams[index].type == "audio"}
        with suppress(av.error.FFmpegError):
            for packet in container.demux([container.streams[index] for index in pending]) if pending else ():
                if packet.stream.index in pending:
                    frame = next(iter(packet.decode()), None)
                    if isinstance(frame, AudioFrame) and (time_s := frame_time_s(frame)) is not None:
                        starts_s[packet.stream.index] = time_s
                        pending.remove(packet.stream.index)
                if not pending:
                    break
    return max(Fraction(0), -min(starts_s.values(), default=Fraction(0)))


def frame_time_s(frame: AudioFrame | VideoFrame) -> Fraction | None:
    """Exact presentation time of a frame; None if the file does not say."""
    return None if frame.pts is None or frame.time_base is None else frame.pts * frame.time_base


def _is_cover(stream: VideoStream) -> bool:
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def _describe_stream(stream: Stream) -> OtherStream:
    kind = "cover" if isinstance(stream, VideoStream) and _is_cover(stream) else stream.type
    return OtherStream(stream.index, kind, stream.codec_context.name if stream.codec_context else "unknown")


def _upright_filters(frame: VideoFrame) -> tuple[tuple[str, str], ...]:
    """Ffmpeg filters that apply a decoded frame's display matrix (quarter turns and mirrors).

    The matrix maps stored to shown coordinates, x' = ax + cy, y' = bx + dy, in 16.16 fixed point
    (ISO/IEC 14496-12, 8.2.2); y points down.
    """
    matrix: Any = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return ()
    a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5]
    if abs(b) > abs(a):  # width and height are swapped
        direction = {(True, False): "clock", (False, True): "cclock", (True, True): "cclock_flip"}
        return (("transpose", direction.get((b > 0, c > 0), "clock_flip")),)
    # ffmpeg's vflip returns frames with reversed line order in memory; two transposes keep the order.
    flips = {
        (True, False): (("hflip", ""),),
        (False, True): (("transpose", "cclock_flip"), ("transpose", "cclock")),
        (True, True): (("transpose", "clock"), ("transpose", "clock")),
    }
    return flips.get((a < 0, d < 0), ())


def is_turned(filters: tuple[tuple[str, str], ...]) -> bool:
    """Return whether filters that turn a picture upright swap its width and height."""
    return sum(name == "transpose" for name, _ in filters) % 2 == 1
