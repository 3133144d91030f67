"""Stage 3: draw one person's face over another's in videos and pictures, with all else as it was."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from models.checkpoint import Model
from pipeline.console import Console, format_duration, plural
from pipeline.converting.label import check_label
from pipeline.converting.prepare import look_of, make_swapper
from pipeline.converting.segments import (
    Pace,
    Work,
    drop_halves,
    find_segments,
    make_segments,
    rehearse,
    segments_folder,
)
from pipeline.converting.stills import Stills, draw_still
from pipeline.converting.swapper import Swapper
from pipeline.converting.timeline import Timeline
from pipeline.errors import RecastError, UsageError, as_recast_error
from pipeline.faces.footage import name_footage, pictures_at
from pipeline.media.canvas import PixelFormat
from pipeline.media.mux import Segment, check_container, comment_of, cut_comment, inspect_segment, join
from pipeline.media.pictures import read_picture, write_picture_like
from pipeline.media.playback import check_result
from pipeline.media.probe import picture_suffix
from pipeline.media.reader import VideoReader
from pipeline.media.writer import Encoding, pixel_formats
from pipeline.options import ConvertOptions, parse_timecode
from pipeline.provenance.marking import Marking, credentials_beside, marking_of, shown_of
from pipeline.runtime import keep_freed_memory
from pipeline.workspace import PICTURE_SUFFIXES, Workspace, atomic_path, extend_name, write_bytes


@dataclass(frozen=True)
class Converted:
    """What became of one video, picture, or folder of pictures."""

    output: Path
    frames: str
    faces: int
    video_s: float
    seconds: float
    notes: tuple[str, ...]
    problems: tuple[str, ...] = ()
    """What of it could not be done, faces included that stay as they are because their crops are lost."""


@dataclass
class ConvertReport:
    """What a convert run did."""

    done: list[Converted] = field(default_factory=list)
    failed: list[RecastError] = field(default_factory=list)

    def lines(self) -> list[str]:
        """What was converted, and where it is."""
        lines = []
        for made in self.done:
            pace = f" ({made.seconds / (made.video_s / 60):.0f} s per minute of video)" if made.video_s else ""
            lines.append(
                f"swapped {plural(made.faces, 'face')} in {made.frames}, "
                f"{format_duration(made.seconds)}{pace}: {made.output}"
            )
            lines += [f"  {note}" for note in made.notes]
        return lines

    def problems(self) -> list[str]:
        """The videos, pictures and faces that could not be converted."""
        return [*(problem for made in self.done for problem in made.problems), *map(str, self.failed)]


def check(options: ConvertOptions) -> None:
    """Make sure that the encoder is there and that the result can be written under its name.

    Raises:
        UsageError: it is not, or cannot.
        MediaError: ffmpeg does not run.
        WorkspaceError: there is no place for a certificate.
    """
    pixel_formats(options.codec)
    check_label(marking_of(options).shown.label)
    are_pictures = [pictures_at(path) is not None for path in options.videos]
    if options.output is not None and _is_file(options.output) and not any(are_pictures):
        check_container(options.output, options.codec)
    _check_one_result_each(options, options.videos)


def convert(options: ConvertOptions, model: Model, videos: Sequence[Path], console: Console) -> ConvertReport:
    """Convert videos that were extracted; of several, one that fails is reported and does not stop the others.

    Raises:
        UsageError: all are to become one file.
        RecastError: the only one fails.
    """
    keep_freed_memory()
    _check_one_result_each(options, videos)
    swapper, marking = make_swapper(options, model, console), marking_of(options)
    report = ConvertReport()
    for path in videos:
        try:
            kind = convert_video if pictures_at(path) is None else convert_pictures
            report.done.append(kind(path, options, swapper, marking, console))
        except (RecastError, OSError, UnicodeError) as error:
            if len(options.videos or videos) == 1:
                raise
            report.failed.append(as_recast_error(error))
    return report


def convert_video(
    path: Path, options: ConvertOptions, swapper: Swapper, marking: Marking, console: Console
) -> Converted:
    """Draw the other faces into every frame that shows the people.

    Finished segments outlive a stop: the same command goes on behind them.

    Raises:
        MediaError: the video cannot be read or written.
        NothingToDoError: the people are not in it.
        UsageError: the result would replace the original, or the encoder or the container cannot do what is asked.
        WorkspaceError: the result cannot be put in its place, or another run is making it.
    """
    workspace, began = Workspace(options.workspace), time.monotonic()
    video = name_footage(workspace, path)
    encoding = Encoding(options.codec, options.crf, options.preset)
    with VideoReader(path) as reader:
        film = Timeline(workspace, video, reader.info, options.people())
        film.cut(*(None if text is None else parse_timecode(text, "") for text in (options.start, options.end)))
        final = _output(workspace, options, video, film)
        if final.exists() and final.samefile(path):
            raise UsageError(f"{final} is the original: name another file with -o")
        with segments_folder(final) as folder:
            pixels = PixelFormat.for_video(reader.info)
            work = Work(film, reader, swapper, pixels, encoding, folder, look_of(options), marking.shown)
            drop_halves(folder)
            notes = rehearse(work, final)
            segments = _make(work, notes, console)
            whole_comment = marking.disclosure.comment(comment_of(path))
            comment = cut_comment(whole_comment, final)
            if comment != whole_comment:
                notes.append(f"the original's comment is cut: {final.suffix} files hold no longer ones")
            with atomic_path(final) as temporary:
                join(segments, temporary, reader.info, film.part, comment)
                signature = marking.sign(temporary, final, path)
                check_result(temporary, reader.info, [pts for segment in segments for pts in segment.pts], film.part)
                signature.write_beside(final)
            signature.drop_old(final)
            notes.append(signature.words)
        notes += _seen_by(reader)
        if not film.faces:
            notes.append("nobody to swap is in this part: its frames are as they were")
    frames, seconds = plural(film.frames, "frame"), time.monotonic() - began
    problems = (film.missing,) if film.missing else ()
    return Converted(final, frames, film.faces, film.seconds, seconds, tuple(notes), problems)


def convert_pictures(
    path: Path, options: ConvertOptions, swapper: Swapper, marking: Marking, console: Console
) -> Converted:
    """Draw the other faces into a picture, or into those of a folder; pictures without the people are copied.

    What cannot be read of several is left out, and said.

    Raises:
        MediaError: the only one cannot be read.
        NothingToDoError: the people are in none of them.
        UsageError: a result would replace its original, or what is asked is for videos.
        WorkspaceError: a result cannot be written.
    """
    workspace, began, look = Workspace(options.workspace), time.monotonic(), look_of(options)
    if options.start or options.end:
        raise UsageError(f"--start and --end are for videos, and {path} is none")
    stills = Stills(workspace, path, options.people())
    final, notes = _pictures_output(workspace, options, path, stills.name), list[str]()
    marks, problems, drawn = set[str](), list[str](), list[int]()
    with console.bar(f"convert {path.name}", len(stills.pictures), "picture") as bar:
        for place, picture in enumerate(stills.pictures):
            made = final / picture.name if path.is_dir() else final
            if made.exists() and made.samefile(picture):
                raise UsageError(f"{made} is the original: name another place with -o")
            swaps = stills.swaps.get(place, ())
            try:
                if swaps or marking.shown.kind != "result":
                    image = draw_still(read_picture(picture), swaps, swapper, look, marking.shown)
                    with atomic_path(made) as temporary:
                        notes += write_picture_like(temporary, image, picture, marking.disclosure)
                        signature = marking.sign(temporary, made, picture)
                        signature.write_beside(made)
                    signature.drop_old(made)
                    marks.add(signature.words)
                else:
                    write_bytes(made, picture.read_bytes())
                    credentials_beside(made).unlink(missing_ok=True)
            except (RecastError, OSError, UnicodeError) as error:
                if len(stills.pictures) == 1:
                    raise
                problems.append(f"left out {picture}: {as_recast_error(error)}")
            else:
                drawn += [len(swaps)] if swaps else []
            bar.advance()
    notes += sorted(marks)
    if stills.lost and marking.shown.kind == "result":
        problems.append(f"{path}: {stills.lost}")
        notes.append("pictures that could not be read were copied as they are")
    problems += [stills.missing] if stills.missing else []
    pictures, seconds = plural(len(drawn), "picture"), time.monotonic() - began
    return Converted(final, pictures, sum(drawn), 0, seconds, tuple(notes), tuple(problems))


def _make(work: Work, notes: list[str], console: Console) -> list[Segment]:
    """Make the segments that are missing; note how many frames were not."""
    film, info = work.film, work.reader.info
    segments = find_segments(work.folder, film, work.settings, info.time_base)
    there = sum(len(segment.pts) for segment in segments)
    if there:
        console.note(f"going on: {there} of {film.frames} frames were done before")
        notes.append(f"{there} of its frames were done in an earlier run")
    ends = [film.first, *(segment.end for segment in segments)]
    gaps = zip(ends, [*(segment.first for segment in segments), film.end], strict=True)
    with console.bar(f"convert {work.reader.path.name}", film.frames, "frame") as bar:
        bar.advance(there)
        for first, end in gaps:
            if first < end:
                segments += make_segments(work, first, end, Pace(info.width * info.height), bar)
    segments.sort(key=lambda segment: segment.first)
    finished = [inspect_segment(work.path(segment), segment.pts, info.time_base) for segment in segments]
    return [segment for segment in finished if segment is not None]


def _seen_by(reader: VideoReader) -> list[str]:
    notes = []
    if reader.damaged:
        notes.append(f"{plural(reader.damaged, 'frame')} of the original damaged or missing")
    if reader.deinterlaced or reader.info.is_interlaced:
        notes.append("interlaced frames were deinterlaced")
    return notes


def _check_one_result_each(options: ConvertOptions, videos: Sequence[Path]) -> None:
    if len(videos) > 1 and options.output is not None and _is_file(options.output):
        raise UsageError(f"{len(videos)} videos cannot all be {options.output}: name a folder with -o")


def _is_file(output: Path) -> bool:
    """Say whether a result's name is that of a file, and not of a folder to put it in."""
    return bool(output.suffix) and not output.is_dir()


def _output(workspace: Workspace, options: ConvertOptions, video: str, film: Timeline) -> Path:
    if options.output is not None and _is_file(options.output):
        return options.output
    name = extend_name(video, options.swap_name + film.part_name + _ending(options))
    return (options.output or workspace.converted) / f"{name}.mp4"


def _pictures_output(workspace: Workspace, options: ConvertOptions, path: Path, name: str) -> Path:
    """Say what file a picture's result is, or what folder those of a folder of pictures go into."""
    suffix = "" if path.is_dir() else picture_suffix(path)
    if options.output is not None and _is_file(options.output):
        if path.is_dir() or options.output.suffix.lower() not in PICTURE_SUFFIXES:
            what = "a folder" if path.is_dir() else f"a name that ends in {', '.join(sorted(PICTURE_SUFFIXES))}"
            raise UsageError(f"cannot write {path} as {options.output}: give {what} with -o")
        return options.output
    if options.output is not None and path.is_dir():
        return options.output
    lengthened = extend_name(name, options.swap_name + _ending(options))
    return (options.output or workspace.converted) / f"{lengthened}{suffix}"


def _ending(options: ConvertOptions) -> str:
    return {"mask": "_mask", "beside": "_side_by_side"}.get(shown_of(options).kind, "")
