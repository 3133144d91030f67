"""Stage 3: draw one person's face over another's in videos and pictures, and leave everything else as it was."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.console import Console, Report, format_duration, plural
from pipeline.converting.compose import compose, draw_faces
from pipeline.converting.label import check_label
from pipeline.converting.prepare import Extract, Prepared, prepare
from pipeline.converting.segments import RenderJob, find_finished, render, segments_folder, try_encode
from pipeline.converting.timeline import PictureSet, Timeline
from pipeline.errors import RecastError, UsageError, as_recast_error
from pipeline.faces.footage import name_footage, pictures_at
from pipeline.media.canvas import PictureCanvas
from pipeline.media.mux import check_container, comment_of, cut_comment, join
from pipeline.media.pictures import read_picture, write_picture_like
from pipeline.media.playback import check_result
from pipeline.media.probe import picture_suffix
from pipeline.media.reader import VideoReader
from pipeline.media.writer import Encoding, pixel_formats
from pipeline.options import ConvertOptions, parse_timecode
from pipeline.provenance.marking import Marking, credentials_beside, prepare_marking, view_of
from pipeline.runtime import keep_freed_memory
from pipeline.workspace import PICTURE_SUFFIXES, Workspace, atomic_path, extend_name, write_bytes


@dataclass(frozen=True)
class Converted:
    """One video, picture, or folder of pictures that was converted.

    Attributes:
        output: the result.
        frames: number of frames or pictures, as text.
        faces: number of drawn faces.
        video_s: duration of the video; 0 for pictures.
        seconds: duration of the conversion.
        problems: what could not be done, a line each.
    """

    output: Path
    frames: str
    faces: int
    video_s: float
    seconds: float
    notes: tuple[str, ...]
    problems: tuple[str, ...]


def convert(options: ConvertOptions, extract: Extract, console: Console) -> Report:
    """Convert all named footage; if one of several fails, it is reported and does not stop the rest.

    ``extract`` extracts footage that is not extracted yet.

    Raises:
        RecastError: the only one fails, or nothing can be done at all.
    """
    keep_freed_memory()
    marking = _check(options)
    prepared = prepare(options, extract, console)
    _check_one_name(options, prepared.footage)
    done, failed = list[Converted](), list(prepared.problems)
    for path in prepared.footage:
        convert_one = _convert_video if pictures_at(path) is None else _convert_pictures
        try:
            done.append(convert_one(path, options, prepared, marking, console))
        except (RecastError, OSError, UnicodeError) as error:
            is_only = len(options.videos or prepared.footage) == 1
            if is_only and (not failed or isinstance(error, UsageError)):
                raise
            failed.append(str(as_recast_error(error)))
    lines = list[str]()
    for converted in done:
        pace = converted.seconds / (converted.video_s / 60) if converted.video_s else 0
        speed = f" ({pace:.0f} s per minute of video)" if converted.video_s else ""
        lines.append(
            f"swapped {plural(converted.faces, 'face')} in {converted.frames}, "
            f"{format_duration(converted.seconds)}{speed}: {converted.output}"
        )
        lines += [f"  {note}" for note in converted.notes]
    problems = [problem for converted in done for problem in converted.problems]
    return Report(lines, [*problems, *failed], {"done": done, "failed": failed})


def _check(options: ConvertOptions) -> Marking:
    """Check encoder, marking, label and the result's name before any footage is read."""
    pixel_formats(options.codec)
    marking = prepare_marking(options)
    check_label(marking.view.label)
    output, has_pictures = _output_file(options), any(pictures_at(path) is not None for path in options.videos)
    if output and not has_pictures:
        check_container(output, options.codec)
    _check_one_name(options, options.videos)
    return marking


def _check_one_name(options: ConvertOptions, footage: Sequence[Path]) -> None:
    if len(footage) > 1 and _output_file(options):
        raise UsageError(f"{len(footage)} videos cannot all be {options.output}: name a folder with -o")


