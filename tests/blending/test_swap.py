import cv2
import numpy as np
import pytest
import torch

from models.autoencoder import Decoder, Encoder
from models.checkpoint import Model
from pipeline.arrays import Image
from pipeline.blending.swap import Swapper
from pipeline.faces.alignment import CROP_PX, SEEN
from tests.clips import scene

CPU = torch.device("cpu")
PEOPLE = ("cage", "hopper")


@pytest.fixture(scope="module")
def model() -> Model:
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(5)
        made = Model(Encoder(8, 64))
        for person in PEOPLE:
            made.add_person(person)
            made.decoders[person].conv.weight.mul_(40)  # untrained ones draw grey, whatever they see
    return made


@pytest.fixture(scope="module")
def swapper(model: Model) -> Swapper:
    return Swapper(model, "cage", CPU)


def crops(count: int) -> list[Image]:
    return [scene(3 * index, CROP_PX, CROP_PX) for index in range(count)]


def outside(crop: Image) -> Image:
    """A copy with the part that the model sees blotted out."""
    made = crop.copy()
    made[38:218, 38:218] = 0
    return made


def test_crops_keep_their_shape_and_what_lies_outside(swapper: Swapper) -> None:
    originals = crops(2)
    made = swapper.swap(originals)
    assert len(made) == 2
    for new, old in zip(made, originals, strict=True):
        assert new.shape == (256, 256, 3)
        assert new.dtype == np.uint8
        np.testing.assert_array_equal(outside(new), outside(old))
        assert (new[38:218, 38:218] != old[38:218, 38:218]).mean() > 0.5


def test_the_part_the_model_sees_is_the_central_180_px() -> None:
    assert (SEEN.start, SEEN.stop) == (38, 218)


def test_it_draws_the_same_twice(swapper: Swapper) -> None:
    first, second = swapper.swap(crops(2)), swapper.swap(crops(2))
    np.testing.assert_array_equal(first, second)


def test_a_batch_equals_its_faces_one_by_one(swapper: Swapper) -> None:
    together = swapper.swap(crops(3))
    alone = [swapper.swap([crop])[0] for crop in crops(3)]
    np.testing.assert_allclose(np.array(together, int), np.array(alone, int), atol=1)
    assert (together[0][SEEN, SEEN] != together[1][SEEN, SEEN]).any()


def test_what_it_draws_depends_on_the_person(model: Model, swapper: Swapper) -> None:
    other = Swapper(model, "hopper", CPU)
    difference = np.abs(other.swap(crops(1))[0].astype(int) - swapper.swap(crops(1))[0])
    assert difference[SEEN, SEEN].mean() > 1


def test_only_what_the_model_sees_counts(swapper: Swapper) -> None:
    crop = scene(0, CROP_PX, CROP_PX)
    inside = np.zeros_like(crop)
    inside[SEEN, SEEN] = crop[SEEN, SEEN]
    np.testing.assert_array_equal(swapper.swap([inside])[0][SEEN, SEEN], swapper.swap([crop])[0][SEEN, SEEN])


def test_colours_are_bgr_in_0_to_255() -> None:
    """A decoder of which only the last bias counts draws one colour, the same whatever it sees."""
    wanted = torch.tensor([40.0, 90.0, 220.0])
    made = Model(Encoder(8, 64))
    made.add_person("cage")
    with torch.no_grad():
        made.decoders["cage"].conv.weight.zero_()
        made.decoders["cage"].conv.bias = torch.nn.Parameter(torch.logit(wanted / 255))
    drawn = Swapper(made, "cage", CPU).swap(crops(1))[0]
    np.testing.assert_allclose(
        drawn[SEEN, SEEN].reshape(-1, 3).astype(int), np.tile([40, 90, 220], (180 * 180, 1)), atol=1
    )


class SameEncoder(Encoder):
    """Hands on what it gets."""

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        assert pictures.shape[1:] == (3, 64, 64)
        assert float(pictures.max()) <= 1
        return pictures


class SameDecoder(Decoder):
    """Draws what the encoder got."""

    def forward(self, encoded: torch.Tensor) -> torch.Tensor:
        return encoded.clone()


def test_what_the_model_draws_lies_where_it_saw_it() -> None:
    """With networks that change nothing, the crop comes back with the detail of 64 px, upright and in its place."""
    model = Model(SameEncoder(8, 64), {"cage": SameDecoder()})
    crop = cv2.GaussianBlur(scene(1, CROP_PX, CROP_PX), (0, 0), 6).astype(np.uint8)
    made = Swapper(model, "cage", CPU).swap([crop])[0]
    difference = np.abs(made.astype(int) - crop)[SEEN, SEEN]
    assert difference.mean() < 1
    assert difference[4:-4, 4:-4].max() <= 6


def test_inputs_stay_as_they_were(swapper: Swapper) -> None:
    originals, before = crops(2), crops(2)
    swapper.swap(originals)
    np.testing.assert_array_equal(originals, before)
