"""The choice of the ffmpeg program, and an ffmpeg process that receives packets with exact timestamps by a pipe."""

import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple, Self, TypeAlias
from urllib.parse import quote, unquote_to_bytes

import av
import imageio_ffmpeg
import psutil
from av.container import OutputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from pipeline.errors import MediaError

VideoPacket: TypeAlias = "Packet[VideoStream]"

TRIAL_TIMEOUT_S = 60  # for two black frames; a slower ffmpeg counts as hanging
BLACK_FRAMES = bytes(2 * 16 * 16 * 3 // 2)
FILE_PROTOCOL = "file:"  # ffmpeg's, for local files
QUIET = ("-hide_banner", "-nostdin", "-loglevel", "error", "-copyts")
TRIAL = (
    *(*QUIET, "-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", "16x16", "-r", "25", "-i", "pipe:0"),
    *("-c:v", "rawvideo", "-fps_mode", "passthrough", "-enc_time_base:v", "1:25"),
    *("-vf", "setsar=sar=1/1:max=1,setparams=range=tv", "-f", "null", "-"),
    *("-c:v", "copy", "-bsf:v", "noise=amount=0:drop=lt(pts\\,0)", "-f", "null", "-"),
)
"""Exercises the options of ``writer`` and ``mux`` that not every ffmpeg has."""
NEW_OPTION = "fps_mode"  # came with ffmpeg 5.1

ERROR_LINES = 3  # of ffmpeg's output shown in an error; the first ones tell the cause
STALLED_S, CHECK_INTERVAL_S = 600, 5  # a process idle for this long counts as hanging
FAILING_TIMEOUT_S = 5  # for ffmpeg to exit after it has closed the pipe
KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(4 << 30), "MALLOC_TOP_PAD_": str(64 << 20)}
"""Settings of glibc: keep freed memory for the next frame, as in ``pipeline.runtime``; ignored on other systems."""
WAIT_S = 0.5  # between checks for Ctrl-C
BUFFER_BYTES = 1 << 20  # written to the pipe at once, and the pipe's size if the system allows it


def find_ffmpeg() -> str:
    """Return the path of the ffmpeg that is used."""
    return choose_ffmpeg()[0]


@cache
def choose_ffmpeg() -> tuple[str, tuple[str, ...]]:
    """Find the first ffmpeg, on PATH and then in imageio-ffmpeg, that has all options used here.

    Returns:
        Its path, and why each earlier candidate cannot be used, a line each.
    """
    rejected: dict[str, str] = {}  # by real path: PATH may name one program twice
    for path in _candidates():
        if (real := os.path.realpath(path)) in rejected:
            continue
        reason = _try(path)
        if reason is None:
            return path, tuple(rejected.values())
        rejected[real] = f"{path} {reason}"
    reasons = "".join(f" ({line})" for line in rejected.values())
    raise MediaError(f"no ffmpeg found that can be used{reasons}; run: pip install --force-reinstall imageio-ffmpeg")


def _candidates() -> Iterator[str]:
    for folder in os.get_exec_path():
        if path := shutil.which("ffmpeg", path=folder):
            yield path
    with suppress(RuntimeError):  # there is none for this platform
        yield imageio_ffmpeg.get_ffmpeg_exe()


def _try(path: str) -> str | None:
    """Return why an ffmpeg cannot be used; None if it can."""
    command = [path, *TRIAL]
    try:
        trial = subprocess.run(command, input=BLACK_FRAMES, capture_output=True, timeout=TRIAL_TIMEOUT_S, check=False)
    except OSError as error:
        return f"does not start: {error.strerror or error}"
    except subprocess.TimeoutExpired:
        return f"did not answer within {TRIAL_TIMEOUT_S} s"
    if trial.returncode == 0:
        return None
    lines = trial.stderr.decode(errors="replace").strip().splitlines()
    if any(NEW_OPTION in line for line in lines):
        return "is too old: 5.1 is the first that can be used"
    return f"fails: {lines[0] if lines else f'it ended with code {trial.returncode}'}"


def ffmpeg_command(arguments: list[str]) -> list[str]:
    """Complete a command: print only errors, ask nothing, keep timestamps.

    Args:
        arguments: made by ffmpeg-python, with files named by ``quoted_file``.
    """
    return [find_ffmpeg(), *QUIET, "-y", *map(_unquote, arguments)]


def local_file(path: Path) -> str:
    """Name a local file so that ffmpeg takes no part of its name for a protocol."""
    return f"{FILE_PROTOCOL}{path}"


def quoted_file(path: Path) -> str:
    """Name a local file for ffmpeg-python, which encodes arguments as UTF-8; not every file name is valid UTF-8."""
    return f"{FILE_PROTOCOL}{quote(os.fsencode(path))}"


def _unquote(argument: str) -> str:
    name = argument.removeprefix(FILE_PROTOCOL)
    return argument if name == argument else f"{FILE_PROTOCOL}{os.fsdecode(unquote_to_bytes(name))}"


class PipeFormat(NamedTuple):
    """A container format for packets in a pipe, and options of its muxer."""

    name: str
    options: dict[str, str]


