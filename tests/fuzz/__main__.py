"""Change whole files at random and let the readers read them, for a given time.

    python -m tests.fuzz [--seconds 600] [--targets video picture store model] [--keep FOLDER]

A process of its own reads them. It must answer each file with a result or an expected error, in time, and leave no open
files or processes behind: a file that makes it fail is kept. Exit code 0 when nothing has failed.
"""

import math
import random
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import tyro

from tests.fuzz.targets import TARGETS, Seeds
from tests.fuzz.worker import Worker

HOSTILE = (
    b"\0",
    b"\xff",
    b"\x7f",
    b"\x80",
    b"\xff" * 4,
    b"\x7f\xff\xff\xff",
    b"NaN",
    b"1e999",
    b"-1",
    b"../",
    b"9" * 30,
)


@dataclass(frozen=True)
class Options:
    """Look for files that break what reads them."""

    seconds: float = 600
    """How long, all targets together."""
    targets: tuple[str, ...] = tuple(TARGETS)
    """What is to read them."""
    seed: int = 0
    """Of the changes; 0: another one each time."""
    keep: Path = Path("tests/fuzz/found")
    """Folder for files that break something."""


def main() -> int:
    """Fuzz all targets, one after the other; return the exit code."""
    options = tyro.cli(Options, prog="python -m tests.fuzz", description=__doc__)
    rng = random.Random(options.seed or None)
    counts, failures = dict.fromkeys(options.targets, 0), list[str]()
    with tempfile.TemporaryDirectory() as temporary:
        for name in options.targets:
            folder = Path(temporary) / name
            (folder / "seeds").mkdir(parents=True)
            seeds = TARGETS[name].seeds(folder / "seeds")
            worker, end = Worker(TARGETS[name].read), math.inf
            try:
                while time.monotonic() < end:
                    if failure := try_file(worker, folder, seeds, rng, options.keep):
                        failures.append(f"{name}: {failure}")
                    counts[name] += 1
                    if counts[name] == 1:  # libraries are loaded
                        end = time.monotonic() + options.seconds / len(options.targets)
            finally:
                worker.end()
            left = sorted(path.name for path in folder.iterdir() if path.name != "seeds")
            failures += [f"{name} left behind: {', '.join(left)}"] if left else []
    print(", ".join(f"{name}: {count} files" for name, count in counts.items()))
    print("\n".join(failures) or "nothing broke")
    return 1 if failures else 0


def try_file(worker: Worker, folder: Path, seeds: Seeds, rng: random.Random, keep: Path) -> str:
    """Let a changed file be read; keep it where that goes wrong, and return what went wrong."""
    name = rng.choice(sorted(seeds))
    content = change(seeds[name], rng)
    (folder / name).write_bytes(content)
    failure = worker.check(folder / name)
    for path in folder.glob(f"{name}*"):  # with what SQLite keeps beside a store while it is open
        path.unlink()
    if not failure:
        return ""
    keep.mkdir(parents=True, exist_ok=True)
    kept = keep / f"{folder.name}_{rng.getrandbits(32):08x}_{name}"
    kept.write_bytes(content)
    return f"{kept}: {failure}"


def change(content: bytes, rng: random.Random) -> bytes:
    """Change a file in one to eight places."""
    changed = bytearray(content)
    for _ in range(rng.randint(1, 8)):
        start = rng.randrange(len(changed) + 1)
        end = min(len(changed), start + rng.choice((1, 1, 2, 4, 16, 256)))
        match rng.randrange(6):
            case 0 if end > start:
                changed[start] ^= 1 << rng.randrange(8)
            case 1:
                changed[start:end] = rng.randbytes(end - start)
            case 2:
                del changed[start:end]
            case 3:
                changed[start:start] = changed[start:end]
            case 4:
                hostile = rng.choice(HOSTILE)
                changed[start : start + len(hostile)] = hostile
            case 5 if rng.random() < 0.2:
                del changed[start:]
    return bytes(changed)


if __name__ == "__main__":
    sys.exit(main())
