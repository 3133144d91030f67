"""A model on disk: saved as one unit, and loaded.

    <model>/state-<steps>/model.json                   sizes, people, loop position
                          encoder.safetensors          weights
                          decoder_<person>.safetensors
                          adam_<person>.safetensors    optimizer moments, by parameter name

A state is written under a hidden name, flushed to the disk, read back and renamed, so a state that is there is whole.
The newest counts; those before it are kept, one unless asked for more. Whatever else lies in the folder is left alone.
Nothing is ever unpickled but tensors.

A hidden state-<steps> beside them is unfinished (.part), on its way out (.old), or the earlier state of the same step
(.replaced), which counts while the new one does not have its name yet.
"""

import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from models.autoencoder import Decoder, Encoder
from pipeline.errors import WorkspaceError, command

VERSION = 1
STATES_KEPT = 2
LARGEST_DIM = 65_536  # of a network
MOST_COUNTED = 1 << 53
LONGEST_FACTS = 50_000_000  # bytes of a model.json; most of it are faces' numbers, where these have gaps
_NAME = re.compile(r"state-([0-9]{9}|[1-9][0-9]{9,})")
_HIDDEN = re.compile(rf"\.({_NAME.pattern})\.(part|old|replaced)")

_RANGE = re.compile(r"[0-9]{1,99}(-[0-9]{1,99})?")

Tensors = dict[str, torch.Tensor]
Ranges = tuple[tuple[int, int], ...]  # first and last of each, rising and apart


@dataclass
class Training:
    """How far one person's decoder has come.

    Attributes:
        samples: faces it was trained on, counted with repetition; 0 is untrained.
        loss: smoothed L1 of the latest steps, in [0, 1]; None while untrained.
    """

    samples: int = 0
    loss: float | None = None


@dataclass(frozen=True)
class Position:
    """Where in the training loop the next step stands; all counted from 0."""

    epoch: int = 0
    visit: int = 0
    inner: int = 0
    batch: int = 0


@dataclass(frozen=True)
class HeldOut:
    """Faces kept from training, to judge by, and those trained on; for good (pipeline/training/dataset.py).

    Attributes:
        held: numbers of frames, by the track or the series of pictures they are of.
        trained: likewise.
    """

    held: Mapping[str, Ranges] = field(default_factory=dict)
    trained: Mapping[str, Ranges] = field(default_factory=dict)


@dataclass
class Model:
    """One encoder, a decoder per person, and all that is needed to train on.

    Attributes:
        encoder: shared by all people.
        decoders: by person.
        trained: by person, as ``decoders``.
        moments: optimizer tensors by person, named ``<parameter>.<moment>``; missing where never trained.
        position: where training goes on.
        steps: optimizer steps taken so far.
        held_out: which faces judge it; None where it was trained before that was written down.
    """

    encoder: Encoder
    decoders: dict[str, Decoder] = field(default_factory=dict)
    trained: dict[str, Training] = field(default_factory=dict)
    moments: dict[str, Tensors] = field(default_factory=dict)
    position: Position = field(default_factory=Position)
    steps: int = 0
    held_out: HeldOut | None = field(default_factory=HeldOut)

    def add_person(self, person: str) -> None:
        """Give a person an untrained decoder, unless there is one."""
        if person not in self.decoders:
            self.decoders[person] = Decoder()
            self.trained[person] = Training()


def exists(folder: Path) -> bool:
    """Say whether a model was ever saved in a folder."""
    return bool(_states(folder))


def save(folder: Path, model: Model, keep: int = STATES_KEPT, dtype: torch.dtype = torch.float32) -> Path:
    """Write a model's state beside the earlier ones, and drop all but the last.

    Args:
        folder: of the model; made when missing.
        model: what to write; stays as it is.
        keep: number of states that stay, the new one included.
        dtype: of the weights on disk.

    Returns:
        Folder of the new state.

    Raises:
        WorkspaceError: it cannot be written; the earlier states are as they were.
    """
    final = folder / f"state-{model.steps:09d}"
    part = _hidden(final, "part")
    try:
        _make_folder(folder)
        _tidy(folder)
        part.mkdir()
        _write_state(part, model, dtype)
        for path in [*part.iterdir(), part]:
            _flush(path)
        _read_back(part, model)
        _put(part, final)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise WorkspaceError(f"cannot save the model in {folder}: {error}; what was saved before is kept") from error
    finally:  # Ctrl-C too
        shutil.rmtree(part, ignore_errors=True)
    for old in _states(folder)[:-keep]:
        _remove(old)
    return final


