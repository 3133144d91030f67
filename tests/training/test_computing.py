"""What is made for a GPU, run on the CPU as far as it goes there."""

from dataclasses import dataclass
from typing import Literal

import pytest
import torch

from models.autoencoder import Encoder
from models.checkpoint import Model
from pipeline.errors import UsageError
from pipeline.training.augment import Pairs
from pipeline.training.dataset import Batch
from pipeline.training.trainer import Computing, Trainer, choose_precision
from tests.training.test_trainer import pictures

CPU = torch.device("cpu")
ROUNDING = 1e-3  # Adam moves a weight by the whole rate even where its gradient is little more than rounding


@dataclass(frozen=True)
class AsOnGpu(Computing):
    """The CPU, used in all the ways a GPU is."""

    @property
    def on_gpu(self) -> bool:
        return True


def trained(computing: Computing, steps: int = 12) -> tuple[Trainer, list[float]]:
    torch.manual_seed(3)
    model = Model(Encoder(8, 64))
    model.add_person("hopper")
    trainer = Trainer(model, 3e-4, False, computing)
    faces, losses = pictures(4), []
    for _ in range(steps):
        trainer.step(Batch({"hopper": Pairs(faces, faces)}, len(faces)))
        loss = trainer.read_losses()
        losses += [loss] if loss is not None else []
    return trainer, losses


def test_on_a_gpu_losses_are_read_a_step_later_and_channels_come_last() -> None:
    trainer, losses = trained(AsOnGpu(), steps=3)
    _, expected = trained(Computing(), steps=3)
    assert len(losses) == 2
    last = trainer.read_losses(wait=True)
    assert [*losses, last] == pytest.approx(expected, rel=ROUNDING)
    assert abs(expected[0] - expected[1]) > 10 * ROUNDING * expected[0], "so they are told apart"
    weight = trainer.model.encoder.get_parameter("conv2.0.weight")
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert trainer.model.trained["hopper"].loss is not None


@pytest.mark.parametrize(
    ("precision", "steps"), [("bf16", 12), pytest.param("fp16", 3, marks=pytest.mark.slow)]
)  # a CPU takes a quarter of a minute for a step in fp16
def test_lower_precision_learns_as_well(precision: Literal["bf16", "fp16"], steps: int) -> None:
    trainer, losses = trained(Computing(precision=precision), steps)
    _, exact = trained(Computing(), steps)
    assert losses[-1] < losses[0]
    assert losses[:3] == pytest.approx(exact[:3], rel=0.02)
    assert losses != exact
    assert all(p.dtype == torch.float32 for p in trainer.model.encoder.parameters()), "weights stay as they are"


def test_fp16_scales_its_gradients() -> None:
    assert Computing(precision="fp16").gradient_scaler().is_enabled()
    assert not Computing(precision="bf16").gradient_scaler().is_enabled()


@pytest.mark.slow
def test_compiled_networks_take_the_same_steps() -> None:
    trainer, losses = trained(Computing(is_compiled=True), steps=3)
    _, expected = trained(Computing(), steps=3)
    assert losses == pytest.approx(expected, rel=ROUNDING)
    assert "conv1.0.weight" in trainer.model.encoder.state_dict(), "saved under the same names"


def test_auto_is_fp32_on_a_cpu_and_fp16_is_refused_there() -> None:
    assert choose_precision("auto", CPU) == "fp32"
    assert choose_precision("bf16", CPU) == "bf16"
    with pytest.raises(UsageError, match="needs a GPU"):
        choose_precision("fp16", CPU)
