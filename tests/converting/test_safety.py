"""Whatever ends a conversion, and whenever: the whole result under its name or none, and segments to go on from."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import pytest

from cli import main
from demo.clips import HOPPER, make_clip
from pipeline.errors import MediaError
from pipeline.media.ffmpeg import VideoPacket
from pipeline.media.playback import decode_playback
from pipeline.media.writer import read_segment
from pipeline.provenance.credentials import read_credentials, sign
from tests.clips import ffmpeg
from tests.conftest import FRAMES, ROOT

SWAP = ["--from", "hopper", "--to", "collins", "--preset", "ultrafast"]
HEAVY_SOUND = ["-f", "lavfi", "-i", "anoisesrc=duration=40:sample_rate=192000,aformat=s32:channel_layouts=octagonal"]


def run(workspace: Path, *arguments: str | Path) -> int:
    return main(["convert", *map(str, arguments), "--workspace", str(workspace)])


def segments_of(final: Path) -> list[Path]:
    return sorted(final.with_name(f".{final.name}.segments").glob("0*.nut"))


@pytest.fixture
def heavy(trained: Path, clips: dict[str, Path], tmp_path: Path) -> tuple[Path, Path]:
    """A workspace, and a clip in it whose sound takes 250 MB: a second at least to sign."""
    clip = tmp_path / "heavy.mov"
    sound = ["-map", "0:v", "-map", "1:a", "-c:v", "copy", "-c:a", "pcm_s32le"]
    ffmpeg("-i", clips["hopper"], *HEAVY_SOUND, *sound, clip)
    assert main(["extract", str(clip), "--person", "hopper", "--workspace", str(trained)]) == 0
    return trained, clip


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_the_result_is_signed_ends_the_run(heavy: tuple[Path, Path], number: signal.Signals) -> None:
    workspace, clip = heavy
    final = workspace / "made.mov"
    line = [sys.executable, "cli.py", "convert", str(clip), *SWAP, "-o", str(final), "--workspace", str(workspace)]
    process = subprocess.Popen(line, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    signing = workspace / "..made.part.part.mov"
    while not (signing.exists() and signing.stat().st_size > 0):
        assert process.poll() is None, "it ended before it signed"
        time.sleep(0.002)
    process.send_signal(number)
    said = process.communicate()[1]
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert "ignored" not in said
    assert [path.name for path in workspace.glob("*made*")] == [".made.mov.segments"]
    assert segments_of(final)
    assert run(workspace, clip, *SWAP, "-o", final) == 0
    assert read_credentials(final, []).state == "valid"


def test_a_result_that_does_not_play_whole_gets_no_name(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last frames are lost on the way into the file: that is found out, and segments are kept."""
    final = trained / "made.mp4"
    monkeypatch.setattr("pipeline.media.mux.read_segment", _all_but_two)
    assert run(trained, *SWAP, "-o", final) == 1
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert f"{FRAMES - 2} of {FRAMES} frames are shown" in said
    assert not final.exists()
    assert segments_of(final)
    monkeypatch.undo()
    assert run(trained, *SWAP, "-o", final) == 0
    assert "continuing" in capsys.readouterr().err
    assert not final.with_name(f".{final.name}.segments").exists()


def _all_but_two(path: Path, pts: Sequence[int], time_base: Fraction) -> list[VideoPacket]:
    packets = read_segment(path, pts, time_base)
    assert packets is not None
    return packets if len(packets) == 2 else packets[:-2]  # two are the rehearsal's


def test_a_signature_that_does_not_hold_is_found_out(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def sign_and_damage(path: Path, *rest: object) -> bytes | None:
        credentials = sign(path, *rest)  # type: ignore[arg-type]
        with path.open("r+b") as file:
            file.seek(-100, os.SEEK_END)
            file.write(b"!" * 100)
        return credentials

    monkeypatch.setattr("pipeline.provenance.marking.sign", sign_and_damage)
    for suffix in (".mp4", ".mkv"):
        final = trained / f"made{suffix}"
        assert run(trained, *SWAP, "-o", final) == 1
        assert "does not hold" in capsys.readouterr().err
        assert not list(trained.glob("made*")), "no result, and no credentials beside it"
        assert segments_of(final)


def test_what_lay_beside_an_earlier_result_stays_until_the_new_one_is_there(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    final, beside = trained / "made.mkv", trained / "made.mkv.c2pa"
    assert run(trained, *SWAP, "-o", final) == 0
    old = beside.read_bytes(), final.read_bytes()

    def fail(*_: object) -> None:
        raise MediaError("not whole")

    monkeypatch.setattr("pipeline.convert.check_result", fail)
    for more in ([], ["--no-credentials"]):
        assert run(trained, *SWAP, *more, "-o", final) == 1
        assert (beside.read_bytes(), final.read_bytes()) == old


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM")
def test_signals_at_random_moments(trained: Path, tmp_path: Path) -> None:
    """In whatever phase: a result that is whole and signed, or none and what is finished is kept."""
    clip, final = tmp_path / "long.mp4", trained / "made.mp4"
    make_clip(HOPPER, clip, 200)
    assert main(["extract", str(clip), "--person", "hopper", "--every", "8", "--workspace", str(trained)]) == 0
    line = [sys.executable, "cli.py", "convert", str(clip), *SWAP, "-o", str(final), "--workspace", str(trained)]
    began = time.monotonic()
    subprocess.run(line, cwd=ROOT, check=True, capture_output=True)
    takes_s = time.monotonic() - began
    rng, codes = random.Random(7), set[int]()
    for number in range(8):
        final.unlink(missing_ok=True)
        before = segments_of(final)
        process = subprocess.Popen(line, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        try:
            process.wait(rng.uniform(0.2, 1.1) * takes_s if number % 2 else rng.uniform(2, takes_s))
        except subprocess.TimeoutExpired:
            process.send_signal(rng.choice([signal.SIGINT, signal.SIGTERM]))
        said = process.communicate()[1]
        codes.add(process.returncode)
        assert process.returncode in (0, 130, -signal.SIGTERM, -signal.SIGINT), said  # the last two: before it began
        assert "ignored" not in said
        if final.exists():
            assert read_credentials(final, []).state == "valid"
            assert len(decode_playback(final).frame_times_s) == 200
        else:
            assert process.returncode != 0
            assert set(before) <= set(segments_of(final)), "what was finished is kept"
            assert not list(trained.glob(".made.part*"))
    assert {0, 130} <= codes