def _hidden(state: Path, ending: str) -> Path:
    return state.with_name(f".{state.name}.{ending}")


def _make_folder(folder: Path) -> None:
    """Make a folder, so that a power cut does not take it away again."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing:
        _flush(path.parent)


def _tidy(folder: Path) -> None:
    """Remove what killed runs left; a state they had moved aside gets its name back where nothing else has it."""
    for path in list(folder.iterdir()):
        if hidden := _HIDDEN.fullmatch(path.name):
            final = folder / hidden[1]
            if hidden[3] != "replaced" or _is_state(final):
                shutil.rmtree(path, ignore_errors=True)
            elif not final.exists():
                path.rename(final)
                _flush(folder)


def _write_state(part: Path, model: Model, dtype: torch.dtype) -> None:
    for name, (tensors, kind) in _files(model, dtype).items():
        save_file({key: tensor.detach().contiguous().cpu().to(kind) for key, tensor in tensors.items()}, part / name)
    (part / "model.json").write_text(json.dumps(_facts(model), indent=1, ensure_ascii=False), encoding="utf-8")


def _files(model: Model, dtype: torch.dtype) -> dict[str, tuple[Mapping[str, torch.Tensor], torch.dtype]]:
    """By file name, the tensors it holds, and how they are stored."""
    return {
        "encoder.safetensors": (model.encoder.state_dict(), dtype),
        **{f"decoder_{person}.safetensors": (net.state_dict(), dtype) for person, net in model.decoders.items()},
        **{f"adam_{person}.safetensors": (own, torch.float32) for person, own in model.moments.items()},
    }


def _read_back(part: Path, model: Model) -> None:
    """Make sure that a state holds what was written.

    Raises:
        ValueError, OSError, SafetensorError: it does not.
    """
    if json.loads((part / "model.json").read_text(encoding="utf-8")) != json.loads(json.dumps(_facts(model))):
        raise ValueError("model.json does not read back as written")
    for name, (tensors, _) in _files(model, torch.float32).items():
        with safe_open(part / name, "pt") as file:  # refuses a file whose length does not fit what it lists
            found = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118 - no mapping
        if found != {key: tuple(tensor.shape) for key, tensor in tensors.items()}:
            raise ValueError(f"{name} does not read back as written")


def _put(part: Path, final: Path) -> None:
    """Rename a finished state; what has its name is moved aside first, and back if that fails."""
    was_state = _is_state(final)
    aside = _hidden(final, "replaced") if was_state else final.with_name(f"{final.name} (no state)")
    if final.exists():
        final.rename(aside)
    try:
        part.rename(final)
        _flush(final.parent)
    except BaseException:
        if aside.exists() and not final.exists():
            aside.rename(final)
        raise
    if was_state:
        shutil.rmtree(aside, ignore_errors=True)


def _remove(state: Path) -> None:
    """Delete a state; cut short, it leaves no half of one under a state's name."""
    old = _hidden(state, "old")
    try:
        state.rename(old)
        _flush(old.parent)
    except OSError:  # on Windows, while another program reads it: the next save tries again
        return
    shutil.rmtree(old, ignore_errors=True)


def load(folder: Path, *, for_training: bool = False) -> Model:
    """Read the newest state of a model, onto the CPU.

    Args:
        folder: of the model.
        for_training: read the optimizer moments too.

    Raises:
        WorkspaceError: there is no model, or it is damaged or from a newer version.
    """
    states = _states(folder)
    if not states:
        raise WorkspaceError(f"no model in {folder}; run: {command('train', '-n', folder.name)}")
    state = states[-1]
    try:
        if (state / "model.json").stat().st_size > LONGEST_FACTS:
            raise ValueError(f"model.json has more than {LONGEST_FACTS} bytes")
        facts = json.loads((state / "model.json").read_text(encoding="utf-8"))
        if facts["version"] > VERSION:
            raise WorkspaceError(f"{state} is of version {facts['version']}, this is {VERSION}: use the newer Recast")
        return _model(state, facts, for_training)
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
        raise WorkspaceError(
            f"the model state {state} is damaged ({type(error).__name__}: {str(error)[:200]}); "
            "delete that folder to go back to the state before it"
        ) from error


def _facts(model: Model) -> dict[str, Any]:
    return {
        "version": VERSION,
        "init_dim": model.encoder.init_dim,
        "code_dim": model.encoder.code_dim,
        "steps": model.steps,
        "position": asdict(model.position),
        "people": {person: asdict(training) for person, training in model.trained.items()},
        **({} if model.held_out is None else {"held_out": _as_texts(model.held_out)}),
    }


