"""The demo, end to end, as short as it goes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from pipeline.media.pictures import read_picture
from pipeline.media.probe import probe
from tests.conftest import ROOT


@pytest.mark.slow
def test_the_whole_main_job(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "demo", "--minutes", "0.1", "--workspace", str(tmp_path / "demo")]
    without_network = {**os.environ, "http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
    done = subprocess.run(command, cwd=ROOT, env=without_network, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert read_picture(tmp_path / "demo" / "contact_sheet.png").shape == (720, 1440, 3)
    original = probe(tmp_path / "demo" / "clips" / "hopper.mp4")
    result = probe(tmp_path / "demo" / "converted" / "hopper_to_collins.mp4")
    both = probe(tmp_path / "demo" / "side_by_side.mp4")
    assert (result.width, result.height, result.audio_codecs) == (400, 400, ("aac",))
    assert result.duration_s == original.duration_s
    assert (both.width, both.height, both.audio_codecs) == (800, 400, ("aac",))
    for name in ("contact_sheet.png", "side_by_side.mp4", "hopper_to_collins.mp4"):
        assert name in done.stdout


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_ends_the_command_that_runs_too(extracted: Path, name: str) -> None:
    train = ["train", "--init-dim", "8", "--code-dim", "64", "-b", "8", "--workspace", str(extracted)]
    script = f"from demo.__main__ import Children, run; run(Children(), *{train!r}); run(Children(), 'doctor')"
    demo = subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert demo.stderr is not None
    while "a new model" not in (line := demo.stderr.readline()):
        assert line, "it ended by itself"
    (command,) = psutil.Process(demo.pid).children()
    demo.send_signal(getattr(signal, name))
    said, errors = demo.communicate(timeout=300)
    assert demo.returncode == 128 + getattr(signal, name), errors
    assert not command.is_running()
    assert "ended by you" in said, "it had time to save"
    assert "doctor" not in said, "nothing else is begun"
