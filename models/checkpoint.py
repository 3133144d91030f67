"""A model on disk: saved as one unit, and loaded.

    <model>/state-<steps>/model.json                   sizes, people, loop position
                          encoder.safetensors          weights
                          decoder_<person>.safetensors
                          adam_<person>.safetensors    optimizer moments, by parameter name

A state is written under a hidden name, flushed to the disk, read back and renamed, so every visible state is whole.
The newest is loaded; ``keep`` says how many stay. Other files in the folder are left alone.

A hidden .state-<steps> is unfinished (.part), about to be deleted (.old), or the earlier state of the same step
(.replaced), which is still valid until the new one has its name.
"""

import json
import os
import re
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from models import CheckpointError
from models.autoencoder import Encoder
from models.networks import NAMES, REFERENCE, make_decoder, make_encoder, picture_px

VERSION, REFERENCE_VERSION = 2, 1  # models of the reference network can be read by earlier versions of Recast too
STATES_KEPT = 2
MAX_DIM = 65_536  # of a network
MAX_COUNT = 1 << 53
MAX_MODEL_JSON_BYTES = 50_000_000  # bytes of a model.json; most of it is frame numbers of faces
_NAME = re.compile(r"state-([0-9]{9}|[1-9][0-9]{9,})")
_HIDDEN = re.compile(rf"\.({_NAME.pattern})\.(part|old|replaced)")
_RANGE = re.compile(r"[0-9]{1,99}(-[0-9]{1,99})?")

Tensors = dict[str, torch.Tensor]
Ranges = tuple[tuple[int, int], ...]  # first and last of each, ascending and disjoint


@dataclass
class Training:
    """Progress of one person's decoder.

    Attributes:
        samples: faces it was trained on, counted with repetition; 0 is untrained.
        loss: smoothed L1 of the latest steps, in [0, 1]; None while untrained.
    """

    samples: int = 0
    loss: float | None = None


@dataclass(frozen=True)
class Position:
    """The next step's place in the training loop; all counted from 0."""

    epoch: int = 0
    visit: int = 0
    inner: int = 0
    batch: int = 0


@dataclass(frozen=True)
class HeldOut:
    """Frame numbers of the faces held out for validation, and of those trained on, by the track they belong to.

    Both are kept for the model's whole life (see pipeline/training/dataset.py).
    """

    held: Mapping[str, Ranges] = field(default_factory=dict)
    trained: Mapping[str, Ranges] = field(default_factory=dict)


@dataclass
class Model:
    """One encoder, a decoder per person, and everything that is needed to continue training.

    Attributes:
        encoder: shared by all people.
        decoders: by person.
        trained: by person, as ``decoders``.
        moments: optimizer tensors by person, named ``<parameter>.<moment>``; none for untrained people.
        position: where training continues.
        steps: optimizer steps taken so far.
        held_out: None if the model was trained before this was recorded.
        network: name of the networks, see ``models.networks``.
        decoder_start: weights that decoders of new people start from; None for random ones.
    """

    encoder: nn.Module
    decoders: dict[str, nn.Module] = field(default_factory=dict)
    trained: dict[str, Training] = field(default_factory=dict)
    moments: dict[str, Tensors] = field(default_factory=dict)
    position: Position = field(default_factory=Position)
    steps: int = 0
    held_out: HeldOut | None = field(default_factory=HeldOut)
    network: str = REFERENCE
    decoder_start: Tensors | None = None

    @classmethod
    def new(cls, network: str = REFERENCE, init_dim: int = 32, code_dim: int = 1024) -> "Model":
        """Make an untrained model without people; the sizes are the reference network's."""
        return cls(make_encoder(network, init_dim, code_dim), network=network)

    @property
    def picture_px(self) -> int:
        """Width and height of the pictures that the networks see and draw."""
        return picture_px(self.network)

    @property
    def sizes(self) -> tuple[int, int] | None:
        """``init_dim`` and ``code_dim`` of the reference network; None for others."""
        return (self.encoder.init_dim, self.encoder.code_dim) if isinstance(self.encoder, Encoder) else None

    def add_person(self, person: str) -> None:
        """Give a person an untrained decoder, unless the person has one."""
        if person not in self.decoders:
            self.decoders[person] = make_decoder(self.network)
            if self.decoder_start is not None:
                self.decoders[person].load_state_dict(self.decoder_start)
            self.trained[person] = Training()


