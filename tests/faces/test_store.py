"""What extract learned of a video, on disk."""

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import WorkspaceError
from pipeline.faces.database import APPLICATION_ID, VERSION
from pipeline.faces.store import FaceStore, StoredFace, StoredFrame
from pipeline.types import Face


def frames(*facts: tuple[int, int], shot: int = 0) -> list[StoredFrame]:
    return [StoredFrame(index, pts, shot) for index, pts in facts]


def stored_face(frame: int, track: int = 0, *, person: str = "hopper", crop: str | None = None) -> StoredFace:
    rng = np.random.default_rng([frame, track])
    face = Face(rng.uniform(-20, 3000, 4), float(rng.uniform(0.9, 1)), rng.uniform(0, 3000, (5, 2)))
    return StoredFace(frame, track, person, crop, face, rng.normal(0, 40, (2, 3)))


def assert_equal_faces(found: list[StoredFace], expected: list[StoredFace]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert (one.frame, one.track, one.person, one.crop) == (other.frame, other.track, other.person, other.crop)
        assert one.face.score == other.face.score
        np.testing.assert_allclose(one.face.box, other.face.box, atol=1e-3)
        np.testing.assert_allclose(one.face.landmarks, other.face.landmarks, atol=1e-3)
        # In crop px even at the far end of a frame 4000 px wide.
        np.testing.assert_allclose(one.crop_from_frame[:, :2], other.crop_from_frame[:, :2], atol=1e-3 / 4000)
        np.testing.assert_allclose(one.crop_from_frame[:, 2], other.crop_from_frame[:, 2], atol=1e-3)
        assert [a.dtype for a in (one.face.box, one.face.landmarks, one.crop_from_frame)] == [np.float64] * 3


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FaceStore]:
    with FaceStore(tmp_path / "videos" / "a clip" / "faces.sqlite", create=True) as store:
        yield store


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None, max_examples=30)
@given(st.dictionaries(st.sampled_from(["finished", "read", "pictures", "another"]), json_values))
def test_facts_come_back_as_they_were(tmp_path_factory: pytest.TempPathFactory, facts: dict[str, Any]) -> None:
    path = tmp_path_factory.mktemp("facts") / "faces.sqlite"
    with FaceStore(path, create=True) as store:
        store.record_facts(**facts)
    with FaceStore(path) as store:
        assert {key: store.fact(key) for key in facts} == facts
        assert store.fact("never recorded") is None


def test_a_fact_recorded_again_replaces_the_old_one(store: FaceStore) -> None:
    store.record_facts(finished=False, person="zoë")
    store.record_facts(finished=True)
    assert store.fact("finished") is True
    assert store.fact("person") == "zoë"


def test_frames_and_faces_come_back_after_reopening(tmp_path: Path) -> None:
    path = tmp_path / "faces.sqlite"
    faces = [stored_face(0, 1, crop="a_000000_1.jpg"), stored_face(0, 4, person="collins"), stored_face(2, 1)]
    with FaceStore(path, create=True) as store:
        store.record(frames((0, -512), (1, 0)), faces[:2])
    with FaceStore(path, create=True) as store:
        store.record(frames((2, 90_000_000_000)), faces[2:])
    with FaceStore(path) as store:
        assert_equal_faces(store.faces(), faces)
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT frame, pts FROM frames").fetchall() == [(0, -512), (1, 0), (2, 90_000_000_000)]


def test_faces_come_in_order_of_frame_then_track_from_the_frame_asked_for(store: FaceStore) -> None:
    store.record([], [stored_face(10, 2), stored_face(9, 0), stored_face(10, 1), stored_face(2, 5)])
    assert [(face.frame, face.track) for face in store.faces()] == [(2, 5), (9, 0), (10, 1), (10, 2)]
    assert [(face.frame, face.track) for face in store.faces(first=10)] == [(10, 1), (10, 2)]
    assert store.faces(first=11) == []


