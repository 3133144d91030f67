"""Which video is which, and forgetting one."""

import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from pipeline.arrays import Face
from pipeline.errors import WorkspaceError
from pipeline.faces.records import StoredFace, StoredFrame
from pipeline.faces.store import FaceStore
from pipeline.faces.videos import FINGERPRINT_BYTES, fingerprint, forget_video, is_extracted, name_video
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
    name = name_video(workspace, path)
    with FaceStore(workspace.store(name), create=True) as store:
        store.record_facts(fingerprint=fingerprint(path), finished=False)
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
    assert name_video(workspace, copy) == "holiday"
    assert name_video(workspace, path) == "holiday"


def test_another_file_of_the_same_name_gets_a_number(workspace: Workspace, tmp_path: Path) -> None:
    paths = [write_video(tmp_path / str(i) / "holiday.mp4", bytes([i]) * 1000) for i in range(3)]
    assert [remember(workspace, path) for path in paths] == ["holiday", "holiday-2", "holiday-3"]
    assert [name_video(workspace, path) for path in paths] == ["holiday", "holiday-2", "holiday-3"]


def test_naming_leaves_nothing_behind(workspace: Workspace, tmp_path: Path) -> None:
    assert name_video(workspace, write_video(tmp_path / "holiday.mp4", b"sun")) == "holiday"
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
    assert name_video(workspace, write_video(tmp_path / file, b"content")) == name
    assert is_name(name)


def test_very_long_names_stay_names_with_a_number_too(workspace: Workspace, tmp_path: Path) -> None:
    names = [
        remember(workspace, write_video(tmp_path / str(i) / ("long " * 40 + ".mp4"), bytes([i]))) for i in range(2)
    ]
    assert names[0] != names[1]
    assert [is_name(name) for name in names] == [True, True]


@pytest.mark.parametrize("size", [0, 10, FINGERPRINT_BYTES, FINGERPRINT_BYTES + 1, 3 * FINGERPRINT_BYTES])
def test_a_fingerprint_tells_first_and_last_bytes_and_length(tmp_path: Path, size: int) -> None:
    content = bytes(range(256)) * (size // 256) + bytes(size % 256)
    mark = fingerprint(write_video(tmp_path / "a", content))
    assert fingerprint(write_video(tmp_path / "b", content)) == mark
    others = [content + b"\0"]
    if size:
        flipped = [bytes([content[place] ^ 255]) for place in (0, -1)]
        others += [flipped[0] + content[1:], content[:-1] + flipped[1], content[:-1]]
    marks = {fingerprint(write_video(tmp_path / "c", other)) for other in others}
    assert mark not in marks
    assert len(marks) == len(others)


def test_a_fingerprint_tells_the_length_alone(tmp_path: Path) -> None:
    marks = [fingerprint(write_video(tmp_path / "a", bytes(times * FINGERPRINT_BYTES))) for times in (3, 4)]
    assert marks[0] != marks[1], "their first and last bytes are the same"


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
