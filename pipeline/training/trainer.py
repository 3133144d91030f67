"""Losses, precision, and the training step with its optimizers.

Convention: pictures are (N, 3, H, W) float32 in [0, 1].
"""

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import nn
from torch.nn import functional

from models.checkpoint import Model, Tensors
from pipeline.errors import UsageError
from pipeline.training.augment import Pairs
from pipeline.training.dataset import Batch
from pipeline.training.distributed import Processes

WINDOW_PX = {64: 7, 128: 11, 192: 15, 256: 21}  # side of the squares that SSIM compares, by that of the pictures
C1, C2 = 0.01**2, 0.03**2  # of the paper, for pictures in [0, 1]
SSIM_WEIGHT, MASK_WEIGHT, DETAIL_WEIGHT = 0.25, 0.1, 0.5  # beside L1
DETAIL_PX = 7  # side of the squares over which detail is averaged

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
BETAS = (0.5, 0.999)  # as the reference tool
MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # Adam's state of each parameter
UNREAD_ON_GPU = 1  # steps whose loss is still being computed when the next step begins
SMOOTHING = 0.98  # of the loss shown: about the last 50 steps count
WATCH_SMOOTHING = 0.8  # of the loss watched for divergence: about the last 5 steps count
EXPLODED, HARMLESS = 4.0, 0.25  # times the lowest loss of this visit; a loss below the second is never an explosion
BLACK, WHITE, FAR_OFF = 1 / 255, 254 / 255, 0.2  # a value drawn black or white but far from its target is lost
MAX_LOST = 0.3  # of all values; a network that is only untrained draws greys

Loss = Callable[[torch.Tensor, Pairs], torch.Tensor]
"""Maps drawn faces, (N, 3, S, S), and what they should be to the number that training minimises."""
Precision = Literal["fp32", "bf16", "fp16"]


def l1(drawn: torch.Tensor, pairs: Pairs) -> torch.Tensor:
    """Mean absolute error, a number."""
    return functional.l1_loss(drawn, pairs.targets)


def l1_and_ssim(drawn: torch.Tensor, pairs: Pairs) -> torch.Tensor:
    """Mean absolute error plus weighted structural dissimilarity (after Zhao et al. 2017, arXiv:1511.08861)."""
    return l1(drawn, pairs) + SSIM_WEIGHT * (1 - ssim(drawn, pairs.targets).mean())


def weighted(drawn: torch.Tensor, pairs: Pairs) -> torch.Tensor:
    """The same and differences in detail; errors count by where they are: most on eyes and mouth, least outside."""
    assert pairs.weights is not None
    errors = (drawn - pairs.targets).abs() * pairs.weights
    similarity = ssim(drawn, pairs.targets)
    edge = (drawn.shape[-1] - similarity.shape[-1]) // 2
    weights = pairs.weights[..., edge:-edge, edge:-edge]
    structure = ((1 - similarity) * weights).mean()
    missing = (_detail(drawn) - _detail(pairs.targets)).abs() * _averaged(pairs.weights[..., :-1, :-1])
    return errors.mean() + SSIM_WEIGHT * structure + DETAIL_WEIGHT * missing.mean()


def _detail(pictures: torch.Tensor) -> torch.Tensor:
    """How much neighbouring px differ, whichever way: what blur takes away (own derivation); averaged."""
    here = pictures[..., :-1, :-1]
    return _averaged((pictures[..., :-1, 1:] - here).abs() + (pictures[..., 1:, :-1] - here).abs())


def _averaged(values: torch.Tensor) -> torch.Tensor:
    return functional.avg_pool2d(values, DETAIL_PX, stride=2)


