"""Take over models that the reference tool trained.

The models of a workspace: which there are, and slim copies of them to convert with or to hand on.
"""

import shutil
from dataclasses import dataclass, field
from pathlib import Path

import torch

from models import CheckpointError, checkpoint
from models.checkpoint import Model, Training
from models.onnx_files import write_onnx
from models.reference import load_reference
from pipeline.console import join_words
from pipeline.errors import NothingToDoError, RecastError, WorkspaceError, as_recast_error
from pipeline.options import ImportOptions, ModelsOptions
from pipeline.training.dataset import check_people
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
            f"imported {join_words(self.people)} (--init-dim {self.init_dim} --code-dim {self.code_dim})",
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


MB = 1_000_000


@dataclass(frozen=True)
class Listed:
    """A model of the workspace.

    Attributes:
        name: its folder's.
        steps: taken so far.
        init_dim, code_dim: sizes of the encoder.
        megabytes: on the disk, with previews and all saved states.
        people: how far each decoder has come.
        preview: its last picture; None where there is none.
    """

    name: str
    steps: int
    init_dim: int
    code_dim: int
    megabytes: float
    people: dict[str, Training]
    preview: Path | None

    def lines(self) -> list[str]:
        """The same for a person."""
        sizes = f"--init-dim {self.init_dim} --code-dim {self.code_dim}"
        lines = [f"{self.name}: {self.steps} steps, {sizes}, {self.megabytes:.0f} MB"]
        for person, training in sorted(self.people.items()):
            loss = "" if training.loss is None else f", L1 {training.loss:.4f}"
            lines.append(
                f"  {person}: {training.samples} samples{loss}" if training.samples else f"  {person}: not trained"
            )
        return [*lines, f"  look at {self.preview}"] if self.preview else lines


@dataclass
class ModelsReport:
    """What a models command found or did."""

    models: list[Listed] = field(default_factory=list)
    exported: list[str] = field(default_factory=list)
    failed: list[RecastError] = field(default_factory=list)

    def lines(self) -> list[str]:
        """The models, or what was written."""
        return [line for model in self.models for line in model.lines()] + self.exported

    def problems(self) -> list[str]:
        """Models that cannot be read."""
        return [str(error) for error in self.failed]


def list_models(options: ModelsOptions) -> ModelsReport:
    """List the models of a workspace, or export one.

    Raises:
        NothingToDoError: there is none.
        WorkspaceError: the one named is not there or damaged, or its copy cannot be written.
    """
    workspace = Workspace(options.workspace)
    return _list(workspace) if options.name is None else _export(workspace, options.name)


def _list(workspace: Workspace) -> ModelsReport:
    folders = [folder for folder in sorted((workspace.root / "output").glob("[!.]*")) if checkpoint.exists(folder)]
    if not folders:
        raise NothingToDoError(f"no model in {workspace.root / 'output'}; run: python cli.py train")
    report = ModelsReport()
    for folder in folders:
        try:
            report.models.append(_listed(folder, checkpoint.load(folder)))
        except CheckpointError as error:
            report.failed.append(as_recast_error(error))
    return report


def _listed(folder: Path, model: Model) -> Listed:
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / MB
    preview = folder / "swap.png" if (folder / "swap.png").is_file() else None
    sizes = (model.encoder.init_dim, model.encoder.code_dim)
    return Listed(folder.name, model.steps, *sizes, size, model.trained, preview)


def _export(workspace: Workspace, name: str) -> ModelsReport:
    """Write a copy in half precision without what only training needs, and ONNX files beside it."""
    model, final = checkpoint.load(workspace.model(name)), workspace.model(f"{name}-slim")
    part = final.with_name(f".{final.name}.part")
    if final.exists():
        raise WorkspaceError(f"{final} is there already: delete it first")
    try:
        shutil.rmtree(part, ignore_errors=True)
        (part / "onnx").mkdir(parents=True)
        checkpoint.save(part, model, dtype=torch.float16)
        difference = write_onnx(part / "onnx", model)
        part.rename(final)
    except OSError as error:
        raise WorkspaceError(f"cannot write {final}: {error.strerror or error}; check the disk") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    size = sum(path.stat().st_size for path in final.glob("state-*/*"))
    return ModelsReport(
        exported=[
            f"slim copy: {final}, {size / MB:.0f} MB; use it with: python cli.py convert … -n {final.name}",
            f"ONNX files in {final / 'onnx'}: at most {difference:.1g} off what torch makes",
        ]
    )
