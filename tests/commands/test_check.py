"""Looking a workspace through for what does not fit."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cli import main
from pipeline.faces.store import FaceStore
from tests.faces.test_store import KILLED


def check(workspace: Path, *arguments: str) -> int:
    return main(["check", *arguments, "--workspace", str(workspace)])


def contents(workspace: Path) -> dict[Path, tuple[int, bytes]]:
    """Everything in a workspace, logs too, and when it was changed."""
    everything = [workspace, *workspace.rglob("*")]
    return {path: (path.lstat().st_mtime_ns, path.read_bytes() if path.is_file() else b"") for path in everything}


def test_a_clean_workspace_fits_and_nothing_changes(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (trained / "data" / "hopper" / "own.jpg").write_bytes(min((trained / "data" / "hopper").iterdir()).read_bytes())
    before = contents(trained)
    assert check(trained) == 0
    assert capsys.readouterr().err == ""
    assert contents(trained) == before


def test_what_does_not_fit_is_said_and_what_is_safe_repaired(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hopper = sorted((trained / "data" / "hopper").iterdir())
    lost = hopper[3].read_bytes()
    hopper[3].unlink()
    hopper[4].write_bytes(hopper[4].read_bytes()[:500])
    part = trained / "data" / ".swap.part.png"
    part.write_bytes(b"half")
    os.utime(part, (0, 0))
    (trained / "converted").mkdir(exist_ok=True)
    (trained / "converted" / "out.mp4").symlink_to(tmp_path / "elsewhere.mp4")
    (trained / "converted" / ".a.mp4.segments").mkdir()
    with FaceStore(trained / "videos" / "collins" / "faces.sqlite", write=True) as store:
        store.record_facts(finished=False, person="Eileen C")
    weights = next((trained / "output" / "model").glob("state-*/encoder.safetensors"))
    weights.unlink()
    weights.write_bytes(b"none")
    before = contents(trained)
    assert check(trained) == 1
    words = capsys.readouterr()
    assert contents(trained) == before
    for wrong in (
        "1 crop of 'hopper' went missing",
        f"{hopper[4]} is empty or damaged",
        f"{part} was left by a killed run",
        "out.mp4 is a link that leads out",
        "'collins' is not extracted to its end",
        "--person 'Eileen C'",
        "the model state",
    ):
        assert wrong in words.err
    assert ".a.mp4.segments holds finished segments of an unfinished conversion" in words.out
    assert check(trained, "--repair") == 1
    words = capsys.readouterr()
    assert hopper[3].read_bytes() == lost
    assert not part.exists()
    assert "repaired: 1 crop of 'hopper'" in words.out
    assert "went missing" not in words.err


def test_what_a_killed_run_was_writing_into_a_store_is_taken_back_by_repair_alone(
    extracted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = extracted / "videos" / "hopper" / "faces.sqlite"
    subprocess.run([sys.executable, "-c", KILLED, str(store)], check=True)
    before = contents(extracted)
    assert check(extracted) == 1
    assert contents(extracted) == before
    words = f"a run was killed while it wrote {store}: python cli.py check --repair undoes the unfinished write"
    assert words in capsys.readouterr().err
    assert check(extracted, "--repair") == 0
    assert not store.with_name("faces.sqlite-journal").exists()
    assert list((extracted / "logs").glob("*_check_*.log"))
