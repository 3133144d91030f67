"""Measure every stage beside the plain way of doing the same, and write a table.

    python -m benchmarks [extract] [faces] [train] [convert] [--rounds 3]

Every measurement runs in a process of its own, ours and the plain one by turns, so that a busy machine slows both. The
table holds medians. Clips and the plain way are found through ``RECAST_TEST_DATA`` and ``RECAST_PLAIN`` (defaults
``../shared/data``, ``../shared/bench/peers.py``).
"""

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from benchmarks import convert, extract, train
from benchmarks.table import Row, as_markdown

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("RECAST_TEST_DATA", ROOT.parent / "shared" / "data"))
PLAIN = Path(os.environ.get("RECAST_PLAIN", ROOT.parent / "shared" / "bench" / "peers.py"))
BENCHMARKS = {"extract": extract.speed, "faces": extract.faces, "train": train.speed, "convert": convert.speed}


@dataclass(frozen=True)
class Options:
    """Measure speed and quality beside the plain way."""

    stages: Annotated[tuple[str, ...], tyro.conf.Positional] = tuple(BENCHMARKS)
    """What to measure."""
    rounds: int = 3
    """How often each is measured; the table holds the medians."""
    output: Path = Path("benchmarks/results")
    """Folder for the table, as Markdown and as JSON."""


def require_data() -> None:
    """End the program where the clips or the plain way are missing."""
    for missing in (path for path in (DATA, PLAIN) if not path.exists()):
        sys.exit(f"error: nothing at {missing}; set RECAST_TEST_DATA and RECAST_PLAIN")


def main() -> int:
    """Run the benchmarks named; return the exit code."""
    options = tyro.cli(Options, prog="python -m benchmarks", description=__doc__)
    require_data()
    rows: list[Row] = []
    for stage in options.stages:
        if stage not in BENCHMARKS:
            sys.exit(f"error: no benchmark {stage!r}; there are {', '.join(BENCHMARKS)}")
        rows += BENCHMARKS[stage](DATA, PLAIN, options.rounds)
    options.output.mkdir(parents=True, exist_ok=True)
    table = as_markdown(rows)
    (options.output / "table.md").write_text(table, encoding="utf-8")
    (options.output / "table.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
    print(table)
    print(f"written to {options.output}/table.md and table.json")
    return 0


if __name__ == "__main__":
    sys.exit(main())
