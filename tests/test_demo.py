"""The demo, end to end, as short as it goes."""

import os
import subprocess
import sys
from pathlib import Path

from pipeline.media.pictures import read_picture
from pipeline.media.probe import probe
from tests.conftest import ROOT


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
