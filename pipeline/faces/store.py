"""What extract learned of one video: an SQLite file, written in transactions, read by frame; tables: ``schema``."""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import astuple
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from pipeline.arrays import Embedding
from pipeline.errors import WorkspaceError
from pipeline.faces.records import (
    Label,
    StoredFace,
    StoredFrame,
    count_of,
    embedding_of,
    face_of,
    fact_of,
    frame_of,
    label_of,
    rate_of,
    row_of,
    text_of,
)
from pipeline.faces.schema import TABLES, open_to_read, open_to_write

T = TypeVar("T")

LAST = 1 << 62  # behind every frame


class FaceStore:
    """The store of one video.

    Args:
        path: the file.
        write: open it for changes too; without, the file stays as it is.
        create: make the file with its folder when it is missing, to write to.

    Raises:
        WorkspaceError: the file is missing, no store, or from a newer version.
    """

    def __init__(self, path: Path, *, write: bool = False, create: bool = False) -> None:
        self.path = path
        if not create and not path.is_file():
            raise WorkspaceError(f"no faces recorded in {path}: run python cli.py extract on the video")
        with self._guarded():
            if create:
                path.parent.mkdir(parents=True, exist_ok=True)
            self._db = open_to_write(path) if write or create else open_to_read(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def fact(self, key: str) -> Any:
        """Return what was recorded under a key; None where nothing was."""
        rows = self._read("SELECT value FROM facts WHERE key = ?", key)
        (value,) = self._checked(fact_of(key, text) for (text,) in rows) or [None]
        return value

    def average_rate(self) -> Fraction | None:
        """Return the video's frames per second; None where its header does not say."""
        told = (self.fact("info") or {}).get("average_rate")
        (rate,) = self._checked(map(rate_of, [told or None]))
        return rate

    def pictures(self) -> list[str]:
        """Return the names of the pictures that the frames are, by number of the frame; none where it is a video."""
        return self._checked(map(text_of, self.fact("pictures") or []))

    def picture_marks(self) -> list[str]:
        """Return the fingerprints of these pictures; none in stores of version 2."""
        marks = self._checked(map(text_of, self.fact("picture_marks") or []))
        return marks if len(marks) == len(self.pictures()) else []

    def record_facts(self, **facts: Any) -> None:
        """Record JSON values under their keys."""
        with self._transaction() as db:
            db.executemany("REPLACE INTO facts VALUES (?, ?)", [(k, json.dumps(v)) for k, v in facts.items()])

    def record(self, frames: Iterable[StoredFrame], faces: Iterable[StoredFace]) -> None:
        """Record frames and their faces: all of them or, after a crash, none."""
        with self._transaction() as db:
            db.executemany("REPLACE INTO frames VALUES (?, ?, ?)", map(astuple, frames))
            db.executemany("REPLACE INTO faces VALUES (?, ?, ?, ?, ?, ?, ?, ?)", map(row_of, faces))

    def brief_faces(self, frames: int) -> list[StoredFace]:
        """Return the faces of tracks seen in fewer frames than these, in shots that are longer than the track."""
        rows = self._read(
            """
            WITH lengths AS (SELECT shot, count(*) AS frames FROM frames GROUP BY shot)
            SELECT * FROM faces WHERE track IN (
                SELECT track FROM faces JOIN frames USING (frame) JOIN lengths USING (shot)
                GROUP BY track HAVING count(*) < min(?, max(lengths.frames)))
            ORDER BY frame, track
            """,
            frames,
        )
        return self._checked(map(face_of, rows))

    def forget_tracks(self, tracks: Iterable[int]) -> None:
        """Take all faces of some tracks out."""
        numbers = [(track,) for track in tracks]
        with self._transaction() as db:
            db.executemany("DELETE FROM faces WHERE track = ?", numbers)

    def forget(self, faces: Iterable[StoredFace]) -> None:
        """Take faces out."""
        with self._transaction() as db:
            db.executemany("DELETE FROM faces WHERE frame = ? AND track = ?", [(f.frame, f.track) for f in faces])

    def embeddings(self) -> dict[int, Embedding | None]:
        """Return who the tracks are that were looked at for it, by track; None where that cannot be said."""
        rows = self._read("SELECT track, embedding FROM tracks ORDER BY track")
        return dict(self._checked((track, embedding_of(text)) for track, text in rows))

    def record_embedding(self, track: int, embedding: Embedding | None) -> None:
        """Record who a track is."""
        with self._transaction() as db:
            text = None if embedding is None else json.dumps(embedding.tolist())
            db.execute("REPLACE INTO tracks VALUES (?, ?)", (track, text))

    def name_tracks(self, names: Mapping[int, str]) -> None:
        """Record whose face each track is, and that all are named."""
        with self._transaction() as db:
            db.executemany("UPDATE faces SET person = ? WHERE track = ?", [(n, t) for t, n in names.items()])
            db.execute("REPLACE INTO facts VALUES ('named', 'true')")

    def rename_person(self, old: str, new: str) -> None:
        """Record that a person has another name now."""
        with self._transaction() as db:
            db.execute("UPDATE faces SET person = ? WHERE person = ?", (new, old))

    def set_aside(self) -> frozenset[str]:
        """Return the names, without suffix, of the crops that a person does not want."""
        return frozenset(self._checked(str(crop) for (crop,) in self._read("SELECT crop FROM set_aside")))

    def set_crops_aside(self, crops: Iterable[str]) -> None:
        """Record that a person does not want these crops, by their names without suffix."""
        with self._transaction() as db:
            db.executemany("INSERT OR IGNORE INTO set_aside VALUES (?)", [(crop,) for crop in crops])

    def clear(self) -> None:
        """Forget everything."""
        with self._transaction() as db:
            for table in sorted(TABLES):
                db.execute(f"DELETE FROM {table}")  # noqa: S608 - ours

    def frame_count(self) -> int:
        """Number of frames looked at so far."""
        return self._number("SELECT count(*) FROM frames")

    def last_shot(self) -> int:
        """Number of the shot of the last frame looked at; -1 before the first."""
        return self._number("SELECT coalesce(max(shot), -1) FROM frames")

    def face_count(self) -> int:
        """Number of faces found so far."""
        return self._number("SELECT count(*) FROM faces")

    def frames_with_faces(self) -> int:
        """Number of frames that show at least one face."""
        return self._number("SELECT count(DISTINCT frame) FROM faces")

    def people(self) -> dict[str, int]:
        """Number of faces by the name they were extracted under, the most first."""
        rows = self._read("SELECT person, count(*) FROM faces GROUP BY person ORDER BY count(*) DESC, person")
        return dict(self._checked((str(person), int(count)) for person, count in rows))

    def next_frame(self) -> int:
        """Index of the first frame after all that were looked at."""
        return self._number("SELECT coalesce(max(frame) + 1, 0) FROM frames")

    def next_track(self) -> int:
        """Number of the first track not used yet."""
        return self._number("SELECT coalesce(max(track) + 1, 0) FROM faces")

    def faces(self, first: int = 0, end: int = LAST) -> list[StoredFace]:
        """Return all faces from a frame up to, and without, another, in order of frame, then track."""
        rows = self._read("SELECT * FROM faces WHERE frame >= ? AND frame < ? ORDER BY frame, track", first, end)
        return self._checked(map(face_of, rows))

    def each_face(self) -> Iterator[StoredFace]:
        """Give all faces, one after the other, in order of frame, then track."""
        return self._each_checked(map(face_of, self._each("SELECT * FROM faces ORDER BY frame, track")))

    def crop_of(self, frame: int, track: int) -> str | None:
        """Return the file name of the crop of a face; None where it has none."""
        rows = self._read("SELECT frame, track, crop FROM faces WHERE frame = ? AND track = ?", frame, track)
        return next((label.crop for label in self._checked(map(label_of, rows))), None)

    def scores(self) -> dict[int, list[float]]:
        """Return the detector's scores of each track, in order of frame."""
        scores: dict[int, list[float]] = {}
        rows = self._each("SELECT track, score FROM faces ORDER BY frame, track")
        for track, score in self._each_checked((int(track), float(score)) for track, score in rows):
            scores.setdefault(track, []).append(score)
        return scores

    def unnamed_tracks(self) -> dict[int, frozenset[int]]:
        """Return in which frames each track is seen whose face was not named yet."""
        seen: dict[int, list[int]] = {}
        rows = self._each("SELECT frame, track, crop FROM faces WHERE person = '' ORDER BY frame, track")
        for label in self._each_checked(map(label_of, rows)):
            seen.setdefault(label.track, []).append(label.frame)
        return {track: frozenset(frames) for track, frames in seen.items()}

    def unnamed_crops(self) -> Iterator[Label]:
        """Give the faces with a crop that were not named yet, one after the other, in order of frame, then track."""
        query = "SELECT frame, track, crop FROM faces WHERE person = '' AND crop IS NOT NULL ORDER BY frame, track"
        return self._each_checked(map(label_of, self._each(query)))

    def labels(self) -> list[Label]:
        """Return what tells whose all the faces are, in order of frame, then track."""
        return self._checked(map(label_of, self._read("SELECT frame, track, crop FROM faces ORDER BY frame, track")))

    def owners(self) -> Iterator[tuple[Label, str]]:
        """Give what tells whose all the faces are, each with the name it was extracted under, one after the other."""
        rows = self._each("SELECT frame, track, crop, person FROM faces ORDER BY frame, track")
        return self._each_checked((label_of(row[:3]), str(row[3])) for row in rows)

    def timestamps(self) -> list[int]:
        """Return the timestamps of all frames looked at, in order."""
        frames = self._checked(map(frame_of, self._read("SELECT frame, pts, 0 FROM frames ORDER BY frame")))
        last_seen = self._number("SELECT coalesce(max(frame), -1) FROM faces")
        if any(frame.index != place for place, frame in enumerate(frames)) or last_seen >= len(frames):
            raise WorkspaceError(f"{self.path} is damaged (frames are missing): delete it and extract again")
        return [frame.pts for frame in frames]

    def _read(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with self._guarded():
            return self._db.execute(query, values).fetchall()

    def _each(self, query: str, *values: object) -> Iterator[tuple[Any, ...]]:
        """Read rows as they are used; they may be more than should be in memory."""
        with self._guarded():
            yield from self._db.execute(query, values)

    def _number(self, query: str) -> int:
        """Read the one whole number that is asked for."""
        ((value,),) = self._read(query)
        (number,) = self._checked(map(count_of, [value]))
        return number

    def _checked(self, values: Iterable[T]) -> list[T]:
        """Read values that may not be what they should."""
        return list(self._each_checked(values))

    def _each_checked(self, values: Iterable[T]) -> Iterator[T]:
        """Read values that may not be what they should, as they are used."""
        try:
            yield from values
        except (ArithmeticError, ValueError, TypeError, RecursionError) as error:
            raise WorkspaceError(f"{self.path} is damaged ({str(error)[:100]}): delete it and extract again") from error

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._guarded(), self._db:
            yield self._db

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise WorkspaceError(
                f"cannot write {self.path.parent}: {error.strerror}; choose another --workspace"
            ) from error
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise WorkspaceError(
                f"cannot use {self.path}: {error}; is the disk full, is another run using it, or is it damaged? "
                "A damaged one: delete it and extract again"
            ) from error
