"""Training and converting with the hd networks, whole: a few steps on a few faces."""

from pathlib import Path

import numpy as np
import pytest
import torch

from cli import main, parse
from models import checkpoint
from models.checkpoint import Model
from pipeline.faces.store import FaceStore
from pipeline.media.reader import VideoReader
from pipeline.options import TrainOptions
from pipeline.training import dataset
from pipeline.training.augment import Augmentation, Draw, draw_transforms
from tests.conftest import copy_workspace
from tests.test_train import make_people
from tests.test_train_safety import equal


def run(workspace: Path, *arguments: str) -> int:
    return main(["train", *arguments, "--workspace", str(workspace)])


@pytest.fixture(scope="module")
def untrained_once(trained_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with both people extracted, and an untrained model of hd128; not to be written to."""
    workspace = copy_workspace(trained_once, tmp_path_factory.mktemp("hd") / "workspace")
    torch.manual_seed(3)
    model = Model.new("hd128")
    for person in ("hopper", "collins"):
        model.add_person(person)
    checkpoint.save(workspace / "output" / "sharp", model)
    return workspace


@pytest.fixture
def untrained(untrained_once: Path, tmp_path: Path) -> Path:
    """The same, of the test's own."""
    return copy_workspace(untrained_once, tmp_path / "workspace")


def error_of(capsys: pytest.CaptureFixture[str]) -> str:
    """The only line that a run said, an error."""
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    return line


def test_a_stopped_training_goes_on_bit_for_bit_without_naming_the_network(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_people(tmp_path / "data", "ann", "bob", count=2)
    options = ["-d", str(tmp_path / "data"), "-b", "2"]
    assert run(tmp_path, *options, "--network", "hd128", "--max-steps", "2") == 0
    small = (
        "4 of 4 faces have fewer than the 183 px that hd128 can draw; "
        "for larger ones run: python cli.py extract VIDEO --again --size 256"
    )
    assert capsys.readouterr().err.count(small) == 1
    assert run(tmp_path, *options, "--max-steps", "1") == 0
    assert "training 'model' from step 2 on" in capsys.readouterr().err
    assert run(tmp_path, *options, "--network", "hd128", "--max-steps", "3", "-n", "whole") == 0
    stopped, whole = (checkpoint.load(tmp_path / "output" / name, for_training=True) for name in ("model", "whole"))
    assert (stopped.network, whole.network) == ("hd128", "hd128")
    assert (stopped.position, stopped.steps, stopped.trained) == (whole.position, 3, whole.trained)
    assert equal(stopped, whole)
    for person, moments in whole.moments.items():
        assert moments
        assert all(torch.equal(value, stopped.moments[person][name]) for name, value in moments.items())
    assert [training.samples for training in whole.trained.values()] == [3, 3], "faces of both in each batch"


def test_another_network_than_the_model_has_is_refused(untrained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(untrained, "-n", "sharp", "--network", "hd192", "--max-steps", "1") == 2
    assert "the model 'sharp' has --network hd128" in (line := error_of(capsys))
    assert line.endswith("continue with it, or choose another name with -n")
    assert run(untrained, "--network", "hd128", "--max-steps", "1") == 2
    assert "the model 'model' has --network reference" in (line := error_of(capsys))
    assert line.endswith("continue with it, or choose another name with -n")


@pytest.mark.parametrize("network", [["--network", "hd128"], []], ids=["named", "not named"])
def test_sizes_of_the_reference_network_are_refused(
    network: list[str], untrained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for sizes in (["--init-dim", "8"], ["--code-dim", "64"]):
        assert run(untrained, "-n", "sharp", *network, *sizes, "--max-steps", "1") == 2
        assert "--init-dim and --code-dim are not for --network hd128" in error_of(capsys)


def test_finish_needs_an_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "--finish", "0.25", "--epochs", "1") == 2
    assert "--finish needs --max-minutes or --max-steps" in error_of(capsys)
    assert run(tmp_path, "--finish", "1.5", "--max-steps", "9") == 2
    assert "--finish 1.5: must be" in error_of(capsys)


def test_finish_fades_the_distortion_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    strengths = list[float]()

    def note(count: int, augmentation: Augmentation, rng: torch.Generator) -> Draw:
        strengths.append(augmentation.warp_px / Augmentation().warp_px)
        return draw_transforms(count, augmentation, rng)

    monkeypatch.setattr(dataset, "draw_transforms", note)
    make_people(tmp_path / "data", "ann", "bob", count=1)
    options = ["-d", str(tmp_path / "data"), "--init-dim", "8", "--code-dim", "64", "-b", "1", "--max-steps", "5"]
    assert run(tmp_path, *options, "--finish", "0.8") == 0
    assert strengths[:2] == [1, 1]
    assert strengths == sorted(strengths, reverse=True)
    assert strengths[-1] < 0.6
    strengths.clear()
    assert run(tmp_path, *options) == 0
    assert set(strengths) == {1}


def test_a_new_person_is_trained_alone_on_an_encoder_that_stays(untrained: Path) -> None:
    before = checkpoint.load(untrained / "output" / "sharp")
    make_people(untrained / "data", "eve", count=2)
    options = ["-n", "sharp", "--people", "eve", "--fix-enc", "-b", "2", "--max-steps", "1"]
    assert run(untrained, *options) == 0
    after = checkpoint.load(untrained / "output" / "sharp")
    assert sorted(after.decoders) == ["collins", "eve", "hopper"]
    assert [after.trained[person].samples for person in ("collins", "eve", "hopper")] == [0, 2, 0]
    assert equal(before, after), "the encoder and the decoders of the others"


def test_models_are_listed_with_their_network(untrained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--workspace", str(untrained)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("sharp: 0 steps, --network hd128, ") for line in lines)


@pytest.mark.parametrize("mask", ["outline", "learned"])
def test_convert_draws_faces_and_leaves_all_else(untrained: Path, clips: dict[str, Path], mask: str) -> None:
    result = untrained / "result.mkv"
    swap = ["--from", "hopper", "--to", "collins", "-n", "sharp", "--mask", mask, "--end", "4f", "--color", "none"]
    make_masks_full(untrained / "output" / "sharp")
    assert main(["convert", *swap, "--codec", "ffv1", "-o", str(result), "--workspace", str(untrained)]) == 0
    with VideoReader(clips["hopper"]) as original, VideoReader(result) as changed:
        frames = [(new.image.astype(int), old.image) for new, old in zip(changed, original, strict=False)]
    assert len(frames) == 4
    with FaceStore(untrained / "videos" / "hopper" / "faces.sqlite") as store:
        boxes = {stored.frame: stored.face.box.astype(int) for stored in store.faces()}
    for number, (new, old) in enumerate(frames):
        change = np.abs(new - old).mean(axis=2)
        left, top, right, bottom = boxes[number]
        middle_x, middle_y = (left + right) // 2, (top + bottom) // 2
        assert change[middle_y - 20 : middle_y + 20, middle_x - 20 : middle_x + 20].mean() > 5
        outside = np.ones(change.shape, bool)
        outside[max(0, top - 60) : bottom + 60, max(0, left - 60) : right + 60] = False
        assert change[outside].mean() < 1.5


def make_masks_full(folder: Path) -> None:
    """Let the decoders of a saved model draw white masks."""
    model = checkpoint.load(folder)
    with torch.no_grad():
        for decoder in model.decoders.values():
            decoder.get_parameter("layers.11.weight")[12:].zero_()
            decoder.get_parameter("layers.11.bias")[12:] = 9
    checkpoint.save(folder, model)


def test_a_recipe_gives_values_to_the_options_that_are_not_typed(capsys: pytest.CaptureFixture[str]) -> None:
    typed = parse(["train", "--recipe", "quick", "-b", "4", "--base=none"])
    assert isinstance(typed, TrainOptions)
    assert (typed.network, typed.batch_size, typed.base, typed.max_minutes) == ("hd128", 4, "none", 30)
    plain = parse(["train"])
    assert plain == TrainOptions(), "train by itself stays the reference tool's"
    assert parse(["train", "--recipe", "reference"]) == plain
    assert main(["train", "--recipe", "quik"]) == 2
    assert "choose reference, quick or best" in error_of(capsys)


def test_a_new_model_and_new_people_start_from_another_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_people(tmp_path / "data", "ann", "bob", count=2)
    options = ["-d", str(tmp_path / "data"), "-b", "2", "--max-steps", "1", "--lr", "1e-9"]
    torch.manual_seed(8)
    base = Model.new("hd128")
    for person, samples in (("cat", 9), ("dan", 5)):
        base.add_person(person)
        base.trained[person].samples = samples
    checkpoint.save(tmp_path / "output" / "base", base)
    assert run(tmp_path, *options, "--network", "hd128", "--base", "base", "--people", "ann") == 0
    assert run(tmp_path, *options, "--base", "base") == 0
    started = checkpoint.load(tmp_path / "output" / "model")
    pairs = [
        (started.encoder, base.encoder),
        *((started.decoders[name], base.decoders["cat"]) for name in ("ann", "bob")),
    ]
    for network, source in pairs:
        tensors = source.state_dict()
        assert all(torch.allclose(value, tensors[name], atol=1e-7) for name, value in network.state_dict().items())
    capsys.readouterr()
    assert run(tmp_path, *options, "--network", "hd256", "--base", "base", "-n", "other") == 2
    assert "--base base: this model is of --network hd128, and not of hd256" in error_of(capsys)
    assert run(tmp_path, *options, "--network", "hd128", "--base", "nobody", "-n", "other") == 1
    assert "no model in" in error_of(capsys)


def test_colours_may_be_varied(tmp_path: Path) -> None:
    make_people(tmp_path / "data", "ann", "bob", count=2)
    options = ["-d", str(tmp_path / "data"), "-b", "2", "--network", "hd128", "--base", "none", "--max-steps", "2"]
    assert run(tmp_path, *options, "-n", "plain") == 0
    assert run(tmp_path, *options, "-n", "varied", "--augment-color") == 0
    plain, varied = (checkpoint.load(tmp_path / "output" / name) for name in ("plain", "varied"))
    assert not equal(plain, varied)
