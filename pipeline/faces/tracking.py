"""Faces tracked through consecutive frames: the full cascade on key frames, only its last network between them.

The image pyramid of MTCNN's first network is nearly all of its cost. Its last network alone, on a region where a face
is expected, costs about a millisecond and gives the same box, score and landmarks.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import numpy as np
import numpy.typing as npt

from pipeline.faces.detection import Detector, ImagePyramid
from pipeline.types import Boxes, Face, Image

KEY_FRAME_INTERVAL = 8  # frames: a third of a second
LINKED_IOU = 0.3  # from one key frame to the next a face moves less than half its width
INTERPOLATED_SCORE = 0.3  # smallest score of a face that both key frames show
TRACKED_SCORE = 0.4  # smallest score of a face that the neighbouring frame shows
SAME_FACE_IOU = 0.6  # two tracks that overlap more are one face

FacesByTrack = dict[int, Face]
"""The faces of one frame."""


@dataclass(frozen=True)
class FrameGroup:
    """Consecutive frames of one size.

    Attributes:
        pyramids: of the frames.
        cuts: for each, whether it begins a new shot.
        detections: faces of the key frames, by the frame's index in the group.
    """

    pyramids: Sequence[ImagePyramid]
    cuts: Sequence[bool]
    detections: Mapping[int, Sequence[Face]]


class ExpectedFace(NamedTuple):
    """Where a track is expected in a frame, by its index in the group."""

    frame: int
    track: int
    box: Boxes


def detect_key_frames(detector: Detector, images: Sequence[Image], cuts: Sequence[bool]) -> FrameGroup:
    """Detect the faces of a group's key frames; ``images`` are (H, W, 3) BGR of one size."""
    pyramids, keys = [ImagePyramid(image) for image in images], key_frames(cuts)
    detections = detector.detect([pyramids[key] for key in keys])
    return FrameGroup(pyramids, cuts, dict(zip(keys, detections, strict=True)))


def key_frames(cuts: Sequence[bool]) -> list[int]:
    """Choose every eighth frame of a group, the first of each shot, and the last that the group has of it."""
    keys: list[int] = []
    for index, cut in enumerate(cuts):
        is_last = index + 1 == len(cuts) or cuts[index + 1]
        previous = keys[-1] if keys else -1
        if cut or is_last or index - previous == KEY_FRAME_INTERVAL:
            keys.append(index)
    return keys


class Tracker:
    """Tracks faces through a video, group by group.

    The result depends only on the groups and on the faces of the frame before each group: a run resumed after a group
    finds the same faces as an uninterrupted one.
    """

    def __init__(self, detector: Detector, last_faces: FacesByTrack, next_track: int) -> None:
        self._detector, self.last_faces, self._next_track = detector, last_faces, next_track

    def track(self, group: FrameGroup) -> list[FacesByTrack]:
        """Find the faces of all frames of a group, by track."""
        faces: list[FacesByTrack] = [{} for _ in group.pyramids]
        first, before = 0, self.last_faces
        for key in group.detections:
            if group.cuts[key]:
                first, before = key, {}
            self._track_to(group, faces, range(first, key), before)
            first, before = key + 1, faces[key]
        for faces_of_frame in faces:
            drop_duplicates(faces_of_frame)
        self.last_faces = dict(sorted(faces[-1].items()))  # in the order that the store returns
        return faces

    def _track_to(self, group: FrameGroup, faces: list[FacesByTrack], between: range, before: FacesByTrack) -> None:
        """Link the faces of two key frames; track forward and backward those that only one of them shows."""
        key, next_track = between.stop, self._next_track
        linked = self._link(group.detections[key], before)
        near = {track: face for track, face in linked.items() if track < next_track}
        self._interpolate(group, faces, between, before, near)
        lost = {track: face for track, face in before.items() if track not in near}
        reached = self._track_forward(group, faces, range(between.start, key + 1), lost)
        far = self._link([face for track, face in linked.items() if track >= next_track], reached)
        self._interpolate(group, faces, between, before, far)  # more exact than tracking: both ends are known now
        self._next_track = max([next_track, *(track + 1 for track in faces[key])])
        new = {track: face for track, face in far.items() if track >= next_track}
        self._track_forward(group, faces, reversed(between), new)  # backward in time

    def _link(self, detections: Sequence[Face], before: FacesByTrack) -> FacesByTrack:
        boxes = {track: face.box for track, face in before.items()}
        tracks = link([face.box for face in detections], boxes, self._next_track)
        return dict(zip(tracks, detections, strict=True))

    def _track_forward(
        self, group: FrameGroup, faces: list[FacesByTrack], indices: Iterable[int], start: FacesByTrack
    ) -> FacesByTrack:
        """Track faces frame by frame until they disappear or meet another track; return those left at the end."""
        tracked = start
        for index in indices:
            if not tracked:
                break
            expected = [(group.pyramids[index], face.box) for face in tracked.values()]
            refined = self._detector.refine(expected, TRACKED_SCORE)
            others = list(faces[index].values())
            tracked = {t: f for t, f in zip(tracked, refined, strict=True) if f and not overlaps_any(f, others)}
            faces[index].update(tracked)
        return tracked

    def _interpolate(
        self, group: FrameGroup, faces: list[FacesByTrack], between: range, before: FacesByTrack, after: FacesByTrack
    ) -> None:
        """Add the faces of a key frame, and find those that both key frames show in the frames between."""
        add_faces(faces[between.stop], after)
        expected = list(interpolate_boxes(between, before, after))
        regions = [(group.pyramids[index], box) for index, _, box in expected]
        for (index, track, _), face in zip(expected, self._detector.refine(regions, INTERPOLATED_SCORE), strict=True):
            if face:
                add_faces(faces[index], {track: face})


