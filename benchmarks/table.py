"""Measured figures as a table, and the processes they come from."""

import json
import subprocess
import sys
from collections.abc import Sequence
from statistics import median
from typing import Any

Row = dict[str, Any]
"""One line of the table: column to value."""


def measured(*command: str) -> Row:
    """Run a Python command that prints one line of JSON at its end, and return it.

    Raises:
        SystemExit: the command failed; with its last words.
    """
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"error: {' '.join(command)} failed: {done.stderr.strip()[-500:]}")
    row: Row = json.loads(done.stdout.splitlines()[-1])
    return row


def middle(rows: Sequence[Row], key: str) -> float:
    """Median of one figure."""
    return float(median(row[key] for row in rows))


def as_markdown(rows: Sequence[Row]) -> str:
    """Write rows as Markdown, a table for each set of columns."""
    lines: list[str] = []
    columns: list[str] = []
    for row in rows:
        if list(row) != columns:
            columns = list(row)
            lines += ["", f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
        lines.append(f"| {' | '.join(_in_words(value) for value in row.values())} |")
    return "\n".join(lines[1:]) + "\n"


def _in_words(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
