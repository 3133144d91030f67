"""Stage 1: find the faces of videos, write aligned crops into a folder per person, remember everything found."""

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path

from pipeline.console import Console, plural
from pipeline.errors import MediaError, NothingToDoError, RecastError, WorkspaceError, as_recast_error
from pipeline.faces.alignment import align, cut_crop
from pipeline.faces.crops import cut_face, is_whole, missing_files, restore_crops
from pipeline.faces.detection import Detector, ImagePyramid
from pipeline.faces.footage import (
    Footage,
    InFlight,
    PictureFootage,
    Shown,
    VideoFootage,
    forget_video,
    lock_video,
    name_footage,
    pictures_at,
)
from pipeline.faces.identity import embed
from pipeline.faces.people import (
    NamingHint,
    crop_name,
    drop_false_faces,
    identify,
    move_crops_to_people,
    name_by_likeness,
)
from pipeline.faces.store import FaceStore, StoredFace, StoredFrame
from pipeline.faces.tracking import Group, Tracker, look
from pipeline.media.pictures import read_picture
from pipeline.media.probe import is_file, is_picture, require_file
from pipeline.media.reader import VideoReader
from pipeline.options import ExtractOptions
from pipeline.runtime import choose_device, prefetched
from pipeline.types import Embedding, Face
from pipeline.workspace import Workspace, flush_all, list_people, list_pictures, write_bytes

READ_AHEAD = 4  # frames
SHORTEST_TRACK = 3  # frames; what is seen for fewer, in a shot that is longer, is no face


@dataclass(frozen=True)
class Extracted:
    """What became of one video."""

    path: Path
    video: str
    people: dict[str, int]
    """Faces by the person they were taken for, the most first."""
    frames: int
    frames_with_faces: int
    before: str | None
    """The options of the earlier run that did it; None where this one did."""
    lost: str | None
    """What could not be decoded, in words; None where all could."""
    restored: int | None = None
    """Crops that were made again; None where that was not asked."""


@dataclass
class ExtractReport:
    """What an extract run did."""

    data: Path
    done: list[Extracted] = field(default_factory=list)
    failed: list[RecastError] = field(default_factory=list)

    def lines(self) -> list[str]:
        """What was found, and where it is."""
        return [_line(extracted, self.data) for extracted in self.done]

    def problems(self) -> list[str]:
        """The videos that gave nothing."""
        return [str(error) for error in self.failed]