def _as_texts(held_out: HeldOut) -> dict[str, dict[str, str]]:
    """Write ranges as in "0-99 120 130-140"."""
    return {
        kind: {source: " ".join(f"{a}-{b}" if b > a else f"{a}" for a, b in own) for source, own in ranges.items()}
        for kind, ranges in vars(held_out).items()
    }


def _from_texts(facts: Mapping[str, Any]) -> HeldOut | None:
    if "held_out" not in facts:
        return None
    kinds = {
        kind: {source: tuple(map(_range, text.split())) for source, text in ranges.items()}
        for kind, ranges in facts["held_out"].items()
    }
    for own in (own for ranges in kinds.values() for own in ranges.values()):
        ends = [end for pair in own for end in pair]
        if ends != sorted(ends):
            raise ValueError(f"ranges of faces out of order: {str(own)[:50]}")
    return HeldOut(**kinds)


def _range(text: str) -> tuple[int, int]:
    if not _RANGE.fullmatch(text):
        raise ValueError(f"a range of faces of {text[:30]!r}")
    first, _, last = text.partition("-")
    return int(first), int(last or first)


def _model(state: Path, facts: Mapping[str, Any], for_training: bool) -> Model:
    _refuse_odd(facts)
    with torch.device("meta"):  # no memory, no starting weights: both come from the files
        encoder = Encoder(int(facts["init_dim"]), int(facts["code_dim"]))
        model = Model(encoder, position=Position(**facts["position"]), steps=int(facts["steps"]))
        model.held_out = _from_texts(facts)
        for person in facts["people"]:
            model.add_person(person)
    _fill(encoder, state / "encoder.safetensors", for_training)
    for person, training in facts["people"].items():
        _fill(model.decoders[person], state / f"decoder_{person}.safetensors", for_training)
        model.trained[person] = Training(**training)
        moments = state / f"adam_{person}.safetensors"
        if for_training and moments.is_file():
            model.moments[person] = load_file(moments)
    return model


def _refuse_odd(facts: Mapping[str, Any]) -> None:
    """Refuse numbers that are none or beyond all measure, and people whose names would lead elsewhere.

    Raises:
        ValueError: there are some.
    """
    trained = [Training(**one) for one in facts["people"].values()]
    counts = [facts["init_dim"], facts["code_dim"], facts["steps"], *facts["position"].values()]
    for count in (*counts, *(one.samples for one in trained)):
        if not isinstance(count, int) or not 0 <= count < MOST_COUNTED:
            raise ValueError(f"a count of {str(count)[:30]}")
    if max(facts["init_dim"], facts["code_dim"]) > LARGEST_DIM:
        raise ValueError(f"sizes of {facts['init_dim']} and {facts['code_dim']}")
    for loss in (one.loss for one in trained):
        if loss is not None and not (isinstance(loss, int | float) and 0 <= loss <= 1):
            raise ValueError(f"a loss of {str(loss)[:30]}")
    for person in facts["people"]:
        # the same rule as for crops in the pipeline's stores; this package imports nothing of it
        if not person or person != Path(person).name or person[0] == "." or set(person) & set("/\\:\0"):
            raise ValueError(f"a person named {person[:50]!r}")


def _fill(network: nn.Module, path: Path, for_training: bool) -> None:
    """Give a network the weights of a file; they stay in the file, read when used, unless they are to be changed."""
    weights = {name: tensor.to(torch.float32, copy=for_training) for name, tensor in load_file(path).items()}
    network.load_state_dict(weights, assign=True)


def _states(folder: Path) -> list[Path]:
    """Whole states of a model, the newest last."""
    found: dict[int, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():  # hidden ones first
        hidden = _HIDDEN.fullmatch(path.name)
        if hidden and hidden[3] != "replaced":
            continue
        name = _NAME.fullmatch(hidden[1] if hidden else path.name)
        if name and _is_state(path):
            found[int(name[1])] = path
    return [found[steps] for steps in sorted(found)]


def _is_state(path: Path) -> bool:
    return (path / "model.json").is_file()


def _flush(path: Path) -> None:
    """Make sure a file, or the names in a folder, are on the disk."""
    if os.name == "nt" and path.is_dir():  # Windows cannot open folders, and writes their entries through by itself
        return
    descriptor = os.open(path, os.O_RDWR if path.is_file() and os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
