"""What a video file says of itself, without decoding more than its first frame.

What kind of file a file is, by its content: names lie.

Which paths may be opened: regular files. Opening a pipe would wait for ever, and a device could do anything.
"""

import math
import re
import stat
import struct
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import PIL.Image
from av.audio.frame import AudioFrame
from av.container import InputContainer
from av.stream import Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from pipeline.errors import MediaError
from pipeline.workspace import PICTURE_SUFFIXES

SUFFIXES = {"JPEG": ".jpg", "MPO": ".jpg", "PNG": ".png", "WEBP": ".webp", "TIFF": ".tif", "BMP": ".bmp"}
"""Ends of the names of still pictures, by Pillow's name of their format; an MPO is a JPEG with more pictures behind."""
PICTURE_TYPES = {"JPEG": "image/jpeg", "MPO": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}
PICTURE_TYPES |= {"TIFF": "image/tiff", "BMP": "image/bmp", "GIF": "image/gif"}
OPENED = tuple(PICTURE_TYPES.keys() - {"MPO"})  # these are opened as JPEG
VIDEO_TYPES = {"mov": "video/mp4", "avi": "video/avi"}  # others are video/x-<ffmpeg's name>
MOTION_JPEG = "mjpeg"  # what ffmpeg takes a damaged JPEG for


def is_picture(path: Path) -> bool:
    """Say whether a path names a still picture; where there is no content that tells, the name does."""
    if not is_file(path):
        return path.suffix.lower() in PICTURE_SUFFIXES
    if (kind := _picture_format(path)) is not None:
        return kind in SUFFIXES
    return path.suffix.lower() in PICTURE_SUFFIXES and _container_format(path) in (None, MOTION_JPEG)


def picture_suffix(path: Path) -> str:
    """Return how the name of a picture made from this one is to end: like its own, if that is a picture's."""
    own = path.suffix.lower() in PICTURE_SUFFIXES
    return path.suffix if own else SUFFIXES.get(_picture_format(path) or "", ".png")


def media_type(path: Path) -> str | None:
    """Name the media type of a regular file; None where its content does not tell."""
    if (picture := _picture_format(path)) is not None:
        return PICTURE_TYPES[picture]
    container = _container_format(path)
    return container and VIDEO_TYPES.get(container, f"video/x-{container}")


def _picture_format(path: Path) -> str | None:
    """Pillow's name of a picture's format, by its header."""
    try:
        with PIL.Image.open(path, formats=OPENED) as opened:
            return opened.format
    except Exception:  # noqa: BLE001 - Pillow's readers raise whatever a damaged header provokes
        return None


def _container_format(path: Path) -> str | None:
    """Ffmpeg's first name of the format of a file that holds video."""
    try:
        with open_container(path) as container:
            return str(container.format.name).partition(",")[0] if container.streams.video else None
    except MediaError:
        return None


ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:/", re.IGNORECASE)


def is_file(path: Path) -> bool:
    """Say whether a path names a regular file, whatever else it may be."""
    try:
        require_file(path)
    except MediaError:
        return False
    return True


def require_file(path: Path, most_bytes: float = math.inf) -> None:
    """Make sure that a path names a regular file, without opening it.

    Args:
        path: of the file.
        most_bytes: how long it may be, where all of it is to be read.

    Raises:
        MediaError: it does not, or the file is longer.
    """
    try:
        mode, size = (facts := path.stat()).st_mode, facts.st_size
    except (FileNotFoundError, NotADirectoryError) as error:
        if ADDRESS.match(str(path)):
            raise MediaError(f"{path} is an address, and only files are read: download it first") from error
        raise MediaError(f"no such file: {path}") from error
    except (OSError, ValueError) as error:
        raise MediaError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    if stat.S_ISDIR(mode):
        raise MediaError(f"{path} is a folder: name a file in it")
    if not stat.S_ISREG(mode):
        raise MediaError(f"{path} is a pipe, a socket or a device, which are not read: name a file")
    if size > most_bytes:
        raise MediaError(
            f"{path} has {size / 1e6:.0f} MB; {most_bytes / 1e6:.0f} MB are the most: is it the right file?"
        )


