"""What extract learned of one video: an SQLite file, written in transactions, read by frame; tables: ``schema``.

The tables of a store, by version; older ones are brought up to date, with a copy kept.

A store says that it is one: ``application_id`` is ``OURS``, or it is of version 1 or 2, which had none, and has their
tables. Nothing else is opened for writing. Its journal is SQLite's default, which works on network drives; versions 1
and 2 had a write-ahead log.

Version 3 (kept in ``user_version``):
    facts(key, value)                  JSON values: source, options, probe facts, finished, lost
    frames(frame, pts, shot)           every frame looked at; ``shot`` counts the film's cuts before it
    faces(frame, track, person, crop, score, box, landmarks, crop_from_frame)
                                       ``crop``: file name or NULL where none was written; geometry as JSON lists;
                                       ``person``: empty until the tracks are named
    tracks(track, embedding)           who a track is, as a JSON list; NULL where that cannot be said
    set_aside(crop)                    file names, without suffix, of the crops that a person does not want

Version 2 had no ``set_aside``, and at first no ``tracks``; version 1 had no shots.

What a store holds, and the form it has there; what is read is checked, for a store may come from anywhere.
"""

import json
import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import astuple, dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np

from pipeline.errors import WorkspaceError
from pipeline.types import Affine, Embedding, Face
from pipeline.workspace import is_name

VERSION = 3
OURS = 0x52637374  # "Rcst"
REQUIRED = frozenset({"facts", "frames", "faces"})
MOST_ROWS = 20_000_000  # of a table: a hundred hours of two faces; more would fill the memory
SMALLEST_ROW = 8  # bytes; a file that is too short for too many rows need not be counted
JOURNAL_MAGIC = b"\xd9\xd5\x05\xf9 \xa1c\xd7"  # sqlite.org/fileformat2.html: its bytes 16 to 20 count the pages before
PATIENCE_S = 30  # that another process may take to write
COMPUTED = re.compile(r"\b(virtual|generated|as|check|collate)\b", re.IGNORECASE)  # what would run when it is read

_TABLES = {
    "facts": "(key TEXT PRIMARY KEY, value TEXT NOT NULL)",
    "frames": "(frame INTEGER PRIMARY KEY, pts INTEGER NOT NULL, shot INTEGER NOT NULL)",
    "faces": """(
        frame INTEGER NOT NULL, track INTEGER NOT NULL, person TEXT NOT NULL, crop TEXT, score REAL NOT NULL,
        box TEXT NOT NULL, landmarks TEXT NOT NULL, crop_from_frame TEXT NOT NULL, PRIMARY KEY (frame, track)
    )""",
    "tracks": "(track INTEGER PRIMARY KEY, embedding TEXT)",
    "set_aside": "(crop TEXT PRIMARY KEY)",
}
TABLES = frozenset(_TABLES)
_SCHEMA = " ".join(f"CREATE TABLE IF NOT EXISTS {name} {columns};" for name, columns in _TABLES.items())
_SCHEMA += f"PRAGMA application_id = {OURS};"
_STEPS = {
    1: "ALTER TABLE frames ADD COLUMN shot INTEGER NOT NULL DEFAULT 0;",
    2: _SCHEMA,
}
"""What brings a version to the next."""


def open_to_read(path: Path, *, takes_back: bool = True) -> sqlite3.Connection:
    """Open a store so that nothing of it can change.

    Args:
        path: the file.
        takes_back: what a killed process was writing is taken back first.

    Raises:
        WorkspaceError: it is no store, from a newer version, or holds what no store holds; or something would have to
            be taken back.
        sqlite3.Error: it is no database, or cannot be read.
    """
    if _was_being_created(path):
        _roll_back(path)
    db = _connect(path, _how_to_read(path))
    try:
        try:
            _checked_version(db, path)
        except sqlite3.OperationalError as error:
            if not _has_hot_journal(error):
                raise
            db.close()
            if not takes_back:
                raise WorkspaceError(
                    f"{path} was being written when that run was killed: python cli.py check --repair takes that back, "
                    "and so does every command that reads it"
                ) from error
            _take_back(path)
            db = _connect(path, "mode=ro")
            _checked_version(db, path)
        db.execute("PRAGMA temp_store = MEMORY")
        for name, columns in _TABLES.items():  # for what an older version, or a run killed at its start, has not made
            if not _has_table(db, name):
                db.execute(f"CREATE TEMP TABLE {name} {columns}")
    except BaseException:
        db.close()
        raise
    return db


def _has_hot_journal(error: sqlite3.OperationalError) -> bool:
    """Say whether a store only cannot be read because a killed process was writing it; not every error has a number."""
    return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_READONLY_ROLLBACK


def open_to_write(path: Path) -> sqlite3.Connection:
    """Open a store to change it; make its tables where the file is new, bring those of an old one up to date.

    Raises:
        WorkspaceError: it is no store, from a newer version, or holds what no store holds.
        sqlite3.Error: it is no database, or cannot be written.
    """
    if _was_being_created(path):
        _roll_back(path)
    if path.is_file() and path.stat().st_size:
        try:
            with closing(_connect(path, _how_to_read(path))) as looked_at:
                _checked_version(looked_at, path)
        except sqlite3.OperationalError as error:
            if not _has_hot_journal(error):
                raise
            _take_back(path)
    db = _connect(path, "mode=rwc")
    try:
        version = _checked_version(db, path)
        if 0 < version < VERSION:
            _keep_copy(db, path, version)
        db.execute("PRAGMA journal_mode = DELETE")
        db.execute("PRAGMA synchronous = EXTRA")  # waits for the journal's deletion too: what is recorded stays so
        if version == 0:
            _change(db, _SCHEMA, VERSION)
        for older in range(version, VERSION) if version else ():
            _change(db, _STEPS[older], older + 1)
    except BaseException:
        db.close()
        raise
    return db


