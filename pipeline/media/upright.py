"""Decoded frames made whole and upright: interlaced ones deinterlaced, turned ones turned."""

from av.filter import Graph
from av.video.frame import VideoFrame

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
