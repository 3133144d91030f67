"""Progress as JSON lines, for scripts: what notes and bars on the terminal say, as values."""

import json
import time
from pathlib import Path

from pipeline.errors import UsageError, WorkspaceError

EVERY_S = 0.5  # between two lines of one bar
MAX_BYTES = 5_000_000  # of the file; then it is renamed, and a new one begun
BEGINNING = b'{"event": '


class ProgressFile:
    """A file of events, each a line that is flushed: ``started``, ``progress``, ``note``, ``picture``, ``ended``.

    Args:
        path: of the file; one of an earlier run is continued. At 5 MB it becomes ``<path>.1``.

    Raises:
        UsageError: there is another file of this name.
        WorkspaceError: it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._failure = path, ""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab+") as file:
                file.seek(0)
                if (start := file.read(len(BEGINNING))) and start != BEGINNING:
                    raise UsageError(f"--progress {path}: there is a file that is none of progress; name another")
        except OSError as error:
            raise WorkspaceError(f"cannot write {path}: {error.strerror or error}") from error

    def write(self, event: str, **facts: object) -> str:
        """Write an event; return why that failed, once, and do nothing from then on."""
        if self._failure:
            return ""
        line = json.dumps({"event": event, "time": round(time.time(), 3), **facts}, ensure_ascii=False)
        try:
            if self._path.exists() and self._path.stat().st_size > MAX_BYTES:
                self._path.replace(f"{self._path}.1")
            with self._path.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(f"{line}\n")
        except OSError as error:
            self._failure = f"no more progress in {self._path}: {error.strerror or error}"
        return self._failure
