"""What convert and preview need, checked and prepared before any long work starts."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path

import torch

from models import checkpoint
from models.checkpoint import Model
from models.networks import REFERENCE
from models.segmenter import load_segmenter
from pipeline.console import Console, Report, join_words
from pipeline.converting.swapper import Swapper
from pipeline.errors import NothingToDoError, RecastError, UsageError, WorkspaceError, as_recast_error, command
from pipeline.faces.footage import is_footage_extracted, is_same_file
from pipeline.faces.mesh import mesh_weights
from pipeline.faces.occlusions import OcclusionFinder
from pipeline.faces.people import crops_in, faces_of_person
from pipeline.faces.store import FaceStore
from pipeline.media.probe import is_file, require_file
from pipeline.options import ExtractOptions, Look, SwapOptions
from pipeline.runtime import choose_device
from pipeline.workspace import Workspace, list_people

Extract = Callable[[ExtractOptions, Console], Report]
"""The command extract, passed in by the command line; its ``facts["done"]`` lists what was extracted."""


@dataclass(frozen=True)
class Prepared:
    """What convert and preview work with.

    Attributes:
        people: who is drawn in, by the person in the footage.
        footage: videos, pictures and folders, all extracted.
        problems: footage that cannot be used, with the reason, a line each.
    """

    swapper: Swapper
    people: Mapping[str, str]
    look: Look
    footage: tuple[Path, ...]
    problems: tuple[str, ...]

    def mask_in_words(self) -> str:
        """Say which mask the faces have, and what becomes of what is in front of them."""
        shape = self.look.mask
        if shape == "auto":
            shape = "learned" if self.swapper.draws_masks else "outline"
        kept = "kept" if self.look.keep == "nothing" else f"kept, {self.look.keep} too"
        front = "painted over" if self.swapper.finder is None else kept
        return f"mask: {shape}; things in front of faces: {front}"


def prepare(options: SwapOptions, extract: Extract, console: Console) -> Prepared:
    """Load the model, find the footage, and extract it where that is not done yet.

    Raises:
        WorkspaceError: there is no such model.
        CheckpointError: it is damaged, or weights that come with Recast are.
        NothingToDoError: a person is missing in the model or in the workspace.
        RecastError: the only file is missing or cannot be used.
        UsageError: the face mesh is asked for and not installed, or a learned mask and the model draws none.
    """
    workspace, people = Workspace(options.workspace), options.people()
    if options.mask == "mesh":
        mesh_weights()
    model = _load_model(options)
    paths, errors = (options.videos, []) if options.videos else _find_footage(workspace, people)
    footage, new = list[Path](), list[Path]()
    for path in paths:
        try:
            if not path.is_dir():
                require_file(path)
            (footage if is_footage_extracted(workspace, path) else new).append(path)
        except (RecastError, OSError) as error:
            errors.append(as_recast_error(error))
    if len(errors) == 1 and not footage and not new:
        raise errors[0]
    problems = list(map(str, errors))
    without_crops = [person for person in people if not crops_in(workspace.person(person))]
    name = without_crops[0] if len(people) == len(without_crops) == 1 else None  # else extract recognises people
    _refuse_misspelt(name, [*list_people(workspace.data), *model.decoders], new)
    for path in new:  # one at a time: pictures named together would become one set
        report = extract(
            ExtractOptions(videos=(path,), person=name, workspace=options.workspace, no_cuda=options.no_cuda), console
        )
        problems += report.problems
        if report.facts["done"]:
            footage.append(path)
    for from_person, to_person in people.items():
        if model.trained[to_person].samples == 0:
            console.note(f"{to_person!r} is not trained yet in this model: what it draws is noise")
        if from_person not in model.decoders:
            console.note(f"the model has not been trained on {from_person!r}: expressions will be poor")
    device = torch.device(choose_device(no_cuda=options.no_cuda))
    segmenter = None if options.paint_over else load_segmenter(workspace.model(options.model_name))
    finder = None if segmenter is None else OcclusionFinder(segmenter, device)
    swapper = Swapper(model, people.values(), device, finder)
    look = Look(**{choice.name: getattr(options, choice.name) for choice in fields(Look)})
    return Prepared(swapper, people, look, tuple(footage), tuple(problems))


def _load_model(options: SwapOptions) -> Model:
    """Load the model, and check that it draws what is asked for."""
    model = checkpoint.load(Workspace(options.workspace).model(options.model_name))
    if options.mask == "learned" and model.network == REFERENCE:
        raise UsageError(
            f"--mask learned needs a model of an hd network, and {options.model_name!r} is of the reference network: "
            "take another --mask"
        )
    for to_person in options.people().values():
        if to_person not in model.decoders:
            names = join_words(sorted(model.decoders))
            raise NothingToDoError(f"the model {options.model_name!r} cannot draw {to_person!r}; it draws {names}")
    return model


def _refuse_misspelt(name: str | None, known: Iterable[str], new: Sequence[Path]) -> None:
    """Raise NothingToDoError if a name that new footage would give to a new person is nearly that of a known one."""
    if name and new and (similar := get_close_matches(name, known, n=1, cutoff=0.7)):
        raise NothingToDoError(
            f"nobody is called {name!r}; perhaps {similar[0]!r}? If this is a new person, first type: "
            f"{command('extract', new[0], '--person', name)}"
        )


def _find_footage(workspace: Workspace, people: Iterable[str]) -> tuple[tuple[Path, ...], list[RecastError]]:
    """Find the workspace's videos that show one of the people, and errors of unusable ones."""
    crops = {person: crops_in(workspace.person(person)) for person in people}
    for person, crop_names in crops.items():
        if not crop_names:
            others = join_words(list_people(workspace.data)) or "nobody yet"
            raise NothingToDoError(
                f"no faces for {person!r} in {workspace.person(person)} (there: {others}); "
                f"run: {command('extract', 'VIDEO', '--person', person)}"
            )
    found, errors = list[Path](), list[RecastError]()
    for path in workspace.stores():
        try:
            source = _source_of(path, crops.values())
        except (RecastError, OSError) as error:
            errors.append(as_recast_error(error))
        else:
            found += [source] if source else []
    if not found and not errors:
        names = " or ".join(map(repr, crops))
        raise NothingToDoError(f"no video of the workspace shows {names}; name one: python cli.py convert VIDEO …")
    return tuple(found), errors


def _source_of(path: Path, people: Iterable[frozenset[str]]) -> Path | None:
    """Return the path of a store's video, if it shows one of the people, given by the names of their crops."""
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
