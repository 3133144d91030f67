"""Footage: videos and sets of still pictures, their names in the workspace, their fingerprints and their frames.

A file is recognised by its content, whatever its folder and name. It is hashed once: the store remembers path, size,
times and inode, and a file with the same values is taken as unchanged.
"""

import hashlib
import shutil
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, count, islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.console import join_words, plural
from pipeline.errors import MediaError, WorkspaceError
from pipeline.faces.people import crop_name
from pipeline.faces.store import FaceStore
from pipeline.faces.tracking import KEY_FRAME_INTERVAL
from pipeline.media.pictures import read_picture
from pipeline.media.probe import is_picture, require_file
from pipeline.media.reader import VideoReader
from pipeline.types import Image
from pipeline.workspace import Workspace, list_pictures, locked, name_from_file, numbered_name

MAX_GROUP_PIXELS = 17_000_000  # 3 bytes each; about seven groups are in memory
MIN_GROUP, MAX_GROUP = 4, 64  # frames tracked together, 100 MB at 4K; a stop loses at most one group
MIN_GROUP_PIXELS = 140_000_000  # where MIN_GROUP frames have more, fewer are tracked together: two of 8192 x 8192
MAX_BUFFERED_PIXELS = 260_000_000  # 3 bytes each, of frames that are read and not recorded yet: about what 4K can use
GROUPS_AT_ONCE = 2  # whose faces are detected at the same time; detection takes longest
SIGNATURE_PX = 32  # side of the small grey picture by which cuts are detected
CUT_LEVELS = 20.0  # mean change of the signature, of 255, at a cut; in five clips cuts: 26 … 145, the rest: up to 13

Signature = npt.NDArray[np.uint8]
"""(32, 32) grey."""


def name_footage(workspace: Workspace, path: Path, pictures: Sequence[Path] | None = None) -> str:
    """Return the name that footage has in the workspace; new footage is named after its path.

    Args:
        workspace: searched by content.
        path: a video, a picture or a folder of pictures.
        pictures: of the set, if they are not simply what the path names.
    """
    pictures = pictures_at(path) if pictures is None else pictures
    if pictures is not None and not pictures:
        raise MediaError(f"no picture in {path}: name a folder that holds some, or a video")
    base = name_from_file(path)
    for store_path in sorted(workspace.stores(), key=lambda other: other.parent.name != base):
        with FaceStore(store_path) as store:
            if is_same_file(store, path) if pictures is None else _is_same_set(store, pictures):
                return store_path.parent.name
    names = chain([base], (numbered_name(base, number) for number in count(2)))
    return next(name for name in names if _is_free(workspace.store(name)))


def _is_free(store_path: Path) -> bool:
    if not store_path.is_file():
        return True
    with FaceStore(store_path) as store:
        return store.fact("fingerprint") is None  # left empty by a killed run


def result_name(workspace: Workspace, path: Path) -> str:
    """Return the name for results of footage; a single picture of an extracted folder keeps its own name."""
    name = name_footage(workspace, path)
    if pictures_at(path) is None or path.is_dir() or not workspace.store(name).is_file():
        return name
    with FaceStore(workspace.store(name)) as store:
        return name if len(store.pictures()) == 1 else name_from_file(path)


def is_same_file(store: FaceStore, path: Path) -> bool:
    """Return whether a store belongs to a video file."""
    recorded: str | None = store.fact("fingerprint")
    if recorded is None or store.fact("pictures") is not None or not path.is_file():
        return False
    has_same_size = recorded.split("-")[0] == str(path.stat().st_size)  # a file of another size need not be read
    return bool(store.fact("file") == file_facts(path)) or (has_same_size and fingerprint(path) == recorded)


def _is_same_set(store: FaceStore, pictures: Sequence[Path]) -> bool:
    """Return whether a store belongs to these pictures; half of either set must match, as pictures come and go."""
    recorded = len(store.pictures())
    matching = sum(frame is not None for frame in recorded_frames(store, pictures))
    return recorded > 0 and 2 * matching >= min(recorded, len(pictures))


def recorded_frames(store: FaceStore, pictures: Sequence[Path]) -> list[int | None]:
    """Return each picture's frame in the store, found by content; None if the picture is new."""
    recorded = store.pictures()
    frames_by_fingerprint: dict[str, list[int]] = defaultdict(list)
    for frame, (_, recorded_fingerprint) in enumerate(recorded):
        frames_by_fingerprint[recorded_fingerprint].append(frame)
    sizes = {key.split("-")[0] for key in frames_by_fingerprint}  # a file of another size need not be read
    found: list[int | None] = []
    for picture in pictures:
        same = frames_by_fingerprint[picture_fingerprint(picture)] if _size_of(picture) in sizes else []
        match = next((frame for frame in same if recorded[frame][0] == picture.name), same[0] if same else None)
        if match is not None and len(same) > 1:
            same.remove(match)  # the same picture twice is two frames
        found.append(match)
    return found


def _size_of(picture: Path) -> str:
    try:
        return str(picture.stat().st_size)
    except OSError:
        return "unreadable"


