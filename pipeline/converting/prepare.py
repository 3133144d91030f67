"""What a conversion, or a preview of one, is to do, checked before anything long begins."""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

import torch

from models import checkpoint
from models.checkpoint import Model
from pipeline.console import Console, join_words
from pipeline.converting.swapper import Swapper
from pipeline.errors import NothingToDoError, RecastError, WorkspaceError, as_recast_error
from pipeline.faces.footage import is_footage_extracted, is_same_file
from pipeline.faces.mesh import mesh_weights
from pipeline.faces.people import crops_in, faces_of_person
from pipeline.faces.store import FaceStore
from pipeline.media.probe import is_file, require_file
from pipeline.options import Look, SwapOptions
from pipeline.runtime import choose_device
from pipeline.workspace import Workspace, list_people


@dataclass(frozen=True)
class Plan:
    """What a run will do.

    Attributes:
        model: loaded.
        known: files whose faces are recorded.
        unknown: files to extract first.
        failed: what is wrong with files that are neither.
        name: what extract is to call the main person of those; None where it can find out by itself.
    """

    model: Model
    known: tuple[Path, ...]
    unknown: tuple[Path, ...]
    failed: tuple[RecastError, ...]
    name: str | None


def plan(options: SwapOptions) -> Plan:
    """Check a command against the workspace.

    Raises:
        WorkspaceError: there is no such model.
        NothingToDoError: the model or the workspace does not know a person.
        RecastError: the only file is missing or cannot be used.
        UsageError: the face mesh is asked for and not installed.
    """
    workspace, people = Workspace(options.workspace), options.people()
    if options.mask == "mesh":
        mesh_weights()
    model = checkpoint.load(workspace.model(options.model_name))
    for to_person in people.values():
        if to_person not in model.decoders:
            there = join_words(sorted(model.decoders))
            raise NothingToDoError(f"the model {options.model_name!r} cannot draw {to_person!r}; it draws {there}")
    videos, failed = (options.videos, []) if options.videos else _videos_of(workspace, people)
    known, unknown = list[Path](), list[Path]()
    for path in videos:
        try:
            if not path.is_dir():
                require_file(path)
            (known if is_footage_extracted(workspace, path) else unknown).append(path)
        except (RecastError, OSError) as error:
            failed.append(as_recast_error(error))
    if len(failed) == 1 and not known and not unknown:
        raise failed[0]
    strangers = [person for person in people if not crops_in(workspace.person(person))]
    name = strangers[0] if len(people) == len(strangers) == 1 else None
    return Plan(model, tuple(known), tuple(unknown), tuple(failed), name)


def make_swapper(options: SwapOptions, model: Model, console: Console) -> Swapper:
    """Make ready what draws, and say what is to be expected of it."""
    device = torch.device(choose_device(no_cuda=options.no_cuda))
    for from_person, to_person in options.people().items():
        if model.trained[to_person].samples == 0:
            console.note(f"{to_person!r} is not trained yet in this model: what it draws is noise")
        if from_person not in model.decoders:
            console.note(f"the model has not been trained on {from_person!r}: expressions will be poor")
    return Swapper(model, options.people().values(), device)


def look_of(options: SwapOptions) -> Look:
    """Put together how faces are to look: an option each."""
    return Look(**{choice.name: getattr(options, choice.name) for choice in fields(Look)})


def _videos_of(workspace: Workspace, people: Iterable[str]) -> tuple[tuple[Path, ...], list[RecastError]]:
    """Files of the workspace's videos in which one of the people was found, and what is wrong with others."""
    crops = {person: crops_in(workspace.person(person)) for person in people}
    for person, own in crops.items():
        if not own:
            there = join_words(list_people(workspace.data)) or "nobody yet"
            raise NothingToDoError(
                f"no faces for {person!r} in {workspace.person(person)} (there: {there}); "
                f"run: python cli.py extract VIDEO --person {person}"
            )
    found, failed = list[Path](), list[RecastError]()
    for path in workspace.stores():
        try:
            source = _source_of(path, crops.values())
        except (RecastError, OSError) as error:
            failed.append(as_recast_error(error))
        else:
            found += [source] if source else []
    if not found and not failed:
        who = " or ".join(map(repr, crops))
        raise NothingToDoError(f"no video of the workspace shows {who}; name one: python cli.py convert VIDEO …")
    return tuple(found), failed


def _source_of(path: Path, people: Iterable[frozenset[str]]) -> Path | None:
    """Say where the video of a store is, if one of the people was found in it.

    Raises:
        WorkspaceError: it is not there any more, or the store cannot be read.
    """
    with FaceStore(path) as store:
        labels = store.labels() if store.fact("pictures") is None else []
        if not any(faces_of_person(labels, crops) for crops in people):
            return None
        source = Path(store.fact("source"))
        if is_file(source) and is_same_file(store, source):
            return source
    raise WorkspaceError(
        f"the video {path.parent.name!r} is no longer at {source}: "
        "name where it is: python cli.py convert VIDEO --from … --to …"
    )
