"""How this process keeps its memory."""

import ctypes
import platform

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
