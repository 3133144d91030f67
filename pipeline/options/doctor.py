"""Options of doctor."""

from dataclasses import dataclass

from pipeline.options.base import WorkspaceOptions


@dataclass(frozen=True, kw_only=True)
class DoctorOptions(WorkspaceOptions):
    """Look at everything Recast stands on, try each stage for a second, and say what to do where something is wrong."""
