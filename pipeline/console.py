"""How a stage tells the person how far it is, without printing itself.

What every stage gives back: words for the person, and what went wrong.

Standard output and standard error, such that neither ends a run.

The log of a run: what was asked, with what, what was said, how long it took, and what went wrong and where.

A file per run under ``WORKSPACE/logs``, the newest of each command are kept. It is begun as soon as there is a
workspace to keep it in; a command that found none leaves none, unless it broke down.
"""

import logging
import math
import os
import platform
import re
import sys
import tempfile
import time
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields, is_dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol, TextIO

import psutil

from pipeline import __version__
from pipeline.errors import WorkspaceError
from pipeline.workspace import Workspace


class Bar(Protocol):
    """One running progress bar."""

    def advance(self, count: int = 1) -> None:
        """Count ``count`` more units as done."""

    def expect(self, total: int | None) -> None:
        """Change at which count the work is finished."""

    def status(self, text: str) -> None:
        """Show a short text beside the bar, replacing the last one."""


class Console(Protocol):
    """Where a stage's words go; the command line has the real one."""

    def note(self, line: str) -> None:
        """Say one line that stays."""

    @contextmanager
    def bar(self, description: str, total: int | None, unit: str) -> Iterator[Bar]:
        """Show a bar while the block runs; ``total`` None where the end is not known."""
        yield NullConsole()


class NullConsole:
    """A console that says nothing, for library use."""

    def note(self, line: str) -> None:
        """Drop the line."""

    @contextmanager
    def bar(self, description: str, total: int | None, unit: str) -> Iterator[Bar]:
        """Yield a bar that shows nothing."""
        yield self

    def advance(self, count: int = 1) -> None:
        """Count nothing."""

    def expect(self, total: int | None) -> None:
        """Expect nothing."""

    def status(self, text: str) -> None:
        """Show nothing."""


UNSEEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})  # Unicode's categories of what commands, and is not shown itself
JOINERS = "\u200c\u200d"  # which words and emoji need


@dataclass
class Report:
    """The outcome of a command.

    Attributes:
        lines: what was done, what was skipped and why, where the result is.
        problems: what could not be done; the command fails when there are any.
        facts: the same as values, for ``--json``.
    """

    lines: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    facts: dict[str, object] = field(default_factory=dict)


class OldReport(Protocol):
    """The outcome of a command, in a class of its own; to be replaced by Report."""

    def lines(self) -> list[str]:
        """What was done, what was skipped and why, where the result is."""

    def problems(self) -> list[str]:
        """What could not be done, a line each; the command fails when there are any."""


def printable(text: str) -> str:
    """Make a text fit for a terminal and a log: what would command the one or forge the other shows as an escape."""
    return "".join(
        c if c in JOINERS or unicodedata.category(c) not in UNSEEN else c.encode("unicode_escape").decode()
        for c in text
    )


def format_duration(seconds: float) -> str:
    """Say a duration in the unit that suits it."""
    for limit, unit, length in ((90, "seconds", 1), (5400, "minutes", 60), (172_800, "hours", 3600)):
        if seconds < limit:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds / 86400:.1f} days"


