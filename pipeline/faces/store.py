"""The faces that extract found in one video: written in transactions, read by frame.

The tables are in ``database``. All values are checked when read, because a store may come from anywhere.
"""

import json
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np

from pipeline.errors import WorkspaceError
from pipeline.faces.alignment import scale_of
from pipeline.faces.database import TABLES, open_database
from pipeline.types import Affine, Embedding, Face
from pipeline.workspace import is_name

MAX_FRAMES = 1 << 28  # a hundred days
MAX_TRACKS = 1 << 31
MAX_PTS = 1 << 60
MAX_COORDINATE_PX = 1e7  # from the corner of a frame
MIN_SCALE, MAX_SCALE = 1e-3, 1e3  # of a crop: a face fifty frames wide, and one below a px
MIN_FACE_PX = 1e-3  # between the outermost landmarks
MAX_CHARACTERS = 100_000  # of one value
EMBEDDING_SIZE = 128  # numbers
RATE = re.compile(r"\d{1,12}(/\d{1,12})?")
FILE_NAME = re.compile(r"[^./\\:\0][^/\\:\0]{0,254}")
FACTS: dict[str, type] = {
    "source": str,
    "fingerprint": str,
    "options": dict,
    "person": str,
    "info": dict,
    "file": dict,
    "lost": str,
}
"""Types of facts by key; other facts are booleans or lists."""
DAMAGE = (ArithmeticError, ValueError, TypeError, RecursionError)  # what reading a damaged value raises

T = TypeVar("T")


class StoredFrame(NamedTuple):
    """A frame: its index in display order, timestamp in units of the time base, and number of cuts before it."""

    frame: int
    pts: int
    shot: int


class Label(NamedTuple):
    """Whose face it is, without geometry, because there may be millions.

    Attributes:
        person: the name it was extracted under; the folder its crop lies in now may say otherwise.
        crop: file name; None if no crop was written.
    """

    frame: int
    track: int
    person: str
    crop: str | None


@dataclass(frozen=True)
class StoredFace:
    """A label with its geometry in frame px; ``crop_from_frame`` maps to px of a 256 crop."""

    frame: int
    track: int
    person: str
    crop: str | None
    face: Face
    crop_from_frame: Affine


_is_person = lru_cache(is_name)


def _label_of(row: tuple[Any, ...]) -> Label:
    frame, track, person, crop = row
    is_number = isinstance(frame, int) and isinstance(track, int)
    is_person = isinstance(person, str) and (not person or _is_person(person))
    if not (is_number and 0 <= frame < MAX_FRAMES and 0 <= track < MAX_TRACKS and is_person):
        raise ValueError(f"a face {str(row)[:80]}")
    if crop is not None and not FILE_NAME.fullmatch(crop):
        raise ValueError(f"a crop named {str(crop)[:50]!r}")
    return Label(*row)


def _face_of(row: tuple[Any, ...]) -> StoredFace:
    label, score = _label_of(row[:4]), row[4]
    box, landmarks, crop_from_frame = map(_array_of, row[5:], ((4,), (5, 2), (2, 3)))
    if not 0 <= score <= 1 or np.ptp(landmarks, axis=0).max() <= MIN_FACE_PX:
        raise ValueError(f"a face with score {score}, or with all landmarks in one place")
    if not MIN_SCALE < scale_of(crop_from_frame) < MAX_SCALE:
        raise ValueError(f"a face enlarged {scale_of(crop_from_frame):.3g} times")
    return StoredFace(*label, Face(box, score, landmarks), crop_from_frame)


def _row_of(stored: StoredFace) -> tuple[object, ...]:
    face = stored.face
    box, landmarks, matrix = face.box.round(4), face.landmarks.round(4), stored.crop_from_frame.round(8)
    geometry = (json.dumps(values.tolist()) for values in (box, landmarks, matrix))
    return (stored.frame, stored.track, stored.person, stored.crop, face.score, *geometry)


def _array_of(text: str, shape: tuple[int, ...]) -> Any:
    if len(text) > MAX_CHARACTERS:
        raise ValueError("a list that is too long")
    values = np.array(json.loads(text), dtype=np.float64)
    if values.shape != shape or not (np.abs(values) < MAX_COORDINATE_PX).all():  # false for NaN too
        raise ValueError(f"numbers that are too large, or not {shape} of them")
    return values


def _embedding_of(row: tuple[Any, ...]) -> tuple[int, Embedding | None]:
    track, text = row
    return track, None if text is None else _array_of(text, (EMBEDDING_SIZE,))


