"""Videos and sets of pictures: their names, fingerprints and frames."""

import os
import shutil
import unicodedata
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import WorkspaceError
from pipeline.faces.footage import (
    MAX_BUFFERED_PIXELS,
    FootageFrame,
    FrameBudget,
    PictureFootage,
    VideoFootage,
    file_facts,
    fingerprint,
    forget_video,
    group_size,
    groups_at_once,
    is_footage_extracted,
    name_footage,
)
from pipeline.faces.store import FaceStore, StoredFace, StoredFrame
from pipeline.media.pictures import write_picture
from pipeline.media.reader import VideoReader
from pipeline.runtime import prefetched
from pipeline.types import Face
from pipeline.workspace import Workspace, is_name
from tests.clips import scene, write_video


@pytest.mark.parametrize(
    ("size", "group"),
    [
        ((320, 240), 64),
        ((480, 480), 64),
        ((1280, 720), 16),
        ((1920, 1080), 8),
        ((3840, 2160), 4),
        ((7680, 4320), 4),
        ((8192, 8192), 2),
    ],
)
def test_groups_are_whole_eights_where_memory_allows(size: tuple[int, int], group: int) -> None:
    assert group_size(size[0] * size[1]) == group


@pytest.mark.parametrize(("size", "at_once"), [((1920, 1080), 2), ((3840, 2160), 2), ((8192, 8192), 1)])
def test_groups_of_huge_frames_are_looked_at_one_by_one(size: tuple[int, int], at_once: int) -> None:
    pixels = size[0] * size[1]
    assert groups_at_once(group_size(pixels), pixels) == at_once


def huge(number: int) -> Iterator[FootageFrame]:
    image = np.broadcast_to(np.zeros(3, np.uint8), (8192, 8192, 3))  # takes no memory
    return (FootageFrame(index, index, image, is_cut=False) for index in range(number))


def test_no_more_frames_are_read_than_memory_holds() -> None:
    budget = FrameBudget(needed=2)
    frames, most = [], 0
    with prefetched(budget.admit(huge(12)), depth=8) as admitted, closing(budget):
        for frame in admitted:
            most = max(most, budget.pixels)
            frames.append(frame)
            if len(frames) == 2:
                budget.release(frames)
                frames = []
    assert 2 * 8192**2 <= most <= MAX_BUFFERED_PIXELS


def test_what_is_needed_is_let_in_however_large_and_closing_lets_all_go_on() -> None:
    budget = FrameBudget(needed=6)
    with prefetched(budget.admit(huge(12)), depth=20) as admitted, closing(budget):
        assert [frame.index for frame in islice(admitted, 6)] == list(range(6))


def test_a_video_goes_on_at_a_frame_and_knows_its_cuts(tmp_path: Path) -> None:
    pictures = [scene(i) for i in range(3)] + [255 - scene(i) for i in range(3)]
    clip = write_video(tmp_path / "clip.mp4", pictures)
    for first in range(6):
        with VideoReader(clip) as reader:
            frames = list(VideoFootage(reader).frames(first))
        assert [frame.index for frame in frames] == list(range(first, 6))
        assert [frame.index for frame in frames if frame.is_cut] == [i for i in (0, 3) if i >= first]


def test_pictures_are_shots_of_their_own_and_unreadable_ones_are_named(tmp_path: Path) -> None:
    for name in ("a.png", "c.jpg"):
        write_picture(tmp_path / name, scene(1, 80 if name == "a.png" else 60, 50))
    (tmp_path / "b.jpg").write_text("no picture")
    footage = PictureFootage(tmp_path, sorted(tmp_path.iterdir()))
    frames = list(footage.frames(0))
    assert [(frame.index, frame.pts, frame.is_cut, frame.image.shape) for frame in frames] == [
        (0, 0, True, (50, 80, 3)),
        (2, 2, True, (50, 60, 3)),
    ]
    assert footage.lost(2) == "1 of 3 could not be read: b.jpg"
    assert footage.facts()["pictures"] == ["a.png", "b.jpg", "c.jpg"]


def test_known_pictures_keep_their_frames_and_new_ones_come_behind(tmp_path: Path) -> None:
    folder = tmp_path / "album"
    folder.mkdir()
    for number, name in enumerate(("b.png", "d.png", "e.png")):
        write_picture(folder / name, scene(number))
    with FaceStore(tmp_path / "faces.sqlite", create=True) as store:
        store.record_facts(**PictureFootage(folder, sorted(folder.iterdir())).facts())
        (folder / "d.png").rename(folder / "z.png")
        (folder / "e.png").unlink()
        write_picture(folder / "a.png", scene(9))
        footage = PictureFootage(folder, sorted(folder.iterdir()))
        assert footage.resume(store)
        facts = footage.facts()
        assert facts["pictures"] == ["b.png", "d.png", "e.png", "a.png"]
        assert [frame.index for frame in footage.frames(0)] == [0, 1, 3]
        store.record_facts(**facts)
        again = PictureFootage(folder, sorted(folder.iterdir()))
        assert not again.resume(store)
        assert again.facts() == facts


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "workspace")


