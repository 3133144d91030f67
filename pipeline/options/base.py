"""What the options of all commands share."""

import math
from dataclasses import dataclass, fields
from pathlib import Path

import tyro

from pipeline.errors import UsageError

Short = tyro.conf.arg


def require(claim: bool, message: str) -> None:
    """Refuse options of which a claim does not hold.

    Raises:
        UsageError: it does not.
    """
    if not claim:
        raise UsageError(message)


@dataclass(frozen=True, kw_only=True)
class CommandOptions:
    """Shared by all commands."""

    verbose: bool = False
    """Show what the log gets too: versions, options, how long each part took."""
    quiet: bool = False
    """Show errors only."""
    json: bool = False
    """Print the report as JSON, for scripts."""

    def __post_init__(self) -> None:
        for option in fields(self):
            value = getattr(self, option.name)
            is_finite = not isinstance(value, float) or math.isfinite(value)
            require(is_finite, f"--{option.name.replace('_', '-')} {value}: must be a finite number")


@dataclass(frozen=True, kw_only=True)
class WorkspaceOptions(CommandOptions):
    """Shared by all commands that read or write a workspace."""

    workspace: Path = Path("workspace")
    """Folder that holds all data, models and results."""
