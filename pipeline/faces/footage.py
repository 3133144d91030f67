"""What extract looks through: a video, or a set of still pictures, as frames in order with the film's cuts.

The videos of a workspace: which file is which.

A file is known by its whole content, wherever it lies and whatever it is called. That is hashed once: the store
remembers path, size, times and inode, and a file of which these are the same has not changed.
"""

import hashlib
import shutil
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from pipeline.console import join_words
from pipeline.errors import MediaError, WorkspaceError
from pipeline.faces.people import crop_name
from pipeline.faces.store import FaceStore
from pipeline.faces.tracking import KEY_EVERY, is_cut, thumbnail
from pipeline.media.pictures import read_picture
from pipeline.media.probe import is_picture, require_file
from pipeline.media.reader import VideoReader
from pipeline.types import Image
from pipeline.workspace import Workspace, list_pictures, locked, name_from_file, numbered_name

ENDS_BYTES = 65536  # of each end of a file; stores of version 2 and before know files by the hash of these
ENDS_DIGITS = 32  # of such a hash; that of a whole file has 64
READ_BYTES = 1 << 20
MOST_NAMESAKES = 10_000


def name_footage(workspace: Workspace, path: Path, pictures: Sequence[Path] | None = None) -> str:
    """Return the name that a video, a picture or a set of pictures has in the workspace, or a free one.

    Args:
        workspace: whose.
        path: a video, a picture or a folder; a new one is named after it.
        pictures: the pictures of the set, where they are not simply what the path names.

    Raises:
        MediaError: the folder has no pictures.
    """
    pictures = pictures_at(path) if pictures is None else list(pictures)
    if pictures == []:
        raise MediaError(f"no picture in {path}: name a folder that holds some, or a video")
    base = name_from_file(path)
    for store_path in sorted(workspace.stores(), key=lambda other: other.parent.name != base):
        with FaceStore(store_path) as store:
            if is_same_file(store, path) if pictures is None else _is_same_set(store, pictures):
                return store_path.parent.name
    for number in range(1, MOST_NAMESAKES):
        name = base if number == 1 else numbered_name(base, number)
        if not workspace.store(name).is_file():
            return name
        with FaceStore(workspace.store(name), write=True) as store:  # a killed run may have left it empty
            if store.fact("fingerprint") is None:
                return name
    raise WorkspaceError(f"too many videos are named {base!r}; rename {path}")


def result_name(workspace: Workspace, path: Path) -> str:
    """Name what is made of a video, a picture or a folder; a single picture of an extracted folder has its own name."""
    name = name_footage(workspace, path)
    if pictures_at(path) is None or path.is_dir() or not workspace.store(name).is_file():
        return name
    with FaceStore(workspace.store(name)) as store:
        return name if len(store.pictures()) == 1 else name_from_file(path)


def is_same_file(store: FaceStore, path: Path) -> bool:
    """Say whether a store is that of a video file."""
    if store.fact("pictures") is not None or not path.is_file():
        return False
    return store.fact("file") == file_facts(path) or has_fingerprint(path, store.fact("fingerprint"))


def _is_same_set(store: FaceStore, pictures: Sequence[Path]) -> bool:
    """Say whether a store is that of these pictures: half of them, or of its own, are enough: some come and go."""
    recorded = store.pictures()
    known = sum(place is not None for place in recorded_frames(store, pictures))
    return bool(recorded) and 2 * known >= min(len(recorded), len(pictures))


def recorded_frames(store: FaceStore, pictures: Sequence[Path]) -> list[int | None]:
    """Say which frame of the store each picture is, by what is in it; None where it is new."""
    names, marks = store.pictures(), store.picture_marks()
    if not names:
        return [None] * len(pictures)
    if not marks:
        return _places_in_old_store(store, pictures)
    places: dict[str, list[int]] = defaultdict(list)
    for place, mark in enumerate(marks):
        places[mark].append(place)
    sizes = {mark.split("-")[0] for mark in marks}  # what has another need not be read
    found: list[int | None] = []
    for picture in pictures:
        mark = picture_mark(picture) if _size(picture) in sizes else ""
        same = places[mark]
        best = next((place for place in same if names[place] == picture.name), same[0] if same else None)
        if best is not None and len(same) > 1:
            same.remove(best)  # the same picture twice is two frames
        found.append(best)
    return found


