"""Work in other threads, and memory that is kept."""

import platform
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from pipeline.runtime import map_in_threads, prefetched
from tests.conftest import ROOT

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


def test_results_of_threads_come_in_order_and_errors_after_them() -> None:
    started: list[int] = []

    def work(number: int) -> int:
        if number == 4:
            raise OSError("the disk is gone")
        time.sleep(0.01 * (number % 2))
        return 10 * number

    before, used = threads(), list[int]()
    with (
        pytest.raises(OSError, match="the disk is gone"),
        map_in_threads(work, iter(range(9)), 2, lambda: started.append(1)) as results,
    ):
        for result in results:
            used.append(result)
    assert used == [0, 10, 20, 30]
    assert 1 <= len(started) <= 2
    assert threads() == before


PROBE = """
import ctypes, resource
from pipeline.runtime import keep_freed_memory

c = ctypes.CDLL(None)
c.malloc.restype = ctypes.c_void_p

def pages_for(times):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        block = ctypes.c_void_p(c.malloc(80_000_000))
        c.memset(block, 1, 80_000_000)
        c.free(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

given_back = pages_for(3)
assert keep_freed_memory()
pages_for(1)
print(given_back, pages_for(3))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's memory can be told to stay")
def test_freed_memory_is_used_again() -> None:
    done = subprocess.run([sys.executable, "-c", PROBE], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    given_back, kept = map(int, done.stdout.split())
    assert given_back > 50_000, "80 MB in pages of 4 kB, three times"
    assert kept < 500
