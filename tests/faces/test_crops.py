"""Crops that were lost are told from those that a person set aside, and can be made again."""

import os
import re
import shlex
import shutil
from pathlib import Path

import pytest

from cli import main
from demo.clips import HOPPER, make_clip
from pipeline.faces.crops import find_missing
from pipeline.faces.store import FaceStore
from pipeline.workspace import Workspace
from tests.conftest import FRAMES

SWAP = ["--from", "hopper", "--to", "collins"]


def run(workspace: Path, *arguments: str | Path) -> int:
    return main([*map(str, arguments), "--workspace", str(workspace)])


def crops(workspace: Path, person: str = "hopper") -> list[Path]:
    return sorted((workspace / "data" / person).iterdir())


def missing(workspace: Path, video: str = "hopper") -> dict[int, str]:
    with FaceStore(Workspace(workspace).store(video)) as store:
        return {gone.frame: gone.person for gone in find_missing(store, Workspace(workspace))}


def lose(workspace: Path, *frames: int, person: str = "hopper") -> list[Path]:
    lost = [crops(workspace, person)[frame] for frame in frames]
    for crop in lost:
        crop.unlink()
    return lost


def contents(workspace: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in (workspace / "data").rglob("*") if path.is_file()}


def test_lost_crops_make_convert_and_preview_fail_and_say_what_to_type(
    trained: Path, clips: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    lose(trained, 2, 7)
    assert run(trained, "convert", clips["hopper"], *SWAP, "--preset", "ultrafast") == 1
    words = capsys.readouterr()
    assert f"swapped {FRAMES - 2} faces" in words.out, "the folder is the label: what is not in it stays as it is"
    assert "2 crops of hopper from 'hopper' went missing" in words.err
    assert f"extract {clips['hopper']} --restore" in words.err
    assert "people discard hopper --missing" in words.err
    assert run(trained, "preview", clips["hopper"], *SWAP, "--frames", "1") == 1
    assert "2 crops of hopper from 'hopper' went missing" in capsys.readouterr().err
    assert run(trained, "convert", clips["hopper"], *SWAP, "--start", "8f", "--preset", "ultrafast") == 0, "not in it"


@pytest.mark.skipif(os.name == "nt", reason="Windows quotes otherwise")
@pytest.mark.parametrize("command", [["check"], ["convert", "--from", "Grace M", "--to", "collins"]])
def test_what_is_to_be_typed_may_be_pasted_into_a_shell(
    command: list[str], trained: Path, clips: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video = tmp_path / "Grace's $1 film & more.mp4"
    shutil.copy(clips["hopper"], video)
    assert run(trained, "extract", video) == 0
    assert run(trained, "people", "rename", "hopper", "Grace M") == 0
    whole = contents(trained)
    lose(trained, *range(FRAMES)[::-1], person="Grace M")
    (trained / "data" / "Grace M" / "own.txt").touch()
    capsys.readouterr()
    at = [command[0], str(video), *command[1:]] if command[0] == "convert" else command
    assert run(trained, *at) == 1
    typed = [shlex.split(words) for words in re.findall(r"python cli\.py ([^;\n]+)", capsys.readouterr().err)]
    assert ["extract", str(video), "--restore"] in typed
    assert command[0] == "check" or ["people", "discard", "Grace M", "--missing"] in typed
    assert run(trained, "extract", video, "--restore") == 0
    assert contents(trained).items() >= whole.items()


def test_restoring_writes_the_same_bytes_and_touches_nothing_else(
    extracted: Path, clips: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    whole = contents(extracted)
    lose(extracted, 2, 7)
    crops(extracted)[0].write_bytes(b"")
    crops(extracted)[1].write_bytes(whole[crops(extracted)[1]][:-100])
    own = extracted / "data" / "hopper" / "my own.jpg"
    own.write_bytes(b"of a person's own")
    times = {path: path.stat().st_mtime_ns for path in crops(extracted)[2:]}
    assert run(extracted, "extract", clips["hopper"], "--restore") == 0
    assert "hopper: 4 crops restored" in capsys.readouterr().out
    assert contents(extracted) == whole | {own: b"of a person's own"}
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert run(extracted, "extract", clips["hopper"], "--restore") == 0
    assert "hopper: 0 crops restored" in capsys.readouterr().out


def test_what_was_set_aside_is_not_missing(extracted: Path, clips: dict[str, Path], tmp_path: Path) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text("\n".join(crop.name for crop in crops(extracted)[:3]))
    assert run(extracted, "people", "discard", "hopper", "--list", listed) == 0
    assert missing(extracted) == {}
    shutil.rmtree(extracted / "removed")
    assert missing(extracted) == {}, "it is recorded"
    assert run(extracted, "people", "remove", "collins") == 0
    shutil.rmtree(extracted / "removed")
    assert missing(extracted, "collins") == {}
    assert run(extracted, "extract", clips["hopper"], "--restore") == 0
    assert len(crops(extracted)) == FRAMES - 3


def test_a_person_can_record_that_crops_were_deleted(
    extracted: Path, capsys: pytest.CaptureFixture[str], clips: dict[str, Path]
) -> None:
    lose(extracted, 2, 7)
    lose(extracted, 5, person="collins")
    assert run(extracted, "people", "discard", "hopper", "--missing") == 0
    assert "2 missing crops of hopper" in capsys.readouterr().out
    assert (missing(extracted), missing(extracted, "collins")) == ({}, {5: "collins"})
    assert run(extracted, "people", "discard", "hopper", "--missing") == 1
    assert "no crop of 'hopper' is missing" in capsys.readouterr().err
    assert run(extracted, "extract", clips["hopper"], "--restore") == 0
    assert len(crops(extracted)) == FRAMES - 2
    assert run(extracted, "people", "discard", "hopper", "--missing", "--list", "x") == 2


def test_moved_and_renamed_crops_are_whose_folder_they_are_in(extracted: Path, clips: dict[str, Path]) -> None:
    whole = {path.name: content for path, content in contents(extracted).items()}
    assert run(extracted, "people", "rename", "hopper", "grace") == 0
    (extracted / "data" / "grace").rename(extracted / "data" / "amazing grace")
    lose(extracted, 3, person="amazing grace")
    assert missing(extracted) == {3: "amazing grace"}
    assert run(extracted, "extract", clips["hopper"], "--restore") == 0
    assert {path.name: path.read_bytes() for path in crops(extracted, "amazing grace")} == {
        name: content for name, content in whole.items() if name.startswith("hopper")
    }


def test_all_crops_lost_is_said(trained: Path, clips: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(trained / "data" / "hopper")
    assert run(trained, "convert", clips["hopper"], *SWAP) == 1
    assert f"{FRAMES} crops of hopper from 'hopper' went missing" in capsys.readouterr().err
    assert run(trained, "extract", clips["hopper"], "--restore") == 0
    assert len(crops(trained)) == FRAMES


def test_restoring_needs_an_extracted_video(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip = tmp_path / "clip.mp4"
    make_clip(HOPPER, clip, 3)
    assert run(tmp_path / "w", "extract", clip, "--restore") == 1
    assert "run python cli.py extract" in capsys.readouterr().err
    assert run(tmp_path / "w", "extract", clip, "--restore", "--again") == 2
