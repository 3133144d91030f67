"""Which frames of a video, or which still pictures, are converted, and which faces are drawn in them."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

from pipeline.console import join_words
from pipeline.converting.compose import FaceSwap
from pipeline.converting.smoothing import POSITION_CONTEXT, STATS_CONTEXT, smooth_positions
from pipeline.errors import NothingToDoError, UsageError
from pipeline.faces.crops import describe_missing, find_missing
from pipeline.faces.footage import name_footage, pictures_at, recorded_frames, result_name
from pipeline.faces.measures import yaw_deg
from pipeline.faces.people import crops_in, faces_of_person
from pipeline.faces.store import FaceStore, Label, StoredFace
from pipeline.media.mux import Part
from pipeline.media.probe import VideoInfo
from pipeline.options import Timecode, frame_at
from pipeline.workspace import Workspace

MAX_GAP = 5  # frames in a row in which a face is still drawn although the detector missed it
ASSUMED_RATE = 25  # frames per second, if the file does not say

Swaps = dict[int, tuple[FaceSwap, ...]]
"""Faces to draw, by number of the frame; only frames that have some."""


@dataclass(frozen=True)
class PlannedSegment:
    """A segment to render.

    Attributes:
        first: number of its first frame in the video.
        pts: timestamps of its frames, in units of the video's time base.
        swaps: of its frames and of those around them that are used for smoothing.
    """

    first: int
    pts: tuple[int, ...]
    swaps: Swaps

    def name(self, settings: str) -> str:
        """Make a file name that contains a hash of everything that decides the segment's content."""
        digest = hashlib.sha256(repr((settings, self.pts)).encode())
        for frame, swaps in sorted(self.swaps.items()):
            for swap in swaps:
                digest.update(repr((frame, swap.track, swap.to_person)).encode() + swap.crop_from_frame.tobytes())
        return f"{self.first:08d}-{len(self.pts)}_{digest.hexdigest()[:16]}.nut"


class Timeline:
    """The frames of a video to convert, and the faces to draw in them.

    Args:
        workspace: where its faces are recorded.
        video: its name there.
        info: its facts.
        people: who is drawn in, by the person in the footage.
        span: start and end (exclusive) of the part to convert; None for those of the video.

    Attributes:
        first, end: number of its first frame, and of the frame after its last.
        timestamps: of all frames of the video, in units of its time base.

    Raises:
        NothingToDoError: none of the people is in the video.
        UsageError: there is no frame in the span.
    """

    def __init__(
        self,
        workspace: Workspace,
        video: str,
        info: VideoInfo,
        people: Mapping[str, str],
        span: tuple[Timecode | None, Timecode | None] = (None, None),
    ) -> None:
        self._store, self._video, self._info = workspace.store(video), video, info
        with FaceStore(self._store) as store:
            self._missing = find_missing(store, workspace, people)
            self._to_person, self.timestamps = assign_faces(store, workspace, video, people), store.timestamps()
        start, end = span
        self.first = 0 if start is None else frame_at(start, self.timestamps, info.time_base)
        self.end = len(self.timestamps) if end is None else frame_at(end, self.timestamps, info.time_base)
        self._frame_s = 1 / (info.average_rate or Fraction(ASSUMED_RATE))
        if self.end <= self.first:
            length_s = float((self.timestamps[-1] - self.timestamps[0]) * info.time_base)
            raise UsageError(
                f"no frame of {info.path} lies between --start and --end: "
                f"it has {len(self.timestamps)} frames, the last at {length_s:.2f} s"
            )

    @property
    def frame_count(self) -> int:
        """Number of frames."""
        return self.end - self.first

    @property
    def face_count(self) -> int:
        """Number of faces to draw."""
        return sum(self.first <= frame < self.end for frame, _ in self._to_person)

    @property
    def missing(self) -> str | None:
        """A problem to report: faces that stay unchanged because their crops are missing."""
        missing = [crop for crop in self._missing if self.first <= crop.frame < self.end]
        return describe_missing(missing, self._video, self._info.path)

    @property
    def duration_s(self) -> float:
        """Duration from the start of the first frame to the end of the last."""
        pts = self.timestamps
        return float((pts[self.end - 1] - pts[self.first]) * self._info.time_base + self._frame_s)

    @property
    def part(self) -> Part | None:
        """The part of the video that is converted; None for all of it."""
        pts, unit = self.timestamps, self._info.time_base
        if (self.first, self.end) == (0, len(pts)):
            return None
        end_s = pts[self.end] * unit if self.end < len(pts) else pts[-1] * unit + self._frame_s
        return Part(pts[self.first] * unit, end_s)

    def pts(self, first: int, count: int) -> tuple[int, ...]:
        """Timestamps of ``count`` frames from ``first`` on; fewer at the end."""
        return tuple(self.timestamps[first : min(first + count, self.end)])

    def context(self, first: int, end: int) -> tuple[int, int]:
        """Widen a range of frames by the frames used to smooth it."""
        return max(self.first, first - STATS_CONTEXT), min(self.end, end + STATS_CONTEXT)

    def segment(self, first: int, count: int) -> PlannedSegment:
        """Plan a segment of ``count`` frames from ``first`` on."""
        pts = self.pts(first, count)
        return PlannedSegment(first, pts, self.swaps(*self.context(first, first + len(pts))))

    def swaps(self, first: int, end: int) -> Swaps:
        """Return the faces to draw in frames ``first`` to ``end`` (exclusive), at smoothed positions."""
        tracks: dict[int, list[StoredFace]] = {}
        with FaceStore(self._store) as store:
            for stored in store.faces(first - POSITION_CONTEXT, end + POSITION_CONTEXT):
                tracks.setdefault(stored.track, []).append(stored)
        swaps: Swaps = {}
        for track, faces in sorted(tracks.items()):
            frames = [frame for frame in range(first, end) if (frame, track) in self._to_person]
            positions = smooth_positions(
                [self._time(stored.frame) for stored in faces],
                [stored.crop_from_frame for stored in faces],
                [self._time(frame) for frame in frames],
            )
            for frame, position in zip(frames, positions, strict=True):
                swaps[frame] = (*swaps.get(frame, ()), FaceSwap(position, self._to_person[frame, track], track))
        return swaps

    def frames_by_yaw(self) -> list[int]:
        """Frames that show one of the people, ordered by yaw from left to right."""
        with FaceStore(self._store) as store:
            yaw = {(stored.frame, stored.track): yaw_deg(stored.face.landmarks) for stored in store.each_face()}
        first = {frame: track for frame, track in sorted(self._to_person, reverse=True) if (frame, track) in yaw}
        return sorted(first, key=lambda frame: (yaw[frame, first[frame]], frame))

    def _time(self, frame: int) -> float:
        """Presentation time of a frame, in average frame durations."""
        return float(self.timestamps[frame] * self._info.time_base * (self._info.average_rate or ASSUMED_RATE))


