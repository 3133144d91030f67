"""Files that lie inside installed packages, found without importing these.

Turn the first Ctrl-C, SIGTERM or SIGHUP into a request to stop.

How this process keeps its memory.

Where networks run.

Work done ahead in a thread of its own, so that stages of a pipeline overlap.
"""

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
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from queue import Empty, Full, Queue
from types import FrameType, TracebackType
from typing import Literal, Self, TypeVar

from pipeline.errors import WorkspaceError


def package_file(package: str, file: str) -> Path:
    """Name a file of a package.

    Raises:
        WorkspaceError: the package is not installed, or lacks it.
    """
    spec = find_spec(package)
    for folder in (spec.submodule_search_locations if spec else None) or ():
        if (Path(folder) / file).is_file():
            return Path(folder) / file
    raise WorkspaceError(f"the package {package} is missing, or has no {file}; run: pip install -r requirements.txt")


REQUESTS = ("SIGINT", "SIGTERM", "SIGHUP")  # the last: its terminal was closed; Windows has none


class StopRequest:
    """While the block runs, the first such signal is noted; a second Ctrl-C interrupts as usual.

    SIGTERM and SIGHUP stay ignored where whoever started the process wants that (nohup).

    Attributes:
        made: someone asked for the end.
    """

    def __init__(self) -> None:
        self.requested = False

    def __enter__(self) -> Self:
        self._previous = {}
        if threading.current_thread() is threading.main_thread():
            for number in (getattr(signal, name) for name in REQUESTS if hasattr(signal, name)):
                if number == signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN:
                    self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True
        leave_closed_terminal()


def leave_closed_terminal() -> None:
    """Write nowhere from now on, where this process wrote to a terminal that was closed: writing to it would fail."""
    for number in (1, 2):  # standard output, standard error
        try:
            was_terminal = stat.S_ISCHR(os.fstat(number).st_mode) and not os.isatty(number)
        except OSError:  # there never was one
            continue
        if was_terminal:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, number)
            os.close(nowhere)


M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # names and numbers of glibc's mallopt(3)
GROW_BY = 64 << 20  # bytes


def keep_freed_memory() -> bool:
    """Let this process keep the memory it frees for its next use, where glibc is the C library.

    By default glibc gives large blocks back to the system at once, and the system hands them out again page by page,
    each filled with zeros: with the large tensors of a training step that took a third of the time (docs/log.md). The
    price is that the process never shrinks.

    Returns:
        Whether that is so now.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return all(mallopt(*setting) for setting in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, -1), (M_TOP_PAD, GROW_BY)))


DRIVERS = ("libcuda.so.1", "nvcuda.dll")  # libraries of NVIDIA's driver, on Linux and on Windows


def choose_device(*, no_cuda: bool) -> Literal["cpu", "cuda"]:
    """Choose the GPU where torch can use one, unless it is not wanted; torch is loaded only where there is a driver."""
    if no_cuda or not _has_driver():
        return "cpu"
    import torch  # noqa: PLC0415 - takes seconds to load

    return "cuda" if torch.cuda.is_available() else "cpu"


def _has_driver() -> bool:
    for library in DRIVERS:
        with suppress(OSError):
            ctypes.CDLL(library)
            return True
    return False


T = TypeVar("T")
R = TypeVar("R")

PATIENCE_S = 0.1  # how soon a thread that waits notices that it is to stop


@dataclass(frozen=True)
class _End:
    error: BaseException | None


@contextmanager
def prefetched(items: Iterable[T], depth: int) -> Iterator[Iterator[T]]:
    """Draw items in another thread, up to ``depth`` ahead of who uses them.

    What is raised in drawing is raised again where the items are used, after those before it. Leaving the block ends
    the thread: it finishes the item it is at, and draws no more.

    Args:
        items: drawn from in the thread, and nowhere else meanwhile.
        depth: most items that wait.

    Yields:
        The items, in order.
    """
    waiting: Queue[T | _End] = Queue(depth)
    unwanted = threading.Event()
    thread = threading.Thread(target=_draw, args=(items, waiting, unwanted), daemon=True)
    thread.start()
    try:
        yield _handed_on(waiting)
    finally:
        unwanted.set()
        thread.join()


def _draw(items: Iterable[T], waiting: "Queue[T | _End]", unwanted: threading.Event) -> None:
    end = _End(None)
    try:
        for item in items:
            if not _put(waiting, item, unwanted):
                return
    except BaseException as error:  # noqa: BLE001 - raised again where the items are used
        end = _End(error)
    _put(waiting, end, unwanted)


def _put(waiting: "Queue[T | _End]", item: "T | _End", unwanted: threading.Event) -> bool:
    while not unwanted.is_set():
        try:
            waiting.put(item, timeout=PATIENCE_S)
        except Full:
            continue
        return True
    return False


def _handed_on(waiting: "Queue[T | _End]") -> Iterator[T]:
    while True:
        try:
            item = waiting.get(timeout=PATIENCE_S)  # without an end to it Windows would not hear Ctrl-C
        except Empty:
            continue
        if isinstance(item, _End):
            if item.error is not None:
                raise item.error
            return
        yield item


@contextmanager
def map_in_threads(
    work: Callable[[T], R], items: Iterator[T], workers: int, waiting: int, begin: Callable[[], None]
) -> Iterator[Iterator[R]]:
    """Do work on items in several threads, as many items at once as there are threads, and some ahead.

    What is raised in a thread is raised again where the results are used, after those before it. Leaving the block ends
    the threads: each finishes the item it is at.

    Args:
        work: done to each.
        items: drawn from where the results are used.
        workers: number of threads.
        waiting: results that may wait, so that no thread stops when whoever uses them is slow for a moment.
        begin: called first in each of them.

    Yields:
        The results, in the order of the items.
    """
    pool = ThreadPoolExecutor(workers, initializer=begin)
    try:
        yield _results(pool, work, items, workers + waiting)
    finally:
        pool.shutdown(cancel_futures=True)


def _results(pool: ThreadPoolExecutor, work: Callable[[T], R], items: Iterator[T], most: int) -> Iterator[R]:
    running: deque[Future[R]] = deque()
    for item in items:
        running.append(pool.submit(work, item))
        if len(running) == most:
            yield wait_for(running.popleft())
    while running:
        yield wait_for(running.popleft())


def wait_for(future: "Future[R]") -> R:
    """Wait for work that was begun in another thread, and return or raise what it did."""
    while not future.done():
        with suppress(TimeoutError):
            future.result(PATIENCE_S)  # without an end to it Windows would not hear Ctrl-C
    return future.result()


def run_interruptible(work: Callable[[threading.Event], R]) -> R:
    """Do work in a thread and wait for it, so that Ctrl-C reaches this thread and not a library that would swallow it.

    Python runs signal handlers in the main thread only, in whatever Python code a library calls there. When this
    thread is interrupted the work is told, and has ended before the interrupt goes on.

    Args:
        work: gets an event that is set when nobody waits for it any more; it should then fail soon.
    """
    is_unwanted = threading.Event()
    pool = ThreadPoolExecutor(1)
    try:
        return wait_for(pool.submit(work, is_unwanted))
    finally:
        is_unwanted.set()
        pool.shutdown()
