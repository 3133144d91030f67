"""Frames of a video in order, upright, with exact timestamps.

Decoded frames made whole and upright: interlaced ones deinterlaced, turned ones turned.
"""

import struct
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, count, islice
from pathlib import Path
from types import TracebackType
from typing import Self, cast

import av
from av.container import InputContainer
from av.filter import Graph
from av.packet import Packet
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream

from pipeline.media.probe import VideoInfo, describe, first_frame, is_turned, open_container, video_stream
from pipeline.types import Image

DEINTERLACE = ("bwdif", "mode=send_frame:deint=interlaced")  # a frame for each, and only those that need it


class Uprighter:
    """Takes frames as decoded and gives as many, in order, each perhaps one call later.

    Args:
        filters: what turns a picture upright, as names and arguments of ffmpeg filters.

    Attributes:
        deinterlaced: number of interlaced frames so far.
    """

    def __init__(self, filters: tuple[tuple[str, str], ...]) -> None:
        self._turn = filters
        self._filters = filters
        self._graph: Graph | None = None
        self._pushed = 0
        self.deinterlaced = 0

    def push(self, frame: VideoFrame) -> list[VideoFrame]:
        """Take a frame; give what is ready."""
        ready: list[VideoFrame] = []
        if frame.interlaced_frame:
            self.deinterlaced += 1
            if self._filters == self._turn:
                ready = self.flush()
                self._filters = (DEINTERLACE, *self._turn)
        if not self._filters:
            return [*ready, frame]
        if self._graph is None:
            self._graph = _graph_of(self._filters, frame)
        frame.pts, self._pushed = self._pushed, self._pushed + 1  # the filters want rising ones; some files have none
        self._graph.vpush(frame)
        return ready + self._pulled()

    def flush(self) -> list[VideoFrame]:
        """Give what is left."""
        if self._graph is None:
            return []
        self._graph.vpush(None)
        left, self._graph = self._pulled(), None
        return left

    def _pulled(self) -> list[VideoFrame]:
        assert self._graph is not None
        pulled = []
        while True:
            try:
                pulled.append(self._graph.vpull())
            except (BlockingIOError, EOFError):
                return pulled


def _graph_of(filters: tuple[tuple[str, str], ...], frame: VideoFrame) -> Graph:
    graph = Graph()
    nodes = [
        graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base),
        *(graph.add(name, arguments or None) for name, arguments in filters),
        graph.add("buffersink"),
    ]
    graph.link_nodes(*nodes).configure()
    return graph


MATROSKA = "matroska"  # among ffmpeg's names of a container
BLOCK_HEAD = struct.Struct(">Bh")  # of a block in it: number of the track, time relative to the cluster's
ONE_BYTE = 0x80  # marks such a number as one byte long


@dataclass(frozen=True)
class Frame:
    """One decoded frame.

    Attributes:
        index: place in the order of showing, from 0.
        pts: timestamp in units of the video's time base.
        native: the picture as decoded, upright, in the file's own pixel format.
    """

    index: int
    pts: int
    native: VideoFrame

    @cached_property
    def image(self) -> Image:
        """The picture as (H, W, 3) BGR uint8; made at first use. Not to be changed in place."""
        return cast(Image, self.native.to_ndarray(format="bgr24"))


