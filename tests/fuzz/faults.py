"""Readers that fail, each in its way; in a module of their own, so that a process that runs one starts quickly."""

import os
import subprocess
import sys
import time
from pathlib import Path

OPENED: list[int] = []


def answers(path: Path) -> None:
    """Nothing is wrong with it."""


def breaks(path: Path) -> None:
    raise ValueError(path)


def dies(path: Path) -> None:
    os._exit(3)


def hangs(path: Path) -> None:
    time.sleep(3600)


def leaves_a_process(path: Path) -> None:
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])


def leaves_files_open(path: Path) -> None:
    if path.name == "2":
        OPENED.extend(os.open(os.devnull, os.O_RDONLY) for _ in range(99))
