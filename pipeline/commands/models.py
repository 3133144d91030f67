"""The commands models and import: list a workspace's models, export one, import one of the reference tool."""

import shutil

import torch

from models import CheckpointError, checkpoint
from models.checkpoint import Model
from models.onnx_files import write_onnx
from models.reference import load_reference
from models.segmenter import load_segmenter, save_segmenter
from pipeline.console import Report, join_words
from pipeline.errors import NothingToDoError, RecastError, WorkspaceError, as_recast_error, command
from pipeline.names import check_people
from pipeline.options import ImportOptions, ModelsOptions
from pipeline.workspace import Workspace, cannot_write

MB = 1_000_000


def import_model(options: ImportOptions) -> Report:
    """Import a model of the reference tool under a new name.

    Raises:
        WorkspaceError: the name is taken, the files are not such a model, or a person's name is not valid.
    """
    folder = Workspace(options.workspace).model(options.model_name)
    if checkpoint.exists(folder):
        raise WorkspaceError(f"there is a model in {folder} already: choose another name with -n")
    model = load_reference(options.folder)
    check_people(model.decoders, (), f"{options.folder}/decoder{{}}.pth")
    checkpoint.save(folder, model)
    people, sizes = sorted(model.decoders), _sizes(model)
    return Report(
        [f"imported {join_words(people)} ({_as_options(model)})", f"model: {folder}"],
        facts={"folder": folder, "people": people, **sizes},
    )


def models_command(options: ModelsOptions) -> Report:
    """List the models of a workspace, or export one.

    Raises:
        NothingToDoError: there is no model.
        WorkspaceError: the named model is missing or damaged, or its copy cannot be written.
    """
    workspace = Workspace(options.workspace)
    return _list(workspace) if options.name is None else _export(workspace, options.name)


def _list(workspace: Workspace) -> Report:
    folders = [folder for folder in workspace.models() if checkpoint.exists(folder)]
    if not folders:
        raise NothingToDoError(f"no model in {workspace.root / 'output'}; run: python cli.py train")
    report, models, failed = Report(), list[dict[str, object]](), list[RecastError]()
    for folder in folders:
        try:
            model = checkpoint.load(folder)
        except CheckpointError as error:
            failed.append(as_recast_error(error))
            continue
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / MB
        report.lines.append(f"{folder.name}: {model.steps} steps, {_as_options(model)}, {size:.0f} MB")
        for person, training in sorted(model.trained.items()):
            loss = "" if training.loss is None else f", L1 {training.loss:.4f}"
            report.lines.append(
                f"  {person}: {training.samples} samples{loss}" if training.samples else f"  {person}: not trained"
            )
        preview = folder / "swap.png" if (folder / "swap.png").is_file() else None
        report.lines += [f"  look at {preview}"] if preview else []
        facts = {"name": folder.name, "steps": model.steps, **_sizes(model), "megabytes": size}
        models.append({**facts, "people": model.trained, "preview": preview})
    report.problems, report.facts = [*map(str, failed)], {"models": models, "exported": [], "failed": failed}
    return report


def _export(workspace: Workspace, name: str) -> Report:
    """Write a copy in half precision without what only training needs, and ONNX files beside it."""
    model, final = checkpoint.load(workspace.model(name)), workspace.model(f"{name}-slim")
    part = final.with_name(f".{final.name}.part")
    if final.exists():
        raise WorkspaceError(f"{final} exists already: delete it first")
    try:
        shutil.rmtree(part, ignore_errors=True)  # of a killed run
        (part / "onnx").mkdir(parents=True)
        checkpoint.save(part, model, dtype=torch.float16)
        segmenter = load_segmenter(workspace.model(name))
        if segmenter.knows_people:
            save_segmenter(part, segmenter)
        difference = write_onnx(part / "onnx", model, segmenter)
        part.rename(final)
    except OSError as error:
        raise cannot_write(final, error) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    size = sum(path.stat().st_size for path in final.glob("state-*/*")) / MB
    lines = [
        f"small copy: {final}, {size:.0f} MB; use it with: {command('convert', 'VIDEO', '-n', final.name)}",
        f"ONNX files: {final / 'onnx'}; their pictures differ by at most {difference:.1g} from torch's",
    ]
    return Report(lines, facts={"models": [], "exported": lines, "failed": []})


def _sizes(model: Model) -> dict[str, int | str]:
    sizes = zip(("init_dim", "code_dim"), model.sizes or (), strict=False)
    return {"network": model.network, **dict(sizes)}


def _as_options(model: Model) -> str:
    sizes = " --init-dim {} --code-dim {}".format(*model.sizes) if model.sizes else ""
    return f"--network {model.network}{sizes}"
