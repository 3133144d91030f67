"""A conversion tried on two frames before it begins, so that what cannot work is said at once and not at the end."""

import errno
import os
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

from pipeline.converting.encode import Work
from pipeline.errors import MediaError, UsageError
from pipeline.media.containers import choose_streams
from pipeline.media.joining import Made, Part, Segment, join
from pipeline.media.playback import play
from pipeline.media.writer import SegmentWriter

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
    segment = Segment(work.folder / "rehearsal.nut", work.film.pts(work.film.first, 2))
    short = work.folder / f"rehearsal{final.suffix}"
    try:
        _encode(work, segment)
        begin, last = (segment.pts[place] * info.time_base for place in (0, -1))
        join([segment], short, info, Made(Part(begin, last + SOUND_S)))
        if len(play(short).shown_s) != len(segment.pts):
            raise MediaError(f"{final.suffix} files do not show {info.path} whole: name another kind of file with -o")
    finally:
        for path in (segment.path, short):
            with suppress(OSError):
                path.unlink(missing_ok=True)
    return [*notes, *choose_streams(info, final).notes]


def _encode(work: Work, segment: Segment) -> None:
    try:
        with SegmentWriter(segment.path, work.reader.info, work.made, work.encoding, segment.pts) as writer:
            for _ in segment.pts:
                writer.write(work.made.black())
    except MediaError as error:
        if any(words in str(error) for words in DISK_ERRORS):
            raise
        raise UsageError(f"--codec {work.encoding.codec} does not work here with these options: {error}") from error
