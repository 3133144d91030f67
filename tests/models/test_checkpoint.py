"""Models on disk: whole or not there, whatever happens; and the reference tool's files.

A model's files are some 130 MB even at the smallest sizes, so one is written per kind, and tests work on hard links.
"""

import json
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from models import CheckpointError, checkpoint
from models.autoencoder import Decoder, Encoder
from models.checkpoint import HeldOut, Model, Position, Training
from models.onnx_files import write_onnx
from models.reference import load_reference
from models.segmenter import load_segmenter

STEPS = 1200
STATE = f"state-{STEPS:09d}"


def new_model() -> Model:
    torch.manual_seed(8)
    model = Model(Encoder(8, 64), position=Position(epoch=3, visit=1, inner=40, batch=2), steps=STEPS)
    for person in ("hopper", "Zoë K. 2"):
        model.add_person(person)
    model.trained["hopper"] = Training(samples=76_800, loss=0.03125)
    model.held_out = HeldOut({"clip/12": ((5, 5), (100, 124))}, {"clip/12": ((0, 2), (200, 10**18)), "a b": ((0, 0),)})
    model.moments["hopper"] = {
        "encoder.conv1.0.weight.step": torch.tensor(600.0),
        "encoder.conv1.0.weight.exp_avg": torch.randn(8, 3, 5, 5) * 1e-9,
        "decoder.conv.bias.exp_avg_sq": torch.rand(3) * 1e-30,
    }
    return model


def link(source: Path, target: Path) -> Path:
    """Copy a folder without copying what is in its files: these are not to be written to, only replaced."""
    shutil.copytree(source, target, copy_function=os.link)
    return target


def replace(path: Path, content: bytes) -> None:
    path.unlink()
    path.write_bytes(content)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def assert_equal_networks(one: nn.Module, other: nn.Module) -> None:
    assert_equal_tensors(one.state_dict(), other.state_dict())


def assert_equal_tensors(some: dict[str, torch.Tensor], others: dict[str, torch.Tensor]) -> None:
    assert some.keys() == others.keys()
    for name, tensor in some.items():
        assert tensor.dtype == others[name].dtype
        assert torch.equal(tensor, others[name]), name


@pytest.fixture(scope="module")
def model() -> Model:
    """What was saved; not to be changed."""
    return new_model()


