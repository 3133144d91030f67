"""Work done ahead in a thread of its own, so that stages of a pipeline overlap."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from queue import Empty, Full, Queue
from typing import TypeVar

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
def mapped(
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
            yield result_of(running.popleft())
    while running:
        yield result_of(running.popleft())


def result_of(future: "Future[R]") -> R:
    """Wait for work that was begun in another thread, and return or raise what it did."""
    while not future.done():
        with suppress(TimeoutError):
            future.result(PATIENCE_S)  # without an end to it Windows would not hear Ctrl-C
    return future.result()


def run_aside(work: Callable[[threading.Event], R]) -> R:
    """Do work in a thread and wait for it, so that Ctrl-C reaches this thread and not a library that would swallow it.

    Python runs signal handlers in the main thread only, in whatever Python code a library calls there. When this
    thread is interrupted the work is told, and has ended before the interrupt goes on.

    Args:
        work: gets an event that is set when nobody waits for it any more; it should then fail soon.
    """
    is_unwanted = threading.Event()
    pool = ThreadPoolExecutor(1)
    try:
        return result_of(pool.submit(work, is_unwanted))
    finally:
        is_unwanted.set()
        pool.shutdown()