def test_what_a_store_holds_is_counted(store: FaceStore) -> None:
    assert (store.frame_count(), store.face_count(), store.frames_with_faces()) == (0, 0, 0)
    assert (store.people(), store.next_track(), store.next_frame()) == ({}, 0, 0)
    store.record(
        frames(*((index, 40 * index) for index in range(7))),
        [stored_face(1, 0), stored_face(3, 0, person="collins"), stored_face(3, 6), stored_face(5, 2)],
    )
    assert (store.frame_count(), store.face_count(), store.frames_with_faces()) == (7, 4, 3)
    assert (store.people(), store.next_track(), store.next_frame()) == ({"hopper": 3, "collins": 1}, 7, 7)


def test_a_frame_recorded_again_is_not_counted_twice(store: FaceStore) -> None:
    store.record(frames((0, 0)), [stored_face(0, 0)])
    store.record(frames((0, 0), (1, 40)), [stored_face(0, 0, crop="new.jpg")])
    assert (store.frame_count(), store.face_count()) == (2, 1)
    assert store.faces()[0].crop == "new.jpg"


def test_a_batch_is_recorded_as_a_whole_or_not_at_all(store: FaceStore) -> None:
    store.record(frames((0, 0)), [stored_face(0)])

    def faces_that_break_off() -> Iterator[StoredFace]:
        yield stored_face(1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.record(frames((1, 40), (2, 80)), faces_that_break_off())
    nobody = stored_face(2, person=None)  # type: ignore[arg-type]
    with pytest.raises(WorkspaceError, match=r"faces\.person"):
        store.record(frames((1, 40), (2, 80)), [stored_face(1), nobody])
    assert (store.frame_count(), store.face_count()) == (1, 1)
    with FaceStore(store.path) as reopened:
        assert (reopened.frame_count(), reopened.face_count()) == (1, 1)


def test_clear_forgets_everything(store: FaceStore) -> None:
    store.record_facts(finished=True)
    store.record(frames((0, 0)), [stored_face(0)])
    store.clear()
    assert (store.fact("finished"), store.frame_count(), store.face_count()) == (None, 0, 0)
    store.record(frames((0, 0)), [stored_face(0)])
    assert store.face_count() == 1


def test_a_missing_store_says_what_to_type(tmp_path: Path) -> None:
    path = tmp_path / "faces.sqlite"
    with pytest.raises(WorkspaceError, match=r"faces\.sqlite.*python cli\.py extract"):
        FaceStore(path)
    assert not path.exists()


@pytest.mark.parametrize("version", [-1, 1, 2, VERSION + 1])
def test_a_store_of_another_version_is_refused_and_stays_as_it_is(tmp_path: Path, version: int) -> None:
    path = tmp_path / "faces.sqlite"
    with closing(sqlite3.connect(path)) as db:
        mark = 0 if version in (1, 2) else APPLICATION_ID  # the first versions had none
        db.executescript(f"PRAGMA user_version = {version}; PRAGMA application_id = {mark}; CREATE TABLE facts (key);")
    content = path.read_bytes()
    for create in (True, False):
        with pytest.raises(WorkspaceError, match=rf"is of version {version % 2**32}; this is {VERSION}") as refused:
            FaceStore(path, create=create)
        assert str(path) in str(refused.value)
    assert path.read_bytes() == content
    assert [file.name for file in tmp_path.iterdir()] == ["faces.sqlite"]


def test_a_file_that_is_no_store_is_refused_and_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "faces.sqlite"
    path.write_text("frame,track\n" * 100, encoding="utf-8")
    content = path.read_bytes()
    for create in (True, False):
        with pytest.raises(WorkspaceError, match="extract again") as refused:
            FaceStore(path, create=create)
        assert str(path) in str(refused.value)
    assert path.read_bytes() == content


def test_a_store_in_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "videos").write_text("in the way", encoding="utf-8")
    with pytest.raises(WorkspaceError, match="videos"):
        FaceStore(tmp_path / "videos" / "clip" / "faces.sqlite", create=True)


