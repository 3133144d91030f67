"""What the user sees of a run: notes, progress bars, the report; and the run's log.

Each run writes a log file in ``WORKSPACE/logs``; the newest of each command are kept. It is created once the workspace
exists, so a mistyped ``--workspace`` leaves no log; a bug is then logged in a temporary folder.
"""

import json
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
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TextIO, cast

import psutil

from pipeline import __version__
from pipeline.errors import WorkspaceError
from pipeline.options import CommandOptions
from pipeline.progress import EVERY_S, ProgressFile
from pipeline.workspace import Workspace

if TYPE_CHECKING:
    from tqdm import tqdm

HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})  # Unicode categories of controls, format characters, line breaks
JOINERS = "\u200c\u200d"  # format characters that words and emoji need
LOGS_KEPT = 30  # per command
LOG_NAME = re.compile(r"\d{4}-\d\d-\d\d_\d{6}_(?P<command>[a-z]+)_(?P<process>\d{1,9})\.log")
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
logging.getLogger("recast").addHandler(logging.NullHandler())  # while no run is logged: Terminal prints errors itself


class Bar(Protocol):
    """A progress bar."""

    def advance(self, count: int = 1) -> None:
        """Count more units as done."""

    def expect(self, total: int | None) -> None:
        """Set the number of units."""

    def status(self, text: str) -> None:
        """Show a short text beside the bar, instead of the last one."""


class Console(Protocol):
    """Where a stage's notes and progress go: the terminal, or nowhere."""

    def note(self, line: str) -> None:
        """Show a line that stays."""

    def picture(self, path: Path) -> None:
        """Tell scripts that a picture to look at was written."""

    @contextmanager
    def bar(self, description: str, total: int | None, unit: str) -> Iterator[Bar]:
        """Show a bar while the block runs; ``total`` is None if it is not known."""
        yield NullConsole()


class NullConsole:
    """A console, and its bars, that show nothing: for use as a library."""

    def note(self, line: str) -> None:
        """Show nothing."""

    def picture(self, path: Path) -> None:
        """Show nothing."""

    @contextmanager
    def bar(self, description: str, total: int | None, unit: str) -> Iterator[Bar]:
        """Show nothing."""
        yield self

    def advance(self, count: int = 1) -> None:
        """Show nothing."""

    def expect(self, total: int | None) -> None:
        """Show nothing."""

    def status(self, text: str) -> None:
        """Show nothing."""


@dataclass
class Report:
    """The outcome of a command.

    Attributes:
        lines: what was done, what was skipped and why, where the result is.
        problems: what could not be done; the command fails if there are any.
        facts: the same as values, for ``--json``.
    """

    lines: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    facts: dict[str, object] = field(default_factory=dict)


def printable(text: str) -> str:
    """Escape characters that would control a terminal or start a new line in a log."""
    return "".join(
        c if c in JOINERS or unicodedata.category(c) not in HIDDEN else c.encode("unicode_escape").decode()
        for c in text
    )


def format_duration(seconds: float) -> str:
    """Format a duration in a suitable unit."""
    for limit, unit, length in ((90, "seconds", 1), (5400, "minutes", 60), (172_800, "hours", 3600)):
        if seconds < limit:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds / 86400:.1f} days"


