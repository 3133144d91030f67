"""Which ffmpeg is used: the first one found that can do what is asked of it here."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache

import imageio_ffmpeg

from pipeline.errors import MediaError

ANSWER_S = 60  # for two black frames; an ffmpeg that takes longer hangs
FRAME = bytes(16 * 16 * 3 // 2)
QUIET = ("-hide_banner", "-nostdin", "-loglevel", "error", "-copyts")
FRAMES_IN = ("-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", "16x16", "-r", "25", "-i", "pipe:0")
TAGS = ("-vf", "setsar=sar=1/1:max=1,setparams=range=tv")
ENCODED = ("-c:v", "rawvideo", "-fps_mode", "passthrough", "-enc_time_base:v", "1:25", *TAGS, "-f", "null", "-")
COPIED = ("-c:v", "copy", "-bsf:v", "noise=amount=0:drop=lt(pts\\,0)", "-f", "null", "-")
TRIAL = (*QUIET, *FRAMES_IN, *ENCODED, *COPIED)
"""What not every ffmpeg knows of what ``writer`` and ``joining`` ask: -fps_mode came with 5.1."""
OLD = "fps_mode"  # what those before it do not know


@dataclass(frozen=True)
class Chosen:
    """The ffmpeg that is used.

    Attributes:
        path: of the program.
        passed_over: those found before it, and why each cannot be used, a line each.
    """

    path: str
    passed_over: tuple[str, ...]


def find_ffmpeg() -> str:
    """Return the first ffmpeg on PATH that can do what is asked of it, or else the one that comes with imageio-ffmpeg.

    Raises:
        MediaError: there is none.
    """
    return choose_ffmpeg().path


@cache
def choose_ffmpeg() -> Chosen:
    """Try each ffmpeg on two black frames until one makes something of them.

    Raises:
        MediaError: none does.
    """
    passed_over: list[str] = []
    for path in _candidates():
        why = _what_fails(path)
        if why is None:
            return Chosen(path, tuple(passed_over))
        passed_over.append(f"{path} {why}")
    reasons = "".join(f" ({line})" for line in passed_over)
    raise MediaError(f"no ffmpeg found that can be used{reasons}; run: pip install --force-reinstall imageio-ffmpeg")


def _candidates() -> Iterator[str]:
    """Name those on PATH, in order, then the one inside, each once."""
    seen = set[str]()
    for folder in os.get_exec_path():
        path = shutil.which("ffmpeg", path=folder)
        if path is not None and os.path.realpath(path) not in seen:
            seen.add(os.path.realpath(path))
            yield path
    with suppress(RuntimeError):
        inside = imageio_ffmpeg.get_ffmpeg_exe()
        if os.path.realpath(inside) not in seen:
            yield inside


def _what_fails(path: str) -> str | None:
    try:
        done = subprocess.run([path, *TRIAL], input=2 * FRAME, capture_output=True, timeout=ANSWER_S, check=False)
    except OSError as error:
        return f"does not start: {error.strerror or error}"
    except subprocess.TimeoutExpired:
        return f"did not answer within {ANSWER_S} s"
    if done.returncode == 0:
        return None
    words = done.stderr.decode(errors="replace").strip().splitlines()
    if any(OLD in line for line in words):
        return "is too old: 5.1 is the first that can be used"
    return f"fails: {words[0] if words else f'it ended with code {done.returncode}'}"
