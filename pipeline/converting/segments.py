"""Segments of a result: rendered, kept until the result is complete, and reused by the next run after a stop.

One thread decodes. Up to four threads draw batches of faces, which is faster than all cores on one batch. As many paste
the faces, some frames later, because smoothing looks ahead. The calling thread passes frames to ffmpeg, which encodes
in its own process. One more thread waits for ffmpeg to finish a segment while the next is under way.
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

from pipeline.console import Bar, Console
from pipeline.converting.compose import FaceSwap, compose, draw_faces
from pipeline.converting.smoothing import DrawnBatch, smooth_stats
from pipeline.converting.swapper import Swapper
from pipeline.converting.timeline import PlannedSegment, Swaps, Timeline
from pipeline.errors import MediaError, UsageError, WorkspaceError
from pipeline.faces.footage import fingerprint
from pipeline.media.canvas import Canvas, PixelFormat
from pipeline.media.mux import Part, Segment, choose_streams, inspect_segment, join
from pipeline.media.playback import decode_playback
from pipeline.media.reader import Frame, VideoReader
from pipeline.media.writer import Encoding, SegmentWriter, build_encode_command
from pipeline.options import Look, ResultView
from pipeline.runtime import map_in_threads, prefetched, wait_for
from pipeline.workspace import atomic_path, cannot_write, locked

SEGMENT_S = 3.0  # of work; with frames still being drawn and encoded, a stop costs at most about 5 s
FIRST_SEGMENT_FRAMES, FIRST_SEGMENT_PIXELS = 24, 50_000_000  # of the first segment
MIN_SEGMENT, MAX_SEGMENT = 12, 250  # frames; each starts with a key frame, and encoders set one every 250 anyway
BATCH_FACES, BATCH_FRAMES = 16, 32
BATCH_PIXELS = 16_000_000  # of all frames of a batch: 48 MB with derived data; about eight batches are in memory
WORKING_PIXELS = 64_000_000  # of all frames drawn at once
MAX_WORKERS = 4  # threads that draw; more would wait for the encoder
DRAWING_VERSION = 7  # raise it whenever drawing changes: segments of different versions must not be joined
TRIAL_SOUND_S = Fraction(1, 10)  # of the original's sound in the trial
SEGMENT_NAME = re.compile(r"(\d{8,})-(\d+)_[0-9a-f]{16}\.nut")  # first frame, frame count, hash of the settings
DISK_ERRORS = tuple(map(os.strerror, (errno.ENOSPC, errno.EIO, errno.EROFS, errno.EACCES)))
"""ffmpeg's messages for errors of the disk, not of the encoder."""


@dataclass(frozen=True)
class RenderJob:
    """What is rendered, and how; ``folder`` is where segments are kept."""

    timeline: Timeline
    reader: VideoReader
    swapper: Swapper
    look: Look
    view: ResultView
    encoding: Encoding
    folder: Path

    @cached_property
    def pixels(self) -> PixelFormat:
        """Format of the frames drawn into."""
        return PixelFormat.for_video(self.reader.info)

    @property
    def encoded_pixels(self) -> PixelFormat:
        """Format of the frames of the result."""
        return replace(self.pixels, width=2 * self.pixels.width) if self.view.kind == "beside" else self.pixels

    @cached_property
    def settings(self) -> str:
        """Everything besides frames and faces that decides a segment's content; part of its name's hash."""
        _, *options = build_encode_command(Path(), self.reader.info, self.encoded_pixels, self.encoding)
        networks = self.swapper.fingerprint, self.swapper.finder and self.swapper.finder.fingerprint
        version, video = self.encoding.version, fingerprint(self.reader.path)
        return repr((DRAWING_VERSION, video, networks, self.look, self.view, version, options))

    def path(self, segment: PlannedSegment) -> Path:
        """Path of a finished segment."""
        return self.folder / segment.name(self.settings)

    def inspect(self, path: Path, pts: Sequence[int]) -> Segment | None:
        """Read a segment; None if it is not complete."""
        return inspect_segment(path, pts, self.reader.info.time_base)

    def open_writer(self, path: Path, pts: Sequence[int]) -> SegmentWriter:
        """Start encoding a segment."""
        return SegmentWriter(path, self.reader.info, self.encoded_pixels, self.encoding, pts)