def test_a_refused_store_is_not_left_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with FaceStore(tmp_path / "faces.sqlite", create=True):
        pass
    with closing(sqlite3.connect(tmp_path / "faces.sqlite")) as db:
        db.executescript(HOSTILE_SCHEMAS["another table"])
    connect, connections = sqlite3.connect, []

    def connect_and_remember(*arguments: Any, **options: Any) -> sqlite3.Connection:
        opened: sqlite3.Connection = connect(*arguments, **options)
        connections.append(opened)
        return opened

    monkeypatch.setattr(sqlite3, "connect", connect_and_remember)
    with pytest.raises(WorkspaceError):
        FaceStore(tmp_path / "faces.sqlite")
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        connections[-1].execute("SELECT 1")


def test_short_tracks_are_those_much_shorter_than_their_shot(store: FaceStore) -> None:
    shots = {0: range(10), 1: range(10, 12), 2: range(12, 20)}
    for shot, indices in shots.items():
        store.record(frames(*((i, i) for i in indices), shot=shot), [])
    seen = {0: (0, 1, 2, 3), 1: (4, 6), 2: (9,), 3: (10, 11), 4: (10,), 5: (15, 16, 19)}
    store.record([], [stored_face(frame, track) for track, indices in seen.items() for frame in indices])
    assert store.short_tracks(3) == [1, 2, 4]
    store.delete_tracks([1, 2, 4])
    assert {face.track for face in store.faces()} == {0, 3, 5}
    assert store.short_tracks(3) == []
    assert store.last_shot() == 2


HOSTILE_SCHEMAS = {
    "a view of 10^9 rows": """ALTER TABLE faces RENAME TO hidden; CREATE VIEW faces AS
        WITH RECURSIVE n(x) AS (SELECT 0 UNION ALL SELECT x + 1 FROM n LIMIT 1000000000)
        SELECT x AS frame, 0 AS track, '' AS person, NULL AS crop, 1.0 AS score, '' AS box, '' AS landmarks,
        '' AS crop_from_frame FROM n""",
    "a trigger": "CREATE TRIGGER more AFTER INSERT ON faces BEGIN DELETE FROM facts; END",
    "a computed column": "ALTER TABLE faces ADD COLUMN x AS (zeroblob(1000000000))",
    "a virtual table": "DROP TABLE tracks; CREATE VIRTUAL TABLE tracks USING fts5(track, embedding)",
    "another table": "CREATE TABLE more (x)",
}


@pytest.mark.parametrize("what", HOSTILE_SCHEMAS)
def test_what_no_store_holds_is_refused_before_it_is_read(tmp_path: Path, what: str) -> None:
    path = tmp_path / "faces.sqlite"
    with FaceStore(path, create=True) as store:
        store.record(frames((0, 7)), [stored_face(0)])
    with closing(sqlite3.connect(path)) as db:
        db.executescript(HOSTILE_SCHEMAS[what])
    with pytest.raises(WorkspaceError, match=r"faces\.sqlite.*delete it"):
        FaceStore(path)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("box", "[NaN, 1, 2, 3]"),
        ("box", "[1e300, 1, 2, 3]"),
        ("box", "[1, 2, 3]"),
        ("box", "{}"),
        ("box", f"[{'9' * 400}, 1, 2, 3]"),
        ("box", "[" * 50_000),
        ("box", "1" * 200_000),
        ("box", b"blob"),
        ("landmarks", "[[1, 2]]"),
        ("landmarks", "nothing"),
        ("crop_from_frame", "[[1, 0, Infinity], [0, 1, 0]]"),
        ("person", "../../elsewhere"),
        ("person", "con"),
        ("crop", "../elsewhere.jpg"),
        ("crop", "/etc/passwd"),
        ("crop", ".hidden.jpg"),
        ("crop", "x" * 300),
        ("score", "high"),
        ("score", 1e9),
        ("track", -1),
        ("track", "many"),
        ("track", 1 << 62),
        ("frame", 1 << 40),
        ("crop_from_frame", "[[1e-9, 0, 0], [0, 1e-9, 0]]"),
        ("crop_from_frame", "[[0, 0, 0], [0, 0, 0]]"),
        ("crop_from_frame", "[[1e6, 0, 0], [0, 1e6, 0]]"),
        ("landmarks", "[[1, 1], [1, 1], [1, 1], [1, 1], [1, 1]]"),
    ],
)
def test_faces_that_are_none_are_damage(tmp_path: Path, column: str, value: object) -> None:
    path = tmp_path / "faces.sqlite"
    with FaceStore(path, create=True) as store:
        store.record(frames((0, 7)), [stored_face(0)])
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(f"UPDATE faces SET {column} = ?", (value,))
    with FaceStore(path) as store, pytest.raises(WorkspaceError, match=r"faces\.sqlite is damaged"):
        store.faces()


