"""Stage 3: draw one person's face over another's in videos, and re-encode them with all else as it was."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import torch

from models import checkpoint
from models.checkpoint import Model
from pipeline.blending.look import Look
from pipeline.blending.swap import Swapper
from pipeline.converting.encode import Work, make_segments
from pipeline.converting.film import Film
from pipeline.converting.rehearsal import rehearse
from pipeline.converting.unfinished import drop_halves, segments_folder
from pipeline.errors import MediaError, NothingToDoError, RecastError, UsageError, WorkspaceError
from pipeline.faces.people import crops_in, faces_of_person
from pipeline.faces.store import FaceStore
from pipeline.faces.videos import fingerprint, is_extracted, name_video
from pipeline.media.containers import check_container
from pipeline.media.encoders import Encoding, pixel_formats
from pipeline.media.joining import Segment, join
from pipeline.media.pixels import PixelFormat
from pipeline.media.reader import VideoReader
from pipeline.media.writer import read_segment
from pipeline.memory import keep_freed_memory
from pipeline.moments import parse_moment
from pipeline.options import ConvertOptions, LookOptions
from pipeline.progress import Console
from pipeline.report import counted, in_words, some
from pipeline.workspace import Workspace, atomic_path, lengthened_name, list_people


@dataclass(frozen=True)
class Converted:
    """What became of one video."""

    output: Path
    frames: int
    faces: int
    video_s: float
    seconds: float
    notes: tuple[str, ...]


@dataclass
class ConvertReport:
    """What a convert run did."""

    done: list[Converted] = field(default_factory=list)
    failed: list[RecastError] = field(default_factory=list)

    def lines(self) -> list[str]:
        """What was converted, and where it is."""
        lines = []
        for made in self.done:
            pace = f"{made.seconds / (made.video_s / 60):.0f} s per minute of video" if made.video_s else "one picture"
            lines.append(
                f"swapped {counted(made.faces, 'face')} in {counted(made.frames, 'frame')}, "
                f"{in_words(made.seconds)} ({pace}): {made.output}"
            )
            lines += [f"  {note}" for note in made.notes]
        return lines

    def problems(self) -> list[str]:
        """The videos that could not be converted."""
        return [str(error) for error in self.failed]


@dataclass(frozen=True)
class Plan:
    """What a convert run will do, checked before anything long begins.

    Attributes:
        model: loaded.
        known: files whose faces are recorded.
        unknown: files to extract first.
        name: what extract is to call the main person of those; None where it can find out by itself.
    """

    model: Model
    known: tuple[Path, ...]
    unknown: tuple[Path, ...]
    name: str | None


def plan(options: ConvertOptions) -> Plan:
    """Check a convert command against the workspace.

    Raises:
        UsageError: the options do not fit together, or there is no such encoder.
        WorkspaceError: there is no such model, or a video has gone.
        NothingToDoError: the model or the workspace does not know a person.
        MediaError: a file is missing.
    """
    workspace, people = Workspace(options.workspace), options.people()
    pixel_formats(options.codec)
    model = checkpoint.load(workspace.model(options.model_name))
    for to_person in people.values():
        if to_person not in model.decoders:
            there = some(sorted(model.decoders))
            raise NothingToDoError(f"the model {options.model_name!r} cannot draw {to_person!r}; it draws {there}")
    videos = options.videos or _videos_of(workspace, people)
    if options.output is not None and _is_file(options.output):
        if len(videos) > 1:
            raise UsageError(f"{len(videos)} videos cannot all be {options.output}: name a folder with -o")
        check_container(options.output, options.codec)
    for path in videos:
        if not path.is_file():
            raise MediaError(f"{path} is a folder: name the videos in it" if path.is_dir() else f"no such file: {path}")
    known = tuple(path for path in videos if is_extracted(workspace, name_video(workspace, path)))
    unknown = tuple(path for path in videos if path not in known)
    strangers = [person for person in people if not crops_in(workspace.person(person))]
    return Plan(model, known, unknown, strangers[0] if len(people) == len(strangers) == 1 else None)


def convert(options: ConvertOptions, model: Model, videos: Sequence[Path], console: Console) -> ConvertReport:
    """Convert videos that were extracted; of several, one that fails is reported and does not stop the others.

    Raises:
        RecastError: the only one fails.
    """
    keep_freed_memory()
    device = torch.device("cuda" if torch.cuda.is_available() and not options.no_cuda else "cpu")
    for from_person, to_person in options.people().items():
        if model.trained[to_person].samples == 0:
            console.note(f"{to_person!r} is not trained yet in this model: what it draws is noise")
        if from_person not in model.decoders:
            console.note(f"the model has not been trained on {from_person!r}: expressions will be poor")
    swapper = Swapper(model, options.people().values(), device)
    report = ConvertReport()
    for path in videos:
        try:
            report.done.append(convert_video(path, options, swapper, console))
        except RecastError as error:
            if len(options.videos or videos) == 1:
                raise
            report.failed.append(error)
    return report


def convert_video(path: Path, options: ConvertOptions, swapper: Swapper, console: Console) -> Converted:
    """Draw the other faces into every frame that shows the people.

    Finished segments outlive a stop: the same command goes on behind them.

    Raises:
        MediaError: the video cannot be read or written.
        NothingToDoError: the people are not in it.
        UsageError: the result would replace the original, or the encoder or the container cannot do what is asked.
        WorkspaceError: the result cannot be put in its place, or another run is making it.
    """
    workspace, began = Workspace(options.workspace), time.monotonic()
    video = name_video(workspace, path)
    encoding = Encoding(options.codec, options.crf, options.preset)
    with VideoReader(path) as reader:
        film = Film(workspace, video, reader.info, options.people())
        film.cut(*(None if text is None else parse_moment(text, "") for text in (options.start, options.end)))
        final = _output(workspace, options, video, film)
        if final.exists() and final.samefile(path):
            raise UsageError(f"{final} is the original: name another file with -o")
        with segments_folder(final) as folder:
            pixels = PixelFormat.for_video(reader.info)
            work = Work(film, reader, swapper, pixels, encoding, folder, look_of(options))
            names = work.names()
            drop_halves(folder)
            notes = [*rehearse(work, final), *_make(work, names, console)]
            segments = [Segment(folder / name, film.pts(start)) for start, name in names.items()]
            with atomic_path(final) as temporary:
                join(segments, temporary, reader.info, film.part)
        notes += _seen_by(reader)
        if not film.faces:
            notes.append("nobody to swap is in this part: its frames are as they were")
    return Converted(final, film.frames, film.faces, film.seconds, time.monotonic() - began, tuple(notes))


def look_of(options: LookOptions) -> Look:
    """Put together how faces are to look."""
    return Look(
        mask=options.mask,
        erode=options.erode,
        feather=options.feather,
        color=options.color,
        sharpen=options.sharpen,
        match_grain=options.match_grain,
        blend=options.blend,
        opacity=options.opacity,
        scale=options.scale,
    )


def _make(work: Work, names: dict[int, str], console: Console) -> list[str]:
    """Make the segments that are missing; say how many were not."""
    unit = work.reader.info.time_base
    missing = {
        start for start, name in names.items() if not read_segment(work.folder / name, work.film.pts(start), unit)
    }
    there = sum(len(work.film.pts(start)) for start in names if start not in missing)
    if there:
        console.note(f"going on: {there} of {work.film.frames} frames were done before")
    with console.bar(f"convert {work.reader.path.name}", work.film.frames, "frame") as bar:
        bar.advance(there)
        for is_missing, run in groupby(names, key=missing.__contains__):
            if is_missing:
                make_segments(work, {start: names[start] for start in run}, bar)
    return [f"{there} of its frames were done in an earlier run"] if there else []


def _seen_by(reader: VideoReader) -> list[str]:
    notes = []
    if reader.damaged:
        notes.append(f"{reader.damaged} frames of the original were damaged or missing")
    if reader.deinterlaced or reader.info.is_interlaced:
        notes.append("interlaced frames were deinterlaced")
    return notes


def _videos_of(workspace: Workspace, people: Iterable[str]) -> tuple[Path, ...]:
    """Files of the workspace's videos in which one of the people was found."""
    crops = {person: crops_in(workspace.person(person)) for person in people}
    for person, own in crops.items():
        if not own:
            there = some(list_people(workspace.data)) or "nobody yet"
            raise NothingToDoError(
                f"no faces for {person!r} in {workspace.person(person)} (there: {there}); "
                f"run: python cli.py extract VIDEO --person {person}"
            )
    found = []
    for path in workspace.stores():
        with FaceStore(path) as store:
            labels = store.labels() if store.fact("pictures") is None else []
            if any(faces_of_person(labels, own) for own in crops.values()):
                found.append(Path(store.fact("source")))
                if not found[-1].is_file() or fingerprint(found[-1]) != store.fact("fingerprint"):
                    raise WorkspaceError(
                        f"the video {path.parent.name!r} is no longer at {found[-1]}: "
                        "name where it is: python cli.py convert VIDEO --from … --to …"
                    )
    if not found:
        who = " or ".join(map(repr, crops))
        raise NothingToDoError(f"no video of the workspace shows {who}; name one: python cli.py convert VIDEO …")
    return tuple(found)


def _is_file(output: Path) -> bool:
    """Say whether a result's name is that of a file, and not of a folder to put it in."""
    return bool(output.suffix) and not output.is_dir()


def _output(workspace: Workspace, options: ConvertOptions, video: str, film: Film) -> Path:
    if options.output is not None and _is_file(options.output):
        return options.output
    swaps = "".join(f"_{from_person}_to_{to_person}" for from_person, to_person in options.people().items())
    return (options.output or workspace.converted) / f"{lengthened_name(video, swaps + film.part_name)}.mp4"
