"""Standard output and standard error, such that neither ends a run."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from pipeline.report import legible


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
        self.write(f"{legible(text)}\n")
        self.flush()

    @contextmanager
    def _noticed(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:  # full, closed at the other end, or closed here
            self.failure = f"cannot write to standard output: {getattr(error, 'strerror', None) or error}"

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
