"""Which video is which, and forgetting one."""

import hashlib
import os
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import WorkspaceError
from pipeline.faces.footage import (
    ENDS_BYTES,
    file_facts,
    fingerprint,
    forget_video,
    is_extracted,
    name_footage,
    recorded_frames,
)
from pipeline.faces.store import FaceStore, StoredFace, StoredFrame
from pipeline.types import Face
from pipeline.workspace import Workspace, is_name


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "workspace")


def write_video(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def remember(workspace: Workspace, path: Path) -> str:
    """Name a video and begin its store, as extract does."""
    name = name_footage(workspace, path)
    with FaceStore(workspace.store(name), create=True) as store:
        store.record_facts(fingerprint=fingerprint(path), file=file_facts(path), finished=False)
    return name


def write_crop(workspace: Workspace, person: str, name: str) -> Path:
    return write_video(workspace.person(person) / name, b"a picture")


def record_crop(workspace: Workspace, video: str, frame: int, crop: str | None) -> None:
    face = Face(np.zeros(4), 1.0, np.zeros((5, 2)))
    with FaceStore(workspace.store(video), create=True) as store:
        store.record([StoredFrame(frame, frame, 0)], [StoredFace(frame, 0, "hopper", crop, face, np.zeros((2, 3)))])


def test_a_file_keeps_its_name_wherever_it_lies(workspace: Workspace, tmp_path: Path) -> None:
    path = write_video(tmp_path / "holiday.mp4", b"sun" * 1000)
    assert remember(workspace, path) == "holiday"
    copy = tmp_path / "elsewhere" / "holiday.mov"
    copy.parent.mkdir()
    shutil.copy(path, copy)
    assert name_footage(workspace, copy) == "holiday"
    assert name_footage(workspace, path) == "holiday"


def test_another_file_of_the_same_name_gets_a_number(workspace: Workspace, tmp_path: Path) -> None:
    paths = [write_video(tmp_path / str(i) / "holiday.mp4", bytes([i]) * 1000) for i in range(3)]
    assert [remember(workspace, path) for path in paths] == ["holiday", "holiday-2", "holiday-3"]
    assert [name_footage(workspace, path) for path in paths] == ["holiday", "holiday-2", "holiday-3"]


def test_naming_leaves_nothing_behind(workspace: Workspace, tmp_path: Path) -> None:
    assert name_footage(workspace, write_video(tmp_path / "holiday.mp4", b"sun")) == "holiday"
    assert not workspace.root.exists()


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("what? a <clip>!.mp4", "what_ a _clip__"),
        ("no suffix", "no suffix"),
        ("two.dots.mkv", "two.dots"),
        ("con.mp4", "video_con"),
        ("..mp4", "video_"),
        (" . .mp4", "video_"),
        ("été 映画 ١٢.mp4", "été 映画 ١٢"),
        (unicodedata.normalize("NFD", "été.mp4"), unicodedata.normalize("NFC", "été")),
    ],
)
def test_awkward_file_names_become_names(workspace: Workspace, tmp_path: Path, file: str, name: str) -> None:
    assert name_footage(workspace, write_video(tmp_path / file, b"content")) == name
    assert is_name(name)


def test_very_long_names_stay_names_with_a_number_too(workspace: Workspace, tmp_path: Path) -> None:
    names = [
        remember(workspace, write_video(tmp_path / str(i) / ("long " * 40 + ".mp4"), bytes([i]))) for i in range(2)
    ]
    assert names[0] != names[1]
    assert [is_name(name) for name in names] == [True, True]


