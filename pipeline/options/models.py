"""Options of models."""

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from pipeline.options.base import WorkspaceOptions, require
from pipeline.workspace import checked_name

TAKEN = {"list": "", "export": " NAME"}


@dataclass(frozen=True, kw_only=True)
class ModelsOptions(WorkspaceOptions):
    """List the models of the workspace, or: export NAME, a slim copy to convert with and ONNX files."""

    action: Annotated[Literal["list", "export"], tyro.conf.Positional] = "list"
    """What to do."""
    name: Annotated[str | None, tyro.conf.arg(metavar="NAME"), tyro.conf.Positional] = None
    """With which model."""

    def __post_init__(self) -> None:
        super().__post_init__()
        fits = (self.name is not None) == (self.action == "export")
        require(fits, f"type: python cli.py models {self.action}{TAKEN[self.action]}")
        if self.name is not None:
            checked_name(self.name, "model")