class VideoReader:
    """Decodes a video from its first frame to its last.

    Frames that cannot be decoded are left out, and the rest of the file is still read. A timestamp that is missing,
    repeated or goes back becomes the one after the last: no encoder takes it otherwise.

    Args:
        path: a local video file.

    Attributes:
        info: facts of the video.
        damaged: packets that could not be decoded, and frames that came out with visible damage, in all so far.
        hidden: frames passed over because the file says that they are not shown (an edit list), since the beginning.

    Raises:
        MediaError: the file cannot be read as video.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damaged = self.hidden = 0
        with open_container(path) as container:
            stream = video_stream(container, path)
            self.info: VideoInfo = describe(path, container, stream, first_frame(container, stream, path))
        self._container: InputContainer | None = None
        self._uprighter = Uprighter(self.info.upright_filters)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        if self._container is not None:
            self._container.close()
            self._container = None

    @property
    def deinterlaced(self) -> int:
        """Number of frames so far that were interlaced."""
        return self._uprighter.deinterlaced

    def __iter__(self) -> Iterator[Frame]:
        return self.frames()

    def frames(self, first: int = 0, pts: int | None = None) -> Iterator[Frame]:
        """Give the frames from one on; a new call begins anew.

        Args:
            first: index of the first one wanted.
            pts: its timestamp, where that is known: what lies before its key frame is then not decoded.
        """
        before = self.damaged
        found = self._sought(first, pts) if first and pts is not None else None
        if found is None:
            self.damaged, self.hidden = before, 0
            found = islice(self._timed(0, self._decode(*self._opened())), first, None)
        yield from found

    def _sought(self, first: int, pts: int) -> Iterator[Frame] | None:
        """Seek to a frame; None where it cannot be reached so."""
        if self.info.is_interlaced:  # how it comes out depends on the one before
            return None
        container, stream = self._opened()
        with suppress(av.error.FFmpegError):
            container.seek(pts, stream=stream)
            decoded = self._decode(container, stream)
            begin = next(decoded, None)
            if begin is None or begin.pict_type != PictureType.I:  # one of those that become whole strip by strip
                return None
            for native in chain([begin], decoded):
                if native.pts is None or native.pts > pts:
                    break
                if native.pts == pts:
                    return self._timed(first, chain([native], decoded))
        return None

    def _opened(self) -> tuple[InputContainer, VideoStream]:
        self.close()
        self._container = open_container(self.path)
        return self._container, video_stream(self._container, self.path)

    def _timed(self, first: int, decoded: Iterable[VideoFrame]) -> Iterator[Frame]:
        self._uprighter = Uprighter(self.info.upright_filters)
        last: int | None = None
        times: deque[int] = deque()  # of the frames that are still being made upright
        index = count(first)
        for native in decoded:
            last = _later(native.pts, last)
            times.append(last)
            for frame in self._uprighter.push(native):
                yield Frame(next(index), times.popleft(), frame)
        for frame in self._uprighter.flush():
            yield Frame(next(index), times.popleft(), frame)

    def _decode(self, container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
        try:
            for packet in container.demux(stream):
                if packet.pts is None and packet.size and MATROSKA in container.format.name.split(","):
                    packet.pts = _time_before_0(self.path, packet)
                self.hidden += packet.is_discard
                try:
                    frames = packet.decode()
                except av.error.FFmpegError:
                    self.damaged += 1
                    continue
                for frame in frames:
                    self.damaged += frame.is_corrupt
                    yield self._as_first(frame)
                    if self._container is not container:  # ffmpeg would read what is no longer there
                        raise ValueError(f"{self.path} was closed while it was read")
        except av.error.FFmpegError:
            self.damaged += 1  # the container itself breaks off here

    def _as_first(self, frame: VideoFrame) -> VideoFrame:
        # A stream may change its size in the middle; everything after would have to be redone for the new one.
        first = self.info
        size = (first.height, first.width) if is_turned(first.upright_filters) else (first.width, first.height)
        if (frame.width, frame.height, frame.format.name) == (*size, first.pixel_format):
            return frame
        scaled = frame.reformat(width=size[0], height=size[1], format=first.pixel_format)
        scaled.pts, scaled.time_base = frame.pts, frame.time_base
        return scaled


def _time_before_0(path: Path, packet: "Packet[VideoStream]") -> int | None:
    """Read the time of a Matroska packet that ffmpeg has none for, from the file itself; None where it has none there.

    Times of clusters cannot be negative, so what comes before 0 lies in one at 0, with times relative to that below 0
    (RFC 9559, 10.1 and 11.2). ffmpeg gives these up, and guesses those of sound, but not of reordered pictures.
    """
    if packet.pos is None:
        return None
    with path.open("rb") as file:
        file.seek(packet.pos)
        head = file.read(BLOCK_HEAD.size)
    track, time = BLOCK_HEAD.unpack(head) if len(head) == BLOCK_HEAD.size else (0, 0)
    return time if track & ONE_BYTE and time < 0 else None


def _later(pts: int | None, last: int | None) -> int:
    """Return a timestamp after the last one: the frame's own, unless it is missing, repeated or goes back."""
    if last is None:
        return 0 if pts is None else pts
    return last + 1 if pts is None else max(pts, last + 1)
