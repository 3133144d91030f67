"""The process: signals, memory, the device, files inside installed packages, and work in other threads."""

import ctypes
import os
import platform
import signal
import stat
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Any, Literal, NoReturn, Self, TypeVar

from pipeline.errors import WorkspaceError

T = TypeVar("T")
R = TypeVar("R")

CUDA_DRIVERS = ("libcuda.so.1", "nvcuda.dll")  # on Linux and on Windows
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # names and numbers of glibc's mallopt(3)
GROW_BY = 64 << 20  # bytes
POLL_S = 0.1  # Windows handles Ctrl-C only between waits, so no wait is longer


def package_file(package: str, file: str) -> Path:
    """Find a file inside an installed package without importing the package.

    Raises:
        WorkspaceError: the package is not installed, or has no such file.
    """
    spec = find_spec(package)
    for folder in (spec.submodule_search_locations if spec else None) or ():
        if (Path(folder) / file).is_file():
            return Path(folder) / file
    raise WorkspaceError(f"the package {package} is missing, or has no {file}; run: pip install -r requirements.txt")


def choose_device(*, no_cuda: bool) -> Literal["cpu", "cuda"]:
    """Choose the GPU if torch can use one; torch is imported only if there is an NVIDIA driver."""
    if no_cuda or not any(map(_can_load, CUDA_DRIVERS)):
        return "cpu"
    import torch  # noqa: PLC0415 - takes seconds to load

    return "cuda" if torch.cuda.is_available() else "cpu"


def _can_load(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def keep_freed_memory() -> bool:
    """Tune glibc to keep freed memory for the next use; return whether that worked.

    By default glibc returns large blocks to the system at once, and the system zeroes each page before its next use:
    that took a third of the time of a training step (docs/log.md). The process then never shrinks.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return all(mallopt(*setting) for setting in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, -1), (M_TOP_PAD, GROW_BY)))


def unwind_on_signals() -> None:
    """Make SIGTERM and SIGHUP raise KeyboardInterrupt, so that temporary files are deleted and encoders stopped.

    They stay ignored if the parent process ignores them (nohup).
    """

    def unwind(number: int, frame: FrameType | None) -> NoReturn:
        leave_closed_terminal()
        raise KeyboardInterrupt

    for number in _signals("SIGTERM", "SIGHUP"):
        signal.signal(number, unwind)


def _signals(*names: str) -> list[int]:
    """Return the named signals that this system has (Windows has no SIGHUP) and that are not ignored."""
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    return [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]


class StopRequest:
    """While the block runs, the first Ctrl-C, SIGTERM or SIGHUP sets ``requested``; a second Ctrl-C interrupts."""

    def __init__(self) -> None:
        self.requested = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in {signal.SIGINT, *_signals("SIGTERM", "SIGHUP")}:
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True
        leave_closed_terminal()


def leave_closed_terminal() -> None:
    """Redirect standard output and error to nowhere if their terminal was closed, as every write would fail."""
    for descriptor in (1, 2):
        try:
            was_terminal = stat.S_ISCHR(os.fstat(descriptor).st_mode) and not os.isatty(descriptor)
        except OSError:  # the process was started without it
            continue
        if was_terminal:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, descriptor)
            os.close(nowhere)


@contextmanager
def prefetched(items: Iterable[T], depth: int) -> Iterator[Iterator[T]]:
    """Iterate over items that another thread takes from an iterable, at most ``depth`` + 1 ahead.

    An error in that thread is raised where the items are used, after the items before it. Leaving the block ends the
    thread after its current item.
    """
    iterator, end = iter(items), object()
    pool = ThreadPoolExecutor(1)
    waiting: deque[Future[Any]] = deque(pool.submit(next, iterator, end) for _ in range(depth + 1))

    def ready_items() -> Iterator[T]:
        while (item := wait_for(waiting.popleft())) is not end:
            waiting.append(pool.submit(next, iterator, end))
            yield item

    try:
        yield ready_items()
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def map_in_threads(
    work: Callable[[T], R], items: Iterator[T], workers: int, initialize: Callable[[], None]
) -> Iterator[Iterator[R]]:
    """Iterate over results of ``work`` on items, in order, from ``workers`` threads; each calls ``initialize`` first.

    Items are taken where the results are used. An error in a thread is raised there too, after the results before it.
    Leaving the block ends each thread after its current item.
    """
    pool = ThreadPoolExecutor(workers, initializer=initialize)

    def results() -> Iterator[R]:
        running: deque[Future[R]] = deque()
        for item in items:
            running.append(pool.submit(work, item))
            if len(running) == workers:
                yield wait_for(running.popleft())
        while running:
            yield wait_for(running.popleft())

    try:
        yield results()
    finally:
        pool.shutdown(cancel_futures=True)


def wait_for(future: "Future[R]") -> R:
    """Wait for the result or error of another thread's work without blocking Ctrl-C."""
    while not future.done():
        with suppress(TimeoutError):
            future.result(POLL_S)
    return future.result()


def run_interruptible(work: Callable[[threading.Event], R]) -> R:
    """Run a library's work in a thread, so that Ctrl-C reaches this thread and not the library, which would lose it.

    Python runs signal handlers in the main thread, inside any Python code that a library calls there. The work gets an
    event that is set when its result is no longer needed; it should then fail soon. It has ended when this returns.
    """
    is_abandoned = threading.Event()
    pool = ThreadPoolExecutor(1)
    try:
        return wait_for(pool.submit(work, is_abandoned))
    finally:
        is_abandoned.set()
        pool.shutdown()
