"""What a store holds, and the form it has there; what is read is checked, for a store may come from anywhere."""

import json
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from pipeline.arrays import Affine, Embedding, Face
from pipeline.workspace import is_name

FARTHEST_PX = 1e7  # from the corner of a frame; nothing real is beyond
MOST_FRAMES = 1 << 28  # a hundred days
MOST_TRACKS = 1 << 31
FARTHEST_PTS = 1 << 60
SMALLEST_SCALE, LARGEST_SCALE = 1e-3, 1e3  # of a crop: a face as wide as fifty of the widest frames, and one below a px
CLOSEST_PX = 1e-3  # landmarks that are all nearer to each other are no face
RATE = re.compile(r"\d{1,12}(/\d{1,12})?")
LONGEST = 100_000  # characters of one value
LONGEST_FILE_NAME = 255
EMBEDDING = 128  # numbers


@dataclass(frozen=True)
class StoredFrame:
    """A frame of a video as the store holds it.

    Attributes:
        index: place in the order of showing.
        pts: timestamp in units of the video's time base.
        shot: number of cuts before it.
    """

    index: int
    pts: int
    shot: int


class Label(NamedTuple):
    """Which crop a face has; light, for there may be very many.

    Attributes:
        frame: index of its frame.
        track: number of its track in the video.
        crop: file name of its crop; None where none was written.
    """

    frame: int
    track: int
    crop: str | None


@dataclass(frozen=True)
class StoredFace:
    """A face of a video as the store holds it.

    Attributes:
        frame: index of its frame.
        track: number of its track in the video.
        person: name it was extracted under; the folder its crop lies in now may say otherwise.
        crop: file name of its crop; None where none was written.
        face: box, score and landmarks in frame px.
        crop_from_frame: (2, 3), maps frame px to px of a 256 crop.
    """

    frame: int
    track: int
    person: str
    crop: str | None
    face: Face
    crop_from_frame: Affine


FACTS: dict[str, type] = {"source": str, "fingerprint": str, "options": dict, "info": dict, "file": dict, "lost": str}
"""What facts are, by key, where they are there; others are true or false."""


def frame_of(row: tuple[Any, ...]) -> StoredFrame:
    """Read a frame from a row of the table.

    Raises:
        ValueError: it is none.
    """
    is_sane = all(isinstance(value, int) for value in row) and abs(row[1]) < FARTHEST_PTS
    if not is_sane or not (0 <= row[0] < MOST_FRAMES and 0 <= row[2] < MOST_FRAMES):
        raise ValueError(f"a frame {str(row)[:50]}")
    return StoredFrame(*row)


def fact_of(key: str, text: str) -> Any:
    """Read a fact.

    Raises:
        ValueError: it is no JSON, or not what facts of this name are.
    """
    value = json.loads(text)
    if value is not None and not isinstance(value, FACTS.get(key, object)):
        raise ValueError(f"a {key} of {text[:50]!r}")
    return value


def row_of(stored: StoredFace) -> tuple[object, ...]:
    """Put a face into the order of the table's columns."""
    face = stored.face
    geometry = (face.box, face.landmarks, stored.crop_from_frame)
    return (
        stored.frame,
        stored.track,
        stored.person,
        stored.crop,
        face.score,
        *(json.dumps(np.round(values, 4).tolist()) for values in geometry[:2]),
        json.dumps(np.round(stored.crop_from_frame, 8).tolist()),
    )


def face_of(row: tuple[Any, ...]) -> StoredFace:
    """Read a face from a row of the table.

    Raises:
        ValueError: it is none.
    """
    frame, track, person, crop, score, *geometry = row
    box, landmarks, crop_from_frame = (
        numbers(text, shape) for text, shape in zip(geometry, ((4,), (5, 2), (2, 3)), strict=True)
    )
    if not (isinstance(person, str) and (not person or is_name(person)) and 0 <= score <= 1):
        raise ValueError(f"a face of {str(person)[:50]!r} with score {score}")
    scale = np.sqrt(abs(np.linalg.det(crop_from_frame[:, :2])))
    if not (SMALLEST_SCALE < scale < LARGEST_SCALE and np.ptp(landmarks, axis=0).max() > CLOSEST_PX):
        raise ValueError(f"a face enlarged {scale:.3g} times")
    label = label_of((frame, track, crop))
    return StoredFace(label.frame, label.track, person, label.crop, Face(box, score, landmarks), crop_from_frame)


def text_of(value: object) -> str:
    """Read a text.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(value, str):
        raise ValueError(f"a name {str(value)[:50]}")
    return value


def count_of(value: Any) -> int:
    """Read a number of frames, faces or tracks, or the first that is free; -1 before the first.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(value, int) or not -1 <= value <= MOST_TRACKS:
        raise ValueError(f"a number {str(value)[:50]}")
    return value


def label_of(row: tuple[Any, ...]) -> Label:
    """Read which crop a face has.

    Raises:
        ValueError: the row says something else.
    """
    frame, track, crop = row
    if not (
        isinstance(frame, int) and isinstance(track, int) and 0 <= frame < MOST_FRAMES and 0 <= track < MOST_TRACKS
    ):
        raise ValueError(f"a face in frame {str(frame)[:20]} of track {str(track)[:20]}")
    if crop is not None and not (isinstance(crop, str) and _is_file_name(crop)):
        raise ValueError(f"a crop named {str(crop)[:50]!r}")
    return Label(frame, track, crop)


def rate_of(text: object) -> Fraction | None:
    """Read frames per second, as numerator/denominator.

    Raises:
        ValueError: it is none.
        ZeroDivisionError: the denominator is 0.
    """
    if text is None:
        return None
    if not isinstance(text, str) or not RATE.fullmatch(text):
        raise ValueError(f"a rate of {str(text)[:50]}")
    return Fraction(text)


def embedding_of(text: str | None) -> Embedding | None:
    """Read who a track is.

    Raises:
        ValueError: the text is no embedding.
    """
    return None if text is None else numbers(text, (EMBEDDING,))


def numbers(text: str, shape: tuple[int, ...]) -> Any:
    """Read a JSON list of finite numbers of a shape, as float64.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(text, str) or len(text) > LONGEST:
        raise ValueError("what should be a list of numbers")
    values = np.array(json.loads(text), dtype=np.float64)
    if values.shape != shape or not (np.abs(values) < FARTHEST_PX).all():  # not a number is not below it
        raise ValueError(f"numbers beyond all measure, or not {shape} of them")
    return values


def _is_file_name(name: str) -> bool:
    return 0 < len(name) <= LONGEST_FILE_NAME and name[0] != "." and not set(name) & set("/\\:\0")
