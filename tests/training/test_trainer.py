"""Optimizer steps on a small model; what they change, what they leave, and going on as if never stopped.

The layers behind the code are large whatever the sizes, so a step takes a few tenths of a second: few are taken.
"""

from collections.abc import Sequence
from copy import deepcopy

import pytest
import torch
from torch import nn

from models.autoencoder import Encoder
from models.checkpoint import Model
from pipeline.training.augment import Pairs
from pipeline.training.dataset import Batch
from pipeline.training.trainer import Computing, Trainer, l1_and_ssim, weighted

RATE = 5e-4


def new_model() -> Model:
    torch.manual_seed(3)
    model = Model(Encoder(8, 64))
    for person in ("hopper", "collins"):
        model.add_person(person)
    return model


def pictures(count: int, seed: int = 1) -> torch.Tensor:
    coarse = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    return nn.functional.interpolate(coarse, size=64, mode="bilinear")


def weights(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def are_equal(some: dict[str, torch.Tensor], others: dict[str, torch.Tensor]) -> bool:
    return some.keys() == others.keys() and all(torch.equal(some[name], others[name]) for name in some)


def take_step(trainer: Trainer, person: str, inputs: torch.Tensor, targets: torch.Tensor) -> float:
    trainer.step(Batch({person: Pairs(inputs, targets)}, len(inputs)))
    loss = trainer.read_losses()
    assert loss is not None
    return loss


def take_steps(trainer: Trainer, people: Sequence[str], first: int = 0) -> list[float]:
    return [
        take_step(trainer, person, pictures(2, seed=number), pictures(2, seed=number).flip(3))
        for number, person in enumerate(people, start=first)
    ]


def test_the_loss_falls() -> None:
    model = new_model()
    trainer = Trainer(model, RATE, False, Computing())
    faces = pictures(4)
    losses = [take_step(trainer, "hopper", faces, faces) for _ in range(30)]
    assert losses[-1] < 0.88 * losses[0]
    assert (model.steps, model.trained["hopper"].samples) == (30, 120)


def test_a_step_trains_the_encoder_and_one_decoder() -> None:
    model = new_model()
    inputs, targets = pictures(3), pictures(3, seed=2)
    encoder, hopper, collins = map(weights, (model.encoder, model.decoders["hopper"], model.decoders["collins"]))
    with torch.no_grad():
        made = model.decoders["hopper"](model.encoder(inputs))
    trainer = Trainer(model, RATE, False, Computing())
    loss = take_step(trainer, "hopper", inputs, targets)
    assert loss == pytest.approx(float((made - targets).abs().mean()), rel=1e-5), "L1, before the step"
    assert are_equal(weights(model.decoders["collins"]), collins)
    for network, before in ((model.encoder, encoder), (model.decoders["hopper"], hopper)):
        assert not any(torch.equal(parameter, before[name]) for name, parameter in network.named_parameters())
        moved = max(float((p.detach() - before[name]).abs().max()) for name, p in network.named_parameters())
        assert moved == pytest.approx(RATE, rel=0.01), "Adam's first step is the learning rate, whatever the loss"
    trained = model.trained
    assert (trained["hopper"].samples, trained["hopper"].loss) == (3, loss)
    assert (trained["collins"].samples, trained["collins"].loss) == (0, None)


def test_the_loss_shown_is_smoothed() -> None:
    model = new_model()
    first, second = take_steps(Trainer(model, 0.001, True, Computing()), ["hopper", "hopper"])
    assert abs(first - second) > 0.01
    assert model.trained["hopper"].loss == pytest.approx(0.98 * first + 0.02 * second)


def test_a_fixed_encoder_stays_bit_for_bit() -> None:
    model = new_model()
    encoder, decoder = weights(model.encoder), weights(model.decoders["collins"])
    trainer = Trainer(model, RATE, True, Computing())
    take_steps(trainer, ["collins"])
    trainer.store_moments()
    assert are_equal(weights(model.encoder), encoder)
    assert not are_equal(weights(model.decoders["collins"]), decoder)
    assert {name.split(".")[0] for name in model.moments["collins"]} == {"decoder"}


def test_a_fixed_encoder_can_be_trained_later() -> None:
    model = new_model()
    Trainer(model, RATE, True, Computing())
    encoder = weights(model.encoder)
    take_steps(Trainer(model, RATE, False, Computing()), ["hopper"])
    assert not are_equal(weights(model.encoder), encoder)


def test_training_decoders_alone_keeps_what_is_known_of_the_encoder() -> None:
    """Else the encoder's next step, once it is trained again, starts from nothing and is far too large."""
    model = new_model()
    trainer = Trainer(model, RATE, False, Computing())
    take_steps(trainer, ["hopper"])
    trainer.store_moments()
    encoder_moments = {name for name in model.moments["hopper"] if name.startswith("encoder.")}
    fixed = Trainer(model, RATE, True, Computing())
    take_steps(fixed, ["hopper"])
    fixed.store_moments()
    assert encoder_moments <= model.moments["hopper"].keys()


def test_moments_are_adams_by_parameter() -> None:
    model = new_model()
    trainer = Trainer(model, RATE, False, Computing())
    take_steps(trainer, ["hopper"])
    trainer.store_moments()
    assert set(model.moments) == {"hopper"}, "who was not trained has none"
    moments = model.moments["hopper"]
    parts = {"encoder": model.encoder, "decoder": model.decoders["hopper"]}
    parameters = {f"{part}.{name}": p for part, network in parts.items() for name, p in network.named_parameters()}
    assert moments.keys() == {f"{name}.{key}" for name in parameters for key in ("step", "exp_avg", "exp_avg_sq")}
    for name, parameter in parameters.items():
        mean, square = moments[f"{name}.exp_avg"], moments[f"{name}.exp_avg_sq"]
        assert float(moments[f"{name}.step"]) == 1
        assert mean.shape == square.shape == parameter.shape
        # After one step they are (1 - 0.5) g and (1 - 0.999) g².
        large = mean.abs() > mean.abs().max() / 10
        ratio = mean[large].double() ** 2 / square[large].double()
        torch.testing.assert_close(ratio, torch.full_like(ratio, 0.5**2 / 0.001), rtol=1e-3, atol=0)


def test_a_new_trainer_goes_on_as_if_there_had_been_one() -> None:
    people = ["hopper", "collins", "hopper", "collins"]
    whole = new_model()
    losses = take_steps(Trainer(whole, RATE, False, Computing()), people)

    begun = new_model()
    trainer = Trainer(begun, RATE, False, Computing())
    first = take_steps(trainer, people[:2])
    trainer.store_moments()
    resumed = deepcopy(begun)
    second = take_steps(Trainer(resumed, RATE, False, Computing()), people[2:], first=2)

    assert first + second == losses
    assert are_equal(weights(resumed.encoder), weights(whole.encoder))
    for person in ("hopper", "collins"):
        assert are_equal(weights(resumed.decoders[person]), weights(whole.decoders[person]))
    assert (resumed.steps, resumed.trained) == (whole.steps, whole.trained)


def take_joint_step(trainer: Trainer, number: int = 0, people: Sequence[str] = ("hopper", "collins")) -> float:
    pairs = {person: Pairs(pictures(3, number), pictures(3, number + place)) for place, person in enumerate(people)}
    trainer.step(Batch(pairs, 3))
    loss = trainer.read_losses()
    assert loss is not None
    return loss


def test_a_joint_step_trains_the_encoder_and_all_its_decoders() -> None:
    model = new_model()
    model.add_person("left out")
    before = {person: weights(decoder) for person, decoder in model.decoders.items()}
    encoder = weights(model.encoder)
    loss = take_joint_step(Trainer(model, RATE, False, Computing()))
    assert not are_equal(weights(model.encoder), encoder)
    changed = {person for person, decoder in model.decoders.items() if not are_equal(weights(decoder), before[person])}
    assert changed == {"hopper", "collins"}
    own = [model.trained[person].loss for person in ("hopper", "collins")]
    assert loss == pytest.approx(sum(one for one in own if one is not None) / 2)
    assert [model.trained[person].samples for person in before] == [3, 3, 0]
    assert model.steps == 1


def test_a_joint_step_takes_the_mean_of_both_gradients() -> None:
    """Adam's step does not show the size of a gradient; its first moment, half of the gradient, does."""
    model = new_model()
    faces, straight = pictures(2), pictures(2, 2)
    alone = []
    for person in ("hopper", "collins"):
        one = deepcopy(model)
        trainer = Trainer(one, RATE, False, Computing())
        trainer.step(Batch({person: Pairs(faces, straight)}, 2))
        trainer.store_moments()
        alone.append(one.moments[person]["encoder.linear1.weight.exp_avg"])
    joint = Trainer(model, RATE, False, Computing())
    joint.step(Batch(dict.fromkeys(("hopper", "collins"), Pairs(faces, straight)), 2))
    joint.store_moments()
    mean = model.moments["hopper"]["encoder.linear1.weight.exp_avg"]
    expected = (alone[0] + alone[1]) / 2
    assert float((mean - expected).norm() / expected.norm()) < 0.01
    assert float((mean - alone[0]).norm() / expected.norm()) > 0.1


def test_joint_steps_go_on_as_if_there_had_been_no_stop() -> None:
    whole = new_model()
    trainer = Trainer(whole, RATE, False, Computing())
    losses = [take_joint_step(trainer, number) for number in range(4)]
    begun = new_model()
    trainer = Trainer(begun, RATE, False, Computing())
    first = [take_joint_step(trainer, number) for number in range(2)]
    trainer.store_moments()
    resumed = deepcopy(begun)
    trainer = Trainer(resumed, RATE, False, Computing())
    assert first + [take_joint_step(trainer, number) for number in range(2, 4)] == losses
    assert are_equal(weights(resumed.encoder), weights(whole.encoder))


def test_a_model_trained_in_turns_goes_on_jointly_and_back() -> None:
    model = new_model()
    trainer = Trainer(model, RATE, False, Computing())
    take_steps(trainer, ["hopper", "collins"])
    trainer.store_moments()
    jointly = Trainer(model, RATE, False, Computing())
    take_joint_step(jointly)
    jointly.store_moments()
    for person in ("hopper", "collins"):
        assert float(model.moments[person]["decoder.conv.weight.step"]) == 2
    take_steps(Trainer(model, RATE, False, Computing()), ["hopper"])


def test_the_rate_may_change_between_steps() -> None:
    model = new_model()
    trainer = Trainer(model, RATE, False, Computing())
    take_steps(trainer, ["hopper"])
    before = weights(model.encoder)
    trainer.learning_rate = 0
    take_steps(trainer, ["hopper"])
    assert are_equal(weights(model.encoder), before)


def test_another_loss_takes_another_step_and_l1_is_told() -> None:
    one, other = new_model(), new_model()
    plain, sharper = Trainer(one, RATE, False, Computing()), Trainer(other, RATE, False, Computing(), l1_and_ssim)
    assert take_joint_step(plain) == take_joint_step(sharper)
    assert not are_equal(weights(one.encoder), weights(other.encoder))


# hd networks, which also draw a mask


def new_hd_model() -> Model:
    torch.manual_seed(3)
    model = Model.new("hd128")
    model.add_person("hopper")
    return model


def hd_pairs(count: int = 2) -> Pairs:
    """Faces, and an oval off the middle as the mask."""
    faces = nn.functional.interpolate(pictures(count), size=128, mode="bilinear")
    rows, columns = torch.meshgrid(torch.arange(128), torch.arange(128), indexing="ij")
    mask = (((rows - 70) / 45) ** 2 + ((columns - 50) / 30) ** 2 < 1).float()
    return Pairs(faces, faces, torch.ones(count, 1, 128, 128), mask.expand(count, 1, -1, -1))


def test_colours_and_mask_of_an_hd_network_are_learned() -> None:
    model, pairs, errors = new_hd_model(), hd_pairs(), list[tuple[float, float]]()
    assert pairs.masks is not None
    trainer = Trainer(model, RATE, False, Computing(), weighted)
    for _ in range(17):
        with torch.no_grad():
            drawn = model.decoders["hopper"](model.encoder(pairs.inputs))
        colors, mask = drawn[:, :3] - pairs.targets, drawn[:, 3:] - pairs.masks
        errors.append((float(colors.abs().mean()), float(mask.abs().mean())))
        trainer.step(Batch({"hopper": pairs}, 2))
        assert trainer.read_losses() == pytest.approx(errors[-1][0], rel=1e-4), "what is told is the L1 of the colours"
    (colors_first, mask_first), (colors_last, mask_last) = errors[0], errors[-1]
    assert colors_last < 0.75 * colors_first
    assert mask_last < 0.8 * mask_first


def test_without_masks_only_the_colours_are_learned() -> None:
    model, pairs = new_hd_model(), hd_pairs()._replace(masks=None)
    trainer = Trainer(model, RATE, False, Computing(), weighted)
    trainer.step(Batch({"hopper": pairs}, 2))
    trainer.store_moments()
    gradients = model.moments["hopper"]["decoder.layers.11.bias.exp_avg"]
    assert gradients.shape == (16,)
    assert gradients[:12].all()
    assert not gradients[12:].any()