LARGEST_PX = 16_384  # width or height; more is no video that anybody filmed
PLAIN_FILES = (
    "aiff,apng,asf,avi,av1,dv,flv,gif,gxf,h264,hevc,ivf,live_flv,m4v,matroska,mjpeg,mov,mp4,mpeg,mpegts,mpegvideo,mxf,nsv,"
    "nut,obu,ogg,pva,rm,vc1,wav,webm,wtv,yuv4mpegpipe"
)
"""Kinds of files that hold what they show; others list addresses or other files (HLS, DASH, concat, SDP …)."""
OPENING = {"protocol_whitelist": "file", "format_whitelist": PLAIN_FILES}
"""What is read, by ffmpeg's libraries or its program: local files alone, and not what they name."""
HDR_TRANSFERS = frozenset({16, 18})  # SMPTE ST 2084 (PQ) and ARIB STD-B67 (HLG), ITU-T H.273 table 3


@dataclass(frozen=True)
class VideoInfo:
    """Facts of a video's main video stream, as a person sees it: upright.

    Attributes:
        path: the file.
        width, height: of the upright picture, px.
        time_base: seconds per timestamp unit, exact.
        average_rate: frames per second, exact; None where the file does not say.
        frames_claimed: what the header says; 0 where it says nothing, and it can be wrong.
        duration_s: of the longest stream, by the header; None where it does not say.
        upright_filters: what turns a decoded picture upright, as names and arguments of ffmpeg filters.
        sample_aspect_ratio: width of a pixel over its height, upright; 1 is square.
        pixel_format: of the decoded frames, ffmpeg's name.
        bit_depth: bits per colour component.
        colour: ffmpeg's numbers for matrix, primaries, transfer and range (2, 2, 2, 0: not said).
        is_interlaced: whether the first frame is, which is told of it before it is deinterlaced.
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
    colour: "Colour"
    is_interlaced: bool
    index: int
    others: tuple["OtherStream", ...]

    @property
    def audio_codecs(self) -> tuple[str, ...]:
        """Ffmpeg's names of the codecs of the sound tracks, in order."""
        return tuple(stream.codec for stream in self.others if stream.kind == "audio")

    @property
    def is_hdr(self) -> bool:
        """Whether brightness is stored by a curve for high dynamic range: PQ or HLG."""
        return self.colour.transfer in HDR_TRANSFERS

    def facts(self) -> dict[str, Any]:
        """The same as plain JSON values; fractions as text."""
        return {key: str(value) if isinstance(value, Path | Fraction) else value for key, value in asdict(self).items()}


@dataclass(frozen=True)
class OtherStream:
    """A stream besides the main video.

    Attributes:
        index: number in the file.
        kind: audio, subtitle, cover (a picture), video, data or attachment.
        codec: ffmpeg's name; "unknown" where it knows none.
    """

    index: int
    kind: str
    codec: str


@dataclass(frozen=True)
class Colour:
    """How numbers become colours: ffmpeg's codes (ITU-T H.273), and 2 or 0 where a file does not say."""

    matrix: int
    primaries: int
    transfer: int
    range: int


def probe(path: Path) -> VideoInfo:
    """Read the facts of a video file.

    Raises:
        MediaError: the file is missing, no video, or its first frame cannot be decoded.
    """
    with open_container(path) as container:
        stream = video_stream(container, path)
        return describe(path, container, stream, first_frame(container, stream, path))


def open_container(path: Path) -> InputContainer:
    """Open a local media file for reading.

    Raises:
        MediaError: it is missing or no media file.
    """
    require_file(path)
    if path.stat().st_size == 0:
        raise MediaError(f"{path} is empty (0 bytes): copy it again from where it came")
    try:
        # The prefix keeps ffmpeg from reading a name with a colon as the name of a protocol.
        container = av.open(f"file:{path}", options=OPENING, metadata_errors="replace")
    except av.error.ArgumentError as error:  # the kind was recognised, and is not on the list
        raise MediaError(
            f"{path} is a playlist, damaged, or of a kind that is not read: name a whole video file"
        ) from error
    except (av.error.FFmpegError, OSError) as error:
        raise MediaError(
            f"cannot read {path} as video: {error.strerror or error}; is it complete, and does it play elsewhere?"
        ) from error
    assert isinstance(container, InputContainer)
    return container