def _connect(path: Path, how: str) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?{how}"
    db = sqlite3.connect(uri, uri=True, timeout=PATIENCE_S)
    db.execute("PRAGMA trusted_schema = OFF")
    return db


def _how_to_read(path: Path) -> str:
    """Choose how: SQLite makes a write-ahead log beside a file that had one, unless told that nothing changes."""
    log = path.with_name(f"{path.name}-wal")
    with path.open("rb") as file:
        has_log = file.read(20)[18:20] == b"\2\2"
    return "immutable=1" if has_log and not (log.is_file() and log.stat().st_size) else "mode=ro"


def _take_back(path: Path) -> None:
    """Undo what a killed process was writing, once it is sure that the file is a store."""
    with path.open("rb") as file:
        mark = int.from_bytes(file.read(72)[68:], "big")
    if mark != OURS:  # an old store: only its tables say what it is
        with closing(_connect(path, "immutable=1")) as db:
            _checked_version(db, path)
    _roll_back(path)


def _was_being_created(path: Path) -> bool:
    """Say whether the journal beside a file tells that it was empty before, so that what it holds may be anything."""
    journal = path.with_name(f"{path.name}-journal")
    if not (path.is_file() and journal.is_file()):
        return False
    with journal.open("rb") as file:
        header = file.read(20)
    return header[:8] == JOURNAL_MAGIC and int.from_bytes(header[16:], "big") == 0


def _roll_back(path: Path) -> None:
    """Let SQLite undo what a killed process was writing; what a running one writes it leaves alone."""
    try:
        with closing(_connect(path, "mode=rw")) as db:
            db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError as error:
        raise WorkspaceError(
            f"{path} was being written when that run was killed, and cannot be set right here: {error}; "
            "make the workspace writable once"
        ) from error


def _has_table(db: sqlite3.Connection, name: str) -> bool:
    return db.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (name,)).fetchone() is not None


def _checked_version(db: sqlite3.Connection, path: Path) -> int:
    """Say of which version a store is; 0 where it has nothing yet. What is none of ours is refused."""
    (version,), (mark,) = (db.execute(f"PRAGMA {what}").fetchone() for what in ("user_version", "application_id"))
    tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master")]
    if version == mark == 0 and not tables:
        return 0
    if mark not in (0, OURS) or (mark == 0 and tables and not set(tables) >= REQUIRED):
        raise WorkspaceError(f"{path} belongs to another program: move it away, and extract again")
    if version < 1 or (mark == 0 and version == VERSION):
        raise WorkspaceError(f"{path} is of version {version}, which there never was: delete it and extract again")
    if version > VERSION:
        raise WorkspaceError(f"{path} is of version {version}, this is {VERSION}: use the newer Recast")
    _refuse_foreign(db, path)
    return int(version)


def _change(db: sqlite3.Connection, statements: str, version: int) -> None:
    with db:
        db.executescript(f"BEGIN IMMEDIATE; {statements} PRAGMA user_version = {version}; COMMIT;")


def _refuse_foreign(db: sqlite3.Connection, path: Path) -> None:
    """Refuse views, triggers and tables that compute what they hold, and more rows than any video has faces."""
    is_long = path.stat().st_size >= MOST_ROWS * SMALLEST_ROW
    for kind, name, table, sql in db.execute("SELECT type, name, tbl_name, sql FROM sqlite_master"):
        is_table = kind == "table" and name in TABLES and not COMPUTED.search(sql or "")
        is_index = kind == "index" and table in TABLES and sql is None
        if not (is_table or is_index):
            raise WorkspaceError(f"{path} holds a {kind} {name[:50]!r}, which is none of a store's: delete it")
        counting = f"SELECT count(*) FROM (SELECT 1 FROM {name} LIMIT {MOST_ROWS + 1})"  # noqa: S608 - ours
        if is_table and is_long and db.execute(counting).fetchone()[0] > MOST_ROWS:
            raise WorkspaceError(f"{path} has more than {MOST_ROWS} {name}: delete it and extract again")


def _keep_copy(db: sqlite3.Connection, path: Path, version: int) -> None:
    copy = path.with_name(f"{path.stem}.version{version}{path.suffix}")
    if copy.exists():
        return
    part = copy.with_name(f".{copy.name}.part")
    part.unlink(missing_ok=True)
    with closing(sqlite3.connect(part)) as target:
        db.backup(target)
    part.replace(copy)


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


T = TypeVar("T")

LAST = 1 << 62  # behind every frame


class FaceStore:
    """The store of one video.

    Args:
        path: the file.
        write: open it for changes too; without, the file stays as it is.
        create: make the file with its folder when it is missing, to write to.
        takes_back: without ``write``, take back what a killed run was writing, without which it cannot be read.

    Raises:
        WorkspaceError: the file is missing, no store, or from a newer version.
    """

    def __init__(self, path: Path, *, write: bool = False, create: bool = False, takes_back: bool = True) -> None:
        self.path = path
        if not create and not path.is_file():
            raise WorkspaceError(f"no faces recorded in {path}: run python cli.py extract on the video")
        with self._guarded():
            if create:
                path.parent.mkdir(parents=True, exist_ok=True)
            self._db = open_to_write(path) if write or create else open_to_read(path, takes_back=takes_back)

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
