"""Models of the reference tool: ``encoder.pth`` and one ``decoder<person>.pth`` per person.

Every file holds ``{"state_dict": {name: tensor}, "epoch": n}``.
"""

from pathlib import Path

import torch

from models import CheckpointError
from models.autoencoder import Encoder
from models.checkpoint import Model, Position, Tensors


def load_reference(folder: Path) -> Model:
    """Read a model of the reference tool; files with anything but tensors and plain values are refused.

    Raises:
        CheckpointError: files are missing, damaged, hold more than tensors, or do not fit the networks.
    """
    paths = {path.stem.removeprefix("decoder").strip("_"): path for path in sorted(folder.glob("decoder*.pth"))}
    if not (folder / "encoder.pth").is_file() or not paths or "" in paths:
        raise CheckpointError(f"{folder} has no encoder.pth with a decoder<person>.pth: name the folder that has them")
    encoder_tensors, epoch = _read(folder / "encoder.pth")
    try:
        init_dim, code_dim = len(encoder_tensors["conv1.0.weight"]), len(encoder_tensors["linear1.weight"])
        encoder = Encoder(init_dim, code_dim)
        encoder.load_state_dict(encoder_tensors)
        model = Model(encoder, position=Position(epoch=epoch))
        for person, path in paths.items():
            model.add_person(person)
            model.decoders[person].load_state_dict(_read(path)[0])
            model.trained[person].samples = 1  # trained; the files do not say on how many
    except (KeyError, RuntimeError, TypeError, AttributeError) as error:
        raise CheckpointError(f"the files in {folder} do not fit this model: {str(error)[:300]}") from error
    return model


def _read(path: Path) -> tuple[Tensors, int]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        return dict(content["state_dict"]), int(content.get("epoch", 0))
    except Exception as error:  # a damaged or hostile file can make torch raise anything
        raise CheckpointError(
            f"cannot read {path} as tensors ({type(error).__name__}); nothing was imported"
        ) from error
