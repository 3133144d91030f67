"""Frames of a video in order, whole (deinterlaced) and upright, with exact timestamps."""

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
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream

from pipeline.media.probe import is_turned, open_container, probe, video_stream
from pipeline.types import Image

DEINTERLACE = ("bwdif", "mode=send_frame:deint=interlaced")  # as many frames as before; changes interlaced ones only


@dataclass(frozen=True)
class Frame:
    """One decoded frame.

    Attributes:
        index: position in order of showing, from 0.
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

    Frames that cannot be decoded are left out, and the rest of the file is still read. A timestamp that is missing,
    repeated or goes back becomes the one after the last: encoders take rising ones only.

    Attributes:
        info: facts of the video.
        damaged: packets that could not be decoded, and frames with visible damage, so far.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.info = path, probe(path)
        self.damaged = 0
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
            pts: its timestamp, where known: then what lies before its key frame is not decoded.
        """
        damaged = self.damaged
        frames = self._seek(first, pts) if first and pts is not None else None
        if frames is None:
            self.damaged = damaged
            frames = islice(self._upright(0, self._decode(*self._open())), first, None)
        yield from frames

    def _seek(self, first: int, pts: int) -> Iterator[Frame] | None:
        """Seek to a frame; None where it cannot be reached by seeking."""
        if self.info.is_interlaced:  # deinterlacing needs the frame before
            return None
        container, stream = self._open()
        with suppress(av.error.FFmpegError):
            container.seek(pts, stream=stream)
            decoded = self._decode(container, stream)
            start = next(decoded, None)
            # With intra refresh a file marks frames as key frames that are complete only some frames later.
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
        waiting_pts: deque[int] = deque()  # of the frames that are still in the filters
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
        """Scale a frame to the size of the first: a stream may change its size in the middle."""
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
        frame.pts, self._pushed = self._pushed, self._pushed + 1  # filters need rising ones; some files have none
        self._graph.vpush(frame)
        return ready + _pull_frames(self._graph)

    def flush(self) -> list[VideoFrame]:
        """Return the frames that are left."""
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


def _rising_pts(pts: int | None, last: int | None) -> int:
    if last is None:
        return 0 if pts is None else pts
    return last + 1 if pts is None else max(pts, last + 1)