@pytest.mark.parametrize("column", ["pts", "shot"])
def test_frames_that_are_none_are_damage(tmp_path: Path, column: str) -> None:
    path = tmp_path / "faces.sqlite"
    with FaceStore(path, create=True) as store:
        store.record(frames((0, 7)), [])
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(f"UPDATE frames SET {column} = 'late'")
    with FaceStore(path) as store:
        read = store.timestamps if column == "pts" else store.last_shot
        with pytest.raises(WorkspaceError, match="damaged"):
            read()


@pytest.mark.parametrize(
    "statement",
    [
        f"UPDATE frames SET pts = {(1 << 63) - 1}",
        f"UPDATE frames SET frame = {1 << 50}",
        "UPDATE frames SET frame = 7",
        "UPDATE faces SET frame = 7",
    ],
)
def test_frames_beyond_the_video_are_damage(tmp_path: Path, statement: str) -> None:
    path = tmp_path / "faces.sqlite"
    with FaceStore(path, create=True) as store:
        store.record(frames((0, 7)), [stored_face(0)])
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(statement)
    with FaceStore(path) as store, pytest.raises(WorkspaceError, match="damaged"):
        store.timestamps()


@pytest.mark.parametrize("column", ["frame", "track"])
def test_going_on_behind_mad_numbers_is_refused(tmp_path: Path, column: str) -> None:
    path = tmp_path / "faces.sqlite"
    with FaceStore(path, create=True) as store:
        store.record(frames((0, 7)), [stored_face(0)])
        with closing(sqlite3.connect(path)) as db, db:
            db.execute(f"UPDATE faces SET {column} = {(1 << 63) - 1}")
            db.execute(f"UPDATE frames SET frame = {(1 << 63) - 1}")
        with pytest.raises(WorkspaceError, match="damaged"):
            store.next_frame() if column == "frame" else store.next_track()


@pytest.mark.parametrize(("key", "value"), [("source", 7), ("fingerprint", []), ("options", "x"), ("info", [1])])
def test_facts_of_another_kind_are_damage(tmp_path: Path, key: str, value: object) -> None:
    path = tmp_path / "faces.sqlite"
    with FaceStore(path, create=True) as store:
        store.record_facts(**{key: value})
        with pytest.raises(WorkspaceError, match="damaged"):
            store.fact(key)


def test_a_rate_that_is_none_is_damage(tmp_path: Path) -> None:
    with FaceStore(tmp_path / "faces.sqlite", create=True) as store:
        assert store.average_rate() is None
        store.record_facts(info={"average_rate": "30000/1001"})
        assert store.average_rate() == Fraction(30000, 1001)
        for rate in ("fast", "1/0", "1e999999999", "9" * 4000, 30):
            store.record_facts(info={"average_rate": rate})
            with pytest.raises(WorkspaceError, match="damaged"):
                store.average_rate()


KILLED = """
import os, sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("PRAGMA cache_size = 1")
db.execute("BEGIN IMMEDIATE")
db.execute("UPDATE faces SET person = 'nobody'")
db.executemany("INSERT INTO facts VALUES (?, ?)", [(str(number), "9" * 1000) for number in range(500)])
os._exit(0)
"""


@pytest.mark.parametrize("write", [False, True])
def test_what_a_killed_process_was_writing_is_taken_back(tmp_path: Path, write: bool) -> None:
    path = tmp_path / "faces.sqlite"
    with FaceStore(path, create=True) as store:
        store.record(frames((0, 7)), [stored_face(0)])
    subprocess.run([sys.executable, "-c", KILLED, str(path)], check=True)
    assert path.with_name("faces.sqlite-journal").stat().st_size
    with FaceStore(path, write=write) as store:
        assert store.people() == {"hopper": 1}
        assert store.fact("7") is None


