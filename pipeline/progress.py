"""How a stage tells the person how far it is, without printing itself."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


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
        yield Silence()


class Silence:
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
