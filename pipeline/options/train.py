"""Options of train and import."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from pipeline.options.base import Short, WorkspaceOptions, require
from pipeline.workspace import checked_name

MOST = 1_000_000_000  # of anything that is counted; more overflows what is worked out from it


@dataclass(frozen=True, kw_only=True)
class TrainOptions(WorkspaceOptions):
    """Train one shared encoder and one decoder per person."""

    data_dir: Annotated[Path | None, Short(aliases=["-d"])] = None
    """Folder of per-person folders of face pictures (default: WORKSPACE/data)."""
    model_name: Annotated[str, Short(aliases=["-n"])] = "model"
    """Name of the model: its folder under WORKSPACE/output."""
    people: str | None = None
    """Train these people only, as in trump,cage (default: all in the data folder); others keep their decoders."""
    batch_size: Annotated[int, Short(aliases=["-b"])] = 64
    """Faces per step."""
    init_dim: int = 32
    """Channels of the encoder's first convolution."""
    code_dim: int = 1024
    """Length of the code between encoder and decoder."""
    log_interval: int = 1
    """Refresh the status every N batches; save model and previews every N epochs."""
    epochs: int = 100_000_000
    """Train until this epoch (one epoch visits every person once)."""
    inner_loop: int = 100
    """Passes over a person's faces before the next person is visited."""
    lr: float = 5e-5
    """Learning rate."""
    no_cuda: bool = False
    """Train on the CPU even where there is a CUDA device."""
    seed: int = 1
    """Seed of everything random."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Numbers the networks compute in (auto: what is fastest on the device without hurting the result)."""
    compile: bool = False
    """Compile the networks first: minutes at the start, perhaps faster then (GPU; on CPUs it was slower)."""
    keep: int = 2
    """Number of saved states to keep."""
    fix_enc: bool = False
    """Keep the encoder as it is and train the decoders alone."""
    interleave: bool = False
    """Faces of all people in every batch, instead of everyone in turn."""
    loss: Literal["l1", "l1+ssim"] = "l1"
    """What training makes small: how far colours are off, or also what structure is missing (sharper sooner)."""
    lr_schedule: Literal["constant", "cosine"] = "constant"
    """Keep the learning rate, or lower it to nothing by the end of this run (--max-minutes or --max-steps)."""
    max_minutes: float | None = None
    """Stop this run after so many minutes."""
    max_steps: int | None = None
    """Stop this run after so many batches."""

    def chosen(self) -> list[str]:
        """People named by --people."""
        return sorted({person.strip() for person in (self.people or "").split(",") if person.strip()})

    def __post_init__(self) -> None:
        super().__post_init__()
        checked_name(self.model_name, "model")
        require(self.people is None or len(self.chosen()) > 0, "--people: name some, with commas between")
        for person in self.chosen():
            checked_name(person, "person")
        for name in ("batch_size", "init_dim", "code_dim", "log_interval", "epochs", "inner_loop", "keep"):
            value = getattr(self, name)
            require(1 <= value <= MOST, f"--{name.replace('_', '-')} {value}: must be 1 to {MOST}")
        require(0 < self.lr < 1, f"--lr {self.lr}: must be above 0 and below 1")
        require(0 <= self.seed <= MOST, f"--seed {self.seed}: must be 0 to {MOST}")
        minutes, steps = self.max_minutes, self.max_steps
        require(minutes is None or 0 < minutes <= MOST, f"--max-minutes {minutes}: must be above 0, at most {MOST}")
        require(steps is None or 1 <= steps <= MOST, f"--max-steps {steps}: must be 1 to {MOST}")
        is_limited = self.max_minutes is not None or self.max_steps is not None
        require(self.lr_schedule == "constant" or is_limited, "--lr-schedule cosine needs --max-minutes or --max-steps")


@dataclass(frozen=True, kw_only=True)
class ImportOptions(WorkspaceOptions):
    """Take over a model of the reference tool: encoder.pth and decoder<person>.pth."""

    folder: Annotated[Path, tyro.conf.arg(metavar="DIR"), tyro.conf.Positional]
    """Folder that holds encoder.pth and a decoder<person>.pth per person."""
    model_name: Annotated[str, Short(aliases=["-n"])] = "model"
    """Name the model gets under WORKSPACE/output."""

    def __post_init__(self) -> None:
        super().__post_init__()
        checked_name(self.model_name, "model")