def link(boxes: Sequence[Boxes], previous: Mapping[int, Boxes], next_track: int) -> list[int]:
    """Give each box of a frame the track of the box of an earlier frame that it overlaps most.

    Args:
        boxes: (4,) each, of one frame.
        previous: boxes of the earlier frame, by track.
        next_track: number of the first new track.
    """
    tracks = [-1] * len(boxes)
    if boxes and previous:
        previous_tracks = list(previous)
        iou = pairwise_iou(np.stack(list(boxes)), np.stack(list(previous.values())))
        for _ in range(min(iou.shape)):
            i, j = np.unravel_index(int(iou.argmax()), iou.shape)
            if iou[i, j] < LINKED_IOU:
                break
            tracks[i] = previous_tracks[j]
            iou[i, :], iou[:, j] = -1, -1
    for index, track in enumerate(tracks):
        if track < 0:
            tracks[index] = next_track
            next_track += 1
    return tracks


def interpolate_boxes(between: range, before: FacesByTrack, after: FacesByTrack) -> Iterator[ExpectedFace]:
    """Interpolate the boxes of tracks that two key frames show, for the frames ``between`` them."""
    for track in sorted(before.keys() & after.keys()):
        start, end = before[track].box, after[track].box
        for index in between:
            fraction = (index - between.start + 1) / (len(between) + 1)
            yield ExpectedFace(index, track, start + (end - start) * fraction)


def pairwise_iou(boxes: Boxes, others: Boxes) -> npt.NDArray[np.float64]:
    """Return the intersection over union, (N, M), of (N, 4) boxes with (M, 4) others."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    common = np.clip(high - low, 0, None).prod(axis=2)
    areas = [np.clip(b[:, 2:] - b[:, :2], 0, None).prod(axis=1) for b in (boxes, others)]
    union = areas[0][:, None] + areas[1][None, :] - common
    return cast("npt.NDArray[np.float64]", np.divide(common, union, out=np.zeros_like(common), where=union > 0))


def overlaps_any(face: Face, others: Iterable[Face]) -> bool:
    """Return whether one of the others is the same face."""
    boxes = [other.box for other in others]
    return bool(boxes) and float(pairwise_iou(face.box[None], np.stack(boxes)).max()) > SAME_FACE_IOU


def add_faces(faces: FacesByTrack, new: FacesByTrack) -> None:
    """Add new faces to a frame; other tracks on the same face are removed."""
    for track in [t for t, face in faces.items() if t not in new and overlaps_any(face, new.values())]:
        del faces[track]
    faces.update(new)


def drop_duplicates(faces: FacesByTrack) -> None:
    """If two tracks of a frame are on the same face, keep the older."""
    for track in sorted(faces):
        if overlaps_any(faces[track], [face for other, face in faces.items() if other < track]):
            del faces[track]
