"""Where networks run."""

import ctypes
from contextlib import suppress
from typing import Literal

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