def _size(picture: Path) -> str:
    try:
        return str(picture.stat().st_size)
    except OSError:
        return "unreadable"


def _places_in_old_store(store: FaceStore, pictures: Sequence[Path]) -> list[int | None]:
    """Recognise the set of a store that knows the names of pictures, and one fingerprint of them all."""
    by_name = {picture.name: picture for picture in pictures}
    names = store.pictures()
    listed = "\n".join(f"{name} {_fingerprint_of_ends(by_name[name])}" for name in names if name in by_name)
    mark = f"pictures-{hashlib.sha256(listed.encode(errors='surrogateescape')).hexdigest()[:ENDS_DIGITS]}"
    if mark != store.fact("fingerprint"):
        return [None] * len(pictures)
    place_of = {name: place for place, name in enumerate(names)}
    return [place_of.get(picture.name) for picture in pictures]


def pictures_at(path: Path) -> list[Path] | None:
    """Pictures that a path names, one or those of a folder; None where it names a video.

    Raises:
        MediaError: the folder cannot be read.
    """
    try:
        if path.is_dir():
            return list_pictures(path)
    except OSError as error:
        raise MediaError(f"cannot read {path}: {error.strerror or error}") from error
    return [path] if is_picture(path) else None


def fingerprint(path: Path) -> str:
    """Tell a file from others by its length and the hash of all its bytes; an unchanged file is read once.

    Raises:
        MediaError: it is no file.
    """
    require_file(path)
    return _fingerprint_of_all(path, *file_facts(path).values())


def picture_mark(picture: Path) -> str:
    """Tell a picture from others of its set; one that cannot be opened must not keep the others from being known."""
    try:
        return fingerprint(picture)
    except (MediaError, OSError):
        return f"unreadable-{picture.name}"


def file_facts(path: Path) -> dict[str, Any]:
    """Say what changes when a file does; JSON values."""
    stat = path.stat()
    times = {"mtime_ns": stat.st_mtime_ns, "ctime_ns": stat.st_ctime_ns}
    return {"path": str(path.resolve()), "size": stat.st_size, "inode": stat.st_ino, **times}


def has_fingerprint(path: Path, mark: str | None) -> bool:
    """Say whether a file has a fingerprint: today's, or one of its ends, as older stores have."""
    if mark is None or mark.split("-")[0] != str(path.stat().st_size):
        return False
    is_old = len(mark.split("-")[-1]) == ENDS_DIGITS
    return (_fingerprint_of_ends(path) if is_old else fingerprint(path)) == mark


@lru_cache(maxsize=10_000)
def _fingerprint_of_all(path: Path, *facts: Any) -> str:
    known, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while part := file.read(READ_BYTES):
            known.update(part)
            size += len(part)
    return f"{size}-{known.hexdigest()}"


def _fingerprint_of_ends(path: Path) -> str:
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(ENDS_BYTES)
        file.seek(max(0, size - ENDS_BYTES))
        return f"{size}-{hashlib.sha256(head + file.read()).hexdigest()[:ENDS_DIGITS]}"


def forget_video(workspace: Workspace, video: str) -> None:
    """Delete what is known of a video, and its crops in whichever person's folder they lie."""
    if not workspace.store(video).is_file():
        return
    with FaceStore(workspace.store(video)) as store:
        crops = {crop_name(video, label.frame, label.track) for label in store.labels() if label.crop}
    delete_crops(workspace, crops)
    try:
        shutil.rmtree(workspace.store(video).parent)
    except OSError as error:
        raise WorkspaceError(f"cannot delete {error.filename}: {error.strerror}; close what uses it") from error


def delete_crops(workspace: Workspace, crops: Iterable[str]) -> None:
    """Delete crops by file name, in whichever person's folder they lie; folders that are links are left alone.

    Raises:
        WorkspaceError: one cannot be deleted.
    """
    data = workspace.data.resolve()
    folders = [folder for folder in data.glob("*") if folder.is_dir() and folder.resolve() == folder]
    for crop in crops:
        for folder in folders:
            try:
                (folder / crop).unlink(missing_ok=True)
            except OSError as error:
                raise WorkspaceError(f"cannot delete {folder / crop}: {error.strerror}; close what uses it") from error


