"""How long segments are made: so short that a stop costs some seconds of work, on whatever machine this is.

Segments made: frames decoded, faces drawn and put in, frames encoded, all at the same time.

A thread decodes; up to four others draw, which is faster than all cores at one face; as many put the faces in, some
frames later, when it is known what comes behind them; this one hands the frames to ffmpeg, which encodes in a process
of its own; one more waits for ffmpeg to end a segment while the next has begun.

Where a conversion keeps its finished segments until it is done: a hidden folder beside the result.

A conversion tried on two frames before it begins, so that what cannot work is said at once and not at the end.
"""

import errno
import os
import re
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self

import cv2
import torch
from av.video.frame import VideoFrame

from pipeline.console import Bar
from pipeline.converting.compose import NewFace, Swap, new_faces, put_in, put_masks_in
from pipeline.converting.label import draw_label
from pipeline.converting.smoothing import DrawnBatch, smooth_stats
from pipeline.converting.swapper import Swapper
from pipeline.converting.timeline import PlannedSegment, Timeline
from pipeline.errors import MediaError, UsageError, WorkspaceError
from pipeline.faces.footage import fingerprint
from pipeline.media.canvas import Canvas, PixelFormat
from pipeline.media.mux import Part, choose_streams, inspect_segment, join
from pipeline.media.playback import decode_playback
from pipeline.media.reader import Frame, VideoReader
from pipeline.media.writer import Encoding, SegmentWriter, build_encode_command
from pipeline.options import PLAIN_VIEW, Look, ResultView
from pipeline.runtime import map_in_threads, prefetched, wait_for
from pipeline.workspace import flush, locked

SEGMENT_S = 3.0  # of work: with what is still being drawn and encoded, a stop costs at most some five
FIRST, FIRST_PIXELS = 24, 50_000_000  # frames of the first segment, and px of them together
SHORTEST, LONGEST = 12, 250  # frames; each begins with a key frame, and encoders set one every 250 anyway


