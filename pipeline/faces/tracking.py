"""Faces linked from frame to frame by where they are.

Faces through consecutive frames: the whole cascade on every eighth, and a close look at expected places between.

The image pyramid of MTCNN's first network is nearly all of its cost; its last network alone, on a place where a face is
expected, costs about a millisecond and gives the same box, score and landmarks.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.faces.detection import Detector, ImagePyramid
from pipeline.types import Boxes, Face, Image

LINKED_IOU = 0.3  # from one key frame to the next, a third of a second, a face moves less than half its width


def overlaps(boxes: Boxes, others: Boxes) -> npt.NDArray[np.float64]:
    """Intersection over union of every box with every other.

    Args:
        boxes: (N, 4) left, top, right, bottom.
        others: (M, 4).

    Returns:
        (N, M) in [0, 1].
    """
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    common = np.clip(high - low, 0, None).prod(axis=2)
    areas = [np.clip(b[:, 2:] - b[:, :2], 0, None).prod(axis=1) for b in (boxes, others)]
    union = areas[0][:, None] + areas[1][None, :] - common
    return cast("npt.NDArray[np.float64]", np.divide(common, union, out=np.zeros_like(common), where=union > 0))


def link(boxes: Sequence[Boxes], previous: dict[int, Boxes], next_track: int) -> list[int]:
    """Give each box of a frame the track of the box of an earlier frame that it overlaps most.

    Args:
        boxes: (4,) each: left, top, right, bottom, of one frame.
        previous: the boxes of the earlier frame, by track.
        next_track: number of the first track that is new here.

    Returns:
        The track of each box; every track at most once.
    """
    tracks = [-1] * len(boxes)
    if boxes and previous:
        known = list(previous)
        iou = overlaps(np.stack(list(boxes)), np.stack([previous[t] for t in known]))
        for _ in range(min(iou.shape)):
            i, j = (int(place) for place in np.unravel_index(int(iou.argmax()), iou.shape))
            if iou[i, j] < LINKED_IOU:
                break
            tracks[i] = known[j]
            iou[i, :], iou[:, j] = -1, -1
    for place, track in enumerate(tracks):
        if track < 0:
            tracks[place] = next_track
            next_track += 1
    return tracks


KEY_EVERY = 8  # frames from one cascade to the next: a third of a second
BRIDGED_SCORE = 0.3  # smallest score of a face that is there before and after
WALKED_SCORE = 0.4  # of one that was there in the frame before
SAME_PLACE_IOU = 0.6  # two tracks that lie on each other more than this are one face
THUMBNAIL_PX = 32  # side of the small grey picture that cuts are told by
CUT_LEVELS = 20.0  # mean change of the thumbnail, of 255, that is a cut: cuts in five clips 26 … 145, all else up to 13

Seen = dict[int, Face]
"""The faces of one frame, by track."""

Thumbnail = npt.NDArray[np.uint8]
"""(32, 32) grey."""


@dataclass(frozen=True)
class Way:
    """Where a face of a track is expected in a frame of a group."""

    index: int
    track: int
    box: Boxes


def thumbnail(image: Image) -> Thumbnail:
    """Make the small grey picture that cuts are told by."""
    step = max(1, min(image.shape[:2]) // (2 * THUMBNAIL_PX))  # some rows and columns are enough
    thinned = image[::step, ::step].copy()
    small = cv2.resize(thinned, (THUMBNAIL_PX, THUMBNAIL_PX), interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(small, cv2.COLOR_BGR2GRAY).astype(np.uint8)


def is_cut(before: Thumbnail, after: Thumbnail) -> bool:
    """Say whether the film was cut between two frames."""
    return float(cv2.absdiff(before, after).mean()) > CUT_LEVELS


@dataclass(frozen=True)
class Group:
    """Consecutive frames of one size.

    Attributes:
        pictures: the frames.
        cuts: for each, whether it begins a new shot.
        found: faces of the key frames, by the frame's index in the group.
    """

    pictures: Sequence[ImagePyramid]
    cuts: Sequence[bool]
    found: Mapping[int, Sequence[Face]]


def look(detector: Detector, images: Sequence[Image], cuts: Sequence[bool]) -> Group:
    """Find the faces of a group's key frames.

    Args:
        detector: finds them.
        images: consecutive frames of one size, (H, W, 3) BGR.
        cuts: for each, whether it begins a new shot.
    """
    pictures, keys = [ImagePyramid(image) for image in images], key_frames(cuts)
    found = detector.detect([pictures[key] for key in keys])
    return Group(pictures, cuts, dict(zip(keys, found, strict=True)))


class Tracker:
    """Follows faces through a video, group of frames by group.

    What it finds depends on nothing but the groups and on what was seen in the frame before each: going on after a
    group equals never having been interrupted.

    Args:
        detector: finds faces again.
        last_seen: faces of the frame before the first group.
        next_track: number of the first new track.

    Attributes:
        last_seen: faces of the last frame followed so far, by track.
    """

    def __init__(self, detector: Detector, last_seen: Seen, next_track: int) -> None:
        self._detector = detector
        self.last_seen = last_seen
        self._next_track = next_track

    def follow(self, group: Group) -> list[Seen]:
        """Find the faces of the frames between the key frames, and tell which are one track.

        Returns:
            The faces of each frame.
        """
        seen: list[Seen] = [{} for _ in group.pictures]
        first, before = 0, self.last_seen
        for key in group.found:
            if group.cuts[key]:
                first, before = key, {}
            self._link(group, seen, range(first, key), before)
            first, before = key + 1, seen[key]
        for faces in seen:
            drop_doubles(faces)
        self.last_seen = dict(sorted(seen[-1].items()))  # as the store would give them
        return seen

    def _link(self, group: Group, seen: list[Seen], between: range, before: Seen) -> None:
        """Link a key frame's faces to those of the one before; walk after those that only one of them shows."""
        key, new = between.stop, self._next_track
        linked = self._number(group.found[key], before)
        near = {track: face for track, face in linked.items() if track < new}
        self._bridge(group, seen, between, (before, near))
        lost = {track: face for track, face in before.items() if track not in near}
        reached = self._walk(group, seen, range(between.start, key + 1), lost)
        far = self._number([face for track, face in linked.items() if track >= new], reached)
        self._bridge(group, seen, between, (before, far))  # better than the walk, now that both ends are known
        self._next_track = max([new, *(track + 1 for track in seen[key])])
        self._walk(group, seen, reversed(between), {track: face for track, face in far.items() if track >= new})

    def _number(self, faces: Sequence[Face], before: Seen) -> Seen:
        boxes = {track: face.box for track, face in before.items()}
        return dict(zip(link([face.box for face in faces], boxes, self._next_track), faces, strict=True))

    def _walk(self, group: Group, seen: list[Seen], indices: Iterable[int], start: Seen) -> Seen:
        """Follow faces frame by frame, until they are gone or meet another's; return those there at the end."""
        faces = start
        for index in indices:
            if not faces:
                break
            expected = [(group.pictures[index], face.box) for face in faces.values()]
            refined = self._detector.refine(expected, WALKED_SCORE)
            others = list(seen[index].values())
            faces = {t: f for t, f in zip(faces, refined, strict=True) if f and not is_among(f, others)}
            seen[index].update(faces)
        return faces

    def _bridge(self, group: Group, seen: list[Seen], between: range, ends: tuple[Seen, Seen]) -> None:
        """Put the faces of a key frame in, and those that both ends show into the frames between."""
        before, after = ends
        put(seen[between.stop], after)
        ways = list(straight_ways(between, before, after))
        refined = self._detector.refine([(group.pictures[way.index], way.box) for way in ways], BRIDGED_SCORE)
        for way, face in zip(ways, refined, strict=True):
            if face:
                put(seen[way.index], {way.track: face})


