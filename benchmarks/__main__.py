"""Measure every stage beside the plain way of doing the same, and write a table.

    python -m benchmarks [extract] [faces] [train] [convert] [--rounds 3]

Every measurement runs in a process of its own, ours and the plain one by turns, so that a busy machine slows both. The
table holds medians. ``RECAST_TEST_DATA`` names the folder of clips (default ``../shared/data``).
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from benchmarks import speed
from benchmarks.measuring import Row, as_markdown, require_clips

BENCHMARKS = {
    "extract": speed.extract_rows,
    "faces": speed.face_rows,
    "train": speed.train_rows,
    "convert": speed.convert_rows,
}


@dataclass(frozen=True)
class Options:
    """Measure speed and quality beside the plain way."""

    stages: Annotated[tuple[str, ...], tyro.conf.Positional] = tuple(BENCHMARKS)
    """What to measure."""
    rounds: int = 3
    """How often each is measured; the table holds the medians."""
    output: Path = Path("benchmarks/results")
    """Folder for the table, as Markdown and as JSON."""


def main() -> int:
    """Run the benchmarks named; return the exit code."""
    options = tyro.cli(Options, prog="python -m benchmarks", description=__doc__)
    require_clips()
    rows: list[Row] = []
    for stage in options.stages:
        if stage not in BENCHMARKS:
            sys.exit(f"error: no benchmark {stage!r}; choose from {', '.join(BENCHMARKS)}")
        rows += BENCHMARKS[stage](options.rounds)
    options.output.mkdir(parents=True, exist_ok=True)
    table = as_markdown(rows)
    (options.output / "table.md").write_text(table, encoding="utf-8")
    (options.output / "table.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
    print(table)
    print(f"written to {options.output}/table.md and table.json")
    return 0


if __name__ == "__main__":
    sys.exit(main())
