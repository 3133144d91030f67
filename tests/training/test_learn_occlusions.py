"""train --only-mask: the network that finds what is in front of faces learns from the user's own."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from cli import main
from models import CheckpointError
from models.segmenter import WEIGHTS, OcclusionNet, load_segmenter, save_segmenter
from pipeline.faces.occlusions import OcclusionFinder
from tests.training.test_dataset import even, write

CPU = torch.device("cpu")


def learn(workspace: Path, *arguments: str) -> int:
    return main(["train", "--only-mask", "-n", "own", *arguments, "--workspace", str(workspace)])


def test_what_is_better_is_kept_and_used(
    extracted: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network that knows nothing gets better in a few steps."""
    for name, value in (("LEARNING_RATE", 4e-3), ("WARM_UP", 5), ("BATCH", 4)):
        monkeypatch.setattr(f"pipeline.training.segmenter.{name}", value)
    folder = extracted / "output" / "own"
    torch.manual_seed(5)
    untrained = OcclusionNet()
    save_segmenter(folder, untrained)
    before = OcclusionFinder(load_segmenter(folder), CPU).fingerprint
    assert learn(extracted, "--max-steps", "40") == 0
    out = capsys.readouterr().out
    assert "learned on 22 faces, 40 steps" in out
    assert f"saved in {folder / WEIGHTS}; convert and train use it" in out
    after = OcclusionFinder(load_segmenter(folder), CPU).fingerprint
    assert before != after != OcclusionFinder(load_segmenter(), CPU).fingerprint
    assert [path.name for path in folder.iterdir()] == [WEIGHTS], "nothing half-written"
    assert load_segmenter(folder).knows_people
    assert not load_segmenter().knows_people


def test_what_is_no_better_changes_nothing(
    extracted: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.training.segmenter.LEARNING_RATE", 30.0)  # spoils it
    assert learn(extracted, "--max-steps", "2") == 0
    assert "not better: the network of before stays" in capsys.readouterr().out
    assert not (extracted / "output" / "own" / WEIGHTS).exists()


def test_too_few_faces(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for person in ("ann", "bob"):
        write(tmp_path / "data" / person / "1.png", even(100))
    assert learn(tmp_path) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.endswith("with nothing in front, which are too few to learn from: 40 will do")


@pytest.mark.parametrize("damage", ["cut off", "other version", "other shapes"])
def test_damaged_weights_of_a_model_are_one_clear_line(damage: str, tmp_path: Path) -> None:
    path = save_segmenter(tmp_path, load_segmenter())
    if damage == "cut off":
        path.write_bytes(path.read_bytes()[:-9])
    elif damage == "other version":
        save_file(load_file(path), path, {"version": "99"})
    else:
        save_file({"start.0.weight": torch.zeros(3)}, path, {"version": "2"})
    with pytest.raises(CheckpointError, match="delete it, then the weights that come with Recast are used"):
        load_segmenter(tmp_path)


def test_half_precision_changes_next_to_nothing(tmp_path: Path) -> None:
    torch.manual_seed(5)
    network = OcclusionNet().eval()
    save_segmenter(tmp_path, network)
    pictures = torch.rand(2, 3, 128, 128)
    with torch.inference_mode():
        found, stored = network(pictures), load_segmenter(tmp_path).eval()(pictures)
    assert float((found - stored).abs().max()) < 0.02