@contextmanager
def segments_folder(final: Path) -> Iterator[Path]:
    """Lock and yield the hidden folder beside a result that holds its segments.

    Finished segments of earlier runs stay, even those of other options: a mistyped option must not destroy finished
    work. The folder is deleted if the block succeeds or no finished segment is in it.

    Raises:
        WorkspaceError: another run works on the same result, the folder cannot be made, or it is a link.
    """
    folder, lock = (final.with_name(f".{final.name}.{ending}") for ending in ("segments", "lock"))
    is_done = False
    with locked(lock, f"another run is converting into {final}: wait until it has ended"):
        try:
            _make_folder(folder)
            try:
                yield folder
                is_done = True
            finally:
                if is_done or not any(SEGMENT_NAME.fullmatch(path.name) for path in folder.glob("*.nut")):
                    _delete_folder(folder)
        finally:
            if os.name != "nt":  # Windows deletes nothing that is open
                lock.unlink(missing_ok=True)  # while it is held: no other process can hold a deleted file


def _make_folder(folder: Path) -> None:
    """Make the folder; delete unfinished files, to which ffmpeg of a killed run may still be writing."""
    try:
        if not folder.is_symlink():
            folder.mkdir(parents=True, exist_ok=True)
        paths = [folder] if folder.is_symlink() else list(folder.iterdir())
    except OSError as error:
        raise cannot_write(folder, error) from error
    for link in filter(Path.is_symlink, paths):
        raise WorkspaceError(f"{link} is a link: files would be written and deleted elsewhere; move it away")
    for path in paths:
        if not SEGMENT_NAME.fullmatch(path.name):
            with suppress(OSError):
                path.unlink()


def _delete_folder(folder: Path) -> None:
    """Delete the files in a folder, then the folder; what cannot be deleted stays."""
    with suppress(OSError):
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


def try_encode(job: RenderJob, final: Path) -> list[str]:
    """Encode and join two black frames, so that what cannot work is reported at the start and not at the end.

    Returns:
        Properties of the original that will be lost or changed, a line each.

    Raises:
        UsageError: the encoder does not work here.
        MediaError: the container cannot hold the result, or the encoder cannot store HDR.
    """
    info, codec = job.reader.info, job.encoding.codec
    notes = [*job.pixels.changes(info), *job.encoding.notes()]
    if info.bit_depth > 8 and job.encoding.bit_depth(job.pixels.name) == 8:
        if info.is_hdr:
            raise MediaError(f"{info.path} is HDR, and {codec} would store 8 bits: choose --codec libx264 or libx265")
        notes.append(f"{info.bit_depth} bits per colour stored as 8: {codec} has no more")
    if info.is_hdr:
        notes.append("HDR kept; mastering metadata and Dolby Vision layers are not")
    pts = job.timeline.pts(job.timeline.first, 2)
    encoded, joined = job.folder / "trial.nut", job.folder / f"trial{final.suffix}"
    try:
        try:
            with job.open_writer(encoded, pts) as writer:
                for _ in pts:
                    writer.write(job.encoded_pixels.black())
        except MediaError as error:
            if any(words in str(error) for words in DISK_ERRORS):
                raise
            raise UsageError(f"--codec {codec} does not work here with these options: {error}") from error
        segment = _require_whole(job.inspect(encoded, pts), encoded)
        part = Part(pts[0] * info.time_base, pts[-1] * info.time_base + TRIAL_SOUND_S)
        join([segment], joined, info, part)
        if len(decode_playback(joined).frame_times_s) != len(pts):
            raise MediaError(f"{final.suffix} files do not show {info.path} whole: name another kind of file with -o")
    finally:
        for path in (encoded, joined):
            with suppress(OSError):
                path.unlink(missing_ok=True)
    return [*notes, *choose_streams(info, final).notes]


