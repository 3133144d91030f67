"""Stage 1: find the faces of videos, write aligned crops into a folder per person, remember everything found."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path

import cv2
import torch

from pipeline.arrays import Image
from pipeline.errors import MediaError, NothingToDoError, RecastError, WorkspaceError
from pipeline.faces.alignment import align, cut_crop, scale_crop
from pipeline.faces.detection import Detector, Face
from pipeline.faces.people import crop_name
from pipeline.faces.scanning import KEY_EVERY, Follower, Group, is_cut, look, thumbnail
from pipeline.faces.store import FaceStore, StoredFace, StoredFrame
from pipeline.faces.videos import delete_crops, fingerprint, forget_video, name_video
from pipeline.media.probe import VideoInfo
from pipeline.media.reader import VideoReader
from pipeline.options import ExtractOptions
from pipeline.prefetch import prefetched
from pipeline.progress import Console
from pipeline.workspace import Workspace, write_bytes

GROUP_PIXELS = 17_000_000  # of frames followed together, 3 bytes each; some five groups are in memory
SMALLEST_GROUP, LARGEST_GROUP = 4, 64  # frames, 100 MB at 4K; also what a stop can lose
READ_AHEAD = 4  # frames
SHORTEST_TRACK = 3  # frames; what is seen for fewer, in a shot that is longer, is no face
JPEG = [cv2.IMWRITE_JPEG_QUALITY, 98, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]


@dataclass(frozen=True)
class Extracted:
    """What became of one video."""

    path: Path
    video: str
    person: str
    frames: int
    frames_with_faces: int
    faces: int
    before: str | None
    """The options of the earlier run that did it; None where this one did."""
    lost: str | None
    """What could not be decoded, in words; None where all could."""


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
    """Extract every video named; one that cannot be read is reported and does not stop the others."""
    report = ExtractReport(Workspace(options.workspace).data)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    detector = Detector(options.min_face, options.min_confidence, device)
    for path in options.videos:
        try:
            report.done.append(extract_video(path, options, detector, console))
        except (MediaError, NothingToDoError) as error:
            report.failed.append(error)
    return report


def extract_video(path: Path, options: ExtractOptions, detector: Detector, console: Console) -> Extracted:
    """Find the faces of one video and write its crops; goes on where an interrupted run stopped.

    Raises:
        MediaError: the video cannot be read.
        NothingToDoError: it shows no face.
        WorkspaceError: the workspace cannot be written, or the video was extracted with other options.
    """
    workspace = Workspace(options.workspace)
    with VideoReader(path) as reader:
        video = name_video(workspace, path)
        person = options.person or video
        if options.again:
            forget_video(workspace, video)
        with FaceStore(workspace.store(video), create=True) as store:
            if _begin(store, reader.info, options, person):
                _fill(store, reader, _Writer(workspace, video, person, options), detector, console)
                return _outcome(store, video, path, before=None)
            return _outcome(store, video, path, before=_in_words(store.fact("options")))


def _begin(store: FaceStore, info: VideoInfo, options: ExtractOptions, person: str) -> bool:
    """Begin a store, or check that going on with it fits; say whether there is anything left to do."""
    wanted = {name: getattr(options, name) for name in ("every", "size", "min_face", "min_confidence")}
    wanted["person"] = person
    known = store.fact("options")
    if known is None or (store.fact("finished") and store.face_count() == 0):
        store.clear()
        store.record_facts(
            fingerprint=fingerprint(info.path), options=wanted, person=person, finished=False, info=info.facts()
        )
    elif known != wanted and not store.fact("finished"):
        raise WorkspaceError(
            f"{info.path} was begun with {_in_words(known)}: go on with the same, or add --again to start over"
        )
    store.record_facts(source=str(info.path.resolve()))
    return not store.fact("finished")


def _in_words(options: dict[str, object]) -> str:
    return " ".join(f"--{name.replace('_', '-')} {value}" for name, value in options.items())


@dataclass(frozen=True)
class _Shown:
    """One frame to look at, and whether it begins a new shot."""

    index: int
    pts: int
    image: Image
    cut: bool


@dataclass(frozen=True)
class _Writer:
    """Where the crops of one video go."""

    workspace: Workspace
    video: str
    person: str
    options: ExtractOptions

    def write(self, frame: _Shown, face: Face, track: int) -> StoredFace:
        """Write the crop of a face, if its frame's turn it is, and return what the store should know."""
        crop_from_frame = align(face.landmarks)
        name = None
        if frame.index % self.options.every == 0:
            name = crop_name(self.video, frame.index, track)
            size = self.options.size
            crop = cut_crop(frame.image, scale_crop(crop_from_frame, size), size)
            write_bytes(self.path(name), encode_crop(crop))
        return StoredFace(frame.index, track, self.person, name, face, crop_from_frame)

    def path(self, crop: str) -> Path:
        """Where a crop lies."""
        return self.workspace.person(self.person) / crop


