"""Sheets of input, output and target."""

import numpy as np
import pytest
import torch
from torch import nn

from models.autoencoder import Encoder
from models.checkpoint import Model
from pipeline.training.evaluation import undistorted, validation_l1
from pipeline.training.monitor import preview_sheet, swap_sheet
from pipeline.types import Image

CPU = torch.device("cpu")
COLOURS = [(10 + 16 * i, 250 - 13 * i, (90 * i) % 256) for i in range(15)]


@pytest.fixture(scope="module")
def model() -> Model:
    """Two people; what hopper's decoder makes is reddish, collins's bluish."""
    torch.manual_seed(1)
    model = Model(Encoder(8, 64))
    for person, tint in (("hopper", [-2.0, 0.0, 2.0]), ("collins", [2.0, 0.0, -2.0])):
        model.add_person(person)
        with torch.no_grad():
            model.decoders[person].get_parameter("conv.bias").copy_(torch.tensor(tint))
    return model


def even_crops(count: int) -> torch.Tensor:
    return torch.tensor(COLOURS[:count], dtype=torch.uint8)[:, :, None, None].expand(-1, -1, 256, 256)


def tiles(sheet: Image) -> Image:
    """Cut a sheet into (row, column, 128, 128, 3)."""
    height, width = sheet.shape[:2]
    return sheet.reshape(height // 128, 128, width // 128, 128, 3).swapaxes(1, 2)


@pytest.mark.parametrize(
    ("faces", "shown"),
    [(15, [0, 2, 4, 6, 8, 10, 12, 14]), (8, list(range(8))), (9, [0, 1, 2, 3, 4, 5, 6, 8]), (3, [0, 1, 2]), (1, [0])],
)
def test_a_sheet_shows_faces_from_first_to_last(model: Model, faces: int, shown: list[int]) -> None:
    sheet = preview_sheet(model, "hopper", even_crops(faces), CPU)
    assert sheet.shape == (3 * 128, len(shown) * 128, 3)
    assert sheet.dtype == np.uint8
    inputs, _, targets = tiles(sheet)
    for column, face in enumerate(shown):
        for tile in (inputs[column], targets[column]):
            assert (tile == COLOURS[face]).all(), "BGR, as the crops"


def test_the_middle_row_is_what_the_persons_decoder_makes(model: Model) -> None:
    hopper, collins = (tiles(preview_sheet(model, person, even_crops(4), CPU)) for person in ("hopper", "collins"))
    np.testing.assert_array_equal(hopper[[0, 2]], collins[[0, 2]])
    blue, _, red = hopper[1].mean((0, 1, 2))
    assert red > blue + 150
    blue, _, red = collins[1].mean((0, 1, 2))
    assert blue > red + 150


def test_inputs_are_distorted_targets_are_not(model: Model) -> None:
    """Straight stripes bend in the input and stay straight, if turned, in the target."""
    stripes = (torch.arange(256) // 16 % 2 * 255).to(torch.uint8).expand(2, 3, 256, 256)
    inputs, _, targets = tiles(preview_sheet(model, "hopper", stripes, CPU))
    assert np.abs(inputs.astype(int) - targets).mean() > 5


def test_a_sheet_is_the_same_at_every_call(model: Model) -> None:
    coarse = torch.rand(9, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    crops = (nn.functional.interpolate(coarse, size=256, mode="bilinear") * 255).to(torch.uint8)
    first = preview_sheet(model, "hopper", crops, CPU)
    torch.manual_seed(123)
    np.testing.assert_array_equal(preview_sheet(model, "hopper", crops, CPU), first)
    assert np.std(first) > 10


def test_a_sheet_leaves_the_model_as_it_was(model: Model) -> None:
    preview_sheet(model, "collins", even_crops(2), CPU)
    for network in (model.encoder, model.decoders["collins"]):
        assert network.training
        assert all(parameter.requires_grad and parameter.grad is None for parameter in network.parameters())


def test_a_swap_sheet_shows_everyone_as_everyone(model: Model) -> None:
    sheet = swap_sheet(model, {"hopper": even_crops(8), "collins": even_crops(5)}, CPU)
    rows = tiles(sheet)
    assert rows.shape[:2] == (6, 8)
    faces, own, other = rows[3, :, 60, 60], rows[4, :, 60, 60].astype(int), rows[5, :, 60, 60].astype(int)
    np.testing.assert_allclose(faces.astype(int), COLOURS[:8], atol=1)
    assert (own[:, 2] > own[:, 0] + 100).all(), "hopper's decoder draws reddish"
    assert (other[:, 0] > other[:, 2] + 100).all(), "collins's bluish"
    assert not rows[0, 5:].any(), "fewer faces of one, nothing in their place"


def test_a_swap_sheet_of_one_person_shows_the_models_others(model: Model) -> None:
    assert tiles(swap_sheet(model, {"hopper": even_crops(4)}, CPU)).shape[:2] == (3, 4)


def test_straight_faces_are_what_lies_in_the_middle(model: Model) -> None:
    crops = torch.zeros((2, 3, 256, 256), dtype=torch.uint8)
    crops[:, :, 38:218, 38:218] = 255
    pictures = undistorted(model, crops, CPU)
    assert pictures.shape == (2, 3, 64, 64)
    assert float(pictures[:, :, 1:-1, 1:-1].min()) == 1


def test_validation_is_the_mean_error_of_all_faces(model: Model) -> None:
    crops = even_crops(15).repeat(3, 1, 1, 1)
    pictures = undistorted(model, crops, CPU)
    with torch.inference_mode():
        expected = float((model.decoders["hopper"](model.encoder(pictures)) - pictures).abs().mean())
    assert validation_l1(model, "hopper", crops, CPU) == pytest.approx(expected, rel=1e-4)


@pytest.fixture(scope="module")
def hd_model() -> Model:
    torch.manual_seed(1)
    model = Model.new("hd128")
    for person in ("hopper", "collins"):
        model.add_person(person)
    return model


def test_sheets_of_hd_models_have_the_same_layout(hd_model: Model) -> None:
    faces = {"hopper": even_crops(8), "collins": even_crops(5)}
    sheet = preview_sheet(hd_model, "hopper", faces["hopper"], CPU)
    assert sheet.shape == (3 * 128, 8 * 128, 3)
    assert sheet.dtype == np.uint8
    inputs, _, targets = tiles(sheet)
    for column, color in enumerate(COLOURS[:8]):
        for tile in (inputs[column], targets[column]):
            np.testing.assert_allclose(tile.astype(int), np.broadcast_to(color, tile.shape), atol=1)
    rows = tiles(swap_sheet(hd_model, faces, CPU))
    assert rows.shape == (6, 8, 128, 128, 3)
    np.testing.assert_allclose(rows[3, :, 60, 60].astype(int), COLOURS[:8], atol=1)
    assert not rows[0, 5:].any()


def test_validation_of_hd_models_is_of_their_colours(hd_model: Model) -> None:
    crops = even_crops(4)
    pictures = undistorted(hd_model, crops, CPU)
    assert pictures.shape == (4, 3, 128, 128)
    with torch.inference_mode():
        drawn = hd_model.decoders["hopper"](hd_model.encoder(pictures))
    expected = float((drawn[:, :3] - pictures).abs().mean())
    assert validation_l1(hd_model, "hopper", crops, CPU) == pytest.approx(expected, rel=1e-4)
