"""Frames of a video in order, whole (deinterlaced) and upright, with exact timestamps."""

import struct
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, count, islice
from pathlib import Path
from typing import Self, cast

import av
from av.container import InputContainer
from av.filter import Graph
from av.packet import Packet
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream

from pipeline.media.probe import is_turned, open_container, probe, video_stream
from pipeline.types import Image

DEINTERLACE = ("bwdif", "mode=send_frame:deint=interlaced")  # keeps the frame count; changes only interlaced frames
MATROSKA = "matroska"  # among ffmpeg's names of the container
BLOCK_HEADER = struct.Struct(">Bh")  # of a Matroska block: track number, time relative to the cluster's
ONE_BYTE = 0x80  # marks a track number that is one byte long


@dataclass(frozen=True)
class Frame:
    """One decoded frame.

    Attributes:
        index: in display order, from 0.
        pts: timestamp in units of the video's time base.
        native: the picture as decoded, upright, in the file's own pixel format.
    """

    index: int
    pts: int
    native: VideoFrame

    @cached_property
    def image(self) -> Image:
        """The picture as (H, W, 3) BGR uint8, converted at first use. Do not change it."""
        return cast(Image, self.native.to_ndarray(format="bgr24"))


class VideoReader:
    """Decodes a video from its first frame to its last.

    Frames that cannot be decoded are skipped, and the rest of the file is still read. A timestamp that is missing or
    does not ascend becomes the last one plus 1: encoders need ascending timestamps.

    Attributes:
        info: facts of the video.
        damaged: packets that could not be decoded, and frames with visible damage, so far.
        hidden: frames that an edit list hides, from the beginning of the video.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.info = path, probe(path)
        self.damaged = self.hidden = 0
        self._container: InputContainer | None = None
        self._uprighter = _Uprighter(self.info.upright_filters)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        if self._container is not None:
            self._container.close()
            self._container = None

    @property
    def deinterlaced(self) -> int:
        """Number of interlaced frames so far."""
        return self._uprighter.deinterlaced

    def __iter__(self) -> Iterator[Frame]:
        return self.frames()

    def frames(self, first: int = 0, pts: int | None = None) -> Iterator[Frame]:
        """Yield frames from an index on; each call starts again.

        Args:
            first: index of the first frame.
            pts: its timestamp, if known: then nothing before its key frame is decoded.
        """
        damaged = self.damaged
        frames = self._seek(first, pts) if first and pts is not None else None
        if frames is None:
            self.damaged, self.hidden = damaged, 0
            frames = islice(self._upright(0, self._decode(*self._open())), first, None)
        yield from frames

    def _seek(self, first: int, pts: int) -> Iterator[Frame] | None:
        """Seek to a frame; None if seeking cannot reach it."""
        if self.info.is_interlaced:  # deinterlacing needs the frame before
            return None
        container, stream = self._open()
        with suppress(av.error.FFmpegError):
            container.seek(pts, stream=stream)
            decoded = self._decode(container, stream)
            start = next(decoded, None)
            # With intra refresh, a marked key frame is complete only some frames later.
            if start is None or start.pict_type != PictureType.I:
                return None
            for native in chain([start], decoded):
                if native.pts is None or native.pts > pts:
                    break
                if native.pts == pts:
                    return self._upright(first, chain([native], decoded))
        return None

    def _open(self) -> tuple[InputContainer, VideoStream]:
        self.close()
        self._container = open_container(self.path)
        return self._container, video_stream(self._container, self.path)

    def _upright(self, first: int, decoded: Iterable[VideoFrame]) -> Iterator[Frame]:
        self._uprighter = _Uprighter(self.info.upright_filters)
        last_pts: int | None = None
        waiting_pts: deque[int] = deque()  # of frames still in the filters
        index = count(first)
        for native in decoded:
            last_pts = _rising_pts(native.pts, last_pts)
            waiting_pts.append(last_pts)
            for frame in self._uprighter.push(native):
                yield Frame(next(index), waiting_pts.popleft(), frame)
        for frame in self._uprighter.flush():
            yield Frame(next(index), waiting_pts.popleft(), frame)

    def _decode(self, container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
        try:
            for packet in container.demux(stream):
                if packet.pts is None and packet.size and MATROSKA in container.format.name.split(","):
                    packet.pts = _read_negative_time(self.path, packet)
                self.hidden += packet.is_discard
                try:
                    frames = packet.decode()
                except av.error.FFmpegError:
                    self.damaged += 1
                    continue
                for frame in frames:
                    self.damaged += frame.is_corrupt
                    yield self._same_size(frame)
                    if self._container is not container:  # ffmpeg would read freed memory
                        raise ValueError(f"{self.path} was closed while it was read")
        except av.error.FFmpegError:
            self.damaged += 1  # the container itself ends here

    def _same_size(self, frame: VideoFrame) -> VideoFrame:
        """Scale a frame to the size of the first one: a stream may change its size."""
        info = self.info
        width, height = (info.height, info.width) if is_turned(info.upright_filters) else (info.width, info.height)
        if (frame.width, frame.height, frame.format.name) == (width, height, info.pixel_format):
            return frame
        scaled = frame.reformat(width=width, height=height, format=info.pixel_format)
        scaled.pts, scaled.time_base = frame.pts, frame.time_base
        return scaled


class _Uprighter:
    """Turns decoded frames upright and deinterlaces them; a frame may come out one call later.

    Attributes:
        deinterlaced: number of interlaced frames so far.
    """

    def __init__(self, upright_filters: tuple[tuple[str, str], ...]) -> None:
        self._filters = self._upright_filters = upright_filters
        self._graph: Graph | None = None
        self._pushed = 0
        self.deinterlaced = 0

    def push(self, frame: VideoFrame) -> list[VideoFrame]:
        """Take a frame; return the frames that are ready."""
        ready: list[VideoFrame] = []
        if frame.interlaced_frame:
            self.deinterlaced += 1
            if self._filters == self._upright_filters:
                ready = self.flush()
                self._filters = (DEINTERLACE, *self._upright_filters)
        if not self._filters:
            return [*ready, frame]
        if self._graph is None:
            self._graph = _build_graph(self._filters, frame)
        frame.pts, self._pushed = self._pushed, self._pushed + 1  # filters need ascending ones; some files have none
        self._graph.vpush(frame)
        return ready + _pull_frames(self._graph)

    def flush(self) -> list[VideoFrame]:
        """Return the remaining frames."""
        if self._graph is None:
            return []
        self._graph.vpush(None)
        frames, self._graph = _pull_frames(self._graph), None
        return frames


def _pull_frames(graph: Graph) -> list[VideoFrame]:
    frames = []
    with suppress(BlockingIOError, EOFError):  # it needs more input; it has ended
        while True:
            frames.append(graph.vpull())
    return frames


def _build_graph(filters: tuple[tuple[str, str], ...], frame: VideoFrame) -> Graph:
    graph = Graph()
    nodes = [
        graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base),
        *(graph.add(name, arguments or None) for name, arguments in filters),
        graph.add("buffersink"),
    ]
    graph.link_nodes(*nodes).configure()
    return graph


def _read_negative_time(path: Path, packet: "Packet[VideoStream]") -> int | None:
    """Read from the file the negative time of a Matroska packet, which ffmpeg drops; None if it is not negative.

    Cluster times cannot be negative: packets before 0 are in a cluster at 0, with negative relative times (RFC 9559,
    10.1 and 11.2). ffmpeg drops these times and guesses those of sound, but not of reordered frames.
    """
    if packet.pos is None:
        return None
    with path.open("rb") as file:
        file.seek(packet.pos)
        header = file.read(BLOCK_HEADER.size)
    track, time = BLOCK_HEADER.unpack(header) if len(header) == BLOCK_HEADER.size else (0, 0)
    return time if track & ONE_BYTE and time < 0 else None


def _rising_pts(pts: int | None, last: int | None) -> int:
    if last is None:
        return 0 if pts is None else pts
    return last + 1 if pts is None else max(pts, last + 1)
