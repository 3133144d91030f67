"""Models of the reference tool: ``encoder.pth`` and a ``decoder<person>.pth`` each."""

from pathlib import Path

import torch

from models.autoencoder import Encoder
from models.checkpoint import Model, Position, Tensors
from pipeline.errors import WorkspaceError


def load_reference(folder: Path) -> Model:
    """Read a model of the reference tool: ``encoder.pth`` and a ``decoder<person>.pth`` each.

    Every file holds ``{"state_dict": {name: tensor}, "epoch": n}``; anything but tensors and plain values is refused.

    Raises:
        WorkspaceError: files are missing, damaged, hold more than tensors, or do not fit the networks.
    """
    paths = {path.stem.removeprefix("decoder").strip("_"): path for path in sorted(folder.glob("decoder*.pth"))}
    if not (folder / "encoder.pth").is_file() or not paths or "" in paths:
        raise WorkspaceError(f"{folder} holds no encoder.pth with a decoder<person>.pth: name the folder that does")
    encoder_tensors, epoch = _reference_tensors(folder / "encoder.pth")
    try:
        init_dim, code_dim = len(encoder_tensors["conv1.0.weight"]), len(encoder_tensors["linear1.weight"])
        encoder = Encoder(init_dim, code_dim)
        encoder.load_state_dict(encoder_tensors)
        model = Model(encoder, position=Position(epoch=epoch))
        for person, path in paths.items():
            model.add_person(person)
            model.decoders[person].load_state_dict(_reference_tensors(path)[0])
            model.trained[person].samples = 1  # how many it were, the files do not say
    except (KeyError, RuntimeError, TypeError, AttributeError) as error:
        raise WorkspaceError(f"the files in {folder} do not fit this model: {str(error)[:300]}") from error
    return model


def _reference_tensors(path: Path) -> tuple[Tensors, int]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        return dict(content["state_dict"]), int(content.get("epoch", 0))
    except Exception as error:  # torch raises whatever a damaged or hostile file provokes
        raise WorkspaceError(f"cannot read {path} as tensors ({type(error).__name__}); nothing was imported") from error
