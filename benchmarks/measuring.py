"""Processes whose speed is measured, commands of the tool, and figures as a table."""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import numpy as np
import tyro

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("RECAST_TEST_DATA", ROOT.parent / "shared" / "data"))

Row = dict[str, Any]
"""One row of a table: column to value."""

T = TypeVar("T")


def require_clips() -> None:
    """Exit where the folder of clips is missing."""
    if not DATA.is_dir():
        sys.exit(f"error: no clips in {DATA}; set RECAST_TEST_DATA to the folder that has them")


def measure(module: str | Path, *arguments: str | Path) -> Row:
    """Run a module of the benchmarks in a process of its own and return the JSON of its last line.

    Raises:
        SystemExit: it failed; with its last words.
    """
    row: Row = json.loads(_run("-m", f"benchmarks.{module}", *arguments).splitlines()[-1])
    return row


def run_cli(*arguments: str | Path) -> str:
    """Run a command of the tool and return its standard output.

    Raises:
        SystemExit: it failed; with its last words.
    """
    return _run("cli.py", *arguments)


def _run(*command: str | Path) -> str:
    process = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False)
    if process.returncode:
        sys.exit(f"error: {' '.join(map(str, command))} failed: {process.stderr.strip()[-500:]}")
    return process.stdout


def print_row(measurements: Sequence[Callable[..., Row]]) -> None:
    """Be the command line of a module: run the measurement it names, and print its row as JSON."""
    commands = {measurement.__name__: measurement for measurement in measurements}
    print(json.dumps(tyro.extras.subcommand_cli_from_dict(commands)))


def peak_mb() -> float:
    """Peak memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def by_turns(rounds: int, *measurements: Sequence[str | Path]) -> list[Row]:
    """Run measurements (see ``measure``) one after the other, ``rounds`` times; return the medians of each."""
    rows = [[measure(*measurement) for measurement in measurements] for _ in range(rounds)]
    return [{column: median(row[column] for row in turns) for column in turns[0]} for turns in zip(*rows, strict=True)]


def evenly_spread(items: Sequence[T], count: int) -> list[T]:
    """Pick ``count`` items, or all of fewer, evenly spread."""
    return [items[i] for i in np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int)]


def as_markdown(rows: Sequence[Row]) -> str:
    """Write rows as Markdown, a new table wherever the columns change."""
    lines: list[str] = []
    columns: list[str] = []
    for row in rows:
        if list(row) != columns:
            columns = list(row)
            lines += ["", f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
        lines.append(f"| {' | '.join(_as_text(value) for value in row.values())} |")
    return "\n".join(lines[1:]) + "\n"


def _as_text(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
