"""Which ffmpeg is used, of several on PATH."""

import os
from pathlib import Path

import imageio_ffmpeg
import pytest

from pipeline.errors import MediaError
from pipeline.media.ffmpeg import choose_ffmpeg, find_ffmpeg

pytestmark = pytest.mark.skipif(os.name == "nt", reason="its programs are no shell scripts")

OLD_FFMPEG = f"""for word in "$@"; do
    if [ "$word" = -fps_mode ]; then echo "Unrecognized option 'fps_mode'." >&2; exit 1; fi
done
exec "{find_ffmpeg()}" "$@"
"""
"""What one before 5.1 says."""


def program(path: Path, script: str) -> Path:
    """Write a program."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("script", "why"),
    [
        (OLD_FFMPEG, "is too old: 5.1 is the first that can be used"),
        ("exit 1", "fails: it ended with code 1"),
        ("kill -9 $$", "fails: it ended with code -9"),
        ("echo no such library >&2; exit 127", "fails: no such library"),
    ],
    ids=["old", "broken", "killed", "cannot load"],
)
def test_one_that_cannot_be_used_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, why: str
) -> None:
    bad = program(tmp_path / "first" / "ffmpeg", script)
    good = program(tmp_path / "second" / "ffmpeg", f'exec "{find_ffmpeg()}" "$@"')
    monkeypatch.setenv("PATH", os.pathsep.join([str(bad.parent), str(good.parent), os.environ["PATH"]]))
    assert choose_ffmpeg.__wrapped__() == (str(good), (f"{bad} {why}",))


def test_where_none_can_be_used_all_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = [program(tmp_path / name / "ffmpeg", "exit 1") for name in ("first", "second", "inside")]
    monkeypatch.setenv("PATH", os.pathsep.join(str(path.parent) for path in bad[:2]))
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(bad[2]))
    with pytest.raises(MediaError, match="pip install") as refused:
        choose_ffmpeg.__wrapped__()
    assert all(str(path) in str(refused.value) for path in bad)


def test_the_one_inside_is_used_where_path_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert choose_ffmpeg.__wrapped__()[0] == imageio_ffmpeg.get_ffmpeg_exe()
