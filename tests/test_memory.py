"""Memory that is kept, seen in the system's own count of pages handed out."""

import platform
import subprocess
import sys

import pytest

from tests.conftest import ROOT

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