class PictureSet:
    """A still picture, or those of a folder, and the faces to draw in them.

    Attributes:
        pictures: the files, in order.
        name: for results.
        swaps: by index of the picture.
        missing: a problem to report: faces that stay unchanged because their crops are missing.
        unreadable: description of the pictures of a folder that extract could not read.

    Raises:
        NothingToDoError: none of the people is in the pictures.
    """

    def __init__(self, workspace: Workspace, path: Path, people: Mapping[str, str]) -> None:
        self.pictures, self.name = pictures_at(path) or [], result_name(workspace, path)
        self.swaps: Swaps = {}
        video = name_footage(workspace, path)
        with FaceStore(workspace.store(video)) as store:
            self.unreadable: str | None = store.fact("lost") if path.is_dir() else None
            index_of = {frame: index for index, frame in enumerate(recorded_frames(store, self.pictures))}
            missing = [crop for crop in find_missing(store, workspace, people) if crop.frame in index_of]
            self.missing = describe_missing(missing, video, path)
            to_person = assign_faces(store, workspace, video, people)
            for stored in store.each_face():
                person, index = to_person.get((stored.frame, stored.track)), index_of.get(stored.frame)
                if person is not None and index is not None:
                    swap = FaceSwap(stored.crop_from_frame, person, stored.track)
                    self.swaps[index] = (*self.swaps.get(index, ()), swap)


def assign_faces(
    store: FaceStore, workspace: Workspace, video: str, people: Mapping[str, str]
) -> dict[tuple[int, int], str]:
    """Choose the faces of a video or a set of pictures that are drawn; return their new person by frame and track.

    Raises:
        NothingToDoError: none of the people is in it.
    """
    labels, to_person_of = store.labels(), dict[tuple[int, int], str]()
    for from_person, to_person in people.items():
        faces = faces_of_person(labels, crops_in(workspace.person(from_person)))
        to_person_of |= dict.fromkeys(_bridge_gaps(labels, faces), to_person)
    if not to_person_of:
        source = Path(store.fact("source") or "VIDEO")
        if missing := describe_missing(find_missing(store, workspace, people), video, source):
            raise NothingToDoError(missing)
        names, shown = " nor ".join(map(repr, people)), join_words(list(store.people())) or "no face"
        raise NothingToDoError(f"{names} is not in {video!r}; it shows {shown}")
    return to_person_of


def _bridge_gaps(labels: Sequence[Label], faces: Sequence[Label]) -> list[tuple[int, int]]:
    """Frame and track of a person's faces, and of those that the detector missed briefly between two of them."""
    found = {(label.frame, label.track) for label in faces}
    frames_of: dict[int, list[int]] = {}
    for label in labels:
        frames_of.setdefault(label.track, []).append(label.frame)
    missed = [
        (frame, track)
        for track, frames in frames_of.items()
        for before, after in pairwise(frames)
        if after - before <= MAX_GAP + 1 and {(before, track), (after, track)} <= found
        for frame in range(before + 1, after)
    ]
    return [*found, *missed]
