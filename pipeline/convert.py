"""Stage 3: draw one person's face over another's in videos, and re-encode them with all else as it was."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from models import checkpoint
from models.checkpoint import Model
from pipeline.arrays import Image, Patch
from pipeline.blending.color import match_color
from pipeline.blending.masks import outline_mask
from pipeline.blending.paste import apply_patch, paste_face
from pipeline.blending.swap import Swapper
from pipeline.errors import MediaError, NothingToDoError, RecastError, UsageError, WorkspaceError
from pipeline.faces.alignment import cut_crop, invert
from pipeline.faces.people import crops_in, faces_of_person
from pipeline.faces.store import FaceStore, StoredFace
from pipeline.faces.videos import fingerprint, is_extracted, name_video
from pipeline.media.reader import Frame, VideoReader
from pipeline.media.writer import Encoding, VideoWriter, not_copied
from pipeline.options import ConvertOptions
from pipeline.progress import Console
from pipeline.report import in_words, some
from pipeline.workspace import Workspace, atomic_path, list_people

FACES_AT_ONCE = 16  # drawn in one batch
PIXELS_WAITING = 32_000_000  # of the frames that wait for their batch to fill: some 100 MB


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
                f"swapped {made.faces} faces in {made.frames} frames, {in_words(made.seconds)} ({pace}): {made.output}"
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
        from_person_is_known: there are faces of the from-person, so that extract can tell who it is.
    """

    model: Model
    known: tuple[Path, ...]
    unknown: tuple[Path, ...]
    from_person_is_known: bool


def plan(options: ConvertOptions) -> Plan:
    """Check a convert command against the workspace.

    Raises:
        UsageError: the options do not fit together.
        WorkspaceError: there is no such model, or a video has gone.
        NothingToDoError: the model or the workspace does not know a person.
        MediaError: a file is missing.
    """
    workspace = Workspace(options.workspace)
    model = checkpoint.load(workspace.model(options.model_name))
    if options.to_person not in model.decoders:
        there = some(sorted(model.decoders))
        raise NothingToDoError(f"the model {options.model_name!r} cannot draw {options.to_person!r}; it draws {there}")
    videos = options.videos or _videos_of(workspace, options.from_person)
    if len(videos) > 1 and options.output and options.output.suffix:
        raise UsageError(f"{len(videos)} videos cannot all be {options.output}: name a folder with -o")
    for path in videos:
        if not path.is_file():
            raise MediaError(f"no such file: {path}")
    known = tuple(path for path in videos if is_extracted(workspace, name_video(workspace, path)))
    unknown = tuple(path for path in videos if path not in known)
    return Plan(model, known, unknown, bool(crops_in(workspace.person(options.from_person))))


def convert(options: ConvertOptions, model: Model, videos: Sequence[Path], console: Console) -> ConvertReport:
    """Convert videos that were extracted; one that fails is reported and does not stop the others."""
    device = torch.device("cuda" if torch.cuda.is_available() and not options.no_cuda else "cpu")
    if model.trained[options.to_person].samples == 0:
        console.note(f"{options.to_person!r} is not trained yet in this model: what it draws is noise")
    if options.from_person not in model.decoders:
        console.note(f"the model has not been trained on {options.from_person!r}: expressions will be poor")
    swapper = Swapper(model, options.to_person, device)
    report = ConvertReport()
    for path in videos:
        try:
            report.done.append(convert_video(path, options, swapper, console))
        except (MediaError, NothingToDoError) as error:
            report.failed.append(error)
    return report


def convert_video(path: Path, options: ConvertOptions, swapper: Swapper, console: Console) -> Converted:
    """Draw the other face into every frame that shows the from-person.

    Raises:
        MediaError: the video cannot be read or written.
        NothingToDoError: the person is not in it.
        UsageError: the result would replace the original, or the encoder is unknown.
        WorkspaceError: the result cannot be put in its place.
    """
    workspace, began = Workspace(options.workspace), time.monotonic()
    video = name_video(workspace, path)
    faces = _faces_by_frame(workspace, video, options.from_person)
    final = _output(workspace, options, video)
    if final.exists() and final.samefile(path):
        raise UsageError(f"{final} is the original: name another file with -o")
    frames = swapped = 0
    encoding = Encoding(options.codec, options.crf, options.preset)
    with (
        VideoReader(path) as reader,
        atomic_path(final) as temporary,
        console.bar(f"convert {path.name}", _length(workspace, video), "frame") as bar,
        VideoWriter(temporary, reader.info, encoding) as writer,
    ):
        for frame, patches in swap_faces(reader, faces, swapper):
            writer.write(frame, patches)
            frames, swapped = frames + 1, swapped + len(patches)
            bar.advance()
    info = reader.info
    notes = tuple(not_copied(final, info))
    if reader.damaged:
        notes += (f"{reader.damaged} frames of the original were damaged or missing",)
    video_s = info.duration_s or frames / float(info.average_rate or 25)
    return Converted(final, frames, swapped, video_s, time.monotonic() - began, notes)


