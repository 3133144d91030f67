"""Work done ahead in a thread of its own, so that stages of a pipeline overlap."""

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from queue import Empty, Full, Queue
from typing import TypeVar

T = TypeVar("T")

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