class Pace:
    """Lengths of consecutive segments: the first is short, each next at most twice as long, up to some seconds of work.

    Args:
        pixels: of a frame.
    """

    def __init__(self, pixels: int) -> None:
        self._length = _within(min(FIRST, FIRST_PIXELS // pixels))
        self._began, self._done = time.monotonic(), 0

    def advance(self, frames: int = 1) -> None:
        """Count frames as done."""
        self._done += frames

    def next_length(self, left: int) -> int:
        """Say how many frames the next segment has, of those that are left."""
        length = self._length
        rate = self._done / max(time.monotonic() - self._began, 1e-3)  # from the very beginning: rather too low
        self._length = _within(min(2 * length, round(rate * SEGMENT_S))) if self._done else length
        return left if left < length + SHORTEST else length


def _within(frames: int) -> int:
    return max(SHORTEST, min(LONGEST, frames))


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

    film: Timeline
    reader: VideoReader
    swapper: Swapper
    pixels: PixelFormat
    encoding: Encoding
    folder: Path
    look: Look
    shown: ResultView = PLAIN_VIEW

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
        return canvas.frame if original is canvas else original.beside(canvas).frame

    @cached_property
    def settings(self) -> str:
        """What decides, besides frames and faces, what is in segments: they have other names where it is another."""
        _, *options = build_encode_command(Path(), self.reader.info, self.made, self.encoding)
        networks, encoder = self.swapper.fingerprint, self.encoding.version
        return repr((DRAWING, fingerprint(self.reader.path), networks, self.look, self.shown, encoder, options))

    def path(self, segment: PlannedSegment) -> Path:
        """Name the file of a finished segment."""
        return self.folder / segment.name(self.settings)


@dataclass(frozen=True)
class _Batch:
    planned: PlannedSegment
    frames: Sequence[Frame]
    is_last: bool
    is_shown: bool

    def swaps(self) -> list[Sequence[Swap]]:
        return [self.planned.swaps.get(frame.index, ()) for frame in self.frames]


def make_segments(work: Work, first: int, end: int, pace: Pace, bar: Bar) -> list[PlannedSegment]:
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

    def draw(batch: _Batch) -> DrawnBatch:
        canvases = [Canvas(frame.native, work.pixels) for frame in batch.frames]
        faces = new_faces(canvases, batch.swaps(), work.swapper, work.look)
        segment = batch.planned if batch.is_shown else None
        return DrawnBatch(segment, batch.frames[0].index, canvases if batch.is_shown else [], faces, batch.is_last)

    def put_together(batch: DrawnBatch) -> tuple[DrawnBatch, list[VideoFrame]]:
        if batch.segment is None:
            return batch, []
        return batch, [work.frame(*parts) for parts in zip(batch.canvases, batch.faces, strict=True)]

    def begin() -> None:
        torch.set_num_threads(_threads(cores))

    cores = _workers(work.pixels.width * work.pixels.height)
    made: list[PlannedSegment] = []
    with (
        _cores_shared(cores),
        prefetched(_batches(work, first, end, pace), 1) as batches,
        map_in_threads(draw, batches, cores + 1, begin) as drawn,  # one waits for its turn with Python
        map_in_threads(put_together, smooth_stats(drawn), cores, begin) as finished,
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
        planned = PlannedSegment(begin, film.pts(begin, stop - begin), film.swaps(begin, stop))
        return _in_batches(work, planned, frames, is_shown=False)

    yield from around(before, first)
    while first < end:
        segment = film.segment(first, pace.next_length(end - first))
        yield from _in_batches(work, segment, frames, is_shown=True)
        first = segment.end
    yield from around(end, behind)


def _in_batches(work: Work, planned: PlannedSegment, frames: Iterator[Frame], *, is_shown: bool) -> Iterator[_Batch]:
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


def _frames_of(planned: PlannedSegment, frames: Iterator[Frame], path: Path) -> Iterator[Frame]:
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
        self._final, self._pts = Path(), tuple[int, ...]()
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
                wait_for(self._closing)
        finally:
            self._closer.shutdown()

    @property
    def _part(self) -> Path:
        return self._final.with_name(f"part_{self._final.name}")

    def write(self, segment: PlannedSegment, frame: VideoFrame) -> None:
        """Encode the next frame of a segment."""
        if self._writer is None:
            self._final, self._pts = self._work.path(segment), segment.pts
            work = self._work
            self._writer = SegmentWriter(self._part, work.reader.info, work.made, work.encoding, segment.pts)
        self._writer.write(frame)

    def end(self) -> None:
        """End the segment, while the next may begin; two are never being ended at once."""
        if self._closing is not None:
            wait_for(self._closing)
        assert self._writer is not None
        writer, self._writer = self._writer, None
        work, pts = self._work, self._pts
        self._closing = self._closer.submit(_close, writer, self._part, self._final, pts, work.reader.info.time_base)


def _close(writer: SegmentWriter, part: Path, final: Path, pts: Sequence[int], time_base: Fraction) -> None:
    try:
        writer.close()
        if inspect_segment(part, pts, time_base) is None:
            raise MediaError(f"ffmpeg did not encode all frames of {part}: type the same command again")
        keep(part, final)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


NAME = re.compile(r"(\d{8,})-(\d+)_[0-9a-f]{16}\.nut")  # first frame, number of frames, hash of all that decides


@contextmanager
def segments_folder(final: Path) -> Iterator[Path]:
    """Keep the folder for the segments of a result while the block runs.

    It is deleted when the block succeeds, or has left nothing to go on from.

    Args:
        final: the result.

    Yields:
        The folder. What an earlier run has left there is still in it.

    Raises:
        WorkspaceError: another run works on the same result, the folder cannot be made, or it leads elsewhere.
    """
    folder, lock = (final.with_name(f".{final.name}.{ending}") for ending in ("segments", "lock"))
    is_done = False
    with locked(lock, f"another run is converting into {final}: wait until it has ended"):
        try:
            _make(folder)
            try:
                yield folder
                is_done = True
            finally:
                if is_done or not any(folder.glob("[0-9]*.nut")):
                    _delete(folder)
        finally:
            if os.name != "nt":  # which deletes nothing that is open
                lock.unlink(missing_ok=True)  # while it is held: nobody else may hold one that is gone


def _make(folder: Path) -> None:
    try:
        if not folder.is_symlink():
            folder.mkdir(parents=True, exist_ok=True)
        links = [folder] if folder.is_symlink() else [path for path in folder.iterdir() if path.is_symlink()]
    except OSError as error:
        raise WorkspaceError(f"cannot write {folder}: {error.strerror}; check the disk and the folder") from error
    if links:
        raise WorkspaceError(
            f"{links[0]} is a link: what is written and deleted there would be elsewhere; move it away"
        )


def _delete(folder: Path) -> None:
    """Delete the files in a folder, then the folder; what cannot be deleted stays."""
    with suppress(OSError):
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


def drop_halves(folder: Path) -> None:
    """Delete what a killed run was writing: what it had started may still write there, and must not into ours.

    Finished segments stay, those of other options too: a mistyped option must not cost what another run has made.
    """
    for path in [*folder.glob("part_*"), *folder.glob("rehearsal*")]:
        with suppress(OSError):
            path.unlink()


def find_segments(folder: Path, film: Timeline, settings: str, unit: Fraction) -> list[PlannedSegment]:
    """Find finished segments to go on from, whatever their lengths.

    Args:
        folder: where they are kept.
        film: what is to be made.
        settings: what else decides what is in them.
        unit: seconds per unit of timestamps.

    Returns:
        Those that would be made now just as they are, without overlaps, in order.
    """
    found: list[PlannedSegment] = []
    at = film.first
    lengths = (tuple(map(int, match.groups())) for path in folder.iterdir() if (match := NAME.fullmatch(path.name)))
    for first, count in sorted(set(lengths), key=lambda length: (length[0], -length[1])):
        if at <= first and first + count <= film.end:
            segment = film.segment(first, count)
            if inspect_segment(folder / segment.name(settings), segment.pts, unit) is not None:
                found.append(segment)
                at = segment.end
    return found


def keep(part: Path, final: Path) -> None:
    """Give a finished segment its name, once all of it is on the disk.

    Raises:
        WorkspaceError: that cannot be done.
    """
    try:
        flush(part)
        part.replace(final)
        flush(final.parent)
    except OSError as error:
        raise WorkspaceError(f"cannot write {final}: {error.strerror}; check the disk and the folder") from error


SOUND_S = Fraction(1, 10)  # of the original that is tried too
DISK_ERRORS = tuple(map(os.strerror, (errno.ENOSPC, errno.EIO, errno.EROFS, errno.EACCES)))
"""Words of ffmpeg's that tell of the disk, and not of the encoder."""


def rehearse(work: Work, final: Path) -> list[str]:
    """Make sure that the encoder and the container can do what is asked.

    Args:
        work: what is to be made.
        final: the result.

    Returns:
        What will not be as in the original, a line each.

    Raises:
        UsageError: the encoder does not work here.
        MediaError: the container cannot hold the result, or the encoder not the original's brightness.
    """
    info, codec = work.reader.info, work.encoding.codec
    notes = [*work.pixels.changes(info), *work.encoding.notes()]
    if info.bit_depth > 8 and work.encoding.bit_depth(work.pixels.name) == 8:
        if info.is_hdr:
            raise MediaError(f"{info.path} is HDR, and {codec} would store 8 bits: choose --codec libx264 or libx265")
        notes.append(f"{info.bit_depth} bits per colour stored as 8: {codec} has no more")
    if info.is_hdr:
        notes.append("HDR kept; mastering metadata and Dolby Vision layers are not")
    file, pts = work.folder / "rehearsal.nut", work.film.pts(work.film.first, 2)
    short = work.folder / f"rehearsal{final.suffix}"
    try:
        _encode(work, file, pts)
        segment = inspect_segment(file, pts, info.time_base)
        if segment is None:
            raise MediaError(f"ffmpeg did not encode all frames of {file}: type the same command again")
        begin, last = (pts[place] * info.time_base for place in (0, -1))
        join([segment], short, info, Part(begin, last + SOUND_S))
        if len(decode_playback(short).frame_times_s) != len(pts):
            raise MediaError(f"{final.suffix} files do not show {info.path} whole: name another kind of file with -o")
    finally:
        for path in (file, short):
            with suppress(OSError):
                path.unlink(missing_ok=True)
    return [*notes, *choose_streams(info, final).notes]


def _encode(work: Work, path: Path, pts: Sequence[int]) -> None:
    try:
        with SegmentWriter(path, work.reader.info, work.made, work.encoding, pts) as writer:
            for _ in pts:
                writer.write(work.made.black())
    except MediaError as error:
        if any(words in str(error) for words in DISK_ERRORS):
            raise
        raise UsageError(f"--codec {work.encoding.codec} does not work here with these options: {error}") from error
