"""Stage 1: find faces in footage, write aligned crops into one folder per person, and record all detections."""

import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

from pipeline.console import Console, Report, plural
from pipeline.errors import MediaError, NothingToDoError, RecastError, WorkspaceError, as_recast_error
from pipeline.faces.alignment import align, cut_crop
from pipeline.faces.crops import cut_face, damaged_files, missing_files, restore_crops
from pipeline.faces.detection import Detector, ImagePyramid
from pipeline.faces.footage import (
    Footage,
    FootageFrame,
    FrameBudget,
    forget_video,
    lock_video,
    name_footage,
    open_footage,
)
from pipeline.faces.identity import embed
from pipeline.faces.people import (
    NamingHint,
    crop_name,
    drop_false_faces,
    identify,
    move_crops_to_people,
    name_by_likeness,
    name_from_video,
)
from pipeline.faces.store import FaceStore, StoredFace, StoredFrame
from pipeline.faces.tracking import FrameGroup, Tracker, detect_key_frames
from pipeline.media.pictures import read_picture
from pipeline.media.probe import is_file, is_picture, require_file
from pipeline.names import require_name
from pipeline.options import ExtractOptions
from pipeline.runtime import choose_device, prefetched
from pipeline.types import Embedding
from pipeline.workspace import Workspace, flush_all, list_people, write_bytes

READ_AHEAD = 4  # frames
MIN_TRACK = 3  # frames; a shorter track in a longer shot is a false detection


@dataclass(frozen=True)
class ExtractedFootage:
    """The outcome for one video or set of pictures.

    Attributes:
        people: number of faces by person, the most first.
        before: options of the earlier run that extracted it, as text; None if this run did.
        lost: description of what could not be decoded; None if everything could.
        restored: number of crops written again; None without --restore.
    """

    path: Path
    video: str
    people: dict[str, int]
    frames: int
    frames_with_faces: int
    before: str | None
    lost: str | None
    restored: int | None = None

    def line(self, data: Path) -> str:
        """Describe the outcome in one line; ``data`` is the folder that holds the crops."""
        if self.restored is not None:
            return f"{self.video}: {plural(self.restored, 'crop')} restored in {data}"
        again = "--again starts over, people rename changes a name"
        done = f"extracted before ({self.before}; {again})" if self.before else "extracted"
        lost = f"; {self.lost}" if self.lost else ""
        counts = ", ".join(f"{count} {person}" for person, count in self.people.items())
        where = f"crops in {data / next(iter(self.people))}" if len(self.people) == 1 else f"in {data}: {counts}"
        return (
            f"{done} {self.video}: {plural(sum(self.people.values()), 'face')} in {self.frames_with_faces} of "
            f"{plural(self.frames, 'frame')}{lost}; {where}"
        )


@dataclass(frozen=True)
class Run:
    """Shared by all footage of one command; ``references`` are embeddings of pictures of the main person."""

    options: ExtractOptions
    detector: Detector
    references: tuple[Embedding, ...]
    console: Console