def lock_video(workspace: Workspace, video: str) -> AbstractContextManager[None]:
    """Keep other runs off a video while the block runs."""
    return locked(workspace.videos / f"{video}.lock", f"another run is extracting {video!r}: wait until it has ended")


def is_footage_extracted(workspace: Workspace, path: Path) -> bool:
    """Say whether a video, a picture, or each picture of a folder was looked through."""
    video, pictures = name_footage(workspace, path), pictures_at(path)
    if not is_extracted(workspace, video) or pictures is None:
        return is_extracted(workspace, video)
    with FaceStore(workspace.store(video)) as store:
        return None not in recorded_frames(store, pictures)


def is_extracted(workspace: Workspace, video: str) -> bool:
    """Say whether all frames of a video were looked through."""
    if not workspace.store(video).is_file():
        return False
    with FaceStore(workspace.store(video)) as store:
        return bool(store.fact("finished"))


GROUP_PIXELS = 17_000_000  # of frames followed together, 3 bytes each; some seven groups are in memory
SMALLEST_GROUP, LARGEST_GROUP = 4, 64  # frames, 100 MB at 4K; also what a stop can lose
LARGEST_GROUP_PIXELS = 140_000_000  # of the smallest group: two frames of 8192 x 8192
PIXELS_IN_FLIGHT = 260_000_000  # of frames between being read and being recorded, 3 bytes each: about what 4K can use
LOOKED_AT_ONCE = 2  # groups; finding faces is the longest part


@dataclass(frozen=True)
class Shown:
    """One frame.

    Attributes:
        index: place in the order of showing.
        pts: timestamp in units of the video's time base; of a still picture its index.
        image: (H, W, 3) BGR.
        cut: whether it begins a new shot.
    """

    index: int
    pts: int
    image: Image
    cut: bool

    @property
    def pixels(self) -> int:
        """Size of the image."""
        return int(self.image.shape[0]) * int(self.image.shape[1])


class Footage(Protocol):
    """Frames to look through.

    Attributes:
        path: file or folder, for the person.
        frames_claimed: how many there should be; 0 where that is not known.
        group: how many frames, of one size, are followed together.
        at_once: in how many groups faces are looked for at once.
    """

    path: Path
    frames_claimed: int
    group: int
    at_once: int

    @property
    def pictures(self) -> Sequence[Path] | None:
        """Its files, where it is a set of still pictures."""

    def facts(self) -> dict[str, Any]:
        """Say what is to be recorded of it, as plain JSON values; ``fingerprint`` and ``source`` are among them."""

    def resume(self, store: FaceStore) -> bool:
        """Number the frames as the store does; say whether there are some that it does not know of."""

    def frames(self, first: int) -> Iterator[Shown]:
        """Give the frames from one on."""

    def lost(self, frames: int) -> str | None:
        """Say in words what could not be read, all ``frames`` there are having been read; None where nothing."""


class VideoFootage:
    """A video, from an open reader."""

    def __init__(self, reader: VideoReader) -> None:
        info = reader.info
        self._reader = reader
        self.path, self.pictures, self.frames_claimed = reader.path, None, info.frames_claimed
        self.group = group_size(info.width * info.height)
        self.at_once = groups_at_once(self.group, info.width * info.height)

    def facts(self) -> dict[str, Any]:
        """Tell the file, and what is in it."""
        path, info = self.path, self._reader.info.facts()
        return {"info": info, "fingerprint": fingerprint(path), "file": file_facts(path), "source": str(path.resolve())}

    def resume(self, store: FaceStore) -> bool:
        """A video has all its frames from the start."""
        return False

    def frames(self, first: int) -> Iterator[Shown]:
        """Decode the frames from one on."""
        before = None
        for frame in islice(self._reader, max(first - 1, 0), None):  # one more, to see whether it was cut
            small = thumbnail(frame.image)
            if frame.index >= first:
                yield Shown(frame.index, frame.pts, frame.image, before is None or is_cut(before, small))
            before = small

    def lost(self, frames: int) -> str | None:
        """Say what could not be decoded."""
        if self._reader.damaged:
            return f"{self._reader.damaged} frames were damaged or missing"
        if frames < 0.9 * self.frames_claimed:  # a header may count frames that an edit list hides
            return f"{frames} of the {self.frames_claimed} frames its header names are there"
        return None


