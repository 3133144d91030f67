"""Frames of a video in order, upright, with exact timestamps."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self, cast

import av
from av.filter import Graph
from av.video.frame import VideoFrame

from pipeline.arrays import Image
from pipeline.errors import MediaError
from pipeline.media.probe import VideoInfo, describe, first_frame, is_turned, open_container, video_stream


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
        damaged: packets so far that could not be decoded, and frames that came out with visible damage.

    Raises:
        MediaError: the file cannot be read as video.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damaged = 0
        with open_container(path) as container:
            stream = video_stream(container, path)
            self.info: VideoInfo = describe(path, container, stream, first_frame(container, stream, path))
        self._container = open_container(path)
        self._stream = video_stream(self._container, path)
        self._graph: Graph | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def __iter__(self) -> Iterator[Frame]:
        last: int | None = None
        for index, native in enumerate(self._decode()):
            last = _later(native.pts, last)
            yield Frame(index, last, self._upright(native))

    def _decode(self) -> Iterator[VideoFrame]:
        try:
            for packet in self._container.demux(self._stream):
                try:
                    frames = packet.decode()
                except av.error.FFmpegError:
                    self.damaged += 1
                    continue
                for frame in frames:
                    self.damaged += frame.is_corrupt
                    yield self._as_first(frame)
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

    def _upright(self, frame: VideoFrame) -> VideoFrame:
        if not self.info.upright_filters:
            return frame
        if self._graph is None:
            self._graph = _graph_of(self.info.upright_filters, frame)
        self._graph.vpush(frame)
        return self._graph.vpull()


def _later(pts: int | None, last: int | None) -> int:
    """Return a timestamp after the last one: the frame's own, unless it is missing, repeated or goes back."""
    if last is None:
        return 0 if pts is None else pts
    return last + 1 if pts is None else max(pts, last + 1)


def _graph_of(filters: tuple[tuple[str, str], ...], frame: VideoFrame) -> Graph:
    if frame.time_base is None:
        raise MediaError("a frame without a time base cannot be turned upright")
    graph = Graph()
    nodes = [
        graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base),
        *(graph.add(name, arguments or None) for name, arguments in filters),
        graph.add("buffersink"),
    ]
    graph.link_nodes(*nodes).configure()
    return graph
