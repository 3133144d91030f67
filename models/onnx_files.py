"""A model as ONNX files, for other programs: ``encoder.onnx`` and a ``decoder_<person>.onnx`` each.

Pictures are (N, 3, 64, 64) float32 BGR in [0, 1], as everywhere; N is free.
"""

import contextlib
import io
import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import nn

from models import PICTURE_PX
from models.checkpoint import Model
from pipeline.errors import WorkspaceError

TOLERANCE = 1e-4  # by which what onnxruntime makes may differ from what torch makes
TRIED = 3  # pictures; another number than the two that the export sees
MOST_PICTURES = 2**20  # at once; torch 2.6 exports no free number without an upper bound


def write_onnx(folder: Path, model: Model) -> float:
    """Write a model's networks, and run them to see that they do the same.

    Args:
        folder: to write into; there already.
        model: what to write.

    Returns:
        The largest difference between what torch and onnxruntime make of some pictures.

    Raises:
        WorkspaceError: the difference is too large.
    """
    pictures = torch.rand((TRIED, 3, PICTURE_PX, PICTURE_PX), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        encoded = model.encoder(pictures)
    largest = _write(folder / "encoder.onnx", model.encoder, pictures)
    for person, decoder in model.decoders.items():
        largest = max(largest, _write(folder / f"decoder_{person}.onnx", decoder, encoded))
    if not largest <= TOLERANCE:
        raise WorkspaceError(f"the ONNX files in {folder} differ from the model by {largest:.1g}: use the model itself")
    return largest


def _write(path: Path, network: nn.Module, inputs: torch.Tensor) -> float:
    """Write one network; return by how much it differs on some inputs, at most."""
    network.eval()
    inputs = inputs.clone()  # one that is no inference tensor
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (inputs[:2],),
            str(path),
            input_names=["input"],
            output_names=["output"],
            dynamic_shapes=({0: torch.export.Dim("count", max=MOST_PICTURES)},),
            external_data=False,
            dynamo=True,
        )
    with torch.no_grad():
        expected = network(inputs).numpy()
    (made,) = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(
        None, {"input": inputs.numpy()}
    )
    return float(np.abs(made - expected).max())
