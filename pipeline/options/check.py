"""Options of check."""

from dataclasses import dataclass

from pipeline.options.base import WorkspaceOptions


@dataclass(frozen=True, kw_only=True)
class CheckOptions(WorkspaceOptions):
    """Read a workspace and say what does not fit: stores, crops, models, results, what was left half-done."""

    repair: bool = False
    """Make lost crops again where their video is there, and delete part files left by killed runs."""
