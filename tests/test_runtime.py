"""Work drawn ahead in another thread."""

import threading
import time
from collections.abc import Iterator

import pytest

from pipeline.runtime import prefetched

DEPTH = 3


def threads() -> int:
    return threading.active_count()


def test_all_items_come_in_order_from_another_thread() -> None:
    drawn_in = set()

    def items() -> Iterator[int]:
        for number in range(50):
            drawn_in.add(threading.get_ident())
            yield number

    with prefetched(items(), DEPTH) as ahead:
        assert list(ahead) == list(range(50))
    assert threading.get_ident() not in drawn_in
    with prefetched([], DEPTH) as ahead:
        assert list(ahead) == []


def test_no_more_is_drawn_ahead_than_asked_for() -> None:
    drawn = []

    def items() -> Iterator[int]:
        for number in range(50):
            drawn.append(number)
            yield number

    with prefetched(items(), DEPTH) as ahead:
        assert next(ahead) == 0
        deadline = time.monotonic() + 60  # to end a hang
        while len(drawn) < DEPTH + 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.2)
        assert len(drawn) == DEPTH + 2  # one used, three that wait, one in hand


def test_an_error_in_drawing_comes_after_the_items_before_it() -> None:
    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise OSError("the disk is gone")

    used = []
    before = threads()
    with pytest.raises(OSError, match="the disk is gone"), prefetched(items(), DEPTH) as ahead:
        for item in ahead:
            used.append(item)
    assert used == [1, 2]
    assert threads() == before


@pytest.mark.parametrize("depth", [1, DEPTH])
def test_leaving_early_ends_the_threads_of_a_whole_chain(depth: int) -> None:
    before = threads()
    endless = iter(int, 1)
    with (
        pytest.raises(KeyboardInterrupt),
        prefetched(endless, depth) as first,
        prefetched((item + 1 for item in first), depth) as second,
    ):
        assert next(second) == 1
        raise KeyboardInterrupt
    assert threads() == before