def _require_whole(segment: Segment | None, path: Path) -> Segment:
    if segment is None:
        raise MediaError(f"ffmpeg did not encode all frames of {path}: type the same command again")
    return segment


def find_finished(job: RenderJob) -> dict[int, Segment]:
    """Find reusable segments of earlier runs, by first frame; they do not overlap."""
    finished: dict[int, Segment] = {}
    position = job.timeline.first
    names = filter(None, (SEGMENT_NAME.fullmatch(path.name) for path in job.folder.iterdir()))
    ranges = {(int(name[1]), int(name[1]) + int(name[2])) for name in names}
    for first, end in sorted(ranges, key=lambda frames: (frames[0], -frames[1])):  # of equal starts the longest first
        if position <= first and end <= job.timeline.end:
            planned = job.timeline.segment(first, end - first)
            if segment := job.inspect(job.path(planned), planned.pts):
                finished[first], position = segment, end
    return finished


def render(job: RenderJob, finished: dict[int, Segment], console: Console) -> list[Segment]:
    """Render the frames that are in no finished segment; return all segments in order.

    Raises:
        MediaError: the video is not the extracted one, or ffmpeg fails.
        WorkspaceError: a segment cannot be written.
    """
    segments, position = dict(finished), job.timeline.first
    with console.bar(f"convert {job.reader.path.name}", job.timeline.frame_count, "frame") as bar:
        bar.advance(sum(len(segment.pts) for segment in finished.values()))
        for first in [*sorted(finished), job.timeline.end]:
            if position < first:
                segments |= _render_range(job, position, first, bar)
            if first in finished:
                position = first + len(finished[first].pts)
    return [segments[first] for first in sorted(segments)]


@dataclass(frozen=True)
class _Batch:
    segment: PlannedSegment | None  # None for frames that only serve to smooth their neighbours
    frames: Sequence[Frame]
    swaps: Sequence[Sequence[FaceSwap]]
    is_last: bool


