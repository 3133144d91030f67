"""A video to convert, as segments: which frames each has, and which faces are to be drawn in them."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

from pipeline.console import join_words
from pipeline.converting.compose import Swap
from pipeline.converting.smoothing import AHEAD, MARGIN, smooth_positions
from pipeline.errors import NothingToDoError, UsageError
from pipeline.faces.crops import describe_missing, find_missing
from pipeline.faces.measures import yaw_deg
from pipeline.faces.people import crops_in, faces_of_person
from pipeline.faces.store import FaceStore, Label, StoredFace
from pipeline.media.mux import Part
from pipeline.media.probe import VideoInfo
from pipeline.options import Timecode, frame_at
from pipeline.workspace import Workspace

MOST_MISSED = 5  # frames in a row in which the detector may miss a face that is drawn all the same


@dataclass(frozen=True)
class PlannedSegment:
    """A segment to be made.

    Attributes:
        first: number of its first frame in the video.
        pts: timestamps of its frames, in units of the video's time base.
        swaps: what to draw, by number of the frame; also in the frames around it that are looked at with its own.
    """

    first: int
    pts: tuple[int, ...]
    swaps: Mapping[int, tuple[Swap, ...]]

    def name(self, settings: str) -> str:
        """Make a file name from all that decides what is in the segment."""
        known = hashlib.sha256(repr((settings, self.pts)).encode())
        for frame, swaps in sorted(self.swaps.items()):
            for swap in swaps:
                known.update(repr((frame, swap.track, swap.to_person)).encode() + swap.crop_from_frame.tobytes())
        return f"{self.first:08d}-{len(self.pts)}_{known.hexdigest()[:16]}.nut"

    @property
    def end(self) -> int:
        """Number of the frame behind it."""
        return self.first + len(self.pts)


class Timeline:
    """The frames of a video that are to be converted.

    Args:
        workspace: where its faces are recorded.
        video: its name there.
        info: its facts.
        people: whose face becomes whose.

    Attributes:
        first: number of its first frame.
        end: number of the frame behind its last.
        frames: how many it has.
        faces: how many are to be drawn anew.

    Raises:
        NothingToDoError: none of the people is in the video.
    """

    def __init__(self, workspace: Workspace, video: str, info: VideoInfo, people: Mapping[str, str]) -> None:
        self._store, self._video, self._info = workspace.store(video), video, info
        with FaceStore(self._store) as store:
            self._missing = find_missing(store, workspace, people)
            self._people, self._pts = whose_faces(store, workspace, video, people), store.timestamps()
        self.first, self.end = 0, len(self._pts)

    @property
    def missing(self) -> str | None:
        """What to say of faces that stay as they are because their crops are lost; None where there are none."""
        within = [gone for gone in self._missing if self.first <= gone.frame < self.end]
        return describe_missing(within, self._video, self._info.path)

    def cut(self, start: Timecode | None, end: Timecode | None) -> None:
        """Leave only the frames from a moment up to, and without, another.

        Raises:
            UsageError: there is no frame between them.
        """
        if start is not None:
            self.first = frame_at(start, self._pts, self._info.time_base)
        if end is not None:
            self.end = frame_at(end, self._pts, self._info.time_base)
        if self.end <= self.first:
            length = float((self._pts[-1] - self._pts[0]) * self._info.time_base)
            raise UsageError(
                f"no frame of {self._info.path} lies between --start and --end: "
                f"it has {len(self._pts)} frames, the last at {length:.2f} s"
            )

    @property
    def frames(self) -> int:
        """Number of frames."""
        return self.end - self.first

    @property
    def faces(self) -> int:
        """Number of faces to draw anew."""
        return sum(self.first <= frame < self.end for frame, _ in self._people)

    @property
    def seconds(self) -> float:
        """How long it is."""
        lasts = 1 / (self._info.average_rate or Fraction(25))
        return float((self._pts[self.end - 1] - self._pts[self.first]) * self._info.time_base + lasts)

    @property
    def part(self) -> Part | None:
        """What of the video this is; None where it is all of it."""
        if (self.first, self.end) == (0, len(self._pts)):
            return None
        unit, last = self._info.time_base, self._pts[self.end - 1]
        if self.end < len(self._pts):
            return Part(self._pts[self.first] * unit, self._pts[self.end] * unit)
        return Part(self._pts[self.first] * unit, last * unit + 1 / (self._info.average_rate or Fraction(25)))

    @property
    def part_name(self) -> str:
        """What to put behind the name of the result: nothing, or which frames it has."""
        return "" if self.part is None else f"_{self.first}-{self.end - 1}"

    def pts(self, first: int, count: int) -> tuple[int, ...]:
        """Timestamps of so many frames from one on."""
        return tuple(self._pts[first : min(first + count, self.end)])

    def segment(self, first: int, count: int) -> PlannedSegment:
        """Plan a segment of so many frames from one on."""
        pts = self.pts(first, count)
        return PlannedSegment(first, pts, self.swaps(self.before(first), self.behind(first + len(pts))))

    def before(self, first: int) -> int:
        """Number of the first frame that is looked at with one."""
        return max(self.first, first - AHEAD)

    def behind(self, end: int) -> int:
        """Number of the frame behind the last that is looked at with those before ``end``."""
        return min(self.end, end + AHEAD)

    def swaps(self, start: int, end: int) -> dict[int, tuple[Swap, ...]]:
        """Say what is to be drawn from a frame up to, and without, another; frames without are not in it."""
        tracks: dict[int, list[StoredFace]] = {}
        with FaceStore(self._store) as store:
            for stored in store.faces(start - MARGIN, end + MARGIN):
                tracks.setdefault(stored.track, []).append(stored)
        swaps: dict[int, tuple[Swap, ...]] = {}
        for track, faces in sorted(tracks.items()):
            wanted = [frame for frame in range(start, end) if (frame, track) in self._people]
            places = smooth_positions(
                [self._time(stored.frame) for stored in faces],
                [stored.crop_from_frame for stored in faces],
                [self._time(frame) for frame in wanted],
            )
            for frame, place in zip(wanted, places, strict=True):
                swaps[frame] = (*swaps.get(frame, ()), Swap(place, self._people[frame, track], track))
        return swaps

    def turned(self) -> list[int]:
        """Frames that show one of the people, in the order of how far that head is turned, from left to right."""
        with FaceStore(self._store) as store:
            found = {(stored.frame, stored.track): yaw_deg(stored.face.landmarks) for stored in store.each_face()}
        first = {frame: track for frame, track in sorted(self._people, reverse=True) if (frame, track) in found}
        return sorted(first, key=lambda frame: (found[frame, first[frame]], frame))

    def moment(self, frame: int) -> int:
        """Timestamp of a frame."""
        return self._pts[frame]

    def _time(self, frame: int) -> float:
        """When a frame is shown, counted in frames."""
        return float(self._pts[frame] * self._info.time_base * (self._info.average_rate or 25))


def whose_faces(
    store: FaceStore, workspace: Workspace, video: str, people: Mapping[str, str]
) -> dict[tuple[int, int], str]:
    """Say whose each face to be drawn becomes, by frame and track.

    Args:
        store: of the video, or the pictures.
        workspace: whose folders say who is who.
        video: its name.
        people: whose face becomes whose.

    Raises:
        NothingToDoError: none of them is in it.
    """
    labels, chosen = store.labels(), dict[tuple[int, int], str]()
    for from_person, to_person in people.items():
        own = faces_of_person(labels, crops_in(workspace.person(from_person)))
        chosen |= dict.fromkeys(_bridged(labels, own), to_person)
    if not chosen:
        source = Path(store.fact("source") or "VIDEO")
        if missing := describe_missing(find_missing(store, workspace, people), video, source):
            raise NothingToDoError(missing)
        who, seen = " nor ".join(map(repr, people)), join_words(list(store.people())) or "no face"
        raise NothingToDoError(f"{who} is not in {video!r}; it shows {seen}")
    return chosen


def _bridged(labels: Sequence[Label], own: Sequence[Label]) -> list[tuple[int, int]]:
    """Frame and track of a person's faces, and of those that the detector missed for a moment between two of them."""
    mine = {(label.frame, label.track) for label in own}
    frames: dict[int, list[int]] = {}
    for label in labels:
        frames.setdefault(label.track, []).append(label.frame)
    missed = [
        (frame, track)
        for track, seen in frames.items()
        for before, after in pairwise(seen)
        if after - before <= MOST_MISSED + 1 and {(before, track), (after, track)} <= mine
        for frame in range(before + 1, after)
    ]
    return [*mine, *missed]
