"""A model as ONNX files for other programs: ``encoder.onnx``, ``decoder_<person>.onnx`` and ``occlusion.onnx``.

Pictures are (N, 3, S, S) float32 BGR in [0, 1], as everywhere; N is free. Decoders of hd networks draw the mask as a
fourth channel. ``occlusion.onnx`` maps pictures of 128 px to probabilities, (N, 2, 128, 128): that something is in
front of the face, and that glasses are.
"""

import contextlib
import io
import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import nn

from models import CheckpointError
from models.checkpoint import Model
from models.segmenter import OCCLUSION_PX, OcclusionNet

TOLERANCE = 1e-4  # largest difference allowed between onnxruntime's output and torch's
TEST_PICTURES = 3  # another number than the two that the export sees
MAX_PICTURES = 2**20  # at once; torch 2.6 exports no free dimension without an upper bound


def write_onnx(folder: Path, model: Model, segmenter: OcclusionNet) -> float:
    """Write a model's networks into an existing folder, and run them to compare them with torch.

    Returns:
        The largest difference from torch's output.

    Raises:
        CheckpointError: the difference is too large.
    """
    shape = (TEST_PICTURES, 3, model.picture_px, model.picture_px)
    pictures = torch.rand(shape, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        encoded = model.encoder(pictures)
    difference = _write(folder / "encoder.onnx", model.encoder, pictures)
    for person, decoder in model.decoders.items():
        difference = max(difference, _write(folder / f"decoder_{person}.onnx", decoder, encoded))
    pictures = torch.rand(TEST_PICTURES, 3, OCCLUSION_PX, OCCLUSION_PX, generator=torch.Generator().manual_seed(1))
    difference = max(difference, _write(folder / "occlusion.onnx", nn.Sequential(segmenter, nn.Sigmoid()), pictures))
    if not difference <= TOLERANCE:  # so that NaN fails too
        raise CheckpointError(
            f"the ONNX files in {folder} differ from the model by {difference:.1g}: use the model itself"
        )
    return difference


def _write(path: Path, network: nn.Module, inputs: torch.Tensor) -> float:
    """Write one network; return its largest difference from torch's output."""
    network.eval()
    inputs = inputs.clone()  # the export refuses inference tensors
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (inputs[:2],),
            str(path),
            input_names=["input"],
            output_names=["output"],
            dynamic_shapes=({0: torch.export.Dim("count", max=MAX_PICTURES)},),
            external_data=False,
            dynamo=True,
        )
    with torch.no_grad():
        expected = network(inputs).numpy()
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {"input": inputs.numpy()})
    return float(np.abs(output - expected).max())