def swap_faces(
    frames: Iterator[Frame] | VideoReader, faces: Mapping[int, Sequence[StoredFace]], swapper: Swapper
) -> Iterator[tuple[Frame, list[Patch]]]:
    """Give every frame, in order, with what is to be drawn into it; faces are drawn in batches across frames."""
    waiting: list[Frame] = []
    pixels = count = 0
    for frame in frames:
        waiting.append(frame)
        pixels += frame.native.width * frame.native.height
        count += len(faces.get(frame.index, ()))
        if count >= FACES_AT_ONCE or pixels >= PIXELS_WAITING or count == 0:
            yield from _swapped(waiting, faces, swapper)
            waiting, pixels, count = [], 0, 0
    yield from _swapped(waiting, faces, swapper)


def _swapped(
    frames: Sequence[Frame], faces: Mapping[int, Sequence[StoredFace]], swapper: Swapper
) -> Iterator[tuple[Frame, list[Patch]]]:
    found = [(frame, stored) for frame in frames for stored in faces.get(frame.index, ())]
    originals = [cut_crop(frame.image, stored.crop_from_frame) for frame, stored in found]
    drawn = iter(zip(originals, swapper.swap(originals), strict=True) if found else ())
    for frame in frames:
        patches: list[Patch] = []
        image = frame.image if frame.index in faces else None
        for stored in faces.get(frame.index, ()):
            assert image is not None
            patch = _patch(image, *next(drawn), stored)
            if patch is not None:
                patches.append(patch)
                image = apply_patch(image, patch) if len(faces[frame.index]) > 1 else image
        yield frame, patches


def _patch(image: Image, original: Image, face: Image, stored: StoredFace) -> Patch | None:
    mask = outline_mask()
    core = mask * (mask >= 1)  # where no hair or background is, whoever it is
    return paste_face(image, match_color(face, original, core), mask, invert(stored.crop_from_frame))


def _videos_of(workspace: Workspace, person: str) -> tuple[Path, ...]:
    """Files of the workspace's videos in which a person was found."""
    crops = crops_in(workspace.person(person))
    if not crops:
        there = some(list_people(workspace.data)) or "nobody yet"
        raise NothingToDoError(
            f"no faces for {person!r} in {workspace.person(person)} (there: {there}); "
            f"run: python cli.py extract VIDEO --person {person}"
        )
    found = []
    for path in workspace.stores():
        with FaceStore(path) as store:
            if store.fact("pictures") is None and faces_of_person(store.faces(), crops):
                found.append(Path(store.fact("source")))
                if not found[-1].is_file() or fingerprint(found[-1]) != store.fact("fingerprint"):
                    raise WorkspaceError(
                        f"the video {path.parent.name!r} is no longer at {found[-1]}: "
                        "name where it is: python cli.py convert VIDEO --from … --to …"
                    )
    if not found:
        raise NothingToDoError(f"no video of the workspace shows {person!r}; name one: python cli.py convert VIDEO …")
    return tuple(found)


def _faces_by_frame(workspace: Workspace, video: str, person: str) -> dict[int, list[StoredFace]]:
    with FaceStore(workspace.store(video)) as store:
        faces = faces_of_person(store.faces(), crops_in(workspace.person(person)))
        people = some(list(store.people()))
    if not faces:
        raise NothingToDoError(f"{person!r} is not in the video {video!r}; it shows {people or 'no face'}")
    by_frame: dict[int, list[StoredFace]] = {}
    for stored in faces:
        by_frame.setdefault(stored.frame, []).append(stored)
    return by_frame


def _length(workspace: Workspace, video: str) -> int:
    with FaceStore(workspace.store(video)) as store:
        return store.frame_count()


def _output(workspace: Workspace, options: ConvertOptions, video: str) -> Path:
    name = f"{video}_{options.from_person}_to_{options.to_person}.mp4"
    if options.output is None:
        return workspace.converted / name
    return options.output if options.output.suffix else options.output / name