CREATED = """
import os, sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("PRAGMA cache_size = 1")
db.execute("BEGIN IMMEDIATE")
db.execute("CREATE TABLE facts (key TEXT PRIMARY KEY, value TEXT NOT NULL)")
db.executemany("INSERT INTO facts VALUES (?, ?)", [(str(number), "9" * 1000) for number in range(500)])
os._exit(0)
"""


@pytest.mark.parametrize("length", [0, 20, 4096])
@pytest.mark.parametrize("write", [False, True])
def test_a_store_that_was_being_created_at_a_power_cut_is_empty(tmp_path: Path, write: bool, length: int) -> None:
    path = tmp_path / "faces.sqlite"
    subprocess.run([sys.executable, "-c", CREATED, str(path)], check=True)
    content = path.read_bytes()
    assert len(content) > 4096
    path.write_bytes(content[:length] + bytes(4096 - length) + content[4096:])  # of the first page less was written
    with FaceStore(path, write=write, create=write) as store:
        assert (store.fact("7"), store.face_count()) == (None, 0)


@pytest.mark.parametrize("write", [False, True])
@pytest.mark.parametrize("journal", ["WAL", "DELETE"])
def test_another_programs_file_is_refused_and_stays_as_it_is(tmp_path: Path, journal: str, write: bool) -> None:
    path = tmp_path / "faces.sqlite"
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA journal_mode = {journal}")
        db.executescript("CREATE TABLE moz_places (id INTEGER); INSERT INTO moz_places VALUES (1);")
    content = path.read_bytes()
    with pytest.raises(WorkspaceError, match=r"faces\.sqlite belongs to another program"):
        FaceStore(path, write=write, create=write)
    assert path.read_bytes() == content
    assert [one.name for one in tmp_path.iterdir()] == ["faces.sqlite"]


@pytest.mark.parametrize("write", [False, True])
def test_what_another_program_was_writing_is_not_rolled_back(tmp_path: Path, write: bool) -> None:
    path = tmp_path / "faces.sqlite"
    with closing(sqlite3.connect(path)) as db:
        db.executescript("CREATE TABLE faces (person); CREATE TABLE facts (key, value); INSERT INTO faces VALUES ('x')")
    subprocess.run([sys.executable, "-c", KILLED, str(path)], check=True)
    contents = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert len(contents) == 2
    with pytest.raises(WorkspaceError, match="belongs to another program"):
        FaceStore(path, write=write, create=write)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == contents


def test_reading_allows_no_change(tmp_path: Path) -> None:
    path = tmp_path / "faces.sqlite"
    with FaceStore(path, create=True) as store:
        store.record_facts(finished=True)
    with FaceStore(path) as store, pytest.raises(WorkspaceError, match="readonly"):
        store.record_facts(finished=False)


def test_facts_and_embeddings_that_are_none_are_damage(tmp_path: Path) -> None:
    path = tmp_path / "faces.sqlite"
    with FaceStore(path, create=True) as store:
        store.record_facts(source="a.mp4")
        store.record_embedding(0, np.zeros(128))
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE facts SET value = '{'")
        db.execute("UPDATE tracks SET embedding = '[1, 2]'")
    with FaceStore(path) as store:
        for read in (lambda: store.fact("source"), store.embeddings):
            with pytest.raises(WorkspaceError, match="damaged"):
                read()


def test_more_rows_than_any_video_has_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.faces.database.MAX_ROWS", 3)
    path = tmp_path / "faces.sqlite"
    with FaceStore(path, create=True) as store:
        store.record(frames(*((number, number) for number in range(4))), [])
    with pytest.raises(WorkspaceError, match="more than 3 frames"):
        FaceStore(path)


@pytest.mark.parametrize("facts", [{"picture_marks": ["1-2", "3-4"]}, {}, {"picture_marks": [7]}, {"picture_marks": 7}])
def test_pictures_without_a_fingerprint_each_are_damage(tmp_path: Path, facts: dict[str, object]) -> None:
    with FaceStore(tmp_path / "faces.sqlite", create=True) as store:
        store.record_facts(pictures=["a.png"], **facts)
        with pytest.raises(WorkspaceError, match="damaged"):
            store.pictures()