def pictures_at(path: Path) -> list[Path] | None:
    """Return the pictures that a path names, a single one or a folder's; None if it names a video."""
    try:
        if path.is_dir():
            return list_pictures(path)
    except OSError as error:
        raise MediaError(f"cannot read {path}: {error.strerror or error}") from error
    return [path] if is_picture(path) else None


def fingerprint(path: Path) -> str:
    """Return the length and SHA-256 of a file as text; an unchanged file is read only once."""
    require_file(path)
    return _hash(path, *file_facts(path).values())


@lru_cache(maxsize=10_000)
def _hash(path: Path, *_: Any) -> str:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return f"{file.tell()}-{digest}"


def picture_fingerprint(picture: Path) -> str:
    """Return the fingerprint of a picture; an unreadable one gets a substitute, so that the rest of its set counts."""
    try:
        return fingerprint(picture)
    except (MediaError, OSError):
        return f"unreadable-{picture.name}"


def file_facts(path: Path) -> dict[str, Any]:
    """Return values, for JSON, that change when the file does."""
    stat = path.stat()
    times = {"mtime_ns": stat.st_mtime_ns, "ctime_ns": stat.st_ctime_ns}
    return {"path": str(path.resolve()), "size": stat.st_size, "inode": stat.st_ino, **times}


def forget_video(workspace: Workspace, video: str) -> None:
    """Delete the store of a video, and its crops in all people's folders that are not links."""
    if not workspace.store(video).is_file():
        return
    with FaceStore(workspace.store(video)) as store:  # other names in a store are not ours to delete
        crops = {crop_name(video, label.frame, label.track) for label in store.each_label() if label.crop}
    data = workspace.data.resolve()
    folders = [folder for folder in data.glob("*") if folder.is_dir() and folder.resolve() == folder]
    try:
        for crop in crops:
            for folder in folders:
                (folder / crop).unlink(missing_ok=True)
        shutil.rmtree(workspace.store(video).parent)
    except OSError as error:
        raise WorkspaceError(f"cannot delete {error.filename}: {error.strerror}; close what uses it") from error


def lock_video(workspace: Workspace, video: str) -> AbstractContextManager[None]:
    """Lock a video against other runs for the duration of the block."""
    return locked(workspace.videos / f"{video}.lock", f"another run is extracting {video!r}: wait until it has ended")


def is_footage_extracted(workspace: Workspace, path: Path) -> bool:
    """Return whether all frames of a video, or all pictures that a path names, were searched for faces."""
    store_path, pictures = workspace.store(name_footage(workspace, path)), pictures_at(path)
    if not store_path.is_file():
        return False
    with FaceStore(store_path) as store:
        return bool(store.fact("finished")) and (pictures is None or None not in recorded_frames(store, pictures))


@dataclass(frozen=True)
class FootageFrame:
    """One frame, by its index in display order.

    Attributes:
        pts: timestamp in units of the video's time base; for a still picture its index.
        image: (H, W, 3) BGR.
        is_cut: whether it begins a new shot.
    """

    index: int
    pts: int
    image: Image
    is_cut: bool

    @property
    def pixels(self) -> int:
        """Size of the image."""
        return int(self.image.shape[0]) * int(self.image.shape[1])


class VideoFootage:
    """A video, from an open reader."""

    pictures = None

    def __init__(self, reader: VideoReader) -> None:
        self._reader, self.path, self.frames_claimed = reader, reader.path, reader.info.frames_claimed
        pixels = reader.info.width * reader.info.height
        self.group_size = group_size(pixels)
        self.groups_at_once = groups_at_once(self.group_size, pixels)

    def facts(self) -> dict[str, Any]:
        """Return what the store records of it, as JSON values."""
        path, info = self.path, self._reader.info.facts()
        return {"info": info, "fingerprint": fingerprint(path), "file": file_facts(path), "source": str(path.resolve())}

    def resume(self, store: FaceStore) -> bool:
        """Return whether there are new frames; a video never has any."""
        return False

    def frames(self, first: int) -> Iterator[FootageFrame]:
        """Decode the frames from one on."""
        before = None
        for frame in islice(self._reader, max(first - 1, 0), None):  # one more, to see whether there is a cut
            signature = frame_signature(frame.image)
            if frame.index >= first:
                yield FootageFrame(frame.index, frame.pts, frame.image, before is None or is_cut(before, signature))
            before = signature

    def lost(self, frames: int) -> str | None:
        """Describe what could not be decoded, given the number of decoded frames; None if nothing is missing."""
        losses, claimed = list[str](), self.frames_claimed - self._reader.hidden
        if frames < 0.9 * claimed:  # headers are often a little wrong
            losses.append(f"{frames} of the {claimed} frames its header names are there")
        if self._reader.damaged:
            losses.append(f"{plural(self._reader.damaged, 'frame')} damaged or missing")
        return "; ".join(losses) or None