def _convert_video(
    path: Path, options: ConvertOptions, prepared: Prepared, marking: Marking, console: Console
) -> Converted:
    """Draw the new faces into every frame that shows the people; after a stop the same command continues."""
    workspace, began = Workspace(options.workspace), time.monotonic()
    video, encoding = name_footage(workspace, path), Encoding(options.codec, options.crf, options.preset)
    start, end = (None if text is None else parse_timecode(text, "") for text in (options.start, options.end))
    with VideoReader(path) as reader:
        timeline = Timeline(workspace, video, reader.info, prepared.people, (start, end))
        part = timeline.part
        span = f"_{timeline.first}-{timeline.end - 1}" if part else ""
        final = _output_file(options) or _default_output(options, video, span, ".mp4")
        if final.exists() and final.samefile(path):
            raise UsageError(f"{final} is the original: name another file with -o")
        notes = [prepared.mask_in_words()]
        with segments_folder(final) as folder:
            job = RenderJob(timeline, reader, prepared.swapper, prepared.look, marking.view, encoding, folder)
            notes += try_encode(job, final)
            notes += ["replaced an earlier result"] if final.exists() else []
            finished = find_finished(job)
            if count := sum(len(segment.pts) for segment in finished.values()):
                console.note(f"continuing: {count} of {timeline.frame_count} frames were done before")
                notes.append(f"{count} of its frames were done in an earlier run")
            segments = render(job, finished, console)
            marking = marking.of(timeline.face_count)
            whole_comment = marking.disclosure.comment(comment_of(path))
            comment = cut_comment(whole_comment, final)
            if comment != whole_comment:
                notes.append(f"the original's comment is cut: {final.suffix} files hold no longer ones")
            with atomic_path(final) as temporary:
                join(segments, temporary, reader.info, part, comment)
                signature = marking.sign(temporary, final, path)
                check_result(temporary, reader.info, [pts for segment in segments for pts in segment.pts], part)
                signature.write_beside(final)
            signature.drop_old(final)
            notes.append(signature.words)
        if reader.damaged:
            notes.append(f"{plural(reader.damaged, 'frame')} of the original damaged or missing")
        if reader.deinterlaced or reader.info.is_interlaced:
            notes.append("interlaced frames were deinterlaced")
    if not timeline.face_count:
        notes.append("nobody to swap is in this part: its frames are as they were")
    frames, seconds = plural(timeline.frame_count, "frame"), time.monotonic() - began
    problems = (timeline.missing,) if timeline.missing else ()
    return Converted(final, frames, timeline.face_count, timeline.duration_s, seconds, tuple(notes), problems)


def _convert_pictures(
    path: Path, options: ConvertOptions, prepared: Prepared, marking: Marking, console: Console
) -> Converted:
    """Draw the new faces into a picture, or into those of a folder; pictures without the people are copied."""
    began = time.monotonic()
    if options.start or options.end:
        raise UsageError(f"--start and --end are for videos, and {path} is none")
    stills = PictureSet(Workspace(options.workspace), path, prepared.people)
    final = _pictures_output(options, path, stills.name)
    notes, signatures, problems, drawn = [prepared.mask_in_words()], set[str](), list[str](), list[int]()
    with console.bar(f"convert {path.name}", len(stills.pictures), "picture") as bar:
        for index, picture in enumerate(stills.pictures):
            output = final / picture.name if path.is_dir() else final
            if output.exists() and output.samefile(picture):
                raise UsageError(f"{output} is the original: name another place with -o")
            swaps = stills.swaps.get(index, ())
            try:
                if swaps or marking.view.kind != "result":
                    canvas = PictureCanvas(read_picture(picture))
                    (faces,) = draw_faces([canvas], [swaps], prepared.swapper, prepared.look)
                    image = compose(canvas, faces, prepared.look, marking.view).image
                    marked = marking.of(len(faces))
                    with atomic_path(output) as temporary:
                        notes += write_picture_like(temporary, image, picture, marked.disclosure)
                        signature = marked.sign(temporary, output, picture)
                        signature.write_beside(output)
                    signature.drop_old(output)
                    signatures.add(signature.words)
                else:
                    write_bytes(output, picture.read_bytes())
                    credentials_beside(output).unlink(missing_ok=True)
            except (RecastError, OSError, UnicodeError) as error:
                if len(stills.pictures) == 1:
                    raise
                problems.append(f"left out {picture}: {as_recast_error(error)}")
            else:
                drawn += [len(swaps)] if swaps else []
            bar.advance()
    notes += sorted(signatures)
    if stills.unreadable and marking.view.kind == "result":
        problems.append(f"{path}: {stills.unreadable}")
        notes.append("pictures that could not be read were copied as they are")
    problems += [stills.missing] if stills.missing else []
    pictures, seconds = plural(len(drawn), "picture"), time.monotonic() - began
    return Converted(final, pictures, sum(drawn), 0, seconds, tuple(notes), tuple(problems))


def _output_file(options: ConvertOptions) -> Path | None:
    """Return -o if it names a file; None if it names a folder for results."""
    return options.output if options.output and options.output.suffix and not options.output.is_dir() else None


def _pictures_output(options: ConvertOptions, path: Path, name: str) -> Path:
    """Return the path of a picture's result, or the folder for those of a folder."""
    output = _output_file(options)
    if output and (path.is_dir() or output.suffix.lower() not in PICTURE_SUFFIXES):
        what = "a folder" if path.is_dir() else f"a name that ends in {', '.join(sorted(PICTURE_SUFFIXES))}"
        raise UsageError(f"cannot write {path} as {output}: give {what} with -o")
    if path.is_dir():
        return options.output or _default_output(options, name, "", "")
    return output or _default_output(options, name, "", picture_suffix(path))


def _default_output(options: ConvertOptions, name: str, span: str, suffix: str) -> Path:
    view = {"mask": "_mask", "beside": "_side_by_side"}.get(view_of(options).kind, "")
    folder = options.output or Workspace(options.workspace).converted
    return folder / f"{extend_name(name, options.swap_name + span + view)}{suffix}"