def _fill(store: FaceStore, reader: VideoReader, writer: _Writer, detector: Detector, console: Console) -> None:
    """Do the frames not yet recorded: decoding, finding, following and writing overlap, a thread each."""
    first, shot, found = store.frame_count(), store.last_shot(), store.face_count()
    last_seen = {stored.track: stored.face for stored in store.faces(first_frame=first - 1)}
    follower = Follower(detector, last_seen, store.next_track())
    frames = _shown(reader, first)
    beginning = list(islice(frames, 1))  # here, so that passing over what is recorded can be interrupted
    with (
        _shared_cores(),
        console.bar(f"extract {reader.path.name}", reader.info.frames_claimed or None, "frame") as bar,
        prefetched(chain(beginning, frames), READ_AHEAD) as decoded,
        prefetched(_grouped(decoded, detector, _group_size(reader.info)), 1) as groups,
        prefetched(((frames, follower.follow(group)) for frames, group in groups), 1) as followed,
    ):
        bar.advance(first)
        for some_frames, seen in followed:
            recorded, stored = [], []
            for frame, faces in zip(some_frames, seen, strict=True):
                shot += frame.cut
                recorded.append(StoredFrame(frame.index, frame.pts, shot))
                stored += [writer.write(frame, face, track) for track, face in faces.items()]
            store.record(recorded, stored)
            bar.advance(len(some_frames))
            found += len(stored)
            bar.status(f"{found} faces")
    brief = store.brief_faces(SHORTEST_TRACK)
    delete_crops(writer.workspace, {stored.crop for stored in brief if stored.crop})
    store.forget(brief)
    store.record_facts(finished=True, lost=_lost(reader, store.frame_count()))


@contextmanager
def _shared_cores() -> Iterator[None]:
    """Two threads run networks at once: give each half of the cores."""
    all_of_them = torch.get_num_threads()
    torch.set_num_threads(max(1, all_of_them // 2))
    try:
        yield
    finally:
        torch.set_num_threads(all_of_them)


def _shown(reader: VideoReader, first: int) -> Iterator[_Shown]:
    """Decode the frames from ``first`` on."""
    before = None
    for frame in islice(reader, max(first - 1, 0), None):  # one more, to see whether it was cut
        small = thumbnail(frame.image)
        if frame.index >= first:
            yield _Shown(frame.index, frame.pts, frame.image, before is None or is_cut(before, small))
        before = small


def _group_size(info: VideoInfo) -> int:
    """How many frames are followed together: a whole number of key frames' distances where memory allows."""
    size = min(GROUP_PIXELS // (info.width * info.height), LARGEST_GROUP)
    return size - size % KEY_EVERY if size >= KEY_EVERY else max(size, SMALLEST_GROUP)


def _grouped(shown: Iterator[_Shown], detector: Detector, size: int) -> Iterator[tuple[list[_Shown], Group]]:
    """Take frames in groups of ``size`` and find the faces of their key frames."""
    while frames := list(islice(shown, size)):
        yield frames, look(detector, [frame.image for frame in frames], [frame.cut for frame in frames])


def _lost(reader: VideoReader, frames: int) -> str | None:
    if reader.damaged:
        return f"{reader.damaged} frames were damaged or missing"
    if frames < 0.9 * reader.info.frames_claimed:  # a header may count frames that an edit list hides
        return f"{frames} of the {reader.info.frames_claimed} frames its header names are there"
    return None


def _outcome(store: FaceStore, video: str, path: Path, before: str | None) -> Extracted:
    faces, frames = store.face_count(), store.frame_count()
    if faces == 0:
        raise NothingToDoError(
            f"no face found in the {frames} frames of {path}: is someone's face to be seen? "
            "try --min-confidence 0.8 or --min-face 16"
        )
    person = store.fact("person")
    return Extracted(path, video, person, frames, store.frames_with_faces(), faces, before, store.fact("lost"))


def encode_crop(image: Image) -> bytes:
    """Return a (H, W, 3) BGR picture as the bytes of a JPEG file.

    Quality 98 without chroma subsampling is half a level of 255 off at the model's 64 px, in a sixth of a PNG's time
    and a third of its size (docs/log.md).
    """
    return cv2.imencode(".jpg", image, JPEG)[1].tobytes()


def _line(extracted: Extracted, data: Path) -> str:
    done = f"extracted before ({extracted.before}; --again starts over)" if extracted.before else "extracted"
    lost = f"; {extracted.lost}" if extracted.lost else ""
    return (
        f"{done} {extracted.video}: {extracted.faces} faces in {extracted.frames_with_faces} of {extracted.frames} "
        f"frames{lost}; crops in {data / extracted.person}"
    )
