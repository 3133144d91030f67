"""What extract looks through: a video, or a set of still pictures, as frames in order with the film's cuts."""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from pipeline.arrays import Image
from pipeline.errors import MediaError
from pipeline.faces.scanning import KEY_EVERY, is_cut, thumbnail
from pipeline.faces.store import FaceStore
from pipeline.faces.videos import file_facts, fingerprint, picture_mark, recorded_places
from pipeline.media.pictures import read_picture
from pipeline.media.reader import VideoReader
from pipeline.report import some

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

    def go_on(self, store: FaceStore) -> bool:
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

    def go_on(self, store: FaceStore) -> bool:
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

    def go_on(self, store: FaceStore) -> bool:
        """Let known pictures keep their frames; new ones come behind all of them."""
        names, marks, places = store.pictures(), store.picture_marks(), recorded_places(store, self.pictures)
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
            return f"{len(self._unreadable)} of {self.frames_claimed} could not be read: {some(self._unreadable)}"
        return None
