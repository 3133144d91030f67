"""The SQLite file of a store: its tables, and opening it safely, as it may come from anywhere.

``application_id`` is ``APPLICATION_ID`` and ``user_version`` is ``VERSION``; the journal mode is SQLite's default,
which works on network drives. Tables:
    facts(key, value)                  JSON values: source, options, probe facts, finished, lost
    frames(frame, pts, shot)           every decoded frame; ``shot`` counts the cuts before it
    faces(frame, track, person, crop, score, box, landmarks, crop_from_frame)
                                       ``crop``: file name or NULL where none was written; geometry as JSON lists;
                                       ``person``: empty until the tracks are named
    tracks(track, embedding)           JSON list; NULL where the track cannot be identified
    set_aside(crop)                    file names, without suffix, of crops that the user does not want
"""

import sqlite3
from contextlib import closing
from pathlib import Path

from pipeline.errors import WorkspaceError

VERSION = 3
APPLICATION_ID = 0x52637374  # "Rcst"
BEFORE_APPLICATION_ID = (1, 2)  # versions whose stores have 0 there
VERSION_BYTES, APPLICATION_ID_BYTES = slice(60, 64), slice(68, 72)  # of a database's header (sqlite.org/fileformat2)
JOURNAL_MAGIC, PAGES_BEFORE_BYTES = b"\xd9\xd5\x05\xf9 \xa1c\xd7", slice(16, 20)  # of a journal's header
LOCK_TIMEOUT_S = 30  # wait for another process that is writing
MAX_ROWS = 20_000_000  # per table: a hundred hours of two faces; more would fill the memory
MIN_ROW_BYTES = 8  # rows are counted only in files that could hold more than MAX_ROWS of these

TABLES = {
    "facts": "(key TEXT PRIMARY KEY, value TEXT NOT NULL)",
    "frames": "(frame INTEGER PRIMARY KEY, pts INTEGER NOT NULL, shot INTEGER NOT NULL)",
    "faces": """(
        frame INTEGER NOT NULL, track INTEGER NOT NULL, person TEXT NOT NULL, crop TEXT, score REAL NOT NULL,
        box TEXT NOT NULL, landmarks TEXT NOT NULL, crop_from_frame TEXT NOT NULL, PRIMARY KEY (frame, track)
    )""",
    "tracks": "(track INTEGER PRIMARY KEY, embedding TEXT)",
    "set_aside": "(crop TEXT PRIMARY KEY)",
}
SCHEMA = f"""
    BEGIN IMMEDIATE;
    {"".join(f"CREATE TABLE IF NOT EXISTS {name} {columns};" for name, columns in TABLES.items())}
    PRAGMA application_id = {APPLICATION_ID};
    PRAGMA user_version = {VERSION};
    COMMIT;
"""


def open_database(path: Path, *, write: bool, roll_back: bool) -> sqlite3.Connection:
    """Open a store, to read it or to ``write`` and create it.

    ``roll_back`` first undoes what a killed process left unfinished; else reading changes nothing.

    Raises:
        WorkspaceError: it is of another program or version, holds anything but a store's tables, or needs a roll-back.
        sqlite3.Error: SQLite cannot use it.
    """
    journal = path.with_name(f"{path.name}-journal")
    start = _read_start(journal)
    if start.startswith(JOURNAL_MAGIC) and not any(start[PAGES_BEFORE_BYTES]) and path.is_file():
        if not roll_back:
            raise WorkspaceError(_unfinished_write(path))
        _roll_back(path)  # the file was being created: its header may hold anything
    header = _read_start(path)
    if header:
        _check_header(header, path)
    if write:
        db = _connect(path, "rwc")
    elif header:
        if roll_back and journal.is_file():
            _roll_back(path)  # a connection that only reads cannot
        db = _connect(path, "ro")
    else:
        db = sqlite3.connect(":memory:")  # a run was killed before it recorded anything
    try:
        db.execute("PRAGMA synchronous = EXTRA")  # a commit waits for the deletion of the journal too
        if header:
            _check_schema(db, path)
        else:
            db.executescript(SCHEMA)
    except BaseException as error:
        db.close()
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_READONLY_ROLLBACK:
            raise WorkspaceError(_unfinished_write(path)) from error
        raise
    return db


def _unfinished_write(path: Path) -> str:
    return (
        f"a run was killed while it wrote {path}: python cli.py check --repair undoes the unfinished write, "
        "and so does every command that reads the file"
    )


def _read_start(path: Path) -> bytes:
    if not path.is_file():
        return b""
    with path.open("rb") as file:
        return file.read(100)


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    db = sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=LOCK_TIMEOUT_S)
    db.execute("PRAGMA trusted_schema = OFF")
    return db


def _roll_back(path: Path) -> None:
    """Let SQLite undo the unfinished write of a killed process; writes of a running process are left alone."""
    try:
        with closing(_connect(path, "rw")) as db:
            db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError as error:
        raise WorkspaceError(
            f"a run was killed while it wrote {path}, and the file cannot be repaired: {error}; "
            "make the workspace writable once"
        ) from error


def _check_header(header: bytes, path: Path) -> None:
    """Refuse files of other programs and versions by their first bytes: opening one could already write beside it."""
    version, application_id = int.from_bytes(header[VERSION_BYTES]), int.from_bytes(header[APPLICATION_ID_BYTES])
    if application_id != APPLICATION_ID and not (application_id == 0 and version in BEFORE_APPLICATION_ID):
        raise WorkspaceError(f"{path} belongs to another program: move it away and extract again")
    if version != VERSION:
        raise WorkspaceError(f"{path} is of version {version}; this is {VERSION}: move it away and extract again")


def _check_schema(db: sqlite3.Connection, path: Path) -> None:
    """Refuse anything but a store's tables (views, triggers and computed columns run code when read); limit rows."""
    for kind, name, sql in db.execute("SELECT type, name, sql FROM sqlite_master"):
        expected = " ".join(f"CREATE TABLE {name} {TABLES.get(name)}".split())
        if (kind, sql) != ("index", None) and " ".join(str(sql).split()) != expected:
            raise WorkspaceError(f"{path} holds a {kind} {str(name)[:50]!r} that no store has: delete it")
    for name in TABLES if path.stat().st_size >= MAX_ROWS * MIN_ROW_BYTES else ():
        count_rows = f"SELECT count(*) FROM (SELECT 1 FROM {name} LIMIT {MAX_ROWS + 1})"  # noqa: S608 - a constant
        if db.execute(count_rows).fetchone()[0] > MAX_ROWS:
            raise WorkspaceError(f"{path} has more than {MAX_ROWS} {name}: delete it and extract again")