def extract(options: ExtractOptions, console: Console) -> ExtractReport:
    """Extract all that is named; what cannot be read is reported and does not stop the others.

    Raises:
        MediaError: a reference cannot be read.
        NothingToDoError: a reference shows no face.
    """
    report = ExtractReport(Workspace(options.workspace).data)
    threads = max(1, (os.cpu_count() or 1) // 2)  # finding and following run at once
    device = choose_device(no_cuda=options.no_cuda)
    detector = Detector(options.min_face, options.min_confidence, device, threads)
    run = Run(options, detector, tuple(_reference(path, detector) for path in options.reference), console)
    for path, together in _sort_out(options.videos):
        try:
            if together is None and not path.is_dir():
                require_file(path)
            pictures = together or pictures_at(path)
            if pictures is not None:
                report.done.append(extract_footage(PictureFootage(path, pictures), run))
                if lost := report.done[-1].lost:
                    report.failed.append(MediaError(f"{path}: {lost}"))
            else:
                with VideoReader(path) as reader:
                    report.done.append(extract_footage(VideoFootage(reader), run))
        except (RecastError, OSError, UnicodeError) as error:
            report.failed.append(as_recast_error(error))
    return report


def _sort_out(paths: Sequence[Path]) -> list[tuple[Path, list[Path] | None]]:
    """Put pictures named one by one together as one set, of their folder's name; say None for all else."""
    pictures = [path for path in paths if is_file(path) and is_picture(path)]
    together = pictures[0] if len(pictures) == 1 else pictures[0].resolve().parent if pictures else Path()
    sets: list[tuple[Path, list[Path] | None]] = [(together, pictures)] if pictures else []
    others = [path for path in paths if path not in pictures]
    return [*sets, *((path, None) for path in others)]


def _reference(path: Path, detector: Detector) -> Embedding:
    """Say who the largest face of a picture is."""
    image = read_picture(path)
    faces = detector.detect([ImagePyramid(image)])[0]
    if not faces:
        raise NothingToDoError(f"no face found in the reference {path}: take a larger or a frontal picture")
    return embed(cut_crop(image, align(faces[0].landmarks)))


@dataclass(frozen=True)
class Run:
    """What all footage of one extract command shares.

    Attributes:
        options: of the command.
        detector: finds faces.
        references: embeddings of pictures of the main person.
        console: shows how far it is.
    """

    options: ExtractOptions
    detector: Detector
    references: tuple[Embedding, ...]
    console: Console


def extract_footage(footage: Footage, run: Run) -> Extracted:
    """Find the faces of a video or a set of pictures, tell people apart, and put the crops into their folders.

    Goes on where an interrupted run stopped.

    Raises:
        MediaError: it cannot be read.
        NothingToDoError: it shows no face, or nobody who looks like the references.
        WorkspaceError: the workspace cannot be written, or it was begun with other options.
    """
    workspace = Workspace(run.options.workspace)
    video = name_footage(workspace, footage.path, footage.pictures)
    with lock_video(workspace, video):
        return _extract(footage, workspace, video, run)


def _extract(footage: Footage, workspace: Workspace, video: str, run: Run) -> Extracted:
    if run.options.restore:
        return _restore(footage, workspace, video, run)
    if run.options.again:
        forget_video(workspace, video)
    with FaceStore(workspace.store(video), create=True) as store:
        if not _begin(store, footage, run.options):
            return _outcome(store, video, footage.path, before=_in_words(store.fact("options")))
        _mend(store, footage, workspace.pending_crops(video), run)
        if not store.fact("read"):
            _fill(store, footage, _Writer(workspace.pending_crops(video), video, run.options), run)
        if not store.fact("named"):
            store.name_tracks(_names(store, workspace, video, run))
        move_crops_to_people(store, workspace, video)
        store.record_facts(finished=True)
        return _outcome(store, video, footage.path, before=None)


def _mend(store: FaceStore, footage: Footage, waiting: Path, run: Run) -> None:
    """Write crops again that are recorded but were taken from the disk since, by a power cut or by anyone."""
    if not store.face_count():
        return
    placed = _placed_crops(Workspace(run.options.workspace))
    crops = {(label.frame, label.track): Path(label.crop) for label, _ in store.owners() if label.crop}
    paths = {face: placed.get(crop.stem, waiting / crop.name) for face, crop in crops.items()}
    damaged = {face: path for face, path in paths.items() if path.name == crops[face].name and not is_whole(path)}
    with run.console.bar(f"crops of {footage.path.name} again", len(damaged), "crop") as bar:
        restore_crops(store, footage, damaged, bar)


def _restore(footage: Footage, workspace: Workspace, video: str, run: Run) -> Extracted:
    """Write the crops of an extracted video again that went missing, or are damaged, and touch nothing else."""
    with FaceStore(workspace.store(video)) as store:
        footage.resume(store)
        if not store.fact("finished"):
            raise NothingToDoError(f"{footage.path} is not extracted to its end yet: type the same without --restore")
        wanted = missing_files(store, workspace)
        placed = _placed_crops(workspace)
        for label, _ in store.owners():
            path = placed.get(Path(label.crop).stem) if label.crop else None
            if path and path.name == label.crop and not is_whole(path):
                wanted[label.frame, label.track] = path
        with run.console.bar(f"crops of {footage.path.name} again", len(wanted), "crop") as bar:
            count = restore_crops(store, footage, wanted, bar)
        if count < len(wanted):
            raise MediaError(
                f"{plural(len(wanted) - count, 'crop')} of {footage.path} cannot be made again: "
                "their frames can no longer be read"
            )
        people, frames = store.people(), store.frame_count()
        return Extracted(footage.path, video, people, frames, store.frames_with_faces(), None, None, count)


def _placed_crops(workspace: Workspace) -> dict[str, Path]:
    """Say where crops lie that are handed over, by name without suffix."""
    people = list_people(workspace.data)
    return {crop.stem: crop for person in people for crop in list_pictures(workspace.data / person)}


def _begin(store: FaceStore, footage: Footage, options: ExtractOptions) -> bool:
    """Begin a store, or check that going on with it fits; say whether there is anything left to do."""
    wanted = {name: getattr(options, name) for name in ("every", "size", "min_face", "min_confidence")}
    known = store.fact("options")
    if known is None or (store.fact("finished") and store.face_count() == 0):
        store.clear()
        store.record_facts(options=wanted, finished=False, **footage.facts())
        return True
    is_longer = footage.resume(store)
    if known != wanted and (is_longer or not store.fact("finished")):
        raise WorkspaceError(
            f"{footage.path} was begun with {_in_words(known)}: go on with the same, or add --again to start over"
        )
    store.record_facts(**footage.facts(), **(dict.fromkeys(("finished", "read", "named"), False) if is_longer else {}))
    return not store.fact("finished")


def _in_words(options: dict[str, object]) -> str:
    return " ".join(f"--{name.replace('_', '-')} {value}" for name, value in options.items())


@dataclass(frozen=True)
class _Writer:
    """Writes the crops of one video into a folder where they wait until it is known whose they are."""

    folder: Path
    video: str
    options: ExtractOptions

    def write(self, frame: Shown, face: Face, track: int) -> StoredFace:
        """Write the crop of a face, if its frame's turn it is, and return what the store should know."""
        name = None
        if frame.index % self.options.every == 0:
            name = crop_name(self.video, frame.index, track)
            write_bytes(self.folder / name, cut_face(frame.image, face, self.options.size), durable=False)
        return StoredFace(frame.index, track, "", name, face, align(face.landmarks))


def _fill(store: FaceStore, footage: Footage, writer: _Writer, run: Run) -> None:
    """Do the frames not yet recorded: decoding, finding, following and writing overlap, a thread each."""
    first, shot, found = store.next_frame(), store.last_shot(), store.face_count()
    last_seen = {stored.track: stored.face for stored in store.faces(first=first - 1)}
    follower = Tracker(run.detector, last_seen, store.next_track())
    frames = footage.frames(first)
    in_flight = InFlight(footage.at_once * footage.group)
    beginning = list(islice(frames, 1))  # here, so that passing over what is recorded can be interrupted
    with (
        run.console.bar(f"extract {footage.path.name}", footage.frames_claimed or None, "frame") as bar,
        prefetched(in_flight.admit(chain(beginning, frames)), READ_AHEAD) as decoded,
        prefetched(_grouped(decoded, run.detector, footage), 1) as groups,
        prefetched(((shown, follower.follow(group)) for shown, group in groups), 1) as followed,
        closing(in_flight),
    ):
        bar.advance(first)
        for shown, seen in followed:
            recorded, stored = [], []
            for frame, faces in zip(shown, seen, strict=True):
                shot += frame.cut
                recorded.append(StoredFrame(frame.index, frame.pts, shot))
                stored += [writer.write(frame, face, track) for track, face in faces.items()]
            flush_all(writer.folder / face.crop for face in stored if face.crop)
            store.record(recorded, stored)
            in_flight.release(shown)
            bar.advance(len(shown))
            found += len(stored)
            bar.status(f"{found} faces")
    store.record_facts(read=True, lost=footage.lost(store.frame_count()))


def _grouped(shown: Iterator[Shown], detector: Detector, footage: Footage) -> Iterator[tuple[list[Shown], Group]]:
    """Take frames in groups and find the faces of their key frames, in several groups at once."""
    waiting: deque[tuple[list[Shown], Future[Group]]] = deque()
    with ThreadPoolExecutor(footage.at_once) as pool:
        while frames := list(islice(shown, footage.group)):
            images, cuts = [frame.image for frame in frames], [frame.cut for frame in frames]
            waiting.append((frames, pool.submit(look, detector, images, cuts)))
            if len(waiting) == footage.at_once:
                done, group = waiting.popleft()
                yield done, group.result()
        for done, group in waiting:
            yield done, group.result()


def _names(store: FaceStore, workspace: Workspace, video: str, run: Run) -> dict[int, str]:
    """Leave out what was seen too briefly or is no face, and say whose face each track is."""
    store.forget(store.brief_faces(SHORTEST_TRACK))
    drop_false_faces(store, workspace.pending_crops(video))
    if run.options.everyone:
        return dict.fromkeys((stored.track for stored in store.faces() if not stored.person), run.options.everyone)
    identify(store, workspace.pending_crops(video), run.console)
    wish = NamingHint(run.options.person or video, run.options.person is not None, run.references)
    return name_by_likeness(store, workspace, video, wish)


def _outcome(store: FaceStore, video: str, path: Path, before: str | None) -> Extracted:
    frames = store.frame_count()
    people = store.people()
    if not frames:
        raise MediaError(f"nothing in {path} can be read: {store.fact('lost')}")
    if not people:
        raise NothingToDoError(
            f"no face found in the {frames} frames of {path}: is someone's face to be seen? "
            "try --min-confidence 0.8 or --min-face 16"
        )
    return Extracted(path, video, people, frames, store.frames_with_faces(), before, store.fact("lost"))


def _line(extracted: Extracted, data: Path) -> str:
    if extracted.restored is not None:
        return f"{extracted.video}: {plural(extracted.restored, 'crop')} made again in {data}"
    again = "--again starts over, people rename changes a name"
    done = f"extracted before ({extracted.before}; {again})" if extracted.before else "extracted"
    lost = f"; {extracted.lost}" if extracted.lost else ""
    people = extracted.people
    where = f"crops in {data / next(iter(people))}" if len(people) == 1 else f"in {data}: {_each(people)}"
    return (
        f"{done} {extracted.video}: {sum(people.values())} faces in {extracted.frames_with_faces} of "
        f"{extracted.frames} frames{lost}; {where}"
    )


def _each(people: dict[str, int]) -> str:
    return ", ".join(f"{count} {person}" for person, count in people.items())