def plural(count: int, noun: str) -> str:
    """``1 face``, ``2 faces``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def join_words(words: list[str], max_words: int = 5) -> str:
    """Join words with commas; a long list is cut short."""
    more = f" and {len(words) - max_words} more" if len(words) > max_words else ""
    return ", ".join(words[:max_words]) + more


def to_json(value: object) -> Any:
    """Convert a value of a report to JSON values; anything JSON lacks becomes text."""
    if isinstance(value, float) and not math.isfinite(value):
        return None  # JSON has no such numbers
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_json(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [to_json(item) for item in value]
    return str(value) if isinstance(value, Path | Exception) else repr(value)


class Stream:
    """A standard stream that never raises: it escapes what its encoding lacks, and drops what cannot be written.

    Args:
        stream: the system's; None if the process has none.

    Attributes:
        failure: why output was dropped; empty if none was.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream, self.failure = stream, ""

    def write(self, text: str) -> int:
        """Write what can be written."""
        if self._stream is not None and not self.failure:
            encoding = self._stream.encoding or "utf-8"
            with self._record_failure():
                self._stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        return len(text)

    def flush(self) -> None:
        """Write what is buffered."""
        if self._stream is not None and not self.failure:
            with self._record_failure():
                self._stream.flush()

    def line(self, text: str) -> None:
        """Write a printable line at once."""
        self.write(f"{printable(text)}\n")
        self.flush()

    @contextmanager
    def _record_failure(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:  # the reader, such as head, has what it wants
            self._stream = None
        except (OSError, ValueError) as error:  # full disk, closed stream
            self.failure = f"cannot write to standard output: {getattr(error, 'strerror', None) or error}"

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class Terminal:
    """Console of the command line: notes and bars on stderr, the report on stdout, everything in the log."""

    def __init__(self, options: CommandOptions) -> None:
        self._log, self._quiet, self._json = logging.getLogger("recast"), options.quiet, options.json
        self._out, self._err = Stream(sys.stdout), Stream(sys.stderr)
        self._options, self._progress = options, cast(ProgressFile | None, None)

    def start(self, command: str, arguments: Sequence[str]) -> None:
        """Begin the file of progress, if one is asked for.

        Raises:
            UsageError: there is another file of its name.
            WorkspaceError: it cannot be written.
        """
        is_first = os.environ.get("RANK", "0") == "0"  # of the processes of torchrun
        if self._options.progress is not None and is_first:
            self._progress = ProgressFile(self._options.progress)
            self._tell("started", command=command, arguments=arguments, process=os.getpid())

    def _tell(self, event: str, **facts: object) -> None:
        if self._progress is not None and (failure := self._progress.write(event, **facts)):
            self.note(failure)

    def echo(self, line: str) -> None:
        """Print a line that is already in the log."""
        self._err.line(line)

    def note(self, line: str) -> None:
        """Print a line above the bars."""
        from tqdm import tqdm  # noqa: PLC0415 - --help shall be fast

        self._log.info("%s", line)
        self._tell("note", text=line)
        if not self._quiet:
            tqdm.write(printable(line), file=cast(TextIO, self._err))

    def picture(self, path: Path) -> None:
        """Tell scripts that a picture to look at was written."""
        self._tell("picture", path=str(path))

    @contextmanager
    def bar(self, description: str, total: int | None, unit: str) -> Iterator[Bar]:
        """Show a bar with rate and time left."""
        from tqdm import tqdm  # noqa: PLC0415 - --help shall be fast

        style: dict[str, Any] = {"unit": f" {unit}", "dynamic_ncols": True, "smoothing": 0.1, "disable": self._quiet}
        with tqdm(desc=printable(description), total=total, file=cast(TextIO, self._err), **style) as shown:
            tell = partial(self._tell, "progress", stage=description, unit=unit)
            bar, began = TerminalBar(shown, tell), time.monotonic()
            try:
                yield bar
            finally:
                bar.tell()
                self._log.debug("%s: %d x %s in %.1f s", description, bar.count, unit, time.monotonic() - began)

    def show(self, report: Report) -> int:
        """Print a report and return the exit code."""
        for line in report.lines:
            self._log.info("%s", line)
            if not self._quiet and not self._json:
                self._out.line(line)
        problems = dict.fromkeys(report.problems)  # two stages may report the same
        return self._end([f"error: {problem}" for problem in problems], 1 if problems else 0, report)

    def fail(self, line: str, code: int) -> int:
        """Print why a command ended early and return the exit code."""
        return self._end([line], code, None)

    def _end(self, errors: list[str], code: int, report: Report | None) -> int:
        for line in errors:
            self._log.error("%s", line)
            self._err.line(line)
        if self._json:
            document = {
                "exit_code": code,
                "errors": errors,
                "lines": report.lines if report else [],
                "report": to_json(report.facts) if report else None,
            }
            self._out.write(f"{json.dumps(document, indent=1)}\n")
        self._out.flush()
        if self._out.failure:
            self._log.error("%s", self._out.failure)
            self._err.line(f"error: {self._out.failure}; the log has the whole report")
            code = code or 1
        self._log.debug("exit code %d", code)
        self._tell("ended", exit_code=code, errors=errors)
        return code


class TerminalBar:
    """A tqdm bar, whose numbers also go into the file of progress.

    Attributes:
        count: units done.
    """

    def __init__(self, bar: "tqdm[NoReturn]", tell: Callable[..., None]) -> None:
        self._bar, self._tell, self._total, self._text, self.count = bar, tell, bar.total, "", 0
        self._began = self._told = time.monotonic()

    def advance(self, count: int = 1) -> None:
        """Count more units as done."""
        self.count += count
        self._bar.update(count)
        if time.monotonic() - self._told >= EVERY_S:
            self.tell()

    def expect(self, total: int | None) -> None:
        """Set the number of units."""
        self._bar.total = self._total = total

    def status(self, text: str) -> None:
        """Show a text after the numbers."""
        self._text = text
        self._bar.set_postfix_str(printable(text), refresh=False)

    def tell(self) -> None:
        """Write the numbers into the file of progress."""
        self._told = time.monotonic()
        rate = self.count / max(self._told - self._began, 1e-6)
        left = None if self._total is None or not rate else round(max(self._total - self.count, 0) / rate, 1)
        self._tell(done=self.count, total=self._total, rate=round(rate, 3), seconds_left=left, text=self._text)


class RunLog(logging.Handler):
    """Writes everything that is logged during a run into a file of the workspace.

    Args:
        workspace: its folder; None for a command without one.
        command: name of the command.
        arguments: as typed.
        echo: prints lines that otherwise only the log gets; None to print none.
    """

    def __init__(
        self, workspace: Path | None, command: str, arguments: Sequence[str], echo: Callable[[str], None] | None
    ) -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        self._folder: Path | None = None
        with suppress(WorkspaceError, OSError, RuntimeError, ValueError):  # a link out of it, or not a valid path
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
        self._loggers[0].debug("%s", describe_environment())

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, or keep it until the workspace exists."""
        lines = self.format(record).splitlines() if record.exc_info else [self.format(record).rstrip("\n")]
        self._waiting += map(printable, lines)
        if self._echo is not None and record.levelno in (logging.DEBUG, logging.WARNING):
            self._echo(record.getMessage())
        with suppress(OSError, ValueError):  # the workspace cannot be read
            if self._folder is not None and self._folder.parent.is_dir():
                self._write(self._folder)

    def log_traceback(self) -> Path | None:
        """Log the exception that is being handled, in a temporary folder if need be; return the log's path."""
        self._loggers[0].exception("unexpected error")
        if self.path is None:
            self._write(Path(tempfile.mkdtemp(prefix="recast-log-")))
        return self.path

    def end(self) -> None:
        """Stop logging."""
        logging.captureWarnings(False)
        for logger in self._loggers:
            logger.removeHandler(self)

    def _write(self, folder: Path) -> None:
        with suppress(OSError):  # a log that cannot be written must not end a run
            if self.path is None:
                folder.mkdir(parents=True, exist_ok=True)
                self._delete_old(folder)
            path = self.path or folder / self._name
            with path.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.writelines(f"{line}\n" for line in self._waiting)
            self.path = path
            self._waiting.clear()

    def _delete_old(self, folder: Path) -> None:
        """Delete all but the newest logs of this command, except logs of processes that still run."""
        matches = [match for path in folder.glob("*.log") if (match := LOG_NAME.fullmatch(path.name))]
        logs = sorted((match[0], int(match["process"])) for match in matches if match["command"] == self._command)
        for name, process in logs[: -(LOGS_KEPT - 1)]:
            if not psutil.pid_exists(process):
                (folder / name).unlink(missing_ok=True)


def describe_environment() -> str:
    """Versions of Recast, Python, the system and the main packages, in one line."""
    packages = []
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            packages.append(f"{package} {version(package)}")
    system = f"Python {platform.python_version()} on {platform.platform()}, {os.cpu_count()} cores"
    return f"Recast {__version__}, {system}; {', '.join(packages)}; in {sys.prefix}"
