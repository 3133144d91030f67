"""The tables of a store, by version; older ones are brought up to date, with a copy kept.

Version 2 (kept in ``user_version``):
    facts(key, value)                  JSON values: source, options, probe facts, finished, lost
    frames(frame, pts, shot)           every frame looked at; ``shot`` counts the film's cuts before it
    faces(frame, track, person, crop, score, box, landmarks, crop_from_frame)
                                       ``crop``: file name or NULL where none was written; geometry as JSON lists;
                                       ``person``: empty until the tracks are named
    tracks(track, embedding)           who a track is, as a JSON list; NULL where that cannot be said

Version 1 had no shots.
"""

import re
import sqlite3
from contextlib import closing
from pathlib import Path

from pipeline.errors import WorkspaceError

VERSION = 2
TABLES = frozenset({"facts", "frames", "faces", "tracks"})
MOST_ROWS = 20_000_000  # of a table: a hundred hours of two faces; more would fill the memory
COMPUTED = re.compile(r"\b(virtual|generated|as|check|collate)\b", re.IGNORECASE)  # what would run when it is read

_TRACKS = "CREATE TABLE IF NOT EXISTS tracks (track INTEGER PRIMARY KEY, embedding TEXT);"
_SCHEMA = f"""
CREATE TABLE facts (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE frames (frame INTEGER PRIMARY KEY, pts INTEGER NOT NULL, shot INTEGER NOT NULL);
CREATE TABLE faces (
    frame INTEGER NOT NULL, track INTEGER NOT NULL, person TEXT NOT NULL, crop TEXT, score REAL NOT NULL,
    box TEXT NOT NULL, landmarks TEXT NOT NULL, crop_from_frame TEXT NOT NULL, PRIMARY KEY (frame, track)
);
{_TRACKS}
"""
_STEPS = {1: "ALTER TABLE frames ADD COLUMN shot INTEGER NOT NULL DEFAULT 0;"}
"""What brings a version to the next."""


def prepare(db: sqlite3.Connection, path: Path) -> None:
    """Make the tables of a new store, or bring those of an old one up to date.

    Args:
        db: the open store.
        path: its file; a copy of an older version stays beside it.

    Raises:
        WorkspaceError: it is from a newer version, or holds what no store holds.
        sqlite3.Error: it is no database, or cannot be written.
    """
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version < 0:
        raise WorkspaceError(f"{path} is of version {version}, which there never was: delete it and extract again")
    if version > VERSION:
        raise WorkspaceError(f"{path} is of version {version}, this is {VERSION}: use the newer Recast")
    db.execute("PRAGMA trusted_schema = OFF")
    if version:
        _refuse_foreign(db, path)
    if 0 < version < VERSION:
        _keep_copy(db, path, version)
    db.execute("PRAGMA journal_mode = WAL")
    if version == 0:
        _change(db, _SCHEMA, VERSION)
    else:
        for older in range(version, VERSION):
            _change(db, _STEPS[older], older + 1)
    db.execute(_TRACKS)  # the first stores of version 2 had none


def _change(db: sqlite3.Connection, statements: str, version: int) -> None:
    with db:
        db.executescript(f"BEGIN; {statements} PRAGMA user_version = {version}; COMMIT;")


def _refuse_foreign(db: sqlite3.Connection, path: Path) -> None:
    """Refuse views, triggers and tables that compute what they hold, and more rows than any video has faces."""
    for kind, name, table, sql in db.execute("SELECT type, name, tbl_name, sql FROM sqlite_master"):
        is_table = kind == "table" and name in TABLES and not COMPUTED.search(sql or "")
        is_index = kind == "index" and table in TABLES and sql is None
        if not (is_table or is_index):
            raise WorkspaceError(f"{path} holds a {kind} {name[:50]!r}, which is none of a store's: delete it")
        counting = f"SELECT count(*) FROM (SELECT 1 FROM {name} LIMIT {MOST_ROWS + 1})"  # noqa: S608 - ours
        if is_table and db.execute(counting).fetchone()[0] > MOST_ROWS:
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
