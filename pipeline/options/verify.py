"""Options of verify."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from pipeline.options.base import CommandOptions, require


@dataclass(frozen=True, kw_only=True)
class VerifyOptions(CommandOptions):
    """Show what a video or picture says of how it was made, and whether that holds."""

    files: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="FILE"), tyro.conf.Positional]
    """Files to look at."""
    trust: tuple[Path, ...] = ()
    """Certificates (PEM) whose word is believed, besides one's own."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(len(self.files) > 0, "name a file: python cli.py verify FILE")
