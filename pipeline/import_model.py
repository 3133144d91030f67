"""Take over models that the reference tool trained."""

from dataclasses import dataclass
from pathlib import Path

from models import checkpoint
from models.reference import load_reference
from pipeline.errors import WorkspaceError
from pipeline.options import ImportOptions
from pipeline.report import some
from pipeline.training.names import check_people
from pipeline.workspace import Workspace


@dataclass(frozen=True)
class ImportReport:
    """What an import took over."""

    folder: Path
    people: list[str]
    init_dim: int
    code_dim: int

    def lines(self) -> list[str]:
        """Who is in the model, and where it is."""
        return [
            f"imported {some(self.people)} (--init-dim {self.init_dim} --code-dim {self.code_dim})",
            f"model: {self.folder}",
        ]

    def problems(self) -> list[str]:
        """Nothing: an import succeeds as a whole or not."""
        return []


def import_model(options: ImportOptions) -> ImportReport:
    """Take over a model of the reference tool under a new name.

    Raises:
        WorkspaceError: the name is taken, the files are no such model, or a person's name is refused.
    """
    folder = Workspace(options.workspace).model(options.model_name)
    if checkpoint.exists(folder):
        raise WorkspaceError(f"there is a model in {folder} already: choose another name with -n")
    model = load_reference(options.folder)
    check_people(model.decoders, (), f"{options.folder}/decoder{{}}.pth")
    checkpoint.save(folder, model)
    return ImportReport(folder, sorted(model.decoders), model.encoder.init_dim, model.encoder.code_dim)