def exists(folder: Path) -> bool:
    """Return whether a folder holds a saved model."""
    return bool(_states(folder))


def save(folder: Path, model: Model, keep: int = STATES_KEPT, dtype: torch.dtype = torch.float32) -> Path:
    """Write a model's state, with weights as ``dtype``; delete all but the ``keep`` newest; return its folder.

    Raises:
        CheckpointError: it cannot be written; the earlier states are as they were.
    """
    final = folder / f"state-{model.steps:09d}"
    part = _hidden(final, "part")
    try:
        missing = [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        for path in missing:
            flush(path.parent)  # so that a power cut does not take the new folder away
        _clean_up(folder)
        part.mkdir()
        for name, (tensors, stored_as) in _files(model, dtype).items():
            stored = {key: tensor.detach().contiguous().cpu().to(stored_as) for key, tensor in tensors.items()}
            save_file(stored, part / name)
        (part / "model.json").write_text(json.dumps(_facts(model), indent=1, ensure_ascii=False), encoding="utf-8")
        for path in [*part.iterdir(), part]:
            flush(path)
        _check_written(part, model)
        _publish(part, final)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"cannot save the model in {folder}: {error}; what was saved before is kept") from error
    finally:  # Ctrl-C too
        shutil.rmtree(part, ignore_errors=True)
    for old in _states(folder)[:-keep]:
        _remove(old)
    return final


