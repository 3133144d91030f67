"""How steps are computed: where, in which numbers, compiled or not."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import nn

from pipeline.errors import UsageError
from pipeline.training.processes import Processes

Precision = Literal["auto", "fp32", "bf16", "fp16"]
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Computing:
    """Where and how to compute.

    Attributes:
        device: where.
        precision: numbers that convolutions and products are computed in; weights and sums stay in fp32.
        is_compiled: whether networks are compiled first.
        processes: that compute together.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    is_compiled: bool = False
    processes: Processes = field(default_factory=Processes)

    @property
    def on_gpu(self) -> bool:
        """Whether the device works by itself, beside this process."""
        return self.device.type == "cuda"

    @property
    def memory_format(self) -> torch.memory_format:
        """Order of a picture's numbers: channels last suits a GPU's matrix units; on CPUs it was slower."""
        return torch.channels_last if self.on_gpu else torch.contiguous_format

    def autocast(self) -> AbstractContextManager[None]:
        """In the block, compute in the precision chosen."""
        return torch.autocast(self.device.type, DTYPES[self.precision], enabled=self.precision != "fp32")

    def gradient_scaler(self) -> torch.amp.GradScaler:
        """What keeps fp16's small gradients from vanishing; does nothing otherwise."""
        return torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")

    def joined_up(self, encoder: nn.Module, decoders: Sequence[nn.Module]) -> nn.Module:
        """One network of an encoder and some decoders, compiled where that is wanted."""
        network = _Joined(encoder, decoders)
        if self.is_compiled:
            network.compile()
        return network


class _Joined(nn.Module):
    """Maps a batch of pictures for each decoder to what it draws; all go through the encoder at once."""

    def __init__(self, encoder: nn.Module, decoders: Sequence[nn.Module]) -> None:
        super().__init__()
        self.encoder, self.decoders = encoder, nn.ModuleList(decoders)

    def forward(self, *batches: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Map (N, 3, 64, 64) batches, one for each decoder, to as many."""
        encoded = self.encoder(torch.cat(batches)).split([len(batch) for batch in batches])
        return tuple(decoder(own) for decoder, own in zip(self.decoders, encoded, strict=True))


def check_compiler(device: torch.device) -> None:
    """Make sure that networks can be compiled here.

    Raises:
        UsageError: they cannot.
    """
    try:
        torch.compile(lambda values: values.sin() + 1)(torch.zeros(8, device=device))
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise UsageError(f"--compile does not work here ({reason}): leave it out, or install a compiler") from error


def choose_precision(wanted: Precision, device: torch.device) -> Literal["fp32", "bf16", "fp16"]:
    """Settle what ``auto`` means on a device.

    On the CPU fp32: bf16 took 1.7 times as long there (docs/log.md). On a GPU bf16 where it has units for it.

    Raises:
        UsageError: the device cannot train in it.
    """
    if wanted == "fp16" and device.type == "cpu":
        raise UsageError("--precision fp16 needs a GPU: use fp32, or bf16")
    if wanted != "auto":
        return wanted
    return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
