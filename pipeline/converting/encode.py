"""Segments made: frames decoded, faces drawn and put in, frames encoded, all at the same time.

A thread decodes; up to four others draw, which is faster than all cores at one face; as many put the faces in, some
frames later, when it is known what comes behind them; this one hands the frames to ffmpeg, which encodes in a process
of its own; one more waits for ffmpeg to end a segment while the next has begun.
"""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self

import cv2
import torch
from av.video.frame import VideoFrame

from pipeline.blending.draw import NewFace, Swap, new_faces, put_in, put_masks_in
from pipeline.blending.label import draw_label
from pipeline.blending.look import RESULT, Look, Shown
from pipeline.blending.swap import Swapper
from pipeline.converting.evened import Drawn, evened
from pipeline.converting.film import Film, Planned
from pipeline.converting.pace import Pace
from pipeline.converting.unfinished import keep
from pipeline.errors import MediaError
from pipeline.faces.videos import fingerprint
from pipeline.media.encoders import Encoding
from pipeline.media.pixels import Canvas, PixelFormat
from pipeline.media.reader import Frame, VideoReader
from pipeline.media.writer import SegmentWriter, build_encode_command
from pipeline.prefetch import mapped, prefetched, result_of
from pipeline.progress import Bar

FACES_AT_ONCE = 16  # drawn in one batch
PIXELS_AT_ONCE = 16_000_000  # of the frames of a batch: 48 MB with what is made of them; some eight are in memory
PIXELS_IN_WORK = 64_000_000  # of frames larger than a batch's pixels no more are drawn at once
FRAMES_AT_ONCE = 32
MOST_CORES = 4  # that draw; more would wait for the encoder
DRAWING = 3  # to be raised with every change of how faces are drawn: segments drawn otherwise must not be joined


@dataclass(frozen=True)
class Work:
    """What it takes to make segments of a video.

    Attributes:
        film: its frames and faces.
        reader: of the video.
        swapper: the model.
        pixels: of the frames made.
        encoding: how they are encoded.
        folder: where segments are kept.
        look: how new faces are put in.
        shown: what the result shows.
    """

    film: Film
    reader: VideoReader
    swapper: Swapper
    pixels: PixelFormat
    encoding: Encoding
    folder: Path
    look: Look
    shown: Shown = RESULT

    @property
    def made(self) -> PixelFormat:
        """What is encoded."""
        return replace(self.pixels, width=2 * self.pixels.width) if self.shown.kind == "beside" else self.pixels

    def frame(self, canvas: Canvas, faces: Sequence[NewFace]) -> VideoFrame:
        """Make a frame of the result from one of the original and its new faces."""
        if self.shown.kind == "mask":
            black = Canvas(self.pixels.black(), self.pixels)
            put_masks_in(black, faces, self.look)
            return black.frame
        original = canvas.copy() if self.shown.kind == "beside" else canvas
        put_in(canvas, faces, self.look)
        if self.shown.label:
            draw_label(canvas, self.shown.label)
        return canvas.frame if original is canvas else self.made.beside(original.frame, canvas.frame)

    @cached_property
    def settings(self) -> str:
        """What decides, besides frames and faces, what is in segments: they have other names where it is another."""
        _, *options = build_encode_command(Path(), self.reader.info, self.made, self.encoding)
        networks, encoder = self.swapper.fingerprint, self.encoding.version
        return repr((DRAWING, fingerprint(self.reader.path), networks, self.look, self.shown, encoder, options))

    def path(self, segment: Planned) -> Path:
        """Name the file of a finished segment."""
        return self.folder / segment.name(self.settings)


@dataclass(frozen=True)
class _Batch:
    planned: Planned
    frames: Sequence[Frame]
    is_last: bool
    is_shown: bool

    def swaps(self) -> list[Sequence[Swap]]:
        return [self.planned.swaps.get(frame.index, ()) for frame in self.frames]


