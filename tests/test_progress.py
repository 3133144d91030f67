"""--progress FILE: what the terminal shows, as JSON lines."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from cli import main
from pipeline import progress
from pipeline.progress import ProgressFile
from tests.conftest import FRAMES, SMALL


def events(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("how", [[], ["--quiet"]])
def test_a_training_tells_what_it_does(extracted: Path, tmp_path: Path, how: list[str]) -> None:
    file = tmp_path / "new" / "progress.jsonl"
    command = ["train", *SMALL, "--max-steps", "3", "--workspace", str(extracted), "--progress", str(file), *how]
    assert main(command) == 0
    found = events(file)
    first, last = found[0], found[-1]
    assert (first["event"], first["command"], first["process"]) == ("started", "train", os.getpid())
    assert first["arguments"] == command
    assert (last["event"], last["exit_code"], last["errors"]) == ("ended", 0, [])
    assert [event["time"] for event in found] == sorted(event["time"] for event in found)
    ends = {event["stage"]: event for event in found if event["event"] == "progress"}
    assert (ends["read faces"]["done"], ends["read faces"]["total"]) == (2 * FRAMES, 2 * FRAMES)
    assert (ends["train"]["done"], ends["train"]["unit"]) == (8 + 4 + 8, "face"), "as many as the report says"
    assert "L1" in ends["train"]["text"]
    pictures = [event["path"] for event in found if event["event"] == "picture"]
    assert pictures == [str(extracted / "output" / "model" / "swap.png")]
    assert any("training a new model" in event["text"] for event in found if event["event"] == "note")


def test_how_it_failed_is_told_and_a_second_run_goes_on_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "progress.jsonl"
    for _ in range(2):
        assert main(["extract", str(tmp_path / "no.mp4"), "--workspace", str(tmp_path), "--progress", str(file)]) == 1
    found = events(file)
    assert [event["event"] for event in found] == ["started", "ended"] * 2
    assert found[-1]["exit_code"] == 1
    assert "no.mp4" in found[-1]["errors"][0]


def test_another_file_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    film = tmp_path / "film.mp4"
    film.write_bytes(b"days of work")
    assert main(["models", "--workspace", str(tmp_path), "--progress", str(film)]) == 2
    assert "there is a file that is none of progress; name another" in capsys.readouterr().err
    assert film.read_bytes() == b"days of work"


def test_what_cannot_be_written_is_said_once_and_ends_no_run(tmp_path: Path) -> None:
    path = tmp_path / "progress.jsonl"
    file = ProgressFile(path)
    path.unlink()
    path.mkdir()
    assert file.write("note", text="a").startswith(f"no more progress in {path}: ")
    assert not file.write("note", text="b")


def test_a_large_file_is_begun_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "MAX_BYTES", 200)
    file = ProgressFile(tmp_path / "progress.jsonl")
    for number in range(12):
        assert not file.write("note", text=f"line {number}")
    kept = [*events(tmp_path / "progress.jsonl.1"), *events(tmp_path / "progress.jsonl")]
    assert [event["text"] for event in kept] == [f"line {number}" for number in range(12 - len(kept), 12)]
    assert (tmp_path / "progress.jsonl.1").stat().st_size < 400


def test_names_that_are_no_text_are_written(tmp_path: Path) -> None:
    file = ProgressFile(tmp_path / "progress.jsonl")
    file.write("picture", path="a\udcff.png")
    assert events(tmp_path / "progress.jsonl")[0]["path"] == "a\udcff.png"