def group_size(pixels: int) -> int:
    """How many frames are followed together: a whole number of key frames' distances where memory allows."""
    size = min(GROUP_PIXELS // pixels, LARGEST_GROUP)
    smallest = max(1, min(SMALLEST_GROUP, LARGEST_GROUP_PIXELS // pixels))
    return size - size % KEY_EVERY if size >= KEY_EVERY else max(size, smallest)


def groups_at_once(group: int, pixels: int) -> int:
    """How many groups are looked at at once: one where frames are huge."""
    return max(1, min(LOOKED_AT_ONCE, PIXELS_IN_FLIGHT // (2 * group * pixels)))


class InFlight:
    """Bounds the pixels of frames that are between being read and being recorded, whatever waits where.

    Args:
        needed: frames without which nothing goes on; so many are let in however large they are.

    Attributes:
        pixels: of the frames in flight now.
    """

    def __init__(self, needed: int) -> None:
        self._needed, self._frames, self._next, self.pixels = needed, 0, 0, 0
        self._changed, self._is_closed = threading.Condition(), False

    def admit(self, frames: Iterator[Shown]) -> Iterator[Shown]:
        """Draw each frame when there is room for one as large as the one before it."""
        while (shown := next(frames, None)) is not None:
            with self._changed:
                self._frames, self.pixels, self._next = self._frames + 1, self.pixels + shown.pixels, shown.pixels
            yield shown
            with self._changed:
                self._changed.wait_for(self._has_room)

    def _has_room(self) -> bool:
        return self._is_closed or self._frames < self._needed or self.pixels + self._next <= PIXELS_IN_FLIGHT

    def release(self, frames: Sequence[Shown]) -> None:
        """Make the room of frames that are recorded free."""
        with self._changed:
            self._frames, self.pixels = self._frames - len(frames), self.pixels - sum(f.pixels for f in frames)
            self._changed.notify_all()

    def close(self) -> None:
        """Let whoever waits go on, so that threads can end."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()


class PictureFootage:
    """Still pictures, each a shot of its own.

    Args:
        path: the folder they are in, for the person.
        pictures: the files, in order.

    Raises:
        MediaError: there are none.
    """

    group = 1  # each has its own size
    at_once = LOOKED_AT_ONCE

    def __init__(self, path: Path, pictures: Sequence[Path]) -> None:
        if not pictures:
            raise MediaError(f"no picture in {path}: name a folder that holds some, or a video")
        self.path, self.pictures, self.frames_claimed = path, list(pictures), len(pictures)
        self._names, self._marks = [picture.name for picture in pictures], list(map(picture_mark, pictures))
        self._by_frame: list[Path | None] = list(pictures)
        self._source = path
        self._unreadable: list[str] = []

    def facts(self) -> dict[str, Any]:
        """List the pictures, those that are gone by now included: their frames stay theirs."""
        source = str(self._source.resolve())
        return {"fingerprint": "pictures", "pictures": self._names, "picture_marks": self._marks, "source": source}

    def resume(self, store: FaceStore) -> bool:
        """Let known pictures keep their frames; new ones come behind all of them."""
        names, marks, places = store.pictures(), store.picture_marks(), recorded_frames(store, self.pictures)
        known = {place: picture for picture, place in zip(self.pictures, places, strict=True) if place is not None}
        new = [number for number, place in enumerate(places) if place is None]
        if len(self.pictures) < len(names):
            self._source = Path(store.fact("source") or self.path)
        by_name = dict(zip(self._names, self._marks, strict=True))
        self._marks = [*(marks or (by_name.get(name, "") for name in names)), *(self._marks[number] for number in new)]
        self._names = [*names, *(self._names[number] for number in new)]
        self._by_frame = [*map(known.get, range(len(names))), *(self.pictures[number] for number in new)]
        self.frames_claimed = len(self._by_frame)
        return bool(new)

    def frames(self, first: int) -> Iterator[Shown]:
        """Read the pictures from one on; what cannot be read is left out."""
        for index, path in enumerate(self._by_frame[first:], first):
            if path is None:
                continue
            try:
                yield Shown(index, index, read_picture(path), cut=True)
            except MediaError:
                self._unreadable.append(path.name)

    def lost(self, frames: int) -> str | None:
        """Say which pictures could not be read."""
        if self._unreadable:
            return f"{len(self._unreadable)} of {self.frames_claimed} could not be read: {join_words(self._unreadable)}"
        return None
