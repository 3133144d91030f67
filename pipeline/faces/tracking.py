"""Faces linked from frame to frame by where they are."""

from collections.abc import Sequence
from typing import cast

import numpy as np
import numpy.typing as npt

from pipeline.arrays import Boxes

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