def ssim(drawn: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Structural similarity over squares (Wang et al. 2004, doi:10.1109/TIP.2003.819861, eq. 13); (N, C, H - w + 1, …).

    All px of a square have equal weight; squares that cross the edge are left out.
    """
    window_px = WINDOW_PX[drawn.shape[-1]]
    size = window_px**2
    moments = torch.cat([drawn, targets, drawn * drawn, targets * targets, drawn * targets])
    d, t, dd, tt, dt = functional.avg_pool2d(moments, window_px, stride=1).chunk(5)
    unbiased = size / (size - 1)
    variances = unbiased * (dd - d * d + tt - t * t)
    covariance = unbiased * (dt - d * t)
    return (2 * d * t + C1) * (2 * covariance + C2) / ((d * d + t * t + C1) * (variances + C2))


LOSSES: dict[str, Loss] = {"l1": l1, "l1+ssim": l1_and_ssim, "weighted": weighted}


@dataclass(frozen=True)
class Computing:
    """Where and how steps are computed.

    Attributes:
        device: of the networks.
        precision: of convolutions and products; weights and sums stay in fp32.
        is_compiled: whether networks are compiled first.
        processes: that compute together.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    precision: Precision = "fp32"
    is_compiled: bool = False
    processes: Processes = field(default_factory=Processes)

    @property
    def on_gpu(self) -> bool:
        """Whether the device works asynchronously."""
        return self.device.type == "cuda"

    @property
    def memory_format(self) -> torch.memory_format:
        """Channels last on GPUs, for their matrix units; on CPUs it was slower."""
        return torch.channels_last if self.on_gpu else torch.contiguous_format

    def autocast(self) -> AbstractContextManager[None]:
        """In the block, compute in the chosen precision."""
        return torch.autocast(self.device.type, DTYPES[self.precision], enabled=self.precision != "fp32")

    def gradient_scaler(self) -> torch.amp.GradScaler:
        """Keeps fp16's small gradients from becoming zero; does nothing in other precisions."""
        return torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")


def check_compiler(device: torch.device) -> None:
    """Check that networks can be compiled here.

    Raises:
        UsageError: they cannot.
    """
    try:
        torch.compile(lambda values: values.sin() + 1)(torch.zeros(8, device=device))
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise UsageError(f"--compile does not work here ({reason}): leave it out, or install a compiler") from error


def choose_precision(precision: Precision | Literal["auto"], device: torch.device) -> Precision:
    """Resolve ``auto``: bf16 on GPUs that have it natively, else fp32 (on CPUs bf16 was slower, docs/log.md).

    Raises:
        UsageError: the device cannot train in this precision.
    """
    if precision == "fp16" and device.type == "cpu":
        raise UsageError("--precision fp16 needs a GPU: use fp32, or bf16")
    if precision != "auto":
        return precision
    return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"


class DivergedError(Exception):
    """The loss is not a number any more or has exploded: the weights are unusable."""


class Trainer:
    """Takes optimizer steps on a model.

    Each set of people who share a step has its own Adam state, of the encoder and their decoders; for a single person
    this is what the reference tool does.

    Args:
        model: trained in place, on the device.
        learning_rate: of Adam; may be changed between steps.
        fix_encoder: train the decoders only.
        computing: where and how.
        loss: to minimise; the loss shown and watched is always L1.
    """

    def __init__(
        self, model: Model, learning_rate: float, fix_encoder: bool, computing: Computing, loss: Loss = l1
    ) -> None:
        self.model, self.computing = model, computing
        self.learning_rate, self._fix_encoder, self._loss = learning_rate, fix_encoder, loss
        self._optimizers: dict[tuple[str, ...], torch.optim.Adam] = {}
        self._networks: dict[tuple[str, ...], nn.Module] = {}
        self._scaler = computing.gradient_scaler()
        self._unread: deque[tuple[Sequence[str], torch.Tensor]] = deque()
        self._watched: dict[str, tuple[float, float]] = {}  # by person of this visit: loss of late, and its lowest
        model.encoder.requires_grad_(not fix_encoder)
        for network in (model.encoder, *model.decoders.values()):
            network.to(computing.device).to(memory_format=computing.memory_format)
            computing.processes.sum_gradients(network)

    def step(self, batch: Batch) -> None:
        """Train the encoder and the decoders of a batch's people.

        Raises:
            LostProcessError: another process is gone.
        """
        people, processes = tuple(batch.pairs), self.computing.processes
        optimizer = self._optimizer(people)
        optimizer.zero_grad(set_to_none=True)
        with self.computing.autocast():
            drawn = self._network(people)(*(self._laid_out(pairs.inputs) for pairs in batch.pairs.values()))
        loss, errors = torch.zeros((), device=self.computing.device), []
        for pictures, pairs in zip(drawn, batch.pairs.values(), strict=True):
            colors, masks = pictures[:, :3].float(), pictures[:, 3:].float()
            loss = loss + batch.share / len(people) * self._loss(colors, pairs)
            if pairs.masks is not None:
                mask_error = functional.l1_loss(masks, pairs.masks)
                loss = loss + batch.share / len(people) * MASK_WEIGHT * mask_error
            errors.append(batch.share * _errors(colors, pairs))
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        total = processes.sum(torch.stack(errors))
        processes.finish()
        self._scaler.step(optimizer)
        self._scaler.update()
        self._unread.append((people, total))
        self.model.steps += 1
        for person in people:
            self.model.trained[person].samples += batch.faces_each

    def read_losses(self, *, wait: bool = False) -> float | None:
        """Read the losses of the steps taken, and watch them for divergence.

        On a GPU the latest is left for the next call unless ``wait`` is set, so that the GPU is never idle.

        Returns:
            L1 of the latest step read, before its update, over all its people, in [0, 1]; None if there is no new one.

        Raises:
            DivergedError: the loss has diverged.
        """
        unread = UNREAD_ON_GPU if self.computing.on_gpu and not wait else 0
        latest = None
        while len(self._unread) > unread:
            people, errors = self._unread.popleft()
            self._watched = {person: self._watched[person] for person in people if person in self._watched}
            losses = []
            for person, (loss, lost) in zip(people, errors.tolist(), strict=True):
                self._watch(person, loss, lost)
                trained = self.model.trained[person]
                trained.loss = loss if trained.loss is None else SMOOTHING * trained.loss + (1 - SMOOTHING) * loss
                losses.append(loss)
            latest = sum(losses) / len(losses)
        return latest

    def check(self, person: str, pairs: Pairs) -> None:
        """Check on some faces that the last steps have not made the weights diverge, the same in all processes.

        Raises:
            DivergedError: they have.
        """
        with torch.no_grad(), self.computing.autocast():
            (drawn,) = self._network((person,))(pairs.inputs)
        _check_loss(person, *_errors(drawn[:, :3], pairs).tolist())

    def weight_sums(self) -> list[str]:
        """Rounded sums of all weights, to compare the models of several processes."""
        networks = (self.model.encoder, *self.model.decoders.values())
        return [f"{float(p.detach().double().abs().sum()):.5e}" for net in networks for p in net.parameters()]

    def store_moments(self) -> None:
        """Copy the optimizers' state into the model, to be saved with it."""
        for people, optimizer in self._optimizers.items():
            for person in people:
                # updated only: with --fix-enc the optimizers lack the encoder's moments, and the saved ones must stay
                moments = self.model.moments.setdefault(person, {})
                for name, parameter in self._parameters(person):
                    for key, value in optimizer.state.get(parameter, {}).items():
                        moments[f"{name}.{key}"] = value

    def _watch(self, person: str, loss: float, lost: float) -> None:
        """Raise DivergedError if the loss explodes within a visit; after another person's visit it starts higher."""
        before, lowest = self._watched.get(person, (loss, loss))
        smoothed = WATCH_SMOOTHING * before + (1 - WATCH_SMOOTHING) * loss
        self._watched[person] = (smoothed, min(lowest, smoothed))
        _check_loss(person, loss, lost)
        if smoothed > max(EXPLODED * lowest, HARMLESS):
            raise DivergedError(f"the loss of {person} exploded to {loss:.2f}")

    def _optimizer(self, people: tuple[str, ...]) -> torch.optim.Adam:
        if people not in self._optimizers:
            named = {person: dict(self._parameters(person)) for person in people}
            parameters = dict.fromkeys(parameter for group in named.values() for parameter in group.values())
            optimizer = torch.optim.Adam(list(parameters), lr=self.learning_rate, betas=BETAS, fused=True)
            for person, parameters_by_name in named.items():
                _restore(optimizer, parameters_by_name, self.model.moments.get(person, {}))
            self._optimizers[people] = optimizer
        for parameter_group in self._optimizers[people].param_groups:
            parameter_group["lr"] = self.learning_rate
        return self._optimizers[people]

    def _network(self, people: tuple[str, ...]) -> nn.Module:
        if people not in self._networks:
            network = _Autoencoders(self.model.encoder, [self.model.decoders[person] for person in people])
            if self.computing.is_compiled:
                network.compile()
            self._networks[people] = network
        return self._networks[people]

    def _laid_out(self, pictures: torch.Tensor) -> torch.Tensor:
        return pictures.contiguous(memory_format=self.computing.memory_format)

    def _parameters(self, person: str) -> Iterator[tuple[str, nn.Parameter]]:
        networks: dict[str, nn.Module] = {} if self._fix_encoder else {"encoder": self.model.encoder}
        for part, network in {**networks, "decoder": self.model.decoders[person]}.items():
            for name, parameter in network.named_parameters():
                yield f"{part}.{name}", parameter


class _Autoencoders(nn.Module):
    """Maps a batch of pictures for each decoder to what it draws; the encoder sees all batches at once."""

    def __init__(self, encoder: nn.Module, decoders: Sequence[nn.Module]) -> None:
        super().__init__()
        self.encoder, self.decoders = encoder, nn.ModuleList(decoders)

    def forward(self, *batches: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Map (N, 3, S, S) batches, one for each decoder, to as many."""
        encoded = self.encoder(torch.cat(batches)).split([len(batch) for batch in batches])
        return tuple(decoder(features) for decoder, features in zip(self.decoders, encoded, strict=True))


def _errors(drawn: torch.Tensor, pairs: Pairs) -> torch.Tensor:
    """(2,): mean absolute error, and the share of values that are lost."""
    with torch.no_grad():
        drawn = drawn.float()
        lost = ((drawn < BLACK) | (drawn > WHITE)) & ((drawn - pairs.targets).abs() > FAR_OFF)
        return torch.stack([l1(drawn, pairs), lost.float().mean()])


def _check_loss(person: str, loss: float, lost: float) -> None:
    if not math.isfinite(loss):
        raise DivergedError(f"the loss of {person} is not a number any more")
    if lost > MAX_LOST:
        raise DivergedError(f"the loss of {person} exploded to {loss:.2f}")


def _restore(optimizer: torch.optim.Adam, parameters: dict[str, nn.Parameter], moments: Tensors) -> None:
    for name, parameter in parameters.items():
        if all(f"{name}.{key}" in moments for key in MOMENTS):
            optimizer.state[parameter] = {key: moments[f"{name}.{key}"].to(parameter.device) for key in MOMENTS}