def video_stream(container: InputContainer, path: Path) -> VideoStream:
    """Return the main video stream: ffmpeg's choice, never a cover picture.

    Raises:
        MediaError: there is none.
    """
    moving = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
    if not moving:
        raise MediaError(f"{path} has no video stream: name a file that shows pictures")
    best = container.streams.best("video")
    stream = best if best in moving else moving[0]
    assert isinstance(stream, VideoStream)
    if stream.codec_context is None:  # in spite of what PyAV's types say
        raise MediaError(f"cannot decode {path}: what its pictures are stored in is not known")
    if max(stream.codec_context.width, stream.codec_context.height) > LARGEST_PX:
        size = f"{stream.codec_context.width}x{stream.codec_context.height}"
        raise MediaError(f"{path} claims to be {size} px; {LARGEST_PX} a side is the most: scale it down first")
    stream.codec_context.options = {"max_pixels": str(LARGEST_PX**2)}  # for pictures that are larger than claimed
    # Frame threads decode faster (docs/log.md), but PyAV's flush at the end of a file gives up at the first damaged
    # packet in them: frames would be lost, more of them on machines with more cores.
    stream.thread_type = "SLICE"
    if stream.codec_context.name == "h264":
        stream.codec_context.thread_count = 1  # its slice threads do not conceal errors: what is missing would be green
    return stream


def first_frame(container: InputContainer, stream: VideoStream, path: Path) -> VideoFrame:
    """Decode until the first frame that comes.

    Raises:
        MediaError: none comes.
    """
    try:
        for packet in container.demux(stream):
            try:
                for frame in packet.decode():
                    assert isinstance(frame, VideoFrame)
                    return frame
            except av.error.FFmpegError:
                continue
    except av.error.FFmpegError as error:
        raise MediaError(f"cannot decode {path}: {error.strerror or error}") from error
    raise MediaError(f"cannot decode {path}: not one frame comes out of it")


def early_s(path: Path, indices: Collection[int]) -> Fraction:
    """Say by how much streams begin before time 0, in seconds; 0 where they do not.

    Of sound that counts which is heard: a decoder's run-up does not.

    Args:
        path: of the file.
        indices: numbers of the streams.

    Raises:
        MediaError: the file cannot be read.
    """
    with open_container(path) as container:
        begin = {s.index: (s.start_time or 0) * Fraction(s.time_base or 0) for s in container.streams}
        begin = {index: moment for index, moment in begin.items() if index in indices and moment < 0}
        waiting = {index for index in begin if container.streams[index].type == "audio"}
        with suppress(av.error.FFmpegError):
            for packet in container.demux([container.streams[index] for index in waiting]) if waiting else ():
                index = packet.stream.index
                if index not in waiting:
                    continue
                frame = next(iter(packet.decode()), None)
                if isinstance(frame, AudioFrame) and frame.pts is not None and frame.time_base is not None:
                    begin[index] = frame.pts * frame.time_base
                    waiting.remove(index)
                    if not waiting:
                        break
    return max(Fraction(0), -min(begin.values(), default=Fraction(0)))


def describe(path: Path, container: InputContainer, stream: VideoStream, frame: VideoFrame) -> VideoInfo:
    """Put the facts together from the container, its video stream and that stream's first frame."""
    upright = upright_filters(frame)
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
        others=tuple(_other(s) for s in container.streams if s.index != stream.index),
    )


def _other(stream: Stream) -> OtherStream:
    is_cover = stream.type == "video" and bool(stream.disposition & av.stream.Disposition.attached_pic)
    context = stream.codec_context
    return OtherStream(stream.index, "cover" if is_cover else stream.type, context.name if context else "unknown")


def upright_filters(frame: VideoFrame) -> tuple[tuple[str, str], ...]:
    """Ffmpeg filters that turn a decoded frame as its display matrix asks (quarter turns and mirrors).

    The matrix maps stored to shown coordinates, x' = ax + cy, y' = bx + dy, in 16.16 fixed point
    (ISO/IEC 14496-12, 8.2.2); y points down.
    """
    matrix = next((bytes(s) for s in cast(Iterable[Any], frame.side_data) if s.type.name == "DISPLAYMATRIX"), None)
    if matrix is None:
        return ()
    a, b, _, c, d = struct.unpack("=9i", matrix)[:5]
    if abs(b) > abs(a):  # the axes change places
        direction = {(True, False): "clock", (False, True): "cclock", (True, True): "cclock_flip"}
        return (("transpose", direction.get((b > 0, c > 0), "clock_flip")),)
    # ffmpeg's vflip gives frames whose lines lie backwards in memory; two turns do the same with lines in order.
    flips = {
        (True, False): (("hflip", ""),),
        (False, True): (("transpose", "cclock_flip"), ("transpose", "cclock")),
        (True, True): (("transpose", "clock"), ("transpose", "clock")),
    }
    return flips.get((a < 0, d < 0), ())


def is_turned(filters: tuple[tuple[str, str], ...]) -> bool:
    """Say whether filters that turn a picture upright exchange its width and height."""
    return sum(name == "transpose" for name, _ in filters) % 2 == 1
