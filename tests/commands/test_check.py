"""Looking a workspace through for what does not fit."""

import os
from pathlib import Path

import pytest

from cli import main
from pipeline.faces.store import FaceStore


def check(workspace: Path, *arguments: str) -> int:
    return main(["check", *arguments, "--workspace", str(workspace)])


def contents(workspace: Path) -> dict[Path, bytes]:
    files = (path for path in workspace.rglob("*") if path.is_file() and "logs" not in path.parts)
    return {path: path.read_bytes() for path in files}


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
        store.record_facts(finished=False)
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
        "the model state",
    ):
        assert wrong in words.err
    assert ".a.mp4.segments holds what an unfinished conversion" in words.out
    assert check(trained, "--repair") == 1
    words = capsys.readouterr()
    assert hopper[3].read_bytes() == lost
    assert not part.exists()
    assert "repaired: 1 crop of 'hopper'" in words.out
    assert "went missing" not in words.err
