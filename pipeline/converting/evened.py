"""What is measured of faces, smoothed in time while batches of frames pass by, so that nothing flickers.

Every frame is looked at some frames ahead and some back, so nothing lags; beyond the ends of its segment too, so that
their borders do not show, and each segment comes out the same whichever run makes it.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pipeline.blending.draw import NewFace, Traits
from pipeline.converting.film import AHEAD, Planned
from pipeline.converting.steady import TREMBLE_PX, Numbers, smoothed
from pipeline.media.pixels import Canvas

FLICKER_LAB = 1.0  # by which colours differ from frame to frame although nothing changes (docs/log.md)
LIGHT_LAB = 3.0  # by which they differ from smoothed ones where the light changes at once: a flash, a lamp
FLICKER_SOFTNESS = 0.5  # px

Known = dict[int, list[tuple[int, Traits]]]
"""Frames and traits of each track."""


@dataclass(frozen=True)
class Drawn:
    """A batch of frames whose new faces are drawn, and not yet put in.

    Attributes:
        segment: they belong to; None for those that are only looked at with their neighbours.
        first: number of the first of them.
        canvases: one for each frame.
        faces: those of each frame.
        is_last: whether the segment ends with them.
    """

    segment: Planned | None
    first: int
    canvases: Sequence[Canvas]
    faces: Sequence[Sequence[NewFace]]
    is_last: bool


def evened(batches: Iterable[Drawn]) -> Iterator[Drawn]:
    """Smooth the traits of faces along their tracks.

    Args:
        batches: of consecutive frames; drawn from as far ahead as is needed.

    Yields:
        The same, in order.
    """
    waiting: deque[Drawn] = deque()
    known: Known = {}
    for batch in batches:
        waiting.append(batch)
        for frame, faces in enumerate(batch.faces, batch.first):
            for face in faces:
                known.setdefault(face.track, []).append((frame, face.traits))
        while waiting and _end(waiting[0]) + AHEAD <= _end(batch):
            yield _evened(waiting.popleft(), known)
        oldest = (waiting[0].first if waiting else _end(batch)) - AHEAD
        known = {track: [one for one in seen if one[0] >= oldest] for track, seen in known.items()}
    while waiting:
        yield _evened(waiting.popleft(), known)


def _end(batch: Drawn) -> int:
    return batch.first + len(batch.faces)


def _evened(batch: Drawn, known: Known) -> Drawn:
    wanted: dict[int, list[int]] = {}
    for frame, faces in enumerate(batch.faces, batch.first):
        for face in faces:
            wanted.setdefault(face.track, []).append(frame)
    made = {
        (frame, track): traits
        for track, frames in wanted.items()
        for frame, traits in zip(frames, _traits(known[track], frames), strict=True)
    }
    numbered = enumerate(batch.faces, batch.first)
    smooth = [[replace(face, traits=made[frame, face.track]) for face in some] for frame, some in numbered]
    return replace(batch, faces=smooth)


def _traits(seen: Sequence[tuple[int, Traits]], frames: Sequence[int]) -> list[Traits]:
    """Smooth what was seen of one track, for some of its frames."""
    near = [(frame, traits) for frame, traits in seen if frames[0] - AHEAD <= frame <= frames[-1] + AHEAD]
    times, at = np.array([frame for frame, _ in near], float), np.array(frames, float)
    if len(times) < 2:
        return [traits for _, traits in near]
    first = near[0][1]
    own, wanted, outline = (
        np.stack([getattr(traits, name).ravel() for _, traits in near]) for name in ("own", "wanted", "outline")
    )
    softness = np.array([[traits.softness] for _, traits in near])
    colors = _colors(times, np.column_stack([own, wanted]), at)
    outlines = smoothed(times, outline, at, TREMBLE_PX) if outline.size else np.zeros((len(at), 0))
    soft = np.maximum(smoothed(times, softness, at, FLICKER_SOFTNESS, degree=0), 0)
    return [
        Traits(new.reshape(first.own.shape), old.reshape(first.own.shape), float(blur[0]), edge.reshape(-1, 2))
        for new, old, blur, edge in zip(*np.hsplit(colors, 2), soft, outlines, strict=True)
    ]


def _colors(times: Numbers, values: Numbers, at: Numbers) -> Numbers:
    """Smooth colours; where the light changes at once they are as they were seen."""
    if not values.size:
        return np.zeros((len(at), 0))
    even = smoothed(times, values, at, FLICKER_LAB, degree=0)
    seen = values[np.searchsorted(times, at)]
    share = np.clip(np.abs(even - seen) / LIGHT_LAB - 1, 0, 1)
    return even + share * (seen - even)
