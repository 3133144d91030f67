import numpy as np
import pytest
import torch

from models import PICTURE_PX
from models.autoencoder import Encoder
from models.checkpoint import Model
from pipeline.converting.swapper import Drawing, Swapper
from pipeline.types import Image
from tests.clips import scene

CPU = torch.device("cpu")
PEOPLE = ("cage", "hopper")


@pytest.fixture(scope="module")
def model() -> Model:
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(5)
        made = Model(Encoder(8, 64))
        for person in PEOPLE:
            made.add_person(person)
            made.decoders[person].get_parameter("conv.weight").mul_(40)  # untrained ones draw grey, whatever they see
    return made


@pytest.fixture(scope="module")
def swapper(model: Model) -> Swapper:
    return Swapper(model, PEOPLE, CPU)


def pictures(count: int) -> list[Image]:
    return [scene(3 * index, PICTURE_PX, PICTURE_PX) for index in range(count)]


def faces_of(drawings: list[Drawing]) -> list[Image]:
    return [drawing.face for drawing in drawings]


def test_pictures_keep_their_shape(swapper: Swapper) -> None:
    made = swapper.swap(pictures(2), ["cage", "cage"])
    assert [(new.face.shape, str(new.face.dtype), new.mask) for new in made] == [((64, 64, 3), "uint8", None)] * 2
    assert all((new.face != old).mean() > 0.5 for new, old in zip(made, pictures(2), strict=True))


def test_it_draws_the_same_twice(swapper: Swapper) -> None:
    first, second = (faces_of(swapper.swap(pictures(2), ["cage", "cage"])) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_a_batch_of_two_people_equals_its_faces_one_by_one(swapper: Swapper) -> None:
    people = ["cage", "hopper", "cage"]
    together = faces_of(swapper.swap(pictures(3), people))
    alone = [swapper.swap([picture], [person])[0].face for picture, person in zip(pictures(3), people, strict=True)]
    np.testing.assert_allclose(np.array(together, int), np.array(alone, int), atol=1)
    other = faces_of(swapper.swap(pictures(3), ["cage"] * 3))
    assert np.abs(other[1].astype(int) - together[1]).mean() > 1, "another person is another face"


def test_colours_are_bgr_in_0_to_255() -> None:
    """A decoder of which only the last bias counts draws one colour, the same whatever it sees."""
    wanted = torch.tensor([40.0, 90.0, 220.0])
    made = Model(Encoder(8, 64))
    made.add_person("cage")
    with torch.no_grad():
        made.decoders["cage"].get_parameter("conv.weight").zero_()
        made.decoders["cage"].get_parameter("conv.bias").copy_(torch.logit(wanted / 255))
    drawn = Swapper(made, ["cage"], CPU).swap(pictures(1), ["cage"])[0].face
    np.testing.assert_allclose(drawn.reshape(-1, 3).astype(int), np.tile([40, 90, 220], (64 * 64, 1)), atol=1)


def test_inputs_stay_as_they_were(swapper: Swapper) -> None:
    originals, before = pictures(2), pictures(2)
    swapper.swap(originals, ["cage", "hopper"])
    np.testing.assert_array_equal(originals, before)


def test_a_fingerprint_tells_weights_and_people_apart(model: Model, swapper: Swapper) -> None:
    assert Swapper(model, PEOPLE, CPU).fingerprint == swapper.fingerprint
    assert Swapper(model, ["cage"], CPU).fingerprint != swapper.fingerprint
    bias = model.decoders["hopper"].get_parameter("upscale1.0.bias")
    with torch.no_grad():
        bias[0] += 1e-6
        try:
            assert Swapper(model, PEOPLE, CPU).fingerprint != swapper.fingerprint
        finally:
            bias[0] -= 1e-6
