"""The doctor, on this machine as it is, and with things broken."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cli import main
from tests.conftest import ROOT

LOOKED_AT = ["Recast", "device", "memory", "disk", "ffmpeg", "face mesh", "certificate", "try extract", "try train"]


def test_all_is_well_here(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--workspace", str(tmp_path / "workspace")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line[8:].split(":")[0] for line in lines] == [*LOOKED_AT, "try convert"]
    assert {line[:8].strip() for line in lines} <= {"ok", "note"}
    assert "libx264" in next(line for line in lines if "ffmpeg:" in line)
    assert not (tmp_path / "workspace").exists()


def test_what_is_broken_is_a_problem_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    broken = tmp_path / "bin" / "ffmpeg"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    (tmp_path / "file").write_text("")
    environment = {**os.environ, "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    environment["XDG_CONFIG_HOME"] = str(tmp_path / "file")
    command = [sys.executable, "cli.py", "doctor", "--json", "--workspace", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    found = {one["name"]: one for one in json.loads(done.stdout)["report"]["findings"]}
    assert {name for name, one in found.items() if one["state"] == "problem"} == {
        "ffmpeg",
        "certificate",
        "try convert",
    }
    assert "no encoder" in found["ffmpeg"]["words"]
    assert "--cert" in found["certificate"]["words"]
    assert found["try train"]["state"] == "ok", "one broken thing does not hide the others"
    assert "Traceback" not in done.stderr


def test_a_missing_package_is_one_line(tmp_path: Path) -> None:
    hidden = "import sys; sys.modules['av'] = None; import cli; sys.exit(cli.main(['doctor']))"
    done = subprocess.run([sys.executable, "-c", hidden], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "pip install -r requirements.txt" in done.stderr
