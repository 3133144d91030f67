"""Prints requirements.txt with every package at its lowest version, for ``make test-lowest``."""

import re
from pathlib import Path

LOWER_BOUND = re.compile(r"^([\w-]+)>=([\w.]+)[^#]*", re.MULTILINE)


def lowest(requirements: str) -> str:
    """Turn each lower bound into the one version that is allowed."""
    return LOWER_BOUND.sub(r"\1==\2 ", requirements)


if __name__ == "__main__":
    print(lowest((Path(__file__).resolve().parent.parent / "requirements.txt").read_text(encoding="utf-8")), end="")