def people_of(folder: Path) -> list[str]:
    """Names of the people of a model's newest state, without reading its weights.

    Raises:
        CheckpointError: they cannot be read.
    """
    state = _states(folder)[-1]
    try:
        return list(json.loads((state / "model.json").read_text(encoding="utf-8"))["people"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise CheckpointError(f"the model in {folder} cannot be read ({error}); see: python cli.py check") from error


def rename_person(folder: Path, old: str, new: str) -> None:
    """Give a person of a model another name; the newest state is replaced by one that differs in nothing else.

    Raises:
        CheckpointError: it cannot be written; the state is as it was.
    """
    _clean_up(folder)
    state = _states(folder)[-1]
    part = _hidden(state, "part")
    try:
        shutil.copytree(state, part)
        facts = json.loads((part / "model.json").read_text(encoding="utf-8"))
        facts["people"] = {new if person == old else person: known for person, known in facts["people"].items()}
        (part / "model.json").write_text(json.dumps(facts, indent=1, ensure_ascii=False), encoding="utf-8")
        for kind in ("decoder", "adam"):
            if (path := part / f"{kind}_{old}.safetensors").is_file():
                path.rename(part / f"{kind}_{new}.safetensors")
        for path in [*part.iterdir(), part]:
            flush(path)
        _read(part, facts, for_training=True)  # the state that it replaces is deleted
        _publish(part, state)
    except (OSError, ValueError, LookupError, TypeError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"cannot rename {old!r} in the model in {folder}: {error}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def load(folder: Path, *, for_training: bool = False) -> Model:
    """Read the newest state of a model onto the CPU, with its optimizer moments only ``for_training``.

    Raises:
        CheckpointError: there is no model, or it is damaged or from a newer version.
    """
    states = _states(folder)
    if not states:
        raise CheckpointError(f"no model in {folder}; run: python cli.py train -n {shlex.quote(folder.name)}")
    state = states[-1]
    try:
        if (state / "model.json").stat().st_size > MAX_MODEL_JSON_BYTES:
            raise ValueError(f"model.json has more than {MAX_MODEL_JSON_BYTES} bytes")
        facts = json.loads((state / "model.json").read_text(encoding="utf-8"))
        if facts["version"] > VERSION:
            raise CheckpointError(f"{state} has version {facts['version']}, this Recast reads {VERSION}: update Recast")
        return _read(state, facts, for_training)
    except (
        OSError,
        ArithmeticError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        RuntimeError,
        SafetensorError,
    ) as error:
        raise CheckpointError(
            f"the model state {state} is damaged ({type(error).__name__}: {str(error)[:200]}); "
            "delete that folder to go back to the state before it"
        ) from error


def _states(folder: Path) -> list[Path]:
    """Whole states of a model, the newest last."""
    states: dict[int, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():  # hidden ones first
        hidden = _HIDDEN.fullmatch(path.name)
        if hidden and hidden[3] != "replaced":
            continue
        name = _NAME.fullmatch(hidden[1] if hidden else path.name)
        if name and _is_state(path):
            states[int(name[1])] = path
    return [states[steps] for steps in sorted(states)]


def _is_state(path: Path) -> bool:
    return (path / "model.json").is_file()


def _hidden(state: Path, ending: str) -> Path:
    return state.with_name(f".{state.name}.{ending}")


def _clean_up(folder: Path) -> None:
    """Remove leftovers of killed runs; a replaced state gets its name back unless a new one has it."""
    for path in list(folder.iterdir()):
        if hidden := _HIDDEN.fullmatch(path.name):
            final = folder / hidden[1]
            if hidden[3] != "replaced" or _is_state(final):
                shutil.rmtree(path, ignore_errors=True)
            elif not final.exists():
                path.rename(final)
                flush(folder)


def _files(model: Model, dtype: torch.dtype) -> dict[str, tuple[Mapping[str, torch.Tensor], torch.dtype]]:
    """Tensors and their stored type, by file name."""
    return {
        "encoder.safetensors": (model.encoder.state_dict(), dtype),
        **{f"decoder_{person}.safetensors": (net.state_dict(), dtype) for person, net in model.decoders.items()},
        **{f"adam_{person}.safetensors": (moments, torch.float32) for person, moments in model.moments.items()},
    }


def _check_written(part: Path, model: Model) -> None:
    """Raise ValueError, OSError or SafetensorError unless a state reads back as it was written."""
    if json.loads((part / "model.json").read_text(encoding="utf-8")) != json.loads(json.dumps(_facts(model))):
        raise ValueError("model.json does not read back as written")
    for name, (tensors, _) in _files(model, torch.float32).items():
        with safe_open(part / name, "pt") as file:  # refuses a file whose length does not fit its header
            shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118 - no mapping
        if shapes != {key: tuple(tensor.shape) for key, tensor in tensors.items()}:
            raise ValueError(f"{name} does not read back as written")


def _publish(part: Path, final: Path) -> None:
    """Give a finished state its name; whatever has that name is moved aside first, and back on failure."""
    was_state = _is_state(final)
    aside = _hidden(final, "replaced") if was_state else final.with_name(f"{final.name} (no state)")
    if final.exists():
        final.rename(aside)
    try:
        part.rename(final)
        flush(final.parent)
    except BaseException:
        if aside.exists() and not final.exists():
            aside.rename(final)
        raise
    if was_state:
        shutil.rmtree(aside, ignore_errors=True)


def _remove(state: Path) -> None:
    """Delete a state; renamed first, so that an interrupted deletion leaves no half state under a visible name."""
    old = _hidden(state, "old")
    try:
        state.rename(old)
        flush(old.parent)
    except OSError:  # on Windows, while another program reads it: the next save tries again
        return
    shutil.rmtree(old, ignore_errors=True)


def flush(path: Path) -> None:
    """Wait until a file's content, or the names in a folder, are on the disk."""
    if os.name == "nt" and path.is_dir():  # Windows cannot open folders, and writes their entries through by itself
        return
    descriptor = os.open(path, os.O_RDWR if path.is_file() and os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _facts(model: Model) -> dict[str, Any]:
    sizes = model.sizes
    return {
        "version": REFERENCE_VERSION if sizes else VERSION,
        **(dict(zip(("init_dim", "code_dim"), sizes, strict=True)) if sizes else {"network": model.network}),
        "steps": model.steps,
        "position": asdict(model.position),
        "people": {person: asdict(training) for person, training in model.trained.items()},
        **({} if model.held_out is None else {"held_out": _held_out_as_text(model.held_out)}),
    }


def _held_out_as_text(held_out: HeldOut) -> dict[str, dict[str, str]]:
    """Write ranges as in "0-99 120 130-140"."""
    return {
        kind: {
            source: " ".join(f"{first}-{last}" if last > first else f"{first}" for first, last in ranges)
            for source, ranges in sources.items()
        }
        for kind, sources in vars(held_out).items()
    }


def _parse_held_out(facts: Mapping[str, Any]) -> HeldOut:
    kinds = {
        kind: {source: tuple(map(_parse_range, text.split())) for source, text in sources.items()}
        for kind, sources in facts.items()
    }
    for ranges in (ranges for sources in kinds.values() for ranges in sources.values()):
        ends = [end for pair in ranges for end in pair]
        if ends != sorted(ends):
            raise ValueError(f"ranges of faces out of order: {str(ranges)[:50]}")
    return HeldOut(**kinds)


def _parse_range(text: str) -> tuple[int, int]:
    if not _RANGE.fullmatch(text):
        raise ValueError(f"not a range of faces: {text[:30]!r}")
    first, _, last = text.partition("-")
    return int(first), int(last or first)


def _read(state: Path, facts: Mapping[str, Any], for_training: bool) -> Model:
    _check_facts(facts)
    network = facts.get("network", REFERENCE)
    sizes = (facts["init_dim"], facts["code_dim"]) if network == REFERENCE else ()
    with torch.device("meta"):  # no memory and no initial weights: the files bring both
        model = Model.new(network, *sizes)
        model.position, model.steps = Position(**facts["position"]), facts["steps"]
        model.held_out = _parse_held_out(facts["held_out"]) if "held_out" in facts else None
        for person in facts["people"]:
            model.add_person(person)
    _load_weights(model.encoder, state / "encoder.safetensors", for_training)
    for person, training in facts["people"].items():
        _load_weights(model.decoders[person], state / f"decoder_{person}.safetensors", for_training)
        model.trained[person] = Training(**training)
        moments = state / f"adam_{person}.safetensors"
        if for_training and moments.is_file():
            model.moments[person] = load_file(moments)
    return model


def _check_facts(facts: Mapping[str, Any]) -> None:
    """Raise ValueError for implausible numbers, and for names of people that would lead to other folders."""
    trained = [Training(**training) for training in facts["people"].values()]
    network = facts.get("network", REFERENCE)
    if network not in NAMES:
        raise ValueError(f"a network named {str(network)[:50]!r}")
    sizes = [facts["init_dim"], facts["code_dim"]] if network == REFERENCE else []
    counts = [*sizes, facts["steps"], *facts["position"].values()]
    for count in (*counts, *(training.samples for training in trained)):
        if not isinstance(count, int) or not 0 <= count < MAX_COUNT:
            raise ValueError(f"a count of {str(count)[:30]}")
    if max(sizes, default=0) > MAX_DIM:
        raise ValueError(f"sizes of {sizes[0]} and {sizes[1]}")
    for loss in (training.loss for training in trained):
        if loss is not None and not (isinstance(loss, int | float) and 0 <= loss <= 1):
            raise ValueError(f"a loss of {str(loss)[:30]}")
    for person in facts["people"]:
        # the same rule as for crops in the pipeline's stores; this package imports nothing of it
        if not person or person != Path(person).name or person[0] == "." or set(person) & set("/\\:\0"):
            raise ValueError(f"a person named {person[:50]!r}")


def _load_weights(network: nn.Module, path: Path, for_training: bool) -> None:
    """Load a network's weights from a file; unless ``for_training``, they are mapped and read when used."""
    weights = {name: tensor.to(torch.float32, copy=for_training) for name, tensor in load_file(path).items()}
    network.load_state_dict(weights, assign=True)
