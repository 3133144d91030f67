"""The doctor, on this machine as it is, and with things broken."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import imageio_ffmpeg
import pytest

from cli import main
from models import pretrained
from pipeline.media.ffmpeg import find_ffmpeg
from tests.conftest import ROOT
from tests.media.test_ffmpeg import OLD_FFMPEG, program

LOOKED_AT = ["Recast", "device", "memory", "disk", "ffmpeg", "face mesh", "weights", "certificate", "try extract"]


def test_all_is_well_here(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--workspace", str(tmp_path / "workspace")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line[8:].split(":")[0] for line in lines] == [*LOOKED_AT, "try train", "try convert"]
    assert {line[:8].strip() for line in lines} <= {"ok", "note"}
    assert "libx264" in next(line for line in lines if "ffmpeg:" in line)
    assert not (tmp_path / "workspace").exists()


def test_damaged_weights_are_a_problem(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(pretrained.FOLDER, tmp_path / "base"))
    (folder / "occlusion.safetensors").write_bytes(b"half")
    monkeypatch.setattr(pretrained, "FOLDER", folder)
    assert main(["doctor", "--workspace", str(tmp_path)]) == 1
    (problem,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("problem"))
    assert "occlusion.safetensors is damaged: for convert and preview add --paint-over, or install anew" in problem


def found_by_doctor(first_on_path: Path, **more: str) -> tuple[int, dict[str, dict[str, str]]]:
    """The exit code, and what the doctor says of each thing."""
    environment = {**os.environ, "PATH": f"{first_on_path}{os.pathsep}{os.environ['PATH']}", **more}
    command = [sys.executable, "cli.py", "doctor", "--json", "--workspace", str(first_on_path)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    return done.returncode, {one["name"]: one for one in json.loads(done.stdout)["report"]["findings"]}


def test_what_is_broken_is_a_problem_with_a_remedy(tmp_path: Path) -> None:
    program(tmp_path / "ffmpeg", "exit 1")
    (tmp_path / "file").write_text("")
    inside = str(tmp_path / "ffmpeg")
    code, found = found_by_doctor(tmp_path, XDG_CONFIG_HOME=str(tmp_path / "file"), IMAGEIO_FFMPEG_EXE=inside)
    assert code == 1
    problems = {name for name, one in found.items() if one["state"] == "problem"}
    if find_ffmpeg() == imageio_ffmpeg.get_ffmpeg_exe():
        assert problems == {"ffmpeg", "certificate", "try convert"}
        assert "pip install" in found["ffmpeg"]["words"]
    assert "certificate" in problems
    assert "--cert" in found["certificate"]["words"]
    assert found["try train"]["state"] == "ok", "one broken thing does not hide the others"


@pytest.mark.skipif(os.name == "nt", reason="its programs are no shell scripts")
def test_an_ffmpeg_that_is_too_old_is_passed_over_and_convert_works(tmp_path: Path) -> None:
    program(tmp_path / "ffmpeg", OLD_FFMPEG)
    _, found = found_by_doctor(tmp_path)
    assert found["ffmpeg"]["state"] == "note"
    assert f"rejected: {tmp_path / 'ffmpeg'} is too old" in found["ffmpeg"]["words"]
    assert found["try convert"]["state"] == "ok"


def test_a_missing_package_is_one_line(tmp_path: Path) -> None:
    hidden = "import sys; sys.modules['av'] = None; import cli; sys.exit(cli.main(['doctor']))"
    done = subprocess.run([sys.executable, "-c", hidden], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "pip install -r requirements.txt" in done.stderr
