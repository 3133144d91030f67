"""A process that reads files, for it may die or hang of them."""

import multiprocessing
import os
import traceback
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import av
import psutil

from models import CheckpointError
from pipeline.errors import RecastError

ANSWER_S = 60  # the first file takes longest: libraries are loaded
MORE_FILES = 20  # open files above the first count that mean they are not closed
SPAWN = multiprocessing.get_context("spawn")


class Worker:
    """A process that reads files; after each failure a new one is started."""

    def __init__(self, read: Callable[[Path], None]) -> None:
        self._read = read
        self._start()

    def _start(self) -> None:
        self._pipe, its_end = SPAWN.Pipe()
        self._process = SPAWN.Process(target=answer_files, args=(self._read, its_end))
        self._process.start()
        its_end.close()
        self._first_count: int | None = None

    def check(self, path: Path) -> str:
        """Let it read a file; return what went wrong, empty if nothing did."""
        try:
            self._pipe.send(path)
            answer = self._pipe.recv() if self._pipe.poll(ANSWER_S) else f"no answer in {ANSWER_S} s"
        except (EOFError, OSError):
            self._process.join()
            answer = f"died with {self._process.exitcode}"
        failure = self._leftovers(answer) if isinstance(answer, int) else str(answer)
        if failure:
            self.end()
            self._start()
        return failure

    def _leftovers(self, open_files: int) -> str:
        if self._first_count is None:
            self._first_count = open_files
        if children := psutil.Process(self._process.pid).children():
            return f"left {len(children)} processes"
        return f"{open_files} files are open" if open_files > self._first_count + MORE_FILES else ""

    def end(self) -> None:
        """Kill it and what it has started."""
        if self._process.is_alive():
            for child in psutil.Process(self._process.pid).children(recursive=True):
                child.kill()
        self._process.kill()
        self._process.join()
        self._pipe.close()


def answer_files(read: Callable[[Path], None], pipe: Connection) -> None:
    """Read each file named in the pipe; answer with the number of open files, or with the traceback of a mistake."""
    for stream in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    av.logging.set_level(None)
    warnings.simplefilter("ignore")
    answer: int | str
    while True:
        path = pipe.recv()
        try:
            read(path)
            answer = open_files()
        except (RecastError, CheckpointError):
            answer = open_files()
        except BaseException:  # noqa: BLE001 - anything else is what the fuzzer looks for
            answer = traceback.format_exc()
        pipe.send(answer)


def open_files() -> int:
    """Number of files this process has open; 0 where the system does not tell."""
    descriptors = Path("/proc/self/fd")
    return sum(1 for _ in descriptors.iterdir()) if descriptors.is_dir() else 0