@pytest.fixture(scope="module")
def saved_once(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "output" / "my model"
    assert checkpoint.save(folder, model) == folder / STATE
    return folder


@pytest.fixture
def saved(saved_once: Path, tmp_path: Path) -> Path:
    """A saved model of the test's own."""
    return link(saved_once, tmp_path / "my model")


def test_a_model_comes_back_bit_for_bit(model: Model, saved: Path) -> None:
    loaded = checkpoint.load(saved, for_training=True)
    assert loaded.sizes == (8, 64)
    assert_equal_networks(loaded.encoder, model.encoder)
    assert loaded.decoders.keys() == model.decoders.keys()
    for person, decoder in model.decoders.items():
        assert_equal_networks(loaded.decoders[person], decoder)
    assert (loaded.trained, loaded.position, loaded.steps) == (model.trained, model.position, model.steps)
    assert loaded.held_out == model.held_out
    assert loaded.moments.keys() == {"hopper"}
    assert_equal_tensors(loaded.moments["hopper"], model.moments["hopper"])


def test_moments_are_read_for_training_alone(saved: Path) -> None:
    assert checkpoint.load(saved).moments == {}


def test_a_saved_model_is_one_folder_a_person_can_read(saved: Path) -> None:
    assert names(saved) == [STATE]
    assert names(saved / STATE) == [
        "adam_hopper.safetensors",
        "decoder_Zoë K. 2.safetensors",
        "decoder_hopper.safetensors",
        "encoder.safetensors",
        "model.json",
    ]
    facts = json.loads((saved / STATE / "model.json").read_text(encoding="utf-8"))
    assert (facts["init_dim"], facts["code_dim"], facts["steps"]) == (8, 64, STEPS)
    assert facts["people"]["Zoë K. 2"] == {"samples": 0, "loss": None}


def test_saving_leaves_the_model_as_it_is(model: Model, saved: Path) -> None:
    fresh = new_model()
    assert_equal_networks(fresh.encoder, model.encoder)
    assert (fresh.trained, fresh.position, fresh.steps) == (model.trained, model.position, model.steps)
    assert_equal_tensors(fresh.moments["hopper"], model.moments["hopper"])


def test_a_new_person_is_added_once() -> None:
    with torch.device("meta"):
        model = Model(Encoder(8, 64))
        model.add_person("hopper")
        decoder, model.trained["hopper"] = model.decoders["hopper"], Training(5, 0.1)
        model.add_person("hopper")
        model.add_person("collins")
    assert model.decoders["hopper"] is decoder
    assert model.trained == {"hopper": Training(5, 0.1), "collins": Training(0, None)}


def test_the_newest_two_states_are_kept_and_the_newest_counts(model: Model, saved: Path) -> None:
    for steps in (90, 800):
        link(saved / STATE, saved / f"state-{steps:09d}")
    left_by_a_kill = saved / f".state-{STEPS + 1:09d}.part"
    left_by_a_kill.mkdir()
    (left_by_a_kill / "decoder_nobody.safetensors").write_bytes(b"half")
    newer = Model(deepcopy(model.encoder), position=Position(epoch=4), steps=STEPS + 1)
    with torch.no_grad():
        newer.encoder.get_parameter("linear1.bias").fill_(0.75)

    written = checkpoint.save(saved, newer)
    assert names(saved) == [STATE, written.name]
    assert names(written) == ["encoder.safetensors", "model.json"]
    loaded = checkpoint.load(saved)
    assert (loaded.steps, loaded.position) == (STEPS + 1, Position(epoch=4))
    assert_equal_networks(loaded.encoder, newer.encoder)

    newer.position = Position(epoch=4, visit=1)
    assert checkpoint.save(saved, newer) == written, "saved again at the same step"
    assert names(saved) == [STATE, written.name]
    assert checkpoint.load(saved).position == Position(epoch=4, visit=1)

    shutil.rmtree(written)
    assert checkpoint.load(saved).steps == STEPS, "what the message on a damaged state advises"


def test_parts_that_killed_runs_left_do_not_pile_up(saved: Path) -> None:
    """A killed save leaves its part; the next run saves at other steps."""
    left_by_a_kill = saved / ".state-000000777.part"
    left_by_a_kill.mkdir()
    (left_by_a_kill / "encoder.safetensors").write_bytes(bytes(1000))
    checkpoint.save(saved, Model(Encoder(8, 64), steps=STEPS + 1))
    assert not left_by_a_kill.exists()


OTHERS = ["state-best", "state-000001200 copy", "state-0000001201", "state-12", ".state-best", "ann"]


def test_only_states_count_and_whatever_else_is_there_stays(saved: Path) -> None:
    for name in OTHERS:
        link(saved / STATE, saved / name)
    (saved / "state-000009999").mkdir()
    (saved / "state-000009999" / "epoch_1.png").touch()
    assert checkpoint.load(saved).steps == STEPS
    for steps in (STEPS + 1, STEPS + 2, STEPS + 3):
        checkpoint.save(saved, Model(Encoder(8, 16), steps=steps), keep=1)
    assert names(saved) == sorted([*OTHERS, "state-000009999", f"state-{STEPS + 3:09d}"])
    assert len(names(saved / "state-best")) == len(names(saved / "ann")) == 5


def test_states_go_by_their_number(tmp_path: Path) -> None:
    for steps in (10**9, 999_999_999, 20):
        checkpoint.save(tmp_path / "model", Model(Encoder(8, 16), steps=steps), keep=3)
    assert checkpoint.load(tmp_path / "model").steps == 10**9
    checkpoint.save(tmp_path / "model", Model(Encoder(8, 16), steps=10**9 + 1), keep=2)
    assert names(tmp_path / "model") == ["state-1000000000", "state-1000000001"]


def test_what_has_the_new_states_name_but_is_no_state_is_kept(tmp_path: Path) -> None:
    (tmp_path / STATE).mkdir()
    (tmp_path / STATE / "epoch_1.png").touch()
    checkpoint.save(tmp_path, Model(Encoder(8, 16), steps=STEPS))
    assert names(tmp_path) == [STATE, f"{STATE} (no state)"]
    assert names(tmp_path / f"{STATE} (no state)") == ["epoch_1.png"]


def test_a_state_that_was_being_replaced_when_the_power_went_is_not_lost(saved: Path, model: Model) -> None:
    """Between the two renames: the old state moved aside, the new one whole but without its name."""
    earlier = f"state-{STEPS - 1:09d}"
    link(saved / STATE, saved / earlier)
    (saved / STATE).rename(saved / f".{STATE}.replaced")
    link(saved / earlier, saved / f".{STATE}.part")
    assert checkpoint.exists(saved)
    assert_equal_networks(checkpoint.load(saved).encoder, model.encoder)
    checkpoint.save(saved, Model(Encoder(8, 16), steps=STEPS + 1))
    assert names(saved) == [STATE, f"state-{STEPS + 1:09d}"]
    assert_equal_networks(
        checkpoint.load(link(saved / STATE, saved.parent / "old" / STATE).parent).encoder, model.encoder
    )


def test_one_that_had_been_replaced_goes(saved: Path) -> None:
    link(saved / STATE, saved / f".{STATE}.replaced")
    checkpoint.save(saved, Model(Encoder(8, 16), steps=STEPS + 1), keep=2)
    assert names(saved) == [STATE, f"state-{STEPS + 1:09d}"]


@pytest.mark.parametrize("rename", range(1, 3))
def test_an_interrupt_leaves_no_half_state(saved: Path, rename: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second Ctrl-C during the save, at either of its renames."""
    real, calls = Path.rename, []

    def interrupted(self: Path, target: Path) -> Path:
        calls.append(self.name)
        if len(calls) == rename:
            raise KeyboardInterrupt
        return real(self, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(saved, Model(Encoder(8, 16), steps=STEPS))
    assert names(saved) == [STATE]
    assert checkpoint.load(saved).decoders.keys() == {"hopper", "Zoë K. 2"}


def test_nothing_old_goes_before_the_new_was_flushed_and_read_back(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    for module, name in ((checkpoint, "flush"), (checkpoint, "safe_open"), (Path, "rename"), (shutil, "rmtree")):
        real = getattr(module, name)

        def noted(path: Path, *given: Any, _real: Any = real, _name: str = name, **more: Any) -> Any:
            if path.exists():
                done.append(f"{_name} {path.name}")
            return _real(path, *given, **more)

        monkeypatch.setattr(module, name, noted)
    new = f"state-{STEPS + 1:09d}"
    checkpoint.save(saved, Model(Encoder(8, 16), steps=STEPS + 1), keep=1)
    part = f".{new}.part"
    assert done == [
        *sorted(["flush encoder.safetensors", "flush model.json"], key=done.index),
        *[f"flush {part}", "safe_open encoder.safetensors", f"rename {part}", f"flush {saved.name}"],
        *[f"rename {STATE}", f"flush {saved.name}", f"rmtree .{STATE}.old"],
    ]


@pytest.mark.parametrize("file", ["model.json", "encoder.safetensors"])
def test_a_state_that_does_not_read_back_is_refused(saved: Path, file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = checkpoint.flush

    def lose_the_end(path: Path) -> None:
        if path.name == file:
            os.truncate(path, path.stat().st_size - 1)
        real(path)

    monkeypatch.setattr(checkpoint, "flush", lose_the_end)
    with pytest.raises(CheckpointError, match="what was saved before is kept"):
        checkpoint.save(saved, Model(Encoder(8, 16), steps=STEPS + 1), keep=1)
    assert names(saved) == [STATE]


@contextmanager
def small_files_only() -> Iterator[None]:
    """Let the system refuse to write files beyond 1 MiB, as a full disk does."""
    if sys.platform == "win32":
        pytest.skip("no limit on file sizes here")
    import resource  # noqa: PLC0415 - not on Windows

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def in_one_go() -> Iterator[None]:
    yield


@pytest.mark.parametrize("steps", [STEPS + 1, STEPS], ids=["another step", "the same step"])
@pytest.mark.parametrize(
    ("limit", "moments"),
    [(small_files_only, {}), (in_one_go, {"no/such/folder": {"decoder.conv.bias.step": torch.tensor(1.0)}})],
    ids=["disk full", "moments that cannot be written"],
)
def test_a_failed_save_keeps_what_was_there(
    model: Model, saved: Path, limit: Callable[[], Any], moments: dict[str, Any], steps: int
) -> None:
    before = {path: path.stat().st_ino for path in saved.rglob("*")}
    failing = Model(model.encoder, moments=moments, steps=steps)
    with limit(), pytest.raises(CheckpointError, match="what was saved before is kept") as failed:
        checkpoint.save(saved, failing)
    assert str(saved) in str(failed.value)
    assert {path: path.stat().st_ino for path in saved.rglob("*")} == before, "no .part, nothing replaced"
    assert_equal_networks(checkpoint.load(saved).encoder, model.encoder)


def test_moments_that_are_lost_leave_no_half_state(saved: Path, model: Model) -> None:
    """Tensors without numbers stand for a device that is gone; whatever is raised, nothing half is left."""
    failing = Model(model.encoder, moments={"hopper": {"step": torch.zeros(3, device="meta")}}, steps=STEPS + 1)
    with pytest.raises((CheckpointError, RuntimeError)):
        checkpoint.save(saved, failing)
    assert names(saved) == [STATE]


def test_a_save_that_fails_at_its_last_moment_keeps_the_state_of_the_same_step(
    saved: Path, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def rename_unless_final(self: Path, target: Path) -> Path:
        if self.name.endswith(".part"):
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", rename_unless_final)
    with pytest.raises(CheckpointError, match="what was saved before is kept"):
        checkpoint.save(saved, Model(model.encoder, steps=STEPS))
    assert names(saved) == [STATE]
    assert checkpoint.load(saved).decoders.keys() == model.decoders.keys()


def test_a_place_where_no_folder_can_be_is_refused(tmp_path: Path, model: Model) -> None:
    (tmp_path / "output").write_text("in the way", encoding="utf-8")
    with pytest.raises(CheckpointError, match="cannot save the model in"):
        checkpoint.save(tmp_path / "output" / "my model", model)
    assert names(tmp_path) == ["output"]


def test_no_model_says_what_to_type(tmp_path: Path) -> None:
    (tmp_path / "best one").mkdir()
    for folder in (tmp_path / "best one", tmp_path / "missing"):
        assert not checkpoint.exists(folder)
        with pytest.raises(CheckpointError) as refused:
            checkpoint.load(folder)
        assert str(folder) in str(refused.value)
        assert f"python cli.py train -n {shlex.quote(folder.name)}" in str(refused.value)


def test_a_model_exists_once_a_state_is_there(saved: Path) -> None:
    assert checkpoint.exists(saved)
    (saved / STATE).rename(saved / f".{STATE}.part")
    assert not checkpoint.exists(saved), "what is not whole does not count"


def cut_in_half(path: Path) -> None:
    replace(path, path.read_bytes()[: path.stat().st_size // 2])


def fill_with_garbage(path: Path) -> None:
    replace(path, b"\x07garbage" * 1000)


def empty(path: Path) -> None:
    replace(path, b"")


DAMAGES = [cut_in_half, fill_with_garbage, empty, Path.unlink]


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        *(("model.json", damage) for damage in DAMAGES[:3]),
        *((f"{name}.safetensors", damage) for name in ("encoder", "decoder_hopper") for damage in DAMAGES),
    ],
)
def test_a_damaged_state_is_named(saved: Path, file: str, damage: Callable[[Path], None]) -> None:
    damage(saved / STATE / file)
    with pytest.raises(CheckpointError, match="delete that folder") as refused:
        checkpoint.load(saved)
    assert str(saved / STATE) in str(refused.value)


@pytest.mark.parametrize("damage", DAMAGES[:3], ids=lambda damage: damage.__name__)
def test_damaged_moments_are_named_when_training_goes_on(saved: Path, damage: Callable[[Path], None]) -> None:
    damage(saved / STATE / "adam_hopper.safetensors")
    with pytest.raises(CheckpointError, match="damaged") as refused:
        checkpoint.load(saved, for_training=True)
    assert str(saved / STATE) in str(refused.value)


def facts_without(key: str) -> Callable[[dict[str, Any]], Any]:
    return lambda facts: {name: value for name, value in facts.items() if name != key}


@pytest.mark.parametrize(
    "spoil",
    [
        facts_without("version"),
        facts_without("people"),
        lambda facts: {**facts, "init_dim": 16},
        lambda facts: {**facts, "code_dim": "wide"},
        lambda facts: {**facts, "position": {"epoch": 1, "page": 2}},
        lambda facts: {**facts, "people": {**facts["people"], "stranger": {"samples": 1, "loss": 0.1}}},
        lambda facts: {**facts, "people": list(facts["people"])},
        lambda _: [],
        lambda _: None,
        lambda facts: {**facts, "init_dim": 10**400},
        lambda facts: {**facts, "code_dim": 10**9},
        lambda facts: {**facts, "steps": float("nan")},
        lambda facts: {**facts, "steps": -1},
        lambda facts: {**facts, "position": {"epoch": 10**30}},
        lambda facts: {**facts, "position": {"epoch": "first"}},
        lambda facts: {**facts, "people": {"../elsewhere": {"samples": 1, "loss": 0.1}}},
        lambda facts: {**facts, "people": {"hopper": {"samples": 1, "loss": float("inf")}}},
        lambda facts: {**facts, "more": "x" * (checkpoint.MAX_MODEL_JSON_BYTES + 1)},
        lambda facts: {**facts, "held_out": {"held": {"clip/1": "9-5"}}},
        lambda facts: {**facts, "held_out": {"held": {"clip/1": "1-x"}}},
        lambda facts: {**facts, "held_out": {"held": {"clip/1": [1, 5]}}},
        lambda facts: {**facts, "held_out": {"others": {}}},
        lambda facts: {**facts, "held_out": ["clip"]},
    ],
    ids=[
        *["version", "people", "init_dim", "code_dim", "position", "stranger", "people as list", "list", "null"],
        *["endless init_dim", "large code_dim", "no number", "negative", "far epoch", "epoch in words", "a path"],
        *["infinite loss", "too long", "ranges backwards", "ranges in words", "ranges as list", "other ranges"],
        "held out as list",
    ],
)
def test_facts_that_do_not_fit_are_damage(saved: Path, spoil: Callable[[dict[str, Any]], Any]) -> None:
    path = saved / STATE / "model.json"
    replace(path, json.dumps(spoil(json.loads(path.read_text(encoding="utf-8")))).encode())
    with pytest.raises(CheckpointError, match="damaged") as refused:
        checkpoint.load(saved)
    assert str(saved / STATE) in str(refused.value)


def test_a_state_of_a_newer_version_is_refused(saved: Path) -> None:
    path = saved / STATE / "model.json"
    facts = {**json.loads(path.read_text(encoding="utf-8")), "version": checkpoint.VERSION + 1}
    replace(path, json.dumps(facts).encode())
    with pytest.raises(CheckpointError, match="update Recast") as refused:
        checkpoint.load(saved)
    assert str(saved / STATE) in str(refused.value)


# The reference tool's files.

CAGE, TRUMP = "decoder_cage.pth", "decodertrump.pth"


class RunsCode:
    """Pickled, it makes a folder when it is loaded."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.folder),)


@pytest.fixture(scope="module")
def reference_once(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reference")
    hopper, zoe = model.decoders.values()
    for name, network, epoch in (("encoder.pth", model.encoder, 7), (CAGE, hopper, 6), (TRUMP, zoe, 7)):
        torch.save({"state_dict": network.state_dict(), "epoch": epoch}, folder / name)
    return folder


@pytest.fixture
def reference(reference_once: Path, tmp_path: Path) -> Path:
    """The reference tool's files, the test's own."""
    return link(reference_once, tmp_path / "reference")


def rewrite(path: Path, content: object) -> None:
    path.unlink()
    torch.save(content, path)


def test_the_reference_tools_model_is_taken_over(reference: Path, model: Model) -> None:
    loaded = load_reference(reference)
    assert loaded.sizes == (8, 64)
    assert loaded.position == Position(epoch=7)
    assert_equal_networks(loaded.encoder, model.encoder)
    assert loaded.decoders.keys() == {"cage", "trump"}
    hopper, zoe = model.decoders.values()
    assert_equal_networks(loaded.decoders["cage"], hopper)
    assert_equal_networks(loaded.decoders["trump"], zoe)
    assert all(training.samples > 0 for training in loaded.trained.values()), "not to be taken for untrained"


def test_files_without_an_epoch_are_taken_over(reference: Path, model: Model) -> None:
    rewrite(reference / "encoder.pth", {"state_dict": model.encoder.state_dict()})
    (reference / CAGE).unlink()
    loaded = load_reference(reference)
    assert loaded.position == Position()
    assert loaded.decoders.keys() == {"trump"}


@pytest.mark.parametrize("missing", [["encoder.pth"], [CAGE, TRUMP]])
def test_missing_files_are_asked_for(reference: Path, missing: list[str]) -> None:
    for name in missing:
        (reference / name).unlink()
    with pytest.raises(CheckpointError, match=r"encoder\.pth") as refused:
        load_reference(reference)
    assert str(reference) in str(refused.value)


@pytest.mark.parametrize("name", ["encoder.pth", TRUMP])
def test_code_in_a_file_is_refused_and_does_not_run(reference: Path, tmp_path: Path, name: str) -> None:
    made = tmp_path / "made by the code"
    rewrite(reference / name, {"state_dict": {"conv.bias": torch.zeros(3)}, "epoch": RunsCode(made)})
    with pytest.raises(CheckpointError, match="nothing was imported") as refused:
        load_reference(reference)
    assert str(reference / name) in str(refused.value)
    assert not made.exists()
    torch.load(reference / name, weights_only=False)
    assert made.is_dir(), "the code would have run, had it been let"


@pytest.mark.parametrize("name", ["encoder.pth", CAGE])
@pytest.mark.parametrize("damage", DAMAGES[:3], ids=lambda damage: damage.__name__)
def test_a_damaged_file_is_named(reference: Path, name: str, damage: Callable[[Path], None]) -> None:
    damage(reference / name)
    with pytest.raises(CheckpointError, match="cannot read") as refused:
        load_reference(reference)
    assert str(reference / name) in str(refused.value)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda tensors: {"state_dict": {**tensors, min(tensors): torch.zeros(4)}},
        lambda tensors: {"state_dict": {**tensors, "extra.bias": torch.zeros(4)}},
        lambda tensors: {"state_dict": {min(tensors): tensors[min(tensors)]}},
        lambda _: {"state_dict": {}},
        lambda _: {"model": {}},
        lambda _: torch.zeros(3),
    ],
    ids=["wrong shape", "one too many", "too few", "none", "another key", "a tensor"],
)
@pytest.mark.parametrize("name", ["encoder.pth", TRUMP])
def test_tensors_that_do_not_fit_are_refused(
    reference: Path, model: Model, name: str, spoil: Callable[[dict[str, torch.Tensor]], object]
) -> None:
    network = model.encoder if name == "encoder.pth" else model.decoders["hopper"]
    rewrite(reference / name, spoil(network.state_dict()))
    with pytest.raises(CheckpointError) as refused:
        load_reference(reference)
    assert str(reference) in str(refused.value)


@pytest.mark.parametrize("value", [torch.tensor(3.0), 3], ids=["a number as tensor", "a number"])
def test_an_encoder_whose_weights_are_no_arrays_is_refused(reference: Path, value: object) -> None:
    rewrite(reference / "encoder.pth", {"state_dict": {"conv1.0.weight": value, "linear1.weight": value}})
    with pytest.raises(CheckpointError):
        load_reference(reference)


def test_a_decoder_without_a_persons_name_is_refused(reference: Path) -> None:
    (reference / CAGE).rename(reference / "decoder.pth")
    with pytest.raises(CheckpointError, match="decoder<person>"):
        load_reference(reference)


def test_a_state_of_version_1_is_read(tmp_path: Path) -> None:
    """As the first release wrote it: to be read by all later ones."""
    state = tmp_path / "model" / "state-000000007"
    state.mkdir(parents=True)
    (state / "model.json").write_text(
        """{"version": 1, "init_dim": 8, "code_dim": 16, "steps": 7,
        "position": {"epoch": 1, "visit": 0, "inner": 2, "batch": 3},
        "people": {"ann": {"samples": 56, "loss": 0.125}, "bob": {"samples": 0, "loss": null}}}""",
        encoding="utf-8",
    )
    encoder, decoder = Encoder(8, 16), Decoder()
    save_file(encoder.state_dict(), state / "encoder.safetensors")
    for person in ("ann", "bob"):
        save_file(decoder.state_dict(), state / f"decoder_{person}.safetensors")
    save_file({"encoder.conv1.0.bias.step": torch.tensor(7.0)}, state / "adam_ann.safetensors")
    model = checkpoint.load(tmp_path / "model", for_training=True)
    assert (model.steps, model.position.inner) == (7, 2)
    assert model.held_out is None, "which faces it was trained on was not written down"
    assert {person: (one.samples, one.loss) for person, one in model.trained.items()} == {
        "ann": (56, 0.125),
        "bob": (0, None),
    }
    assert torch.equal(model.encoder.get_parameter("linear1.weight"), encoder.linear1.weight)
    assert float(model.moments["ann"]["encoder.conv1.0.bias.step"]) == 7


HD_STATE = "state-000000009"


@pytest.fixture(scope="module")
def hd_model() -> Model:
    """An hd model, not to be changed."""
    torch.manual_seed(8)
    model = Model.new("hd128")
    model.steps, model.position = 9, Position(epoch=2)
    model.add_person("hopper")
    model.trained["hopper"] = Training(samples=36, loss=0.25)
    model.moments["hopper"] = {
        "encoder.linear1.bias.step": torch.tensor(9.0),
        "encoder.linear1.bias.exp_avg": torch.randn(512) * 1e-9,
    }
    return model


@pytest.fixture(scope="module")
def hd_saved_once(hd_model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hd") / "model"
    assert checkpoint.save(folder, hd_model) == folder / HD_STATE
    return folder


def test_an_hd_model_comes_back_bit_for_bit(hd_model: Model, hd_saved_once: Path) -> None:
    loaded = checkpoint.load(hd_saved_once, for_training=True)
    assert (loaded.network, loaded.picture_px, loaded.sizes) == ("hd128", 128, None)
    assert_equal_networks(loaded.encoder, hd_model.encoder)
    assert_equal_networks(loaded.decoders["hopper"], hd_model.decoders["hopper"])
    assert_equal_tensors(loaded.moments["hopper"], hd_model.moments["hopper"])
    assert (loaded.steps, loaded.position, loaded.trained) == (9, Position(epoch=2), hd_model.trained)


def test_an_hd_model_has_a_version_that_earlier_releases_refuse(hd_saved_once: Path, saved: Path) -> None:
    facts = json.loads((hd_saved_once / HD_STATE / "model.json").read_text(encoding="utf-8"))
    assert (facts["version"], facts["network"]) == (2, "hd128")
    assert not {"init_dim", "code_dim"} & facts.keys()
    facts = json.loads((saved / STATE / "model.json").read_text(encoding="utf-8"))
    assert facts["version"] == 1, "which they can read"
    assert "network" not in facts


@pytest.mark.parametrize("network", ["hd64", "", None, 3, ["hd128"]])
def test_an_unknown_network_is_refused_as_damaged(hd_saved_once: Path, tmp_path: Path, network: object) -> None:
    copy = link(hd_saved_once, tmp_path / "model")
    path = copy / HD_STATE / "model.json"
    replace(path, json.dumps({**json.loads(path.read_text(encoding="utf-8")), "network": network}).encode())
    with pytest.raises(CheckpointError, match=r"is damaged .*a network named") as refused:
        checkpoint.load(copy)
    assert str(copy / HD_STATE) in str(refused.value)


def test_weights_of_another_network_are_refused_as_damaged(hd_saved_once: Path, tmp_path: Path) -> None:
    copy = link(hd_saved_once, tmp_path / "model")
    path = copy / HD_STATE / "model.json"
    replace(path, json.dumps({**json.loads(path.read_text(encoding="utf-8")), "network": "hd256"}).encode())
    with pytest.raises(CheckpointError, match="is damaged"):
        checkpoint.load(copy)


def test_an_hd_model_in_half_precision_and_as_onnx_draws_the_same(hd_model: Model, tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "slim", hd_model, dtype=torch.float16)
    slim = checkpoint.load(tmp_path / "slim")
    pictures = torch.rand(3, 3, 128, 128, generator=torch.Generator().manual_seed(4))
    with torch.inference_mode():
        drawn = hd_model.decoders["hopper"](hd_model.encoder(pictures))
        drawn_slim = slim.decoders["hopper"](slim.encoder(pictures))
    assert drawn.shape == (3, 4, 128, 128)
    assert float((drawn_slim - drawn).abs().max()) < 2 / 255
    assert write_onnx(tmp_path, hd_model, load_segmenter()) < 1e-4
    found = pictures.numpy()
    for name in ("encoder", "decoder_hopper"):
        session = onnxruntime.InferenceSession(str(tmp_path / f"{name}.onnx"), providers=["CPUExecutionProvider"])
        (found,) = session.run(None, {"input": found})
    np.testing.assert_allclose(found, drawn.numpy(), atol=1e-4)


def test_a_renamed_state_that_does_not_read_back_is_refused(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one before stays: with the decoder of the old name."""
    real = checkpoint.flush

    def lose_the_end(path: Path) -> None:
        if path.name == "decoder_new.safetensors":
            os.truncate(path, path.stat().st_size - 1)
        real(path)

    monkeypatch.setattr(checkpoint, "flush", lose_the_end)
    person = checkpoint.people_of(saved)[0]
    with pytest.raises(CheckpointError, match="cannot rename"):
        checkpoint.rename_person(saved, person, "new")
    assert names(saved) == [STATE]
    assert person in checkpoint.load(saved).decoders
