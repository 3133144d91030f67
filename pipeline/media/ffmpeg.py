"""Which ffmpeg is used: the first one found that can do what is asked of it here.

An ffmpeg process that is fed through a pipe, packet by packet, with exact timestamps.
"""

import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace, TracebackType
from typing import Self, TypeAlias
from urllib.parse import quote, unquote_to_bytes

import av
import imageio_ffmpeg
import psutil
from av.container import OutputContainer
from av.packet import Packet
from av.video.stream import VideoStream

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


VideoPacket: TypeAlias = "Packet[VideoStream]"

LOCAL = "file:"  # ffmpeg's protocol of files here
WORDS = 3  # lines of ffmpeg's that an error shows: the first, for what follows is its consequence
STALLED_S, LOOK_S = 600, 5  # it has done nothing at all for so long: it hangs; how often that is looked at
FAILING_TIMEOUT_S = 5  # for ffmpeg to say why, once it no longer takes frames
KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(4 << 30), "MALLOC_TOP_PAD_": str(64 << 20)}
"""What glibc reads: a frame's memory is used for the next, as in ``pipeline.runtime``; other systems pass it over."""
PATIENCE_S = 0.5
BUFFER_BYTES = 1 << 20  # what goes into the pipe at once, and what it holds where the system lets it


@dataclass(frozen=True)
class Form:
    """A container to send packets in: its name, and options of its muxer."""

    name: str
    options: tuple[tuple[str, str], ...]


NUT = Form("nut", (("write_index", "0"),))
"""Holds most codecs; says when a packet is shown, and not when it is decoded."""
PIECES = (("movflags", "frag_every_frame+empty_moov+default_base_moof"),)
MP4_PIECES = Form("mp4", PIECES)
"""Holds what MP4 does; says both. Decoding begins at 0."""
MOV_PIECES = Form("mov", PIECES)
"""The same for what MOV holds."""


class FfmpegPipe:
    """A running ffmpeg whose first input is ``container``.

    Leaving the block without an error ends the input and waits until ffmpeg is done; with one it stops ffmpeg.

    Args:
        command: the process to start.
        doing: what an error says ffmpeg could not do: "encode a.mp4".
        form: what it reads from its standard input.

    Attributes:
        container: where streams are added and packets muxed.

    Raises:
        MediaError: ffmpeg cannot be started.
    """

    def __init__(self, command: list[str], doing: str, form: Form) -> None:
        self._doing = doing
        self._made = BytesIO()  # an interrupt that comes while PyAV calls Python is lost, with what was being written
        self.container: OutputContainer = av.open(
            SimpleNamespace(write=self._made.write),
            "w",
            format=form.name,
            options=dict(form.options),
            buffer_size=BUFFER_BYTES,
        )
        self._words: list[str] = []
        self._process = _start(command, doing)
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        self._is_awaited = False
        self._is_over = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self.abandon()

    def mux(self, packets: list[VideoPacket]) -> None:
        """Hand packets over.

        Raises:
            MediaError: ffmpeg has ended, with its last words; or it cannot be told of such packets.
        """
        try:
            self.container.mux(packets)
        except av.error.FFmpegError as error:
            self.abandon()
            raise MediaError(f"could not {self._doing}: {error.strerror}") from error
        self._send()

    def close(self) -> None:
        """End the input and wait for ffmpeg; what it writes is whole when this returns.

        Raises:
            MediaError: ffmpeg failed.
        """
        try:
            self._end()
        except BaseException:
            self.abandon()
            raise

    def _end(self) -> None:
        assert self._process.stdin is not None
        self.container.close()
        self._send()
        with suppress(OSError):  # it ended before all was read: its exit code tells
            self._process.stdin.close()
        self._is_awaited = True
        while self._process.poll() is None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(PATIENCE_S)  # without an end to it Windows would not hear Ctrl-C
        if self._process.returncode != 0:
            raise self._failure()
        self._listener.join()
        self._is_over.set()

    def _send(self) -> None:
        assert self._process.stdin is not None
        self._is_awaited = True
        try:
            self._process.stdin.write(self._made.getbuffer())
        except (OSError, ValueError) as error:
            raise self._failure() from error
        finally:
            self._is_awaited = False
        self._made.seek(0)
        self._made.truncate()

    def abandon(self) -> None:
        """Stop ffmpeg; what it wrote is not to be used."""
        assert self._process.stdin is not None
        self._is_over.set()
        self._process.kill()
        self._process.wait()
        self._listener.join()
        with suppress(av.error.FFmpegError, ValueError):  # what is still on its way, nobody reads
            self.container.close()
        with suppress(OSError):
            self._process.stdin.close()

    def _watch(self) -> None:
        """Stop ffmpeg where it hangs: waiting for it would never end.

        However much it has to do, and however slow the machine or the disk, it hangs only when it does nothing.
        """
        idle_s, seen = 0.0, None  # counted in looks, not by the clock: this program may have been halted itself
        while not self._is_over.wait(LOOK_S):
            done = _work_done(self._process.pid)
            idle_s = idle_s + LOOK_S if self._is_awaited and done == seen else 0
            seen = done
            if idle_s > STALLED_S:
                self._words.append(f"it did nothing for {STALLED_S} s")
                self._process.kill()
                return

    def _listen(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as lines:
            for line in lines:
                if len(self._words) < WORDS:
                    self._words.append(re.sub(r"\[[^]]* @ 0x[0-9a-f]+\] ?", "", line.decode(errors="replace")).strip())

    def _failure(self) -> MediaError:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(FAILING_TIMEOUT_S)
        self.abandon()
        words = " / ".join(self._words) or f"it ended with code {self._process.returncode}"
        return MediaError(f"ffmpeg could not {self._doing}: {words}")


def _start(command: list[str], doing: str) -> "subprocess.Popen[bytes]":
    """Start a process in a group of its own: Ctrl-C is for us, who then end it in good order."""

    def start(pipe_bytes: int) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            pipesize=pipe_bytes,
            env=os.environ | KEEP_MEMORY,
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )

    try:
        try:
            return start(BUFFER_BYTES)
        except PermissionError:  # all pipes of this user may hold no more
            return start(-1)
    except OSError as error:
        raise MediaError(f"could not {doing}: {command[0]} does not start: {error.strerror}") from error


def _work_done(pid: int) -> tuple[float, ...]:
    """Say how much processor time a process has used, and how much it has read and written; empty where it is gone."""
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        with process.oneshot():
            times = process.cpu_times()
            moved = process.io_counters() if hasattr(process, "io_counters") else ()
            return (times.user, times.system, *moved)
    return ()


def quiet(command: list[str]) -> list[str]:
    """Let a command built by ffmpeg-python say nothing but errors, ask nothing, and keep timestamps as they come.

    Args:
        command: the arguments; files are named in it by ``as_argument``.
    """
    arguments = map(_unquoted, command)
    return [find_ffmpeg(), "-hide_banner", "-nostdin", "-loglevel", "error", "-copyts", "-y", *arguments]


def as_input(path: Path) -> str:
    """Name a local file so that ffmpeg takes no part of the name for a protocol."""
    return f"{LOCAL}{path}"


def as_argument(path: Path) -> str:
    """Name a local file to ffmpeg-python, which encodes all it is told as UTF-8; not every file's name can be.

    ``quiet`` puts the name itself into the finished command.
    """
    return f"{LOCAL}{quote(os.fsencode(path))}"


def _unquoted(argument: str) -> str:
    name = argument.removeprefix(LOCAL)
    return argument if name == argument else f"{LOCAL}{os.fsdecode(unquote_to_bytes(name))}"
