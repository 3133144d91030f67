"""Reads one file after another, named on standard input; a process of its own, for it may die or hang of them."""

import os
import sys
import traceback
import warnings
from pathlib import Path

import av

from fuzzing.targets import TARGETS


def main() -> None:
    """Answer each path with ``ok`` and the number of open files, or with what went wrong."""
    target = TARGETS[sys.argv[1]]
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    av.logging.set_level(None)
    warnings.simplefilter("ignore")
    for line in sys.stdin:
        try:
            target.survives(Path(line.rstrip("\n")))
            answer = f"ok {_open_files()}"
        except BaseException:  # noqa: BLE001 - that is what is looked for
            answer = f"broke {traceback.format_exc()!r}"
        print(answer, file=answers, flush=True)


def _open_files() -> int:
    """Number of files this process has open; 0 where the system does not tell."""
    descriptors = Path("/proc/self/fd")
    return sum(1 for _ in descriptors.iterdir()) if descriptors.is_dir() else 0


if __name__ == "__main__":
    main()