FRAGMENTED = {"movflags": "frag_every_frame+empty_moov+default_base_moof"}
NUT = PipeFormat("nut", {"write_index": "0"})
"""For most codecs; has presentation times only."""
MP4_FRAGMENTS = PipeFormat("mp4", FRAGMENTED)
"""For the codecs of MP4; has decoding times too, which start at 0."""
MOV_FRAGMENTS = PipeFormat("mov", FRAGMENTED)
"""The same for the codecs of MOV."""


class FfmpegPipe:
    """A running ffmpeg whose first input is ``container``.

    Leaving the block normally ends the input and waits until ffmpeg is done; an error stops ffmpeg.

    Args:
        command: complete, from ``ffmpeg_command``.
        task: for error messages: "encode a.mp4".
        pipe_format: what ffmpeg reads from its standard input.

    Attributes:
        container: where streams are added.
    """

    def __init__(self, command: list[str], task: str, pipe_format: PipeFormat) -> None:
        self._task = task
        self._muxed = BytesIO()  # not the pipe itself: an interrupt while PyAV calls Python is lost, with the data
        self.container: OutputContainer = av.open(
            SimpleNamespace(write=self._muxed.write),
            "w",
            format=pipe_format.name,
            options=pipe_format.options,
            buffer_size=BUFFER_BYTES,
        )
        self._error_lines: list[str] = []
        self._process = _start(command, task)
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        self._is_awaited = False
        self._has_ended = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error_type: type[BaseException] | None, *_: object) -> None:
        if error_type is None:
            self.close()
        else:
            self.abandon()

    def mux(self, packets: list[VideoPacket]) -> None:
        """Send packets; MediaError with ffmpeg's error lines if it has exited."""
        try:
            self.container.mux(packets)
        except av.error.FFmpegError as error:
            self.abandon()
            raise MediaError(f"could not {self._task}: {error.strerror}") from error
        self._send()

    def close(self) -> None:
        """End the input and wait for ffmpeg; its output is complete when this returns."""
        assert self._process.stdin is not None
        try:
            self.container.close()
            self._send()
            with suppress(OSError):  # it exited before reading everything; its exit code says why
                self._process.stdin.close()
            self._is_awaited = True
            while self._process.poll() is None:
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(WAIT_S)  # an endless wait would block Ctrl-C on Windows
            if self._process.returncode != 0:
                raise self._failure()
        except BaseException:
            self.abandon()
            raise
        self._listener.join()
        self._has_ended.set()

    def abandon(self) -> None:
        """Stop ffmpeg; its output must not be used."""
        assert self._process.stdin is not None
        self._has_ended.set()
        self._process.kill()
        self._process.wait()
        self._listener.join()
        with suppress(av.error.FFmpegError, ValueError):  # nobody reads the rest
            self.container.close()
        with suppress(OSError):
            self._process.stdin.close()

    def _send(self) -> None:
        assert self._process.stdin is not None
        self._is_awaited = True
        try:
            self._process.stdin.write(self._muxed.getbuffer())
        except (OSError, ValueError) as error:
            raise self._failure() from error
        finally:
            self._is_awaited = False
        self._muxed.seek(0)
        self._muxed.truncate()

    def _watch(self) -> None:
        """Kill ffmpeg if it hangs: no processor time, no reading and no writing while this process waits for it."""
        idle_s, last_activity = 0.0, None  # idle_s sums intervals: this program may have been suspended itself
        while not self._has_ended.wait(CHECK_INTERVAL_S):
            activity = _activity(self._process.pid)
            idle_s = idle_s + CHECK_INTERVAL_S if self._is_awaited and activity == last_activity else 0
            last_activity = activity
            if idle_s > STALLED_S:
                self._error_lines.append(f"it did nothing for {STALLED_S} s")
                self._process.kill()
                return

    def _listen(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as lines:
            for line in lines:
                if len(self._error_lines) < ERROR_LINES:
                    text = re.sub(r"\[[^]]* @ 0x[0-9a-f]+\] ?", "", line.decode(errors="replace"))
                    self._error_lines.append(text.strip())

    def _failure(self) -> MediaError:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(FAILING_TIMEOUT_S)
        self.abandon()
        reason = " / ".join(self._error_lines) or f"it ended with code {self._process.returncode}"
        return MediaError(f"ffmpeg could not {self._task}: {reason}")


def _start(command: list[str], task: str) -> "subprocess.Popen[bytes]":
    def start(pipe_bytes: int) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            pipesize=pipe_bytes,
            env=os.environ | KEEP_MEMORY,
            start_new_session=True,  # Ctrl-C must reach this process only, which then ends ffmpeg
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )

    try:
        try:
            return start(BUFFER_BYTES)
        except PermissionError:  # the user's limit for pipes is reached
            return start(-1)
    except OSError as error:
        raise MediaError(f"could not {task}: {command[0]} does not start: {error.strerror}") from error


def _activity(pid: int) -> tuple[float, ...]:
    """Processor time of a process, and what it has read and written so far; empty if it has ended."""
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        with process.oneshot():
            times = process.cpu_times()
            transferred = process.io_counters() if hasattr(process, "io_counters") else ()
            return (times.user, times.system, *transferred)
    return ()
