"""One training step, and the optimizers behind it.

How far drawn faces are from what they should be; whole batches at once.

Convention: pictures are (N, 3, H, W) float32 in [0, 1].

How steps are computed: where, in which numbers, compiled or not.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import nn
from torch.nn import functional

from models.checkpoint import Model, Tensors
from pipeline.errors import UsageError
from pipeline.training.augment import Pairs
from pipeline.training.distributed import Processes

WINDOW_PX = 7  # side of the squares whose structure is compared
C1, C2 = 0.01**2, 0.03**2  # of the paper, for pictures in [0, 1]
STRUCTURE = 0.25  # weight of what SSIM finds missing, beside L1


Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""How far drawn faces are from what they should be, a number."""


def l1(made: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean absolute error, a number."""
    return functional.l1_loss(made, targets)


def l1_and_ssim(made: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean absolute error, and a part of how much structure is missing (as Zhao et al. 2017, arXiv:1511.08861)."""
    return l1(made, targets) + STRUCTURE * (1 - ssim(made, targets).mean())


def ssim(made: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Structural similarity over squares of 7 px (Wang et al. 2004, doi:10.1109/TIP.2003.819861, eq. 13); (N,).

    Means, variances and covariance are of all px of a square alike; the edge, where squares are cut, is left out.
    """
    many = WINDOW_PX**2
    both = torch.cat([made, targets, made * made, targets * targets, made * targets])
    m, t, mm, tt, mt = functional.avg_pool2d(both, WINDOW_PX, stride=1).chunk(5)
    unbiased = many / (many - 1)
    spread = unbiased * (mm - m * m + tt - t * t)
    common = unbiased * (mt - m * t)
    likeness = (2 * m * t + C1) * (2 * common + C2) / ((m * m + t * t + C1) * (spread + C2))
    return likeness.mean(dim=(1, 2, 3))


LOSSES: dict[str, Loss] = {"l1": l1, "l1+ssim": l1_and_ssim}


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


BETAS = (0.5, 0.999)  # as the reference tool
REMEMBERED = 0.98  # of the smoothed loss at each step: about the last 50 steps count
UNREAD_ON_GPU = 1  # steps whose loss is still on its way while the next one is begun
WATCHED = 0.8  # of the quickly smoothed loss that is watched: about the last 5 steps count
EXPLODED, HARMLESS = 4.0, 0.25  # times the lowest of this visit; below a harmless loss nothing has exploded
BLACK, WHITE, FAR_OFF = 1 / 255, 254 / 255, 0.2  # what is drawn black or white and is far from it, is lost
MOST_LOST = 0.3  # of a picture; a network that is only untrained draws greys


class DivergedError(Exception):
    """The loss is no number any more, or has exploded: the weights are spoilt."""


@dataclass(frozen=True)
class Portion:
    """What a step is to learn of one person.

    Attributes:
        pairs: what goes in, and what the decoder should make of it; each (N, 3, 64, 64) float32 in [0, 1].
        samples: the person's faces in the whole batch.
        share: how much of these the pairs are, where this is one of several processes.
    """

    pairs: Pairs
    samples: int
    share: float = 1


class Trainer:
    """Takes optimizer steps on a model; an Adam state for each set of people who are trained in one step.

    The state is over the encoder and the decoders of these: for one person the reference tool's own way.

    Args:
        model: trained in place, on the device.
        learning_rate: of Adam; may be changed between steps.
        fix_encoder: leave the encoder as it is, train the decoder alone.
        computing: where and how.
        loss: what steps make small; what is told and watched is L1 in any case.
    """

    def __init__(
        self, model: Model, learning_rate: float, fix_encoder: bool, computing: Computing, loss: Loss = l1
    ) -> None:
        self.model, self.computing = model, computing
        self.learning_rate, self._fix_encoder, self._loss = learning_rate, fix_encoder, loss
        self._optimizers: dict[tuple[str, ...], torch.optim.Adam] = {}
        self._scaler = computing.gradient_scaler()
        self._unread: deque[tuple[Sequence[str], torch.Tensor]] = deque()
        self._watched: dict[str, tuple[float, float]] = {}  # by person of this visit: smoothed quickly, lowest of that
        model.encoder.requires_grad_(not fix_encoder)
        for network in (model.encoder, *model.decoders.values()):
            network.to(computing.device).to(memory_format=computing.memory_format)
            computing.processes.sum_gradients(network)
        self._networks: dict[tuple[str, ...], nn.Module] = {}

    def step(self, portions: Mapping[str, Portion]) -> None:
        """Train the encoder and the decoders of some people on one batch, or on this process's share of it.

        Args:
            portions: by person.

        Raises:
            WorkspaceError: another process is gone.
        """
        people, total = tuple(portions), sum(portion.samples for portion in portions.values())
        optimizer = self._optimizer(people)
        optimizer.zero_grad(set_to_none=True)
        with self.computing.autocast():
            made = self._network(people)(*(self._laid_out(portion.pairs[0]) for portion in portions.values()))
        loss, evaluations = torch.zeros((), device=self.computing.device), []
        for portion, pictures in zip(portions.values(), made, strict=True):
            own = self._loss(pictures.float(), portion.pairs[1])
            loss = loss + portion.share * portion.samples / total * own
            evaluations.append(portion.share * _judgement(pictures, portion.pairs[1]))
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        whole = self.computing.processes.sum(torch.stack(evaluations))
        self.computing.processes.finish()
        self._scaler.step(optimizer)
        self._scaler.update()
        self._unread.append((people, whole))
        self.model.steps += 1
        for person, portion in portions.items():
            self.model.trained[person].samples += portion.samples

    def read_losses(self, *, wait: bool = False) -> float | None:
        """Read the losses of the steps taken, and keep watch over them.

        On a GPU the last step's is left for next time, unless asked to wait: so the GPU never does.

        Returns:
            Mean absolute error of the last one read, of all its people, before its step, in [0, 1]; None where there is
            nothing new.

        Raises:
            DivergedError: the weights are spoilt.
        """
        left = UNREAD_ON_GPU if self.computing.on_gpu and not wait else 0
        value = None
        while len(self._unread) > left:
            people, evaluations = self._unread.popleft()
            self._watched = {person: self._watched[person] for person in people if person in self._watched}
            losses = []
            for person, (one, lost) in zip(people, evaluations.tolist(), strict=True):
                self._watch(person, one, lost)
                trained = self.model.trained[person]
                trained.loss = one if trained.loss is None else REMEMBERED * trained.loss + (1 - REMEMBERED) * one
                losses.append(one)
            value = sum(losses) / len(losses)
        return value

    def check(self, person: str, pairs: Pairs) -> None:
        """Make sure that the last steps have not spoilt the weights.

        Args:
            person: whose decoder.
            pairs: some of the person's faces, the same in all processes.

        Raises:
            DivergedError: they have.
        """
        with torch.no_grad(), self.computing.autocast():
            (made,) = self._network((person,))(pairs[0])
        _refuse_spoilt(person, *_judgement(made, pairs[1]).tolist())

    def weights_in_short(self) -> list[str]:
        """Sums of all weights, as text that rounding does not change: to compare models by."""
        networks = (self.model.encoder, *self.model.decoders.values())
        return [f"{float(p.detach().double().abs().sum()):.5e}" for net in networks for p in net.parameters()]

    def store_moments(self) -> None:
        """Put the optimizers' state into the model, ready to be saved."""
        for people, optimizer in self._optimizers.items():
            state = optimizer.state
            for person in people:
                named = [(name, state[parameter]) for name, parameter in self._parameters(person) if parameter in state]
                # with --fix-enc the encoder's own are not here: what is known of them stays
                self.model.moments.setdefault(person, {}).update(
                    {f"{name}.{key}": value for name, moments in named for key, value in moments.items()}
                )

    def _watch(self, person: str, value: float, lost: float) -> None:
        """See whether the loss explodes, within one visit: after another's the first losses are higher anyway."""
        before, lowest = self._watched.get(person, (value, value))
        now = WATCHED * before + (1 - WATCHED) * value
        self._watched[person] = (now, min(lowest, now))
        _refuse_spoilt(person, value, lost)
        if now > max(EXPLODED * lowest, HARMLESS):
            raise DivergedError(f"the loss of {person} exploded to {value:.2f}")

    def _optimizer(self, people: tuple[str, ...]) -> torch.optim.Adam:
        if people not in self._optimizers:
            named = {person: dict(self._parameters(person)) for person in people}
            every = list(dict.fromkeys(parameter for own in named.values() for parameter in own.values()))
            optimizer = torch.optim.Adam(every, lr=self.learning_rate, betas=BETAS, fused=True)
            for person, own in named.items():
                _restore(optimizer, own, self.model.moments.get(person, {}))
            self._optimizers[people] = optimizer
        for parameters in self._optimizers[people].param_groups:
            parameters["lr"] = self.learning_rate
        return self._optimizers[people]

    def _network(self, people: tuple[str, ...]) -> nn.Module:
        if people not in self._networks:
            decoders = [self.model.decoders[person] for person in people]
            self._networks[people] = self.computing.joined_up(self.model.encoder, decoders)
        return self._networks[people]

    def _laid_out(self, pictures: torch.Tensor) -> torch.Tensor:
        return pictures.contiguous(memory_format=self.computing.memory_format)

    def _parameters(self, person: str) -> Iterator[tuple[str, nn.Parameter]]:
        parts = {"decoder": self.model.decoders[person]}
        networks: dict[str, nn.Module] = {**({} if self._fix_encoder else {"encoder": self.model.encoder}), **parts}
        for part, network in networks.items():
            for name, parameter in network.named_parameters():
                yield f"{part}.{name}", parameter


def _judgement(made: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """(2,): mean absolute error, and how much of the pictures is lost."""
    with torch.no_grad():
        made = made.float()
        lost = ((made < BLACK) | (made > WHITE)) & ((made - targets).abs() > FAR_OFF)
        return torch.stack([l1(made, targets), lost.float().mean()])


def _refuse_spoilt(person: str, loss: float, lost: float) -> None:
    if not math.isfinite(loss):
        raise DivergedError(f"the loss of {person} is no number any more")
    if lost > MOST_LOST:
        raise DivergedError(f"the loss of {person} exploded to {loss:.2f}")


def _restore(optimizer: torch.optim.Adam, named: dict[str, nn.Parameter], moments: Tensors) -> None:
    for name, parameter in named.items():
        found = {
            key: moments[f"{name}.{key}"] for key in ("step", "exp_avg", "exp_avg_sq") if f"{name}.{key}" in moments
        }
        if len(found) == 3:
            optimizer.state[parameter] = {key: value.to(parameter.device) for key, value in found.items()}