def write_file(path: Path, content: bytes) -> Path:
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
    return write_file(workspace.person(person) / name, b"a picture")


def record_crop(workspace: Workspace, video: str, frame: int, crop: str | None) -> None:
    face = Face(np.zeros(4), 1.0, np.zeros((5, 2)))
    with FaceStore(workspace.store(video), create=True) as store:
        store.record([StoredFrame(frame, frame, 0)], [StoredFace(frame, 0, "hopper", crop, face, np.zeros((2, 3)))])


def test_a_file_keeps_its_name_wherever_it_lies(workspace: Workspace, tmp_path: Path) -> None:
    path = write_file(tmp_path / "holiday.mp4", b"sun" * 1000)
    assert remember(workspace, path) == "holiday"
    copy = tmp_path / "elsewhere" / "holiday.mov"
    copy.parent.mkdir()
    shutil.copy(path, copy)
    assert name_footage(workspace, copy) == "holiday"
    assert name_footage(workspace, path) == "holiday"


def test_another_file_of_the_same_name_gets_a_number(workspace: Workspace, tmp_path: Path) -> None:
    paths = [write_file(tmp_path / str(i) / "holiday.mp4", bytes([i]) * 1000) for i in range(3)]
    assert [remember(workspace, path) for path in paths] == ["holiday", "holiday-2", "holiday-3"]
    assert [name_footage(workspace, path) for path in paths] == ["holiday", "holiday-2", "holiday-3"]


def test_naming_leaves_nothing_behind(workspace: Workspace, tmp_path: Path) -> None:
    assert name_footage(workspace, write_file(tmp_path / "holiday.mp4", b"sun")) == "holiday"
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
    assert name_footage(workspace, write_file(tmp_path / file, b"content")) == name
    assert is_name(name)


def test_very_long_names_stay_names_with_a_number_too(workspace: Workspace, tmp_path: Path) -> None:
    names = [remember(workspace, write_file(tmp_path / str(i) / ("long " * 40 + ".mp4"), bytes([i]))) for i in range(2)]
    assert names[0] != names[1]
    assert [is_name(name) for name in names] == [True, True]


@pytest.mark.parametrize("size", [0, 10, 200_000])
def test_a_fingerprint_tells_every_byte(tmp_path: Path, size: int) -> None:
    content = bytes(range(256)) * (size // 256) + bytes(size % 256)
    mark = fingerprint(write_file(tmp_path / "a", content))
    assert fingerprint(write_file(tmp_path / "b", content)) == mark
    others = [content + b"\0"]
    for place in (0, size // 2, size - 1) if size else ():
        others.append(content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :])
    marks = {fingerprint(write_file(tmp_path / f"c{number}", other)) for number, other in enumerate(others)}
    assert mark not in marks
    assert len(marks) == len(others)


def test_another_middle_is_another_video_though_name_size_and_ends_are_the_same(
    workspace: Workspace, tmp_path: Path
) -> None:
    content = bytes(200_000)
    path = write_file(tmp_path / "holiday.mp4", content)
    before = path.stat()
    assert remember(workspace, path) == "holiday"
    path.write_bytes(content[: len(content) // 2] + b"x" + content[len(content) // 2 + 1 :])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert name_footage(workspace, path) == "holiday-2"
    path.write_bytes(content)
    assert name_footage(workspace, path) == "holiday"


def test_a_renamed_file_keeps_its_name(workspace: Workspace, tmp_path: Path) -> None:
    path = write_file(tmp_path / "holiday.mp4", b"sun" * 1000)
    remember(workspace, path)
    assert name_footage(workspace, path.rename(tmp_path / "summer.mp4")) == "holiday"


def test_an_unchanged_file_and_files_of_other_sizes_are_not_read(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_file(tmp_path / "holiday.mp4", b"sun" * 1000)
    remember(workspace, path)
    other = write_file(tmp_path / "work.mp4", b"rain" * 1000)
    monkeypatch.setattr("pipeline.faces.footage._hash", None)
    assert name_footage(workspace, path) == "holiday"
    assert name_footage(workspace, other) == "work"


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


def test_forgetting_deletes_nothing_but_crops_of_its_own_and_follows_no_link(
    workspace: Workspace, tmp_path: Path
) -> None:
    for frame, crop in enumerate(["my own.jpg", "clip-2_000001_0.jpg", "clip_000002_0.jpg"]):
        record_crop(workspace, "clip", frame, crop)
    elsewhere = write_file(tmp_path / "elsewhere" / "clip_000002_0.jpg", b"of another workspace")
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


def test_a_video_is_extracted_once_all_was_searched(workspace: Workspace, tmp_path: Path) -> None:
    path = write_file(tmp_path / "clip.mp4", b"sun")
    assert not is_footage_extracted(workspace, path)
    remember(workspace, path)
    for finished in (False, True):
        with FaceStore(workspace.store("clip"), write=True) as store:
            store.record_facts(finished=finished)
        assert is_footage_extracted(workspace, path) == finished
