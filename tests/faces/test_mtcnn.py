"""MTCNN's networks: ONNX Runtime computes what torch does, from weights that are read without it."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.ops import batched_nms

from pipeline.faces.detection import suppress_overlaps
from pipeline.faces.mtcnn import (
    O_NET,
    P_NET,
    R_NET,
    Architecture,
    load_with_onnx,
    load_with_torch,
    read_weights,
    weights_file,
)

NETWORKS = pytest.mark.parametrize(
    ("architecture", "size_hw"), [(P_NET, (77, 93)), (R_NET, (24, 24)), (O_NET, (48, 48))], ids=str
)


@NETWORKS
def test_both_ways_of_computing_agree(architecture: Architecture, size_hw: tuple[int, int]) -> None:
    pictures = list(np.random.default_rng(1).integers(0, 256, (5, *size_hw, 3), dtype=np.uint8))
    ours = load_with_onnx(architecture, threads=1)(pictures)
    theirs = load_with_torch(architecture, "cpu")(pictures)
    assert [output.shape for output in ours] == [output.shape for output in theirs]
    for output, expected in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(output, expected, atol=1e-4)


@NETWORKS
def test_weights_are_those_that_torch_reads(architecture: Architecture, size_hw: tuple[int, int]) -> None:
    path = weights_file(architecture)
    expected, weights = torch.load(path, weights_only=True), read_weights(path)
    assert weights.keys() == expected.keys()
    for name, tensor in expected.items():
        np.testing.assert_array_equal(weights[name], tensor.numpy())


def test_a_file_that_would_run_something_is_refused(tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "touched",))  # type: ignore[return-value]

    path = tmp_path / "weights.pt"
    parts: tuple[object, ...] = (1, 1001, {}, Hostile())
    path.write_bytes(b"".join(pickle.dumps(part, protocol=2) for part in parts))
    with pytest.raises(pickle.UnpicklingError, match="is not allowed in a file of weights"):
        read_weights(path)
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize("count", [0, 1, 5, 300])
def test_overlapping_boxes_are_dropped_as_torchvision_does(count: int) -> None:
    rng = np.random.default_rng(count)
    corner = rng.uniform(0, 200, (count, 2)).astype(np.float32)
    boxes = np.hstack([corner, corner + rng.uniform(5, 80, (count, 2)).astype(np.float32)])
    scores, owners = rng.uniform(0.6, 1, count).astype(np.float32), rng.integers(0, 3, count)
    expected = batched_nms(torch.from_numpy(boxes), torch.from_numpy(scores), torch.from_numpy(owners), 0.5)
    assert suppress_overlaps(boxes.astype(np.float64), scores.astype(np.float64), owners, 0.5) == expected.tolist()