@pytest.mark.parametrize("size", [0, 10, 3 * ENDS_BYTES])
def test_a_fingerprint_tells_every_byte(tmp_path: Path, size: int) -> None:
    content = bytes(range(256)) * (size // 256) + bytes(size % 256)
    mark = fingerprint(write_video(tmp_path / "a", content))
    assert fingerprint(write_video(tmp_path / "b", content)) == mark
    others = [content + b"\0"]
    for place in (0, size // 2, size - 1) if size else ():
        others.append(content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :])
    marks = {fingerprint(write_video(tmp_path / f"c{number}", other)) for number, other in enumerate(others)}
    assert mark not in marks
    assert len(marks) == len(others)


def test_another_middle_is_another_video_though_name_size_and_ends_are_the_same(
    workspace: Workspace, tmp_path: Path
) -> None:
    content = bytes(3 * ENDS_BYTES)
    path = write_video(tmp_path / "holiday.mp4", content)
    before = path.stat()
    assert remember(workspace, path) == "holiday"
    path.write_bytes(content[: len(content) // 2] + b"x" + content[len(content) // 2 + 1 :])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert name_footage(workspace, path) == "holiday-2"
    path.write_bytes(content)
    assert name_footage(workspace, path) == "holiday"


def test_a_renamed_file_keeps_its_name(workspace: Workspace, tmp_path: Path) -> None:
    path = write_video(tmp_path / "holiday.mp4", b"sun" * 1000)
    remember(workspace, path)
    assert name_footage(workspace, path.rename(tmp_path / "summer.mp4")) == "holiday"


def test_an_unchanged_file_and_files_of_other_sizes_are_not_read(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_video(tmp_path / "holiday.mp4", b"sun" * 1000)
    remember(workspace, path)
    other = write_video(tmp_path / "work.mp4", b"rain" * 1000)
    monkeypatch.setattr("pipeline.faces.footage._fingerprint_of_all", None)
    assert name_footage(workspace, path) == "holiday"
    assert name_footage(workspace, other) == "work"


def test_a_store_that_knows_the_ends_of_its_file_is_recognised(workspace: Workspace, tmp_path: Path) -> None:
    content = b"sun" * ENDS_BYTES
    path = write_video(tmp_path / "holiday.mp4", content)
    ends = hashlib.sha256(content[:ENDS_BYTES] + content[-ENDS_BYTES:]).hexdigest()[:32]
    with FaceStore(workspace.store("holiday"), create=True) as store:
        store.record_facts(fingerprint=f"{len(content)}-{ends}")
    assert name_footage(workspace, path.rename(tmp_path / "summer.mp4")) == "holiday"


def test_an_old_set_of_pictures_is_recognised_with_one_more(workspace: Workspace, tmp_path: Path) -> None:
    pictures = [write_video(tmp_path / "album" / f"{name}.png", name.encode() * 99) for name in "bd"]
    marks = [f"{p.stat().st_size}-{hashlib.sha256(2 * p.read_bytes()).hexdigest()[:32]}" for p in pictures]
    listed = "\n".join(f"{picture.name} {mark}" for picture, mark in zip(pictures, marks, strict=True))
    with FaceStore(workspace.store("album"), create=True) as store:
        mark = f"pictures-{hashlib.sha256(listed.encode()).hexdigest()[:32]}"
        store.record_facts(fingerprint=mark, pictures=[picture.name for picture in pictures])
    pictures = [write_video(tmp_path / "album" / "c.png", b"new"), *pictures]
    assert name_footage(workspace, tmp_path / "album") == "album"
    with FaceStore(workspace.store("album")) as store:
        assert recorded_frames(store, sorted(pictures)) == [0, None, 1]


def test_forgetting_a_video_deletes_its_crops_wherever_they_lie(workspace: Workspace) -> None:
    for frame, crop in enumerate(["clip_000000_0.jpg", "clip_000001_0.jpg", None, "clip_000003_0.jpg"]):
        record_crop(workspace, "clip", frame, crop)
    record_crop(workspace, "clip-2", 0, "clip-2_000000_0.jpg")
    gone = [
        write_crop(workspace, "hopper", "clip_000000_0.jpg"),
        write_crop(workspace, "collins", "clip_000001_0.jpg"),
    ]
    kept = [write_crop(workspace, "hopper", "clip-2_000000_0.jpg"), write_crop(workspace, "hopper", "my own.jpg")]
    forget_video(workspace, "clip")
    assert [path.exists() for path in gone] == [False, False]
    assert [path.exists() for path in kept] == [True, True]
    assert not workspace.store("clip").parent.exists()
    assert workspace.store("clip-2").is_file()
    assert not is_extracted(workspace, "clip")


def test_forgetting_deletes_nothing_but_crops_of_its_own_and_follows_no_link(
    workspace: Workspace, tmp_path: Path
) -> None:
    for frame, crop in enumerate(["my own.jpg", "clip-2_000001_0.jpg", "clip_000002_0.jpg"]):
        record_crop(workspace, "clip", frame, crop)
    elsewhere = write_video(tmp_path / "elsewhere" / "clip_000002_0.jpg", b"of another workspace")
    kept = [elsewhere, *(write_crop(workspace, "zed", name) for name in ("my own.jpg", "clip-2_000001_0.jpg"))]
    gone = write_crop(workspace, "hopper", "clip_000002_0.jpg")
    (workspace.data / "linked").symlink_to(elsewhere.parent, target_is_directory=True)
    forget_video(workspace, "clip")
    assert not gone.exists()
    assert all(path.exists() for path in kept)


def test_a_store_that_is_a_link_out_of_the_workspace_is_refused(workspace: Workspace, tmp_path: Path) -> None:
    record_crop(workspace, "clip", 0, None)
    outside = tmp_path / "places.sqlite"
    workspace.store("clip").replace(outside)
    (workspace.videos / "clip" / "faces.sqlite").symlink_to(outside)
    with pytest.raises(WorkspaceError, match="leads out of the workspace"):
        workspace.stores()


def test_forgetting_copes_with_files_beside_the_people(workspace: Workspace) -> None:
    record_crop(workspace, "clip", 0, "clip_000000_0.jpg")
    crop = write_crop(workspace, "zoe", "clip_000000_0.jpg")
    (workspace.data / ".DS_Store").write_bytes(b"macOS puts one everywhere")
    forget_video(workspace, "clip")
    assert not crop.exists()
    assert not workspace.store("clip").exists()


def test_forgetting_an_unknown_video_does_nothing(workspace: Workspace) -> None:
    crop = write_crop(workspace, "hopper", "clip_000000_0.jpg")
    forget_video(workspace, "clip")
    assert crop.exists()


def test_a_video_is_extracted_once_all_was_looked_through(workspace: Workspace) -> None:
    assert not is_extracted(workspace, "clip")
    record_crop(workspace, "clip", 0, None)
    assert not is_extracted(workspace, "clip")
    for finished in (False, True):
        with FaceStore(workspace.store("clip"), write=True) as store:
            store.record_facts(finished=finished)
        assert is_extracted(workspace, "clip") == finished
    assert not workspace.store("another").parent.exists()