def key_frames(cuts: Sequence[bool]) -> list[int]:
    """Choose the frames of a group for the whole cascade.

    Every eighth, the first of each shot, and the last of what the group has of it.

    Args:
        cuts: for each frame, whether it begins a new shot.
    """
    keys: list[int] = []
    for index, cut in enumerate(cuts):
        last = index + 1 == len(cuts) or cuts[index + 1]
        previous = keys[-1] if keys else -1
        if cut or last or index - previous == KEY_EVERY:
            keys.append(index)
    return keys


def straight_ways(between: range, before: Seen, after: Seen) -> Iterator[Way]:
    """Say where faces that two key frames show would be between them if they moved straight.

    Args:
        between: indices of the frames between the two; the later key frame is at its stop.
        before: faces of the earlier.
        after: faces of the later.
    """
    for track in sorted(before.keys() & after.keys()):
        start, end = before[track].box, after[track].box
        for index in between:
            part = (index - between.start + 1) / (len(between) + 1)
            yield Way(index, track, start + (end - start) * part)


def put(seen: Seen, faces: Seen) -> None:
    """Add faces to those of a frame; what lies on one of them and is another track's goes."""
    for track in [t for t, face in seen.items() if t not in faces and is_among(face, faces.values())]:
        del seen[track]
    seen.update(faces)


def is_among(face: Face, others: Iterable[Face]) -> bool:
    """Say whether a face lies where another one is."""
    boxes = [other.box for other in others]
    return bool(boxes) and float(overlaps(face.box[None], np.stack(boxes)).max()) > SAME_PLACE_IOU


def drop_doubles(faces: Seen) -> None:
    """Where two tracks of a frame lie on one face, keep the older one."""
    tracks = sorted(faces)
    if len(tracks) < 2:
        return
    iou = overlaps(*[np.stack([faces[track].box for track in tracks])] * 2)
    for rank, track in enumerate(tracks):
        if any(iou[rank, other] > SAME_PLACE_IOU and tracks[other] in faces for other in range(rank)):
            del faces[track]