def extract(options: ExtractOptions, console: Console) -> Report:
    """Extract all named footage; what cannot be read is reported and does not stop the rest.

    Raises:
        MediaError: a reference cannot be read.
        NothingToDoError: a reference shows no face.
        UsageError: the name given differs from another person's only in case or Unicode form.
    """
    data = Workspace(options.workspace).data
    people, name = list_people(data), options.person or options.everyone
    if name is not None and name not in people:
        require_name(name, people)
    threads = max(1, (os.cpu_count() or 1) // 2)  # detection and tracking run at once
    device = choose_device(no_cuda=options.no_cuda)
    detector = Detector(options.min_face, options.min_confidence, device, threads)
    run = Run(options, detector, tuple(_embed_reference(path, detector) for path in options.reference), console)
    done, failed = list[ExtractedFootage](), list[RecastError]()
    for path, pictures in _group_pictures(options.videos):
        try:
            if pictures is None and not path.is_dir():
                require_file(path)
            with open_footage(path, pictures) as footage:
                done.append(extract_footage(footage, run))
            if footage.pictures and done[-1].lost:
                failed.append(MediaError(f"{path}: {done[-1].lost}"))
        except (RecastError, OSError, UnicodeError) as error:
            failed.append(as_recast_error(error))
    lines = [extracted.line(data) for extracted in done]
    return Report(lines, list(map(str, failed)), {"data": data, "done": done, "failed": failed})


def _group_pictures(paths: Sequence[Path]) -> list[tuple[Path, list[Path] | None]]:
    """Group pictures named one by one into one set, named after their folder; other paths come with None."""
    pictures = [path for path in paths if is_file(path) and is_picture(path)]
    others: list[tuple[Path, list[Path] | None]] = [(path, None) for path in paths if path not in pictures]
    if not pictures:
        return others
    return [(pictures[0] if len(pictures) == 1 else pictures[0].resolve().parent, pictures), *others]


def _embed_reference(path: Path, detector: Detector) -> Embedding:
    """Compute the embedding of the largest face of a picture."""
    image = read_picture(path)
    faces = detector.detect([ImagePyramid(image)])[0]
    if not faces:
        raise NothingToDoError(f"no face found in the reference {path}: take a larger or a frontal picture")
    return embed(cut_crop(image, align(faces[0].landmarks)))


def extract_footage(footage: Footage, run: Run) -> ExtractedFootage:
    """Find the faces of footage, identify people, and put the crops into their folders.

    Continues where an interrupted run stopped.

    Raises:
        MediaError: it cannot be read.
        NothingToDoError: it shows no face, or nobody who looks like the references.
        WorkspaceError: the workspace cannot be written, or extraction was started with other options.
    """
    options, workspace = run.options, Workspace(run.options.workspace)
    video = name_footage(workspace, footage.path, footage.pictures)
    pending = workspace.pending_crops(video)
    with lock_video(workspace, video):
        if options.restore:
            return _restore(footage, workspace, video, run.console)
        if options.again:
            forget_video(workspace, video)
        with FaceStore(workspace.store(video), create=True) as store:
            if not _begin(store, footage, options):
                return _outcome(store, footage, video, _in_words(store.fact("options")))
            if store.face_count():  # a power cut may have destroyed crops whose faces are recorded
                restore_crops(store, footage, damaged_files(store, workspace, pending), run.console)
            if not store.fact("read"):
                _find_faces(store, footage, video, pending, run)
            if not store.fact("named"):
                store.delete_tracks(store.short_tracks(MIN_TRACK))
                best_frames = drop_false_faces(store, pending)
                store.name_tracks(_name_tracks(store, workspace, video, run, best_frames))
            move_crops_to_people(store, workspace, video)
            store.record_facts(finished=True)
            return _outcome(store, footage, video, None)


def _begin(store: FaceStore, footage: Footage, options: ExtractOptions) -> bool:
    """Start a store, or check that this run can continue it; return whether there is anything left to do."""
    requested = {name: getattr(options, name) for name in ("every", "size", "min_face", "min_confidence")}
    recorded = store.fact("options")
    if recorded is None or (store.fact("finished") and store.face_count() == 0):
        store.clear()
        store.record_facts(options=requested, person=options.person, finished=False, **footage.facts())
        return True
    is_longer = footage.resume(store)
    if recorded != requested and (is_longer or not store.fact("finished")):
        raise WorkspaceError(
            f"{footage.path} was started with {_in_words(recorded)}: continue with these, or start over: --again"
        )
    store.record_facts(**footage.facts(), **(dict.fromkeys(("finished", "read", "named"), False) if is_longer else {}))
    return not store.fact("finished")


def _in_words(options: dict[str, object]) -> str:
    return " ".join(f"--{name.replace('_', '-')} {value}" for name, value in options.items())


def _find_faces(store: FaceStore, footage: Footage, video: str, pending: Path, run: Run) -> None:
    """Process the frames not recorded yet; decoding, detection, tracking and writing each run in a thread."""
    first, shot, found = store.next_frame(), store.last_shot(), store.face_count()
    last_faces = {stored.track: stored.face for stored in store.faces(first=first - 1)}
    tracker = Tracker(run.detector, last_faces, store.next_track())
    frames = footage.frames(first)
    budget = FrameBudget(footage.groups_at_once * footage.group_size)
    first_frame = list(islice(frames, 1))  # in this thread, so that Ctrl-C can interrupt skipping recorded frames
    with (
        run.console.bar(f"extract {footage.path.name}", footage.frames_claimed or None, "frame") as bar,
        prefetched(budget.admit(chain(first_frame, frames)), READ_AHEAD) as decoded,
        prefetched(_detect_groups(decoded, run.detector, footage), 1) as detected,
        prefetched(((group, tracker.track(detections)) for group, detections in detected), 1) as tracked,
        closing(budget),
    ):
        bar.advance(first)
        for group, faces_by_frame in tracked:
            stored_frames, stored_faces = list[StoredFrame](), list[StoredFace]()
            for frame, faces in zip(group, faces_by_frame, strict=True):
                shot += frame.is_cut
                stored_frames.append(StoredFrame(frame.index, frame.pts, shot))
                for track, face in faces.items():
                    crop = crop_name(video, frame.index, track) if frame.index % run.options.every == 0 else None
                    if crop:
                        write_bytes(pending / crop, cut_face(frame.image, face, run.options.size), durable=False)
                    stored_faces.append(StoredFace(frame.index, track, "", crop, face, align(face.landmarks)))
            flush_all(pending / face.crop for face in stored_faces if face.crop)
            store.record(stored_frames, stored_faces)
            budget.release(group)
            bar.advance(len(group))
            found += len(stored_faces)
            bar.status(f"{found} faces")
    store.record_facts(read=True, lost=footage.lost(store.frame_count()))


def _detect_groups(
    frames: Iterator[FootageFrame], detector: Detector, footage: Footage
) -> Iterator[tuple[list[FootageFrame], FrameGroup]]:
    """Group frames and detect the faces of their key frames, several groups at once."""
    running: deque[tuple[list[FootageFrame], Future[FrameGroup]]] = deque()
    with ThreadPoolExecutor(footage.groups_at_once) as pool:
        while group := list(islice(frames, footage.group_size)):
            images, cuts = [frame.image for frame in group], [frame.is_cut for frame in group]
            running.append((group, pool.submit(detect_key_frames, detector, images, cuts)))
            if len(running) == footage.groups_at_once:
                done, detections = running.popleft()
                yield done, detections.result()
        for done, detections in running:
            yield done, detections.result()


def _name_tracks(
    store: FaceStore, workspace: Workspace, video: str, run: Run, best_frames: Mapping[int, Sequence[int]]
) -> dict[int, str]:
    """Choose a person for each unnamed track."""
    options = run.options
    if options.everyone:
        return dict.fromkeys((label.track for label in store.each_label() if not label.person), options.everyone)
    identify(store, best_frames, workspace.pending_crops(video), run.console)
    hint = NamingHint(options.person or name_from_video(video), options.person is not None, run.references)
    return name_by_likeness(store, workspace, video, hint)


def _restore(footage: Footage, workspace: Workspace, video: str, console: Console) -> ExtractedFootage:
    """Write missing or damaged crops of extracted footage again, and change nothing else."""
    with FaceStore(workspace.store(video)) as store:
        footage.resume(store)
        if not store.fact("finished"):
            raise NothingToDoError(f"{footage.path} is not extracted to its end yet: type the same without --restore")
        files = missing_files(store, workspace) | damaged_files(store, workspace)
        count = restore_crops(store, footage, files, console)
        if count < len(files):
            raise MediaError(
                f"{plural(len(files) - count, 'crop')} of {footage.path} cannot be restored: "
                "their frames can no longer be read"
            )
        people, frames = store.people(), store.frame_count()
        return ExtractedFootage(footage.path, video, people, frames, store.frames_with_faces(), None, None, count)


def _outcome(store: FaceStore, footage: Footage, video: str, before: str | None) -> ExtractedFootage:
    people, frames, lost = store.people(), store.frame_count(), store.fact("lost")
    if not frames:
        raise MediaError(f"nothing in {footage.path} can be read: {lost}")
    if not people:
        raise NothingToDoError(
            f"no face found in the {frames} frames of {footage.path}: does it show a face? "
            "try --min-confidence 0.8 or --min-face 16"
        )
    return ExtractedFootage(footage.path, video, people, frames, store.frames_with_faces(), before, lost)