def plural(number: int, what: str) -> str:
    """Say how many there are of something."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def join_words(words: list[str], shown: int = 5) -> str:
    """List words for a person; the many are cut short."""
    more = f" and {len(words) - shown} more" if len(words) > shown else ""
    return ", ".join(words[:shown]) + more


def to_json(value: object) -> Any:
    """Turn a report, or what is in one, into what JSON holds; what has no other form becomes text."""
    if isinstance(value, float) and not math.isfinite(value):
        return None  # JSON has no such numbers
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: to_json(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_json(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [to_json(one) for one in value]
    return str(value) if isinstance(value, Path | Exception) else repr(value)


class Stream:
    """A standard stream that never ends a run: what it cannot show it shows as escapes, what it cannot take it drops.

    Args:
        stream: the system's; None where there is none.

    Attributes:
        failure: why something was dropped; empty where nothing was.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream, self.failure = stream, ""

    def write(self, text: str) -> int:
        """Write what can be written."""
        if self._stream is not None and not self.failure:
            encoding = self._stream.encoding or "utf-8"
            with self._noticed():
                self._stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        return len(text)

    def flush(self) -> None:
        """Hand on what is buffered."""
        if self._stream is not None and not self.failure:
            with self._noticed():
                self._stream.flush()

    def line(self, text: str) -> None:
        """Write a line, harmless for the terminal, at once."""
        self.write(f"{printable(text)}\n")
        self.flush()

    @contextmanager
    def _noticed(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:  # full, closed at the other end, or closed here
            self.failure = f"cannot write to standard output: {getattr(error, 'strerror', None) or error}"

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


KEPT = 30  # logs of each command
PACKAGES = (
    "torch",
    "torchvision",
    "facenet-pytorch",
    "opencv-python-headless",
    "numpy",
    "av",
    "imageio-ffmpeg",
    "c2pa-python",
)
OWN = re.compile(r"\d{4}-\d\d-\d\d_\d{6}_(?P<command>[a-z]+)_\d{1,9}\.log")
"""Names of ours, which end in the number of the process; others in the folder are not ours to delete."""
FORMAT = "%(asctime)s %(levelname)s %(message)s"


class RunLog(logging.Handler):
    """Takes what is logged while the run lasts.

    Args:
        workspace: in which the log is kept once it is there; None for a command that has none.
        command: name of the command.
        arguments: as typed.
        echo: shows a line that the person does not see otherwise; None: nobody wants to.
    """

    def __init__(
        self, workspace: Path | None, command: str, arguments: Sequence[str], echo: Callable[[str], None] | None
    ) -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(logging.Formatter(FORMAT))
        self._folder: Path | None = None
        with suppress(WorkspaceError, OSError, RuntimeError, ValueError):  # it is a link out of it, or no name at all
            self._folder = workspace and Workspace(workspace).logs
        self._waiting, self._echo, self._command = list[str](), echo, command
        self._name = f"{time.strftime('%Y-%m-%d_%H%M%S')}_{command}_{os.getpid()}.log"
        self.path: Path | None = None
        self._loggers = (logging.getLogger("recast"), logging.getLogger("py.warnings"))
        for logger in self._loggers:
            logger.addHandler(self)
            logger.setLevel(logging.DEBUG)
            logger.propagate = False
        logging.captureWarnings(True)
        self._loggers[0].debug("typed: %s", " ".join(arguments))
        self._loggers[0].debug("%s", about())

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, or keep it until there is a file to write it to."""
        lines = self.format(record).splitlines() if record.exc_info else [self.format(record).rstrip("\n")]
        self._waiting += map(printable, lines)
        if self._echo is not None and record.levelno in (logging.DEBUG, logging.WARNING):
            self._echo(record.getMessage())
        with suppress(OSError, ValueError):  # nothing of it may be readable
            if self._folder is not None and self._folder.parent.is_dir():
                self._write(self._folder)

    def break_down(self) -> Path | None:
        """Log the exception that is being handled, wherever there is room for it; say where."""
        self._loggers[0].exception("this should not have happened")
        if self.path is None:
            self._write(Path(tempfile.mkdtemp(prefix="recast-log-")))
        return self.path

    def end(self) -> None:
        """Take no more."""
        logging.captureWarnings(False)
        for logger in self._loggers:
            logger.removeHandler(self)

    def _write(self, folder: Path) -> None:
        with suppress(OSError):  # a log that cannot be written must not end a run
            if self.path is None:
                folder.mkdir(parents=True, exist_ok=True)
                self._drop_old(folder)
            path = self.path or folder / self._name
            with path.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write("".join(f"{line}\n" for line in self._waiting))
            self.path = path
            self._waiting.clear()

    def _drop_old(self, folder: Path) -> None:
        """Delete all but the newest logs of the same command, and of those none whose run may go on."""
        names = [match for path in folder.glob("*.log") if (match := OWN.fullmatch(path.name))]
        own = sorted(match[0] for match in names if match["command"] == self._command)
        for old in own[: -(KEPT - 1)]:
            if not psutil.pid_exists(int(old.removesuffix(".log").rpartition("_")[2])):
                (folder / old).unlink(missing_ok=True)


def about() -> str:
    """Say in one line what this is and what it stands on."""
    found = []
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            found.append(f"{package} {version(package)}")
    system = f"Python {platform.python_version()} on {platform.platform()}, {os.cpu_count()} cores"
    return f"Recast {__version__}, {system}; {', '.join(found)}; in {sys.prefix}"
