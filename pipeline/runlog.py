"""The log of a run: what was asked, with what, what was said, how long it took, and what went wrong and where.

A file per run under ``WORKSPACE/logs``, the newest of each command are kept. It is begun as soon as there is a
workspace to keep it in; a command that found none leaves none, unless it broke down.
"""

import logging
import os
import platform
import re
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from pipeline import __version__
from pipeline.errors import WorkspaceError
from pipeline.report import legible
from pipeline.workspace import Workspace

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
        self._waiting += map(legible, lines)
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