class PictureFootage:
    """Still pictures of a folder, each a shot of its own."""

    group_size = 1  # each has its own size
    groups_at_once = GROUPS_AT_ONCE

    def __init__(self, path: Path, pictures: Sequence[Path]) -> None:
        if not pictures:
            raise MediaError(f"no picture in {path}: name a folder that holds some, or a video")
        self.path, self.pictures, self.frames_claimed = path, list(pictures), len(pictures)
        self._by_frame: list[Path | None] = list(pictures)
        self._recorded = [(picture.name, picture_fingerprint(picture)) for picture in pictures]
        self._source = str(path.resolve())
        self._unreadable: list[str] = []

    def facts(self) -> dict[str, Any]:
        """Return what the store records of it, as JSON values; pictures that are gone keep their frames."""
        names, fingerprints = map(list, zip(*self._recorded, strict=True))
        return {"fingerprint": "pictures", "pictures": names, "picture_marks": fingerprints, "source": self._source}

    def resume(self, store: FaceStore) -> bool:
        """Keep the frames of recorded pictures and append new ones; return whether there are new ones."""
        recorded, frames = store.pictures(), recorded_frames(store, self.pictures)
        pictures = {frame: picture for frame, picture in zip(frames, self.pictures, strict=True) if frame is not None}
        new = [index for index, frame in enumerate(frames) if frame is None]
        if len(self.pictures) < len(recorded):
            self._source = store.fact("source") or self._source
        self._by_frame = [*map(pictures.get, range(len(recorded))), *(self.pictures[index] for index in new)]
        self._recorded = [*recorded, *(self._recorded[index] for index in new)]
        self.frames_claimed = len(self._by_frame)
        return bool(new)

    def frames(self, first: int) -> Iterator[FootageFrame]:
        """Read the pictures from one on; unreadable ones are left out."""
        for index, path in enumerate(self._by_frame[first:], first):
            if path is None:
                continue
            try:
                yield FootageFrame(index, index, read_picture(path), is_cut=True)
            except MediaError:
                self._unreadable.append(path.name)

    def lost(self, frames: int) -> str | None:
        """Say which pictures could not be read; None if all could."""
        if self._unreadable:
            return f"{len(self._unreadable)} of {self.frames_claimed} could not be read: {join_words(self._unreadable)}"
        return None


Footage = VideoFootage | PictureFootage


@contextmanager
def open_footage(path: Path, pictures: Sequence[Path] | None = None) -> Iterator[Footage]:
    """Open a video, a picture, a folder of pictures, or ``pictures`` under the name of a path."""
    pictures = pictures or pictures_at(path)
    if pictures is not None:
        yield PictureFootage(path, pictures)
    else:
        with VideoReader(path) as reader:
            yield VideoFootage(reader)


def frame_signature(image: Image) -> Signature:
    """Make the small grey picture by which cuts are detected."""
    step = max(1, min(image.shape[:2]) // (2 * SIGNATURE_PX))  # some rows and columns are enough
    thinned = image[::step, ::step].copy()
    small = cv2.resize(thinned, (SIGNATURE_PX, SIGNATURE_PX), interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(small, cv2.COLOR_BGR2GRAY).astype(np.uint8)


def is_cut(before: Signature, after: Signature) -> bool:
    """Return whether there is a cut between two frames."""
    return float(cv2.absdiff(before, after).mean()) > CUT_LEVELS


def group_size(pixels: int) -> int:
    """Return how many frames are tracked together: whole key frame intervals if memory allows."""
    size = min(MAX_GROUP_PIXELS // pixels, MAX_GROUP)
    smallest = max(1, min(MIN_GROUP, MIN_GROUP_PIXELS // pixels))
    return size - size % KEY_FRAME_INTERVAL if size >= KEY_FRAME_INTERVAL else max(size, smallest)


def groups_at_once(group: int, pixels: int) -> int:
    """Return how many groups are detected at the same time: one if frames are huge."""
    return max(1, min(GROUPS_AT_ONCE, MAX_BUFFERED_PIXELS // (2 * group * pixels)))


class FrameBudget:
    """Limits the pixels of frames that are read but not recorded yet, over all queues.

    Args:
        needed: frames that the pipeline needs to make progress; this many are admitted whatever their size.
    """

    def __init__(self, needed: int) -> None:
        self._needed, self._frames, self._next, self.pixels = needed, 0, 0, 0
        self._changed, self._is_closed = threading.Condition(), False

    def admit(self, frames: Iterator[FootageFrame]) -> Iterator[FootageFrame]:
        """Yield each frame, once there is room for one as large as the one before it."""
        for frame in frames:
            with self._changed:
                self._frames, self.pixels, self._next = self._frames + 1, self.pixels + frame.pixels, frame.pixels
            yield frame
            with self._changed:
                self._changed.wait_for(self._has_room)

    def _has_room(self) -> bool:
        return self._is_closed or self._frames < self._needed or self.pixels + self._next <= MAX_BUFFERED_PIXELS

    def release(self, frames: Sequence[FootageFrame]) -> None:
        """Make room: these frames are recorded."""
        with self._changed:
            self._frames, self.pixels = self._frames - len(frames), self.pixels - sum(f.pixels for f in frames)
            self._changed.notify_all()

    def close(self) -> None:
        """Stop waiting, so that the thread that reads frames can end."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
