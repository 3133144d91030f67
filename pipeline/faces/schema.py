"""The tables of a store, by version; older ones are brought up to date, with a copy kept.

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
"""

import re
import sqlite3
from contextlib import closing
from pathlib import Path

from pipeline.errors import WorkspaceError

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


def open_to_read(path: Path) -> sqlite3.Connection:
    """Open a store so that nothing of it can change; what a killed process was writing is taken back first.

    Raises:
        WorkspaceError: it is no store, from a newer version, or holds what no store holds.
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