def _count_of(row: tuple[Any, ...]) -> int:
    (count,) = row
    if not isinstance(count, int) or not -1 <= count <= MAX_TRACKS:
        raise ValueError(f"a number {str(count)[:50]}")
    return count


class FaceStore:
    """The store of one video, opened to read, to ``write``, or to ``create`` if it is missing.

    Without ``roll_back``, a store with an unfinished write of a killed run is refused instead of repaired.

    Raises:
        WorkspaceError: the file is missing, damaged, or not a store of this version.
    """

    def __init__(self, path: Path, *, write: bool = False, create: bool = False, roll_back: bool = True) -> None:
        self.path = path
        if not create and not path.is_file():
            raise WorkspaceError(f"no faces recorded in {path}: run python cli.py extract on the video")
        with self._guarded():
            if create:
                path.parent.mkdir(parents=True, exist_ok=True)
            self._db = open_database(path, write=write or create, roll_back=roll_back)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def fact(self, key: str) -> Any:
        """Return the value recorded under a key; None if there is none."""
        with self._reading():
            row = self._db.execute("SELECT value FROM facts WHERE key = ?", (key,)).fetchone()
            value = json.loads(row[0]) if row else None
            if value is not None and not isinstance(value, FACTS.get(key, object)):
                raise ValueError(f"a {key} of {row[0][:50]!r}")
        return value

    def average_rate(self) -> Fraction | None:
        """Return the video's frames per second; None if its header does not say."""
        text = (self.fact("info") or {}).get("average_rate")
        with self._reading():
            if text and not RATE.fullmatch(text):
                raise ValueError(f"a rate of {text[:50]}")
            return Fraction(text) if text else None

    def pictures(self) -> list[tuple[str, str]]:
        """Return name and fingerprint of each picture, in order of frames; empty for a video."""
        names, fingerprints = self.fact("pictures") or [], self.fact("picture_marks") or []
        with self._reading():
            if not all(isinstance(text, str) for text in (*names, *fingerprints)):
                raise ValueError("a picture without a name")
            return list(zip(names, fingerprints, strict=True))

    def record_facts(self, **facts: Any) -> None:
        """Record JSON values under their keys."""
        with self._transaction() as db:
            db.executemany("REPLACE INTO facts VALUES (?, ?)", [(k, json.dumps(v)) for k, v in facts.items()])

    def record(self, frames: Iterable[StoredFrame], faces: Iterable[StoredFace]) -> None:
        """Record frames and their faces in one transaction."""
        with self._transaction() as db:
            db.executemany("REPLACE INTO frames VALUES (?, ?, ?)", frames)
            db.executemany("REPLACE INTO faces VALUES (?, ?, ?, ?, ?, ?, ?, ?)", map(_row_of, faces))

    def short_tracks(self, min_frames: int) -> list[int]:
        """Return the tracks shorter than ``min_frames`` that are also shorter than their shot."""
        query = """
            WITH lengths AS (SELECT shot, count(*) AS frames FROM frames GROUP BY shot)
            SELECT track FROM faces JOIN frames USING (frame) JOIN lengths USING (shot)
            GROUP BY track HAVING count(*) < min(?, max(lengths.frames)) ORDER BY track
        """
        return list(self._each(_count_of, query, min_frames))

    def delete_tracks(self, tracks: Iterable[int]) -> None:
        """Delete all faces of some tracks."""
        rows = [(track,) for track in tracks]
        with self._transaction() as db:
            db.executemany("DELETE FROM faces WHERE track = ?", rows)

    def embeddings(self) -> dict[int, Embedding | None]:
        """Return the recorded embeddings by track; None if a track could not be identified."""
        return dict(self._each(_embedding_of, "SELECT track, embedding FROM tracks ORDER BY track"))

    def record_embedding(self, track: int, embedding: Embedding | None) -> None:
        """Record the embedding of a track."""
        with self._transaction() as db:
            text = None if embedding is None else json.dumps(embedding.tolist())
            db.execute("REPLACE INTO tracks VALUES (?, ?)", (track, text))

    def name_tracks(self, names: Mapping[int, str]) -> None:
        """Record a person for each track, and that all tracks are named."""
        with self._transaction() as db:
            db.executemany("UPDATE faces SET person = ? WHERE track = ?", [(n, t) for t, n in names.items()])
            db.execute("REPLACE INTO facts VALUES ('named', 'true')")

    def rename_person(self, old: str, new: str) -> None:
        """Record that a person has another name now."""
        with self._transaction() as db:
            db.execute("UPDATE faces SET person = ? WHERE person = ?", (new, old))

    def set_aside(self) -> frozenset[str]:
        """Return the names, without suffix, of the crops that the user does not want."""
        return frozenset(str(crop) for (crop,) in self._each(tuple, "SELECT crop FROM set_aside"))

    def set_crops_aside(self, crops: Iterable[str]) -> None:
        """Record that the user does not want these crops, by their names without suffix."""
        with self._transaction() as db:
            db.executemany("INSERT OR IGNORE INTO set_aside VALUES (?)", [(crop,) for crop in crops])

    def clear(self) -> None:
        """Delete all rows."""
        with self._transaction() as db:
            for table in TABLES:
                db.execute(f"DELETE FROM {table}")  # noqa: S608 - a constant

    def frame_count(self) -> int:
        """Number of frames recorded so far."""
        return self._number("SELECT count(*) FROM frames")

    def last_shot(self) -> int:
        """Number of the last recorded frame's shot; -1 before the first."""
        return self._number("SELECT coalesce(max(shot), -1) FROM frames")

    def face_count(self) -> int:
        """Number of faces found so far."""
        return self._number("SELECT count(*) FROM faces")

    def frames_with_faces(self) -> int:
        """Number of frames that show at least one face."""
        return self._number("SELECT count(DISTINCT frame) FROM faces")

    def people(self) -> dict[str, int]:
        """Number of faces by the name they were extracted under, the most first."""
        query = "SELECT person, count(*) FROM faces GROUP BY person ORDER BY count(*) DESC, person"
        return {str(person): count for person, count in self._each(tuple, query)}

    def next_frame(self) -> int:
        """Index of the first frame that is not recorded yet."""
        return self._number("SELECT coalesce(max(frame) + 1, 0) FROM frames")

    def next_track(self) -> int:
        """Number of the first track that is not used yet."""
        return self._number("SELECT coalesce(max(track) + 1, 0) FROM faces")

    def faces(self, first: int = 0, end: int = 1 << 62) -> list[StoredFace]:
        """Return the faces of frames ``first`` to ``end`` (exclusive), in order of frame, then track."""
        query = "SELECT * FROM faces WHERE frame >= ? AND frame < ? ORDER BY frame, track"
        return list(self._each(_face_of, query, first, end))

    def each_face(self) -> Iterator[StoredFace]:
        """Iterate over all faces, in order of frame, then track."""
        return self._each(_face_of, "SELECT * FROM faces ORDER BY frame, track")

    def each_label(self) -> Iterator[Label]:
        """Iterate over the labels of all faces, in order of frame, then track."""
        return self._each(_label_of, "SELECT frame, track, person, crop FROM faces ORDER BY frame, track")

    def labels(self) -> list[Label]:
        """Return the labels of all faces, in order of frame, then track."""
        return list(self.each_label())

    def scores(self) -> dict[int, list[float]]:
        """Return the detector's scores by track, in order of frame."""
        scores: dict[int, list[float]] = {}
        for track, score in self._each(tuple, "SELECT track, CAST(score AS REAL) FROM faces ORDER BY frame, track"):
            scores.setdefault(track, []).append(score)
        return scores

    def timestamps(self) -> list[int]:
        """Return the timestamps of all frames, in order."""
        rows = list(self._each(tuple, "SELECT frame, pts FROM frames ORDER BY frame"))
        last_with_face = self._number("SELECT coalesce(max(frame), -1) FROM faces")
        with self._reading():
            if any(frame != index or abs(pts) >= MAX_PTS for index, (frame, pts) in enumerate(rows)):
                raise ValueError("frames are missing, or their timestamps are too large")
            if last_with_face >= len(rows):
                raise ValueError("a face in a frame that is missing")
        return [int(pts) for _, pts in rows]

    def _each(self, convert: Callable[[tuple[Any, ...]], T], query: str, *values: object) -> Iterator[T]:
        """Read rows lazily; there may be more than memory holds."""
        with self._reading():
            yield from map(convert, self._db.execute(query, values))

    def _number(self, query: str) -> int:
        (number,) = self._each(_count_of, query)
        return number

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._guarded(), self._db:
            yield self._db

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            with self._guarded():
                yield
        except DAMAGE as error:
            raise WorkspaceError(f"{self.path} is damaged ({str(error)[:100]}): delete it and extract again") from error

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise WorkspaceError(
                f"cannot write {self.path.parent}: {error.strerror}; choose another --workspace"
            ) from error
        except (sqlite3.Error, UnicodeDecodeError) as error:  # the latter if SQLite's message is not text
            raise WorkspaceError(
                f"cannot use {self.path}: {error}; is the disk full, is another run using it, or is it damaged? "
                "A damaged one: delete it and extract again"
            ) from error
