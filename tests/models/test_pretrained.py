"""Weights that new hd models start from."""

import shutil
from pathlib import Path

import pytest
import torch

from models import CheckpointError, pretrained
from models.checkpoint import Model
from models.pretrained import base_of, has_builtin, load_builtin, write_base


@pytest.fixture(scope="module")
def model() -> Model:
    with torch.random.fork_rng():
        torch.manual_seed(4)
        model = Model.new("hd128")
        for person, samples in (("ann", 5), ("bob", 70), ("cat", 20)):
            model.add_person(person)
            model.trained[person].samples = samples
    return model


@pytest.fixture(scope="module")
def faces() -> torch.Tensor:
    coarse = torch.rand(40, 3, 6, 6, generator=torch.Generator().manual_seed(2))
    return torch.nn.functional.interpolate(coarse, (128, 128), mode="bicubic").clamp(0, 1)


@pytest.fixture(scope="module")
def stored_once(model: Model, faces: torch.Tensor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a base of the model is; not to be written to."""
    folder = tmp_path_factory.mktemp("base")
    assert write_base(folder, model, faces) == folder / "hd128.safetensors"
    return folder


@pytest.fixture
def folder(stored_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, of the test's own, in the place of what comes with Recast."""
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path / "base")
    return Path(shutil.copytree(stored_once, tmp_path / "base"))


@pytest.mark.usefixtures("folder")
def test_a_stored_base_draws_as_the_model_it_was_made_of(model: Model, faces: torch.Tensor) -> None:
    started, base = Model.new("hd128"), load_builtin("hd128")
    started.encoder.load_state_dict(base.encoder)
    started.decoder_start = base.decoder
    started.add_person("new")
    with torch.inference_mode():
        expected = model.decoders["bob"](model.encoder(faces[:6]))
        found = started.decoders["new"](started.encoder(faces[:6]))
        other = model.decoders["ann"](model.encoder(faces[:6]))
    assert (found - expected).abs().mean() < 0.01
    assert (other - expected).abs().mean() > 0.05


def test_it_is_small_and_can_still_learn_in_all_dimensions(folder: Path) -> None:
    assert (folder / "hd128.safetensors").stat().st_size < 16_000_000
    encoder = load_builtin("hd128").encoder
    assert encoder["linear1.weight"].shape == (512, 16_384)
    assert encoder["linear1.weight"].abs().sum(dim=1).min() > 0


def test_everyone_starts_from_the_person_trained_most(model: Model) -> None:
    base = base_of(model)
    expected = model.decoders["bob"].state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in base.decoder.items())


def test_a_damaged_or_missing_file_is_refused(folder: Path) -> None:
    path = folder / "hd128.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"is damaged: add --base none"):
        load_builtin("hd128")
    path.unlink()
    with pytest.raises(CheckpointError, match=r"cannot read .*hd128"):
        load_builtin("hd128")


def test_checksums_of_other_networks_stay(folder: Path, model: Model, faces: torch.Tensor) -> None:
    checksums = folder / "SHA256SUMS"
    other = f"{'0' * 64}  hd256.safetensors"
    checksums.write_text(f"{other}\n{checksums.read_text()}")
    write_base(folder, model, faces)
    lines = checksums.read_text().splitlines()
    assert lines[0] == other
    assert [line[66:] for line in lines] == ["hd256.safetensors", "hd128.safetensors"]
    load_builtin("hd128")


@pytest.mark.parametrize("network", ["hd192", "hd256"])
@pytest.mark.usefixtures("folder")
def test_larger_networks_start_from_what_they_have_in_common(network: str) -> None:
    small, base, model = load_builtin("hd128"), load_builtin(network), Model.new(network)
    model.encoder.load_state_dict(base.encoder)
    model.decoder_start = base.decoder
    model.add_person("new")
    assert torch.equal(base.encoder["convolutions.1.weight"], small.encoder["convolutions.1.weight"])
    assert torch.equal(base.decoder["layers.14.weight"], small.decoder["layers.11.weight"]), (
        "what draws colours and mask"
    )
    assert torch.equal(base.decoder["layers.10.conv1.weight"], small.decoder["layers.7.conv1.weight"])
    again = load_builtin(network)
    assert not torch.equal(base.decoder["layers.0.conv1.weight"], again.decoder["layers.0.conv1.weight"]), "random"
    with torch.inference_mode():
        drawn = model.decoders["new"](model.encoder(torch.rand(1, 3, model.picture_px, model.picture_px)))
    assert drawn.shape == (1, 4, model.picture_px, model.picture_px)


def test_the_reference_network_has_none() -> None:
    assert not has_builtin("reference")
