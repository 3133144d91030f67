"""Weights that new hd models start from: learned on many people before, so that only what is special is left to learn.

``base/hd128.safetensors`` comes with Recast; larger networks take from it what they have in common. To be small, its
convolutions are stored in half precision, and the two dense layers, between which there is no nonlinearity, by the
directions of the code in which faces differ most, as 8-bit numbers. ``base/README.md`` says how it was made.
"""

import hashlib
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load, save_file

from models import CheckpointError
from models.checkpoint import Model, Tensors
from models.hd import LAYOUTS, HdEncoder
from models.networks import make_decoder, make_encoder

FOLDER = Path(__file__).parent / "base"
CHECKSUMS = "SHA256SUMS"  # of the files in the folder, as sha256sum writes them
STORED = "hd128"  # the network of the weights that come with Recast
LAYERS_PER_SIZE = 3  # of a decoder: a residual block, a convolution, and a shuffle to twice the size
CODE_DIMS = 128  # of the 512 between the dense layers that are stored
LINEAR1, LINEAR2 = "linear1.weight", "linear2.weight"


class Base(NamedTuple):
    """What a new model starts from: weights of its encoder, and of each person's decoder."""

    encoder: Tensors
    decoder: Tensors


def base_of(model: Model) -> Base:
    """Take the encoder of a model, and the decoder that was trained most."""
    person = max(model.trained, key=lambda name: model.trained[name].samples)
    return Base(model.encoder.state_dict(), model.decoders[person].state_dict())


def has_builtin(network: str) -> bool:
    """Whether a network can start from weights that come with Recast."""
    return network in LAYOUTS


def load_builtin(network: str) -> Base:
    """Load the weights that come with Recast.

    Raises:
        CheckpointError: the file is missing or is not the one that belongs to this version.
    """
    if network != STORED:
        return _enlarged(load_builtin(STORED), network)
    tensors = load(read_stored(f"{network}.safetensors", "add --base none"))
    encoder = {name.removeprefix("encoder."): tensor.float() for name, tensor in tensors.items() if "encoder." in name}
    decoder = {name.removeprefix("decoder."): tensor.float() for name, tensor in tensors.items() if "decoder." in name}
    fresh = make_encoder(network, 0, 0).state_dict()
    fresh[LINEAR1][:CODE_DIMS] = _unpack(encoder, LINEAR1)
    fresh[LINEAR2][:, CODE_DIMS:] = 0  # so that the new dimensions change nothing until they are trained
    fresh[LINEAR2][:, :CODE_DIMS] = _unpack(encoder, LINEAR2)
    fresh["linear1.bias"].zero_()
    return Base({**fresh, **encoder}, decoder)


def _enlarged(base: Base, network: str) -> Base:
    """Make weights of a larger network: of a smaller one where both do the same at the same size, else random ones.

    Encoders are alike from the finest size down, decoders up to it; what lies at the smallest size stays random.
    """
    encoder, decoder = make_encoder(network, 0, 0).state_dict(), make_decoder(network).state_dict()
    for name, weights in base.encoder.items():
        if name.startswith("convolutions") and name in encoder and encoder[name].shape == weights.shape:
            encoder[name] = weights
    added = len(LAYOUTS[network].decoder) - len(LAYOUTS[STORED].decoder)
    for name, weights in base.decoder.items():
        _, number, rest = name.split(".", 2)  # layers.3.conv1.weight
        finer = f"layers.{int(number) + LAYERS_PER_SIZE * added}.{rest}"
        if int(number) > 0 and finer in decoder and decoder[finer].shape == weights.shape:
            decoder[finer] = weights
    return Base(encoder, decoder)


def read_stored(name: str, remedy: str) -> bytes:
    """Read a file of weights that comes with Recast, and check it.

    Args:
        name: of the file.
        remedy: what a user can do without it.

    Raises:
        CheckpointError: the file is missing or is not the one that belongs to this version.
    """
    path = FOLDER / name
    try:
        content, checksum = path.read_bytes(), stored_checksum(name)
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}; {remedy}, or install anew") from error
    if hashlib.sha256(content).hexdigest() != checksum:
        raise CheckpointError(f"{path} is damaged: {remedy}, or install anew")
    return content


def stored_checksum(name: str) -> str:
    """SHA-256 that a file of weights must have; empty if it is not listed."""
    lines = (FOLDER / CHECKSUMS).read_text("utf-8").splitlines()
    return next((line.split()[0] for line in lines if line.endswith(f"  {name}")), "")


def write_base(folder: Path, model: Model, pictures: torch.Tensor) -> Path:
    """Store an hd model to start others from, with its checksum; return the path of the file.

    Args:
        folder: to write into; it may have files of other networks.
        model: its best trained person's decoder is stored.
        pictures: (N, 3, S, S), faces; the code's directions are those in which they differ.
    """
    base = base_of(model)
    tensors = {f"encoder.{name}": tensor for name, tensor in base.encoder.items() if not name.startswith("linear1")}
    tensors |= {f"decoder.{name}": tensor for name, tensor in base.decoder.items()}
    stored = {name: tensor.half().contiguous() for name, tensor in tensors.items() if LINEAR2 not in name}
    first, second = base.encoder[LINEAR1].double(), base.encoder[LINEAR2].double()
    assert isinstance(model.encoder, HdEncoder)
    with torch.inference_mode():
        parts = [model.encoder.convolutions(part).flatten(1) for part in torch.split(pictures, 32)]
    features = torch.cat(parts).double()
    codes = features @ first.T
    variances, axes = torch.linalg.eigh(torch.cov(codes.T))
    deviations = variances.clamp(min=1e-6 * float(variances.max())).sqrt()
    root, inverse_root = (axes * deviations) @ axes.T, (axes / deviations) @ axes.T
    output = second @ root  # of a code whose directions vary alike
    _, directions = torch.linalg.eigh(output.T @ output)  # the last change the output most
    main = directions[:, -CODE_DIMS:]
    project, restore = main.T @ inverse_root, root @ main
    stored |= _pack("encoder." + LINEAR1, project @ first) | _pack("encoder." + LINEAR2, second @ restore)
    mean = codes.mean(dim=0)
    left_out = second @ (mean + base.encoder["linear1.bias"] - restore @ (project @ mean))
    stored["encoder.linear2.bias"] = (base.encoder["linear2.bias"] + left_out).half()
    path = folder / f"{model.network}.safetensors"
    write_stored(path, stored)
    return path


def write_stored(path: Path, tensors: Tensors) -> None:
    """Write a file of weights, and its checksum beside it; those of other files stay."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path)
    checksums = path.with_name(CHECKSUMS)
    lines = checksums.read_text("utf-8").splitlines() if checksums.is_file() else []
    lines = [line for line in lines if not line.endswith(f" {path.name}")]
    lines.append(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}")
    checksums.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _pack(name: str, weight: torch.Tensor) -> Tensors:
    """Store a matrix as 8-bit numbers, with a scale for each dimension of the code."""
    along = 1 if LINEAR1 in name else 0
    scale = weight.abs().amax(dim=along, keepdim=True).clamp(min=1e-12) / 127
    return {f"{name}.int8": (weight / scale).round().to(torch.int8).contiguous(), f"{name}.scale": scale.float()}


def _unpack(encoder: Tensors, name: str) -> torch.Tensor:
    return encoder.pop(f"{name}.int8") * encoder.pop(f"{name}.scale")
