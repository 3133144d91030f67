"""What extract learned of one video: an SQLite file, written in transactions, read by frame.

Tables (version 2; kept in ``user_version``):
    facts(key, value)                  JSON values: source, options, probe facts, finished, lost
    frames(frame, pts, shot)           every frame looked at; ``shot`` counts the film's cuts before it
    faces(frame, track, person, crop, score, box, landmarks, crop_from_frame)
                                       ``crop``: file name or NULL where none was written; geometry as JSON lists;
                                       ``person``: empty until the tracks are named
    tracks(track, embedding)           who a track is, as a JSON list; NULL where that cannot be said
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np

from pipeline.arrays import Affine, Embedding, Face
from pipeline.errors import WorkspaceError

VERSION = 2
LAST = 1 << 62  # behind every frame

_SCHEMA = """
CREATE TABLE facts (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE frames (frame INTEGER PRIMARY KEY, pts INTEGER NOT NULL, shot INTEGER NOT NULL);
CREATE TABLE faces (
    frame INTEGER NOT NULL, track INTEGER NOT NULL, person TEXT NOT NULL, crop TEXT, score REAL NOT NULL,
    box TEXT NOT NULL, landmarks TEXT NOT NULL, crop_from_frame TEXT NOT NULL, PRIMARY KEY (frame, track)
);
"""

_TRACKS = "CREATE TABLE IF NOT EXISTS tracks (track INTEGER PRIMARY KEY, embedding TEXT);"
_FROM_1 = "ALTER TABLE frames ADD COLUMN shot INTEGER NOT NULL DEFAULT 0;"


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


class FaceStore:
    """The store of one video, open for reading and writing.

    Args:
        path: the file; made with its folder when ``create`` is set.
        create: make the file when it is missing.

    Raises:
        WorkspaceError: the file is missing, no store, or from a newer version.
    """

    def __init__(self, path: Path, *, create: bool = False) -> None:
        self.path = path
        if not create and not path.is_file():
            raise WorkspaceError(f"no faces recorded in {path}: run python cli.py extract on the video")
        with self._guarded():
            if create:
                path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path)
            try:
                self._prepare()
            except BaseException:
                self._db.close()
                raise

    def _prepare(self) -> None:
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version > VERSION:
            raise WorkspaceError(f"{self.path} is of version {version}, this is {VERSION}: use the newer Recast")
        self._db.execute("PRAGMA journal_mode=WAL")
        if version == 0:
            with self._db:
                self._db.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {VERSION}; COMMIT;")
        elif version == 1:
            with self._db:
                self._db.executescript(f"BEGIN; {_FROM_1} PRAGMA user_version = {VERSION}; COMMIT;")
        self._db.execute(_TRACKS)

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
        return json.loads(rows[0][0]) if rows else None

    def record_facts(self, **facts: Any) -> None:
        """Record JSON values under their keys."""
        with self._transaction() as db:
            db.executemany("REPLACE INTO facts VALUES (?, ?)", [(k, json.dumps(v)) for k, v in facts.items()])

    def record(self, frames: Iterable[StoredFrame], faces: Iterable[StoredFace]) -> None:
        """Record frames and their faces: all of them or, after a crash, none."""
        with self._transaction() as db:
            db.executemany("REPLACE INTO frames VALUES (?, ?, ?)", map(astuple, frames))
            db.executemany("REPLACE INTO faces VALUES (?, ?, ?, ?, ?, ?, ?, ?)", map(_row, faces))

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
        return [_stored_face(row) for row in rows]

    def forget(self, faces: Iterable[StoredFace]) -> None:
        """Take faces out."""
        with self._transaction() as db:
            db.executemany("DELETE FROM faces WHERE frame = ? AND track = ?", [(f.frame, f.track) for f in faces])

    def crops(self) -> dict[int, list[str]]:
        """Return the file names of the crops, by track."""
        crops: dict[int, list[str]] = {}
        for track, crop in self._read("SELECT track, crop FROM faces WHERE crop IS NOT NULL ORDER BY frame"):
            crops.setdefault(track, []).append(crop)
        return crops

    def embeddings(self) -> dict[int, Embedding | None]:
        """Return who the tracks are that were looked at for it, by track; None where that cannot be said."""
        rows = self._read("SELECT track, embedding FROM tracks ORDER BY track")
        return {track: None if text is None else np.array(json.loads(text)) for track, text in rows}

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

    def clear(self) -> None:
        """Forget everything."""
        with self._transaction() as db:
            for statement in ("DELETE FROM facts", "DELETE FROM frames", "DELETE FROM faces", "DELETE FROM tracks"):
                db.execute(statement)

    def frame_count(self) -> int:
        """Number of frames looked at so far."""
        return int(self._read("SELECT count(*) FROM frames")[0][0])

    def last_shot(self) -> int:
        """Number of the shot of the last frame looked at; -1 before the first."""
        return int(self._read("SELECT coalesce(max(shot), -1) FROM frames")[0][0])

    def face_count(self) -> int:
        """Number of faces found so far."""
        return int(self._read("SELECT count(*) FROM faces")[0][0])

    def frames_with_faces(self) -> int:
        """Number of frames that show at least one face."""
        return int(self._read("SELECT count(DISTINCT frame) FROM faces")[0][0])

    def people(self) -> dict[str, int]:
        """Number of faces by the name they were extracted under, the most first."""
        rows = self._read("SELECT person, count(*) FROM faces GROUP BY person ORDER BY count(*) DESC, person")
        return dict(rows)

    def next_frame(self) -> int:
        """Index of the first frame after all that were looked at."""
        return int(self._read("SELECT coalesce(max(frame) + 1, 0) FROM frames")[0][0])

    def next_track(self) -> int:
        """Number of the first track not used yet."""
        return int(self._read("SELECT coalesce(max(track) + 1, 0) FROM faces")[0][0])

    def faces(self, first: int = 0, end: int = LAST) -> list[StoredFace]:
        """Return all faces from a frame up to, and without, another, in order of frame, then track."""
        rows = self._read("SELECT * FROM faces WHERE frame >= ? AND frame < ? ORDER BY frame, track", first, end)
        return [_stored_face(row) for row in rows]

    def labels(self) -> list[Label]:
        """Return what tells whose all the faces are, in order of frame, then track."""
        return [Label(*row) for row in self._read("SELECT frame, track, crop FROM faces ORDER BY frame, track")]

    def timestamps(self) -> list[int]:
        """Return the timestamps of all frames looked at, in order."""
        return [pts for (pts,) in self._read("SELECT pts FROM frames ORDER BY frame")]

    def _read(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with self._guarded():
            return self._db.execute(query, values).fetchall()

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
        except sqlite3.Error as error:
            raise WorkspaceError(
                f"cannot use {self.path}: {error}; is the disk full, is another run using it, or is it damaged? "
                "A damaged one: delete it and extract again"
            ) from error


def _row(stored: StoredFace) -> tuple[object, ...]:
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


def _stored_face(row: tuple[Any, ...]) -> StoredFace:
    frame, track, person, crop, score, *geometry = row
    box, landmarks, crop_from_frame = (np.array(json.loads(text), dtype=np.float64) for text in geometry)
    return StoredFace(frame, track, person, crop, Face(box, score, landmarks), crop_from_frame)
