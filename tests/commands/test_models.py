"""The models of a workspace: listed, and exported so that they still draw the same."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from cli import main
from models import checkpoint
from models.segmenter import WEIGHTS, load_segmenter, save_segmenter
from pipeline.media.pictures import write_picture
from pipeline.media.reader import VideoReader
from tests.clips import scene


def models(workspace: Path, *arguments: str) -> int:
    return main(["models", *arguments, "--workspace", str(workspace)])


def test_models_are_listed(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_picture(trained / "output" / "model" / "swap.png", scene(1))
    assert models(trained) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("model: 3 steps, --network reference --init-dim 8 --code-dim 64, ")
    assert float(lines[0].split(", ")[-1].removesuffix(" MB")) > 10
    assert "  collins: 8 samples, L1 0." in lines[1] or "  collins: 12 samples, L1 0." in lines[1]
    assert lines[-1] == f"  look at {trained / 'output' / 'model' / 'swap.png'}"


def test_a_damaged_model_hides_no_other(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = trained / "output" / "broken" / "state-000000001"
    state.mkdir(parents=True)
    (state / "model.json").write_text("{")
    assert models(trained) == 1
    words = capsys.readouterr()
    assert words.out.startswith("model: 3 steps")
    assert f"{state} is damaged" in words.err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ((), 1, "no model in"),
        (("export", "nobody"), 1, "no model in"),
        (("export",), 2, "type: python cli.py models export NAME"),
        (("list", "model"), 2, "type: python cli.py models list"),
        (("export", "../model"), 2, "model"),
    ],
)
def test_what_cannot_be_done_is_said(
    arguments: tuple[str, ...], code: int, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert models(tmp_path, *arguments) == code
    assert words in capsys.readouterr().err


def test_a_slim_copy_draws_the_same(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert models(trained, "export", "model") == 0
    slim = trained / "output" / "model-slim"
    sizes = [
        sum(path.stat().st_size for path in (trained / "output" / name).glob("state-*/*"))
        for name in ("model", "model-slim")
    ]
    assert sizes[1] < 0.2 * sizes[0]
    assert not list(slim.parent.glob(".*part"))
    assert not (slim / WEIGHTS).exists(), "the model has none of its own"
    drawn = []
    for name in ("model", "model-slim"):
        out = trained / f"{name}.mkv"
        swap = ["--from", "hopper", "--to", "collins", "--end", "2f", "--codec", "ffv1"]
        assert main(["convert", *swap, "-n", name, "-o", str(out), "--workspace", str(trained)]) == 0
        with VideoReader(out) as reader:
            drawn.append(next(iter(reader)).image.astype(int))
    assert np.abs(drawn[0] - drawn[1]).max() <= 6
    assert np.abs(drawn[0] - drawn[1]).mean() < 0.1
    assert models(trained, "export", "model") == 1
    assert "exists already" in capsys.readouterr().err


def test_other_programs_draw_the_same(trained: Path) -> None:
    """Five pictures, of which the files were not made."""
    save_segmenter(trained / "output" / "model", load_segmenter())
    assert models(trained, "export", "model") == 0
    assert (trained / "output" / "model-slim" / WEIGHTS).is_file()
    folder = trained / "output" / "model-slim" / "onnx"
    assert sorted(path.name for path in folder.iterdir()) == [
        "decoder_collins.onnx",
        "decoder_hopper.onnx",
        "encoder.onnx",
        "occlusion.onnx",
    ]
    pictures = np.random.default_rng(7).random((5, 3, 64, 64), np.float32)
    drawn = pictures
    for name in ("encoder", "decoder_collins"):
        session = onnxruntime.InferenceSession(str(folder / f"{name}.onnx"), providers=["CPUExecutionProvider"])
        (drawn,) = session.run(None, {"input": drawn})
    model = checkpoint.load(trained / "output" / "model")
    with torch.no_grad():
        expected = model.decoders["collins"](model.encoder(torch.from_numpy(pictures))).numpy()
    np.testing.assert_allclose(drawn, expected, atol=1e-4)
