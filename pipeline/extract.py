"""Stage 1: find the faces of videos, write aligned crops into a folder per person, remember everything found."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import cv2
import torch

from pipeline.arrays import Image
from pipeline.errors import MediaError, NothingToDoError, RecastError, WorkspaceError
from pipeline.faces.alignment import align, cut_crop, scale_crop
from pipeline.faces.detection import Detector, Face
from pipeline.faces.people import crop_name
from pipeline.faces.store import FaceStore, StoredFace
from pipeline.faces.tracking import link
from pipeline.faces.videos import fingerprint, forget_video, name_video
from pipeline.media.probe import VideoInfo
from pipeline.media.reader import Frame, VideoReader
from pipeline.options import ExtractOptions
from pipeline.progress import Console
from pipeline.workspace import Workspace, write_bytes

BATCH_PIXELS = 8_000_000  # frames detected at once: the detector's pyramid needs some 40 bytes per pixel
LARGEST_BATCH = 16  # frames; also what a stop can lose
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
class _Writer:
    """Where the crops of one video go."""

    workspace: Workspace
    video: str
    person: str
    options: ExtractOptions

    def write(self, frame: Frame, face: Face, track: int) -> StoredFace:
        """Write the crop of a face, if its frame's turn it is, and return what the store should know."""
        crop_from_frame = align(face.landmarks)
        name = None
        if frame.index % self.options.every == 0:
            name = crop_name(self.video, frame.index, track)
            size = self.options.size
            crop = cut_crop(frame.image, scale_crop(crop_from_frame, size), size)
            write_bytes(self.workspace.person(self.person) / name, encode_crop(crop))
        return StoredFace(frame.index, track, self.person, name, face, crop_from_frame)


def _fill(store: FaceStore, reader: VideoReader, writer: _Writer, detector: Detector, console: Console) -> None:
    first = store.frame_count()
    last_seen = store.faces(first_frame=first - 1) if first else []
    previous = {stored.track: stored.face.box for stored in last_seen}
    next_track = store.next_track()
    frames_at_once = max(1, min(LARGEST_BATCH, BATCH_PIXELS // (reader.info.width * reader.info.height)))
    found = store.face_count()
    with console.bar(f"extract {reader.path.name}", reader.info.frames_claimed or None, "frame") as bar:
        bar.advance(first)
        for batch in batches(islice(reader, first, None), frames_at_once):
            stored = []
            for frame, faces in zip(batch, detector.detect([frame.image for frame in batch]), strict=True):
                tracks = link([face.box for face in faces], previous, next_track)
                next_track = max([next_track, *(track + 1 for track in tracks)])
                stored += [writer.write(frame, face, track) for face, track in zip(faces, tracks, strict=True)]
                previous = {track: face.box for face, track in zip(faces, tracks, strict=True)}
            store.record([(frame.index, frame.pts) for frame in batch], stored)
            bar.advance(len(batch))
            found += len(stored)
            bar.status(f"{found} faces")
    store.record_facts(finished=True, lost=_lost(reader, store.frame_count()))


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


def batches(frames: Iterable[Frame], size: int) -> Iterator[list[Frame]]:
    """Cut a stream of frames into lists of ``size``; the last may be shorter."""
    iterator = iter(frames)
    while batch := list(islice(iterator, size)):
        yield batch


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
