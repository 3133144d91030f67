"""Two commands at once on one workspace: each does its work as if it were alone."""

import subprocess
import sys
from pathlib import Path

import pytest

from cli import main
from demo.clips import HOPPER, make_clip
from models import checkpoint
from pipeline.faces.store import FaceStore
from pipeline.workspace import list_pictures
from tests.conftest import FRAMES, ROOT

SMALL = ["--init-dim", "8", "--code-dim", "64", "-b", "8", "--inner-loop", "1", "--lr", "3e-4"]
LIMIT_S = 300


def at_once(workspace: Path, *commands: list[str]) -> list[str]:
    """Run commands at the same time; return what they said, when all have done their work."""
    started = [
        subprocess.Popen(
            [sys.executable, "cli.py", *command, "--workspace", str(workspace)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for command in commands
    ]
    said = [process.communicate(timeout=LIMIT_S)[0] for process in started]
    assert [process.returncode for process in started] == [0] * len(commands), said
    return said


@pytest.mark.slow
def test_two_extracts_of_different_videos(tmp_path: Path, clips: dict[str, Path]) -> None:
    at_once(tmp_path, *(["extract", str(clip), "--person", person] for person, clip in clips.items()))
    for person in clips:
        assert len(list_pictures(tmp_path / "data" / person)) == FRAMES
        with FaceStore(tmp_path / "videos" / person / "faces.sqlite") as store:
            assert store.fact("finished")
            assert store.people() == {person: FRAMES}


@pytest.mark.slow
def test_extract_and_convert_beside_train(trained: Path, tmp_path: Path) -> None:
    make_clip(HOPPER, tmp_path / "again.mp4", FRAMES + 1)
    begun = checkpoint.load(trained / "output" / "model").steps
    result = trained / "made.mp4"
    swap = ["convert", "--from", "hopper", "--to", "collins", "--preset", "ultrafast", "-o", str(result)]
    at_once(
        trained,
        ["train", *SMALL, "--max-steps", "12"],
        ["extract", str(tmp_path / "again.mp4"), "--person", "somebody"],
        swap,
    )
    assert checkpoint.load(trained / "output" / "model").steps == begun + 12
    assert len(list_pictures(trained / "data" / "somebody")) == FRAMES + 1
    assert main(["verify", str(result)]) == 0


@pytest.mark.slow
def test_a_second_extract_of_the_same_video_is_refused_and_harms_nothing(tmp_path: Path) -> None:
    make_clip(HOPPER, tmp_path / "clip.mp4", 100)
    command = [sys.executable, "cli.py", "extract", str(tmp_path / "clip.mp4"), "--workspace", str(tmp_path / "w")]
    started = [subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=LIMIT_S)[1] for process in started]
    codes = [process.returncode for process in started]
    assert sorted(codes) in ([0, 0], [0, 1]), said
    if 1 in codes:  # the other had ended before, where both went through
        assert "another run is extracting 'clip'" in said[codes.index(1)]
    assert len(list_pictures(tmp_path / "w" / "data" / "clip")) == 100
