"""Throw damaged files at what reads them, for as long as is wanted.

    python -m fuzzing [--seconds 600] [--targets video picture store model] [--keep FOLDER]

Each file is a whole one with some bytes changed, cut out, put in or repeated. A process of its own reads it; one that
answers with anything but an expected error, dies, takes too long, or leaves files or processes behind, has failed: the
file is kept. Exit code 0 when nothing has failed.
"""

import random
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, Queue

import psutil
import tyro

from fuzzing.targets import TARGETS, Seeds

ROOT = Path(__file__).resolve().parent.parent
ANSWER_S = 60  # within which a small file is read, or refused, the first one with what has to be loaded
MORE_FILES = 20  # open ones, over those at first: they are not closed
TELLING = (
    b"\0",
    b"\xff",
    b"\x7f",
    b"\x80",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"NaN",
    b"1e999",
    b"-1",
    b"../",
    b"9" * 30,
)
"""What programs trip over."""


@dataclass(frozen=True)
class Options:
    """Look for files that break what reads them."""

    seconds: float = 600
    """How long, all targets together."""
    targets: tuple[str, ...] = tuple(TARGETS)
    """What to throw them at."""
    seed: int = 0
    """Of the changes; 0: another one each time."""
    keep: Path = Path("fuzzing/found")
    """Folder for files that break something."""


@dataclass
class Worker:
    """A process that reads files; started anew when it has died.

    Attributes:
        command: that starts it.
        folder: where it works.
    """

    command: list[str]
    folder: Path
    answers: "Queue[str]" = field(default_factory=Queue)

    def __post_init__(self) -> None:
        self._start()

    def _start(self) -> None:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(self.command, cwd=ROOT, text=True, **pipes)  # type: ignore[call-overload]
        self.answers = Queue()
        self.listener = threading.Thread(target=self._listen, args=(self.process, self.answers), daemon=True)
        self.listener.start()
        self.at_first: int | None = None

    @staticmethod
    def _listen(process: "subprocess.Popen[str]", answers: "Queue[str]") -> None:
        assert process.stdout is not None
        for line in process.stdout:
            answers.put(line)
        answers.put(f"died with {process.wait()}")

    def read(self, path: Path) -> str:
        """Let it read a file; say what went wrong, empty where nothing did."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(f"{path}\n")
            self.process.stdin.flush()
            answer = self.answers.get(timeout=ANSWER_S).strip()
        except Empty:
            answer = f"no answer in {ANSWER_S} s"
        except OSError:
            answer = self.answers.get()
        wrong = self._left(int(answer.split()[1])) if answer.startswith("ok ") else answer
        if wrong:
            self.end()
            self._start()
        return wrong

    def _left(self, files: int) -> str:
        """Say what it has left behind: processes, and files that are still open."""
        self.at_first = files if self.at_first is None else self.at_first
        if children := self._children():
            return f"left {len(children)} processes"
        return f"{files} files are open" if files > self.at_first + MORE_FILES else ""

    def _children(self) -> list[psutil.Process]:
        try:
            return psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def end(self) -> None:
        """Stop it, and what it has started."""
        for process in [*self._children(), self.process]:
            process.kill()
        self.process.wait()
        self.listener.join()
        for pipe in (self.process.stdin, self.process.stdout):
            with suppress(OSError):
                if pipe is not None:
                    pipe.close()


def main() -> int:
    """Fuzz all targets by turns; return the exit code."""
    options = tyro.cli(Options, prog="python -m fuzzing", description=__doc__)
    chance = random.Random(options.seed or None)  # noqa: S311 - nothing is kept secret by it
    counts, found = dict.fromkeys(options.targets, 0), list[str]()
    with tempfile.TemporaryDirectory() as temporary:
        for name in options.targets:
            folder = Path(temporary) / name
            (folder / "seeds").mkdir(parents=True)
            seeds = TARGETS[name].seeds(folder / "seeds")
            command = [sys.executable, "-m", "fuzzing.worker", name]
            worker, ends = Worker(command, folder), time.monotonic() + options.seconds / len(options.targets)
            try:
                while time.monotonic() < ends:
                    found += [f"{name}: {what}" for what in [_try(worker, seeds, chance, options)] if what]
                    counts[name] += 1
            finally:
                worker.end()
            left = sorted(path.name for path in folder.iterdir() if path.name != "seeds")
            found += [f"{name} left behind: {', '.join(left)}"] if left else []
    print(", ".join(f"{name}: {count} files" for name, count in counts.items()))
    print("\n".join(found) if found else "nothing broke")
    return 1 if found else 0


def _try(worker: Worker, seeds: Seeds, chance: random.Random, options: Options) -> str:
    """Let a changed file be read; keep it where that goes wrong, and say what went."""
    name = chance.choice(sorted(seeds))
    content = changed(seeds[name], chance)
    path = worker.folder / name
    path.write_bytes(content)
    wrong = worker.read(path)
    for left in worker.folder.glob(f"{name}*"):  # with what SQLite keeps beside a store while it is open
        left.unlink()
    if not wrong:
        return ""
    options.keep.mkdir(parents=True, exist_ok=True)
    kept = options.keep / f"{worker.folder.name}_{chance.getrandbits(32):08x}_{name}"
    kept.write_bytes(content)
    return f"{kept}: {wrong}"


def changed(content: bytes, chance: random.Random) -> bytes:
    """Change a file in one to eight places."""
    made = bytearray(content)
    for _ in range(chance.randint(1, 8)):
        place = chance.randrange(len(made) + 1)
        length = min(len(made) - place, chance.choice((1, 1, 2, 4, 16, 256)))
        match chance.randrange(6):
            case 0 if length:
                made[place] ^= 1 << chance.randrange(8)
            case 1:
                made[place : place + length] = chance.randbytes(length)
            case 2:
                del made[place : place + length]
            case 3:
                made[place:place] = made[place : place + length]
            case 4:
                telling = chance.choice(TELLING)
                made[place : place + len(telling)] = telling
            case 5 if chance.random() < 0.2:
                del made[place:]
    return bytes(made)


if __name__ == "__main__":
    sys.exit(main())