def make_segments(work: Work, first: int, end: int, pace: Pace, bar: Bar) -> list[Planned]:
    """Make consecutive segments.

    Args:
        work: of what, and how.
        first: number of the first frame.
        end: number of the frame behind the last.
        pace: says how long they are.
        bar: told of each frame.

    Returns:
        The segments, in order.

    Raises:
        MediaError: the video is not what was extracted, or ffmpeg fails.
        WorkspaceError: a segment cannot be kept.
    """

    def draw(batch: _Batch) -> Drawn:
        canvases = [Canvas(frame.native, work.pixels) for frame in batch.frames]
        faces = new_faces(canvases, batch.swaps(), work.swapper, work.look)
        segment = batch.planned if batch.is_shown else None
        return Drawn(segment, batch.frames[0].index, canvases if batch.is_shown else [], faces, batch.is_last)

    def put_together(batch: Drawn) -> tuple[Drawn, list[VideoFrame]]:
        if batch.segment is None:
            return batch, []
        return batch, [work.frame(*parts) for parts in zip(batch.canvases, batch.faces, strict=True)]

    def begin() -> None:
        torch.set_num_threads(_threads(cores))

    cores = _workers(work.pixels.width * work.pixels.height)
    made: list[Planned] = []
    with (
        _cores_shared(cores),
        prefetched(_batches(work, first, end, pace), 1) as batches,
        mapped(draw, batches, cores + 1, 0, begin) as drawn,  # one waits for its turn with Python
        mapped(put_together, evened(drawn), cores, 0, begin) as finished,
        _Segments(work) as segments,
    ):
        for batch, frames in finished:
            if batch.segment is None:
                continue
            for frame in frames:
                segments.write(batch.segment, frame)
                bar.advance()
                pace.advance()
            if batch.is_last:
                segments.end()
                made.append(batch.segment)
    return made


def _workers(pixels: int) -> int:
    """Say how many threads draw: few where frames are large, for each has a batch in memory."""
    return max(1, min(os.cpu_count() or 1, MOST_CORES, PIXELS_IN_WORK // pixels))


@contextmanager
def _cores_shared(cores: int) -> Iterator[None]:
    """In the block, let no library spread one worker's work over more cores than are its share."""
    before = torch.get_num_threads(), cv2.getNumThreads()
    cv2.setNumThreads(_threads(cores))
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])


def _threads(cores: int) -> int:
    return max(1, (os.cpu_count() or 1) // cores)


def _batches(work: Work, first: int, end: int, pace: Pace) -> Iterator[_Batch]:
    film = work.film
    before, behind = film.before(first), film.behind(end)
    frames = work.reader.frames(before, film.moment(before))

    def around(begin: int, stop: int) -> Iterator[_Batch]:
        planned = Planned(begin, film.pts(begin, stop - begin), film.swaps(begin, stop))
        return _in_batches(work, planned, frames, is_shown=False)

    yield from around(before, first)
    while first < end:
        segment = film.segment(first, pace.next_length(end - first))
        yield from _in_batches(work, segment, frames, is_shown=True)
        first = segment.end
    yield from around(end, behind)


def _in_batches(work: Work, planned: Planned, frames: Iterator[Frame], *, is_shown: bool) -> Iterator[_Batch]:
    waiting: list[Frame] = []
    faces = pixels = 0
    for frame in _frames_of(planned, frames, work.reader.path):
        waiting.append(frame)
        faces += len(planned.swaps.get(frame.index, ()))
        pixels += work.pixels.width * work.pixels.height
        is_last = frame.pts == planned.pts[-1]
        is_full = faces >= FACES_AT_ONCE or pixels >= PIXELS_AT_ONCE or len(waiting) >= FRAMES_AT_ONCE
        if is_full or is_last:
            yield _Batch(planned, waiting, is_last, is_shown)
            waiting, faces, pixels = [], 0, 0


def _frames_of(planned: Planned, frames: Iterator[Frame], path: Path) -> Iterator[Frame]:
    for pts in planned.pts:
        frame = next(frames, None)
        if frame is None or frame.pts != pts:
            raise MediaError(f"{path} does not show what was extracted from it; run: python cli.py extract --again …")
        yield frame


class _Segments:
    """Writes frames into one segment after another; a segment that is whole gets its name."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._writer: SegmentWriter | None = None
        self._final = Path()
        self._closer = ThreadPoolExecutor(1)
        self._closing: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._writer is not None:
                self._writer.abandon()
                self._part.unlink(missing_ok=True)
            if self._closing is not None and error is None:
                result_of(self._closing)
        finally:
            self._closer.shutdown()

    @property
    def _part(self) -> Path:
        return self._final.with_name(f"part_{self._final.name}")

    def write(self, segment: Planned, frame: VideoFrame) -> None:
        """Encode the next frame of a segment."""
        if self._writer is None:
            self._final = self._work.path(segment)
            work = self._work
            self._writer = SegmentWriter(self._part, work.reader.info, work.made, work.encoding, segment.pts)
        self._writer.write(frame)

    def end(self) -> None:
        """End the segment, while the next may begin; two are never being ended at once."""
        if self._closing is not None:
            result_of(self._closing)
        assert self._writer is not None
        writer, self._writer = self._writer, None
        self._closing = self._closer.submit(_close, writer, self._part, self._final)


def _close(writer: SegmentWriter, part: Path, final: Path) -> None:
    try:
        writer.close()
        if not writer.is_whole(part):
            raise MediaError(f"ffmpeg did not encode all frames of {part}: type the same command again")
        keep(part, final)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