def _render_range(job: RenderJob, first: int, end: int, bar: Bar) -> dict[int, Segment]:
    """Render consecutive frames into segments, which are returned by first frame."""

    def draw(batch: _Batch) -> DrawnBatch[PlannedSegment]:
        canvases = [Canvas(frame.native, job.pixels) for frame in batch.frames]
        faces = draw_faces(canvases, batch.swaps, job.swapper, job.look)
        kept = canvases if batch.segment else []
        return DrawnBatch(batch.segment, batch.frames[0].index, kept, faces, batch.is_last)

    def paste(batch: DrawnBatch[PlannedSegment]) -> tuple[DrawnBatch[PlannedSegment], list[VideoFrame]]:
        frames = zip(batch.canvases, batch.faces, strict=True) if batch.segment else ()
        return batch, [compose(canvas, faces, job.look, job.view).frame for canvas, faces in frames]

    pixels, cores = job.pixels.width * job.pixels.height, os.cpu_count() or 1
    workers = max(1, min(cores, MAX_WORKERS, WORKING_PIXELS // pixels))  # each has a batch in memory
    threads = max(1, cores // workers)  # that libraries may use for each worker

    def limit_torch() -> None:
        torch.set_num_threads(threads)

    sizer = SegmentSizer(pixels)
    with (
        _limited_threads(threads),
        prefetched(_batches(job, first, end, sizer), 1) as batches,
        map_in_threads(draw, batches, workers + 1, limit_torch) as drawn,  # one of them waits for the GIL
        map_in_threads(paste, smooth_stats(drawn), workers, limit_torch) as pasted,
        _SegmentEncoder(job) as encoder,
    ):
        for batch, frames in pasted:
            if batch.segment is None:
                continue
            for frame in frames:
                encoder.write(batch.segment, frame)
                bar.advance()
                sizer.advance()
            if batch.is_last:
                encoder.end_segment()
    return encoder.finished


@contextmanager
def _limited_threads(threads: int) -> Iterator[None]:
    """Limit the threads of torch and OpenCV to one worker's share of the cores."""
    before = torch.get_num_threads(), cv2.getNumThreads()
    cv2.setNumThreads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])


def _batches(job: RenderJob, first: int, end: int, sizer: "SegmentSizer") -> Iterator[_Batch]:
    """Decode frames into batches, including the frames around the range."""
    timeline, (begin, stop) = job.timeline, job.timeline.context(first, end)
    frames = job.reader.frames(begin, timeline.timestamps[begin])
    max_frames = min(BATCH_FRAMES, -(-BATCH_PIXELS // (job.pixels.width * job.pixels.height)))

    def batched(all_pts: Sequence[int], swaps: Swaps, segment: PlannedSegment | None) -> Iterator[_Batch]:
        batch: list[Frame] = []
        batch_swaps: list[tuple[FaceSwap, ...]] = []
        for pts in all_pts:
            frame = next(frames, None)
            if frame is None or frame.pts != pts:
                raise MediaError(
                    f"{job.reader.path} does not show what was extracted from it; run: python cli.py extract --again …"
                )
            batch.append(frame)
            batch_swaps.append(swaps.get(frame.index, ()))
            is_last = pts == all_pts[-1]
            if is_last or sum(map(len, batch_swaps)) >= BATCH_FACES or len(batch) >= max_frames:
                yield _Batch(segment, batch, batch_swaps, is_last)
                batch, batch_swaps = [], []

    yield from batched(timeline.pts(begin, first - begin), timeline.swaps(begin, first), None)
    while first < end:
        segment = timeline.segment(first, sizer.next_length(end - first))
        yield from batched(segment.pts, segment.swaps, segment)
        first += len(segment.pts)
    yield from batched(timeline.pts(end, stop - end), timeline.swaps(end, stop), None)


class SegmentSizer:
    """Chooses the lengths of consecutive segments: a short one first, each next one at most twice as long.

    They grow until each takes about ``SEGMENT_S``, so that a stop costs little on any machine.
    """

    def __init__(self, pixels: int) -> None:
        self._length = _clip_length(min(FIRST_SEGMENT_FRAMES, FIRST_SEGMENT_PIXELS // pixels))
        self._began, self._done = time.monotonic(), 0

    def advance(self) -> None:
        """Count a frame as done."""
        self._done += 1

    def next_length(self, left: int) -> int:
        """Return the length of the next segment, given how many frames are left."""
        length = self._length
        rate = self._done / max(time.monotonic() - self._began, 1e-3)  # since the start, so rather too low
        self._length = _clip_length(min(2 * length, round(rate * SEGMENT_S))) if self._done else length
        return left if left < length + MIN_SEGMENT else length


def _clip_length(frames: int) -> int:
    return max(MIN_SEGMENT, min(MAX_SEGMENT, frames))


class _SegmentEncoder:
    """Encodes frames into one segment after another; a segment gets its name when it is complete and on the disk."""

    def __init__(self, job: RenderJob) -> None:
        self.finished: dict[int, Segment] = {}
        self._job = job
        self._open: tuple[PlannedSegment, Path, SegmentWriter] | None = None
        self._closer = ThreadPoolExecutor(1)
        self._closing: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._open is not None:
                _, part, writer = self._open
                writer.abandon()
                part.unlink(missing_ok=True)
            if self._closing is not None and error is None:
                wait_for(self._closing)
        finally:
            self._closer.shutdown()

    def write(self, segment: PlannedSegment, frame: VideoFrame) -> None:
        if self._open is None:
            part = self._job.folder / f"part_{segment.first}.nut"
            self._open = segment, part, self._job.open_writer(part, segment.pts)
        self._open[-1].write(frame)

    def end_segment(self) -> None:
        """Finish the segment in the background while the next starts; at most one is being finished."""
        if self._closing is not None:
            wait_for(self._closing)
        assert self._open is not None
        self._closing, self._open = self._closer.submit(self._close, *self._open), None

    def _close(self, segment: PlannedSegment, part: Path, writer: SegmentWriter) -> None:
        final = self._job.path(segment)
        try:
            writer.close()
            finished = _require_whole(self._job.inspect(part, segment.pts), part)
            with atomic_path(final) as temporary:
                part.replace(temporary)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        self.finished[segment.first] = replace(finished, path=final)
