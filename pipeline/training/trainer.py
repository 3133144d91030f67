"""One training step, and the optimizers behind it."""

import math
from collections import deque
from collections.abc import Iterator

import torch
from torch import nn

from models.checkpoint import Model, Tensors
from pipeline.training.augment import Pairs
from pipeline.training.computing import Computing

BETAS = (0.5, 0.999)  # as the reference tool
REMEMBERED = 0.98  # of the smoothed loss at each step: about the last 50 steps count
UNREAD_ON_GPU = 1  # steps whose loss is still on its way while the next one is begun
WATCHED = 0.8  # of the quickly smoothed loss that is watched: about the last 5 steps count
EXPLODED, HARMLESS = 4.0, 0.25  # times the lowest of this visit; below a harmless loss nothing has exploded
BLACK, WHITE, FAR_OFF = 1 / 255, 254 / 255, 0.2  # what is drawn black or white and is far from it, is lost
MOST_LOST = 0.3  # of a picture; a network that is only untrained draws greys


class DivergedError(Exception):
    """The loss is no number any more, or has exploded: the weights are spoilt."""


class Trainer:
    """Takes optimizer steps on a model; one Adam state per person, over the encoder and that person's decoder.

    Args:
        model: trained in place, on the device.
        learning_rate: of Adam.
        fix_encoder: leave the encoder as it is, train the decoder alone.
        computing: where and how.
    """

    def __init__(self, model: Model, learning_rate: float, fix_encoder: bool, computing: Computing) -> None:
        self.model, self.computing = model, computing
        self.learning_rate, self._fix_encoder = learning_rate, fix_encoder
        self._optimizers: dict[str, torch.optim.Adam] = {}
        self._scaler = computing.gradient_scaler()
        self._unread: deque[tuple[str, torch.Tensor]] = deque()
        self._watched: tuple[str, float, float] | None = None  # person, smoothed quickly, lowest of that
        model.encoder.requires_grad_(not fix_encoder)
        for network in (model.encoder, *model.decoders.values()):
            network.to(computing.device).to(memory_format=computing.memory_format)
            computing.processes.sum_gradients(network)
        self._networks = {
            person: computing.joined_up(model.encoder, decoder) for person, decoder in model.decoders.items()
        }

    def step(self, person: str, pairs: Pairs, samples: int, share: float = 1) -> None:
        """Train encoder and a person's decoder on one batch, or on this process's share of it.

        Args:
            person: whose faces they are.
            pairs: what goes in, and what the decoder should make of it; each (N, 3, 64, 64) float32 in [0, 1].
            samples: faces of the whole batch.
            share: how much of it the given ones are.

        Raises:
            WorkspaceError: another process is gone.
        """
        optimizer = self._optimizer(person)
        optimizer.zero_grad(set_to_none=True)
        inputs, targets = pairs
        with self.computing.autocast():
            made = self._networks[person](inputs.contiguous(memory_format=self.computing.memory_format))
        loss = nn.functional.l1_loss(made.float(), targets)
        self._scaler.scale(share * loss).backward()  # type: ignore[no-untyped-call]
        whole = self.computing.processes.sum(share * _judgement(made, targets, loss))
        self.computing.processes.finish()
        self._scaler.step(optimizer)
        self._scaler.update()
        self._unread.append((person, whole))
        self.model.steps += 1
        self.model.trained[person].samples += samples

    def read_losses(self, *, wait: bool = False) -> float | None:
        """Read the losses of the steps taken, and keep watch over them.

        On a GPU the last step's is left for next time, unless asked to wait: so the GPU never does.

        Returns:
            Mean absolute error of the last one read, before its step, in [0, 1]; None where there is nothing new.

        Raises:
            DivergedError: the weights are spoilt.
        """
        left = UNREAD_ON_GPU if self.computing.on_gpu and not wait else 0
        value = None
        while len(self._unread) > left:
            person, judgement = self._unread.popleft()
            value, lost = judgement.tolist()
            self._watch(person, value, lost)
            trained = self.model.trained[person]
            trained.loss = value if trained.loss is None else REMEMBERED * trained.loss + (1 - REMEMBERED) * value
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
            made = self._networks[person](pairs[0])
        _refuse_spoilt(person, *_judgement(made, pairs[1], nn.functional.l1_loss(made.float(), pairs[1])).tolist())

    def weights_in_short(self) -> list[str]:
        """Sums of all weights, as text that rounding does not change: to compare models by."""
        networks = (self.model.encoder, *self.model.decoders.values())
        return [f"{float(p.detach().double().abs().sum()):.5e}" for net in networks for p in net.parameters()]

    def store_moments(self) -> None:
        """Put the optimizers' state into the model, ready to be saved."""
        for person, optimizer in self._optimizers.items():
            state = optimizer.state
            named = [(name, state[parameter]) for name, parameter in self._parameters(person) if parameter in state]
            # with --fix-enc the encoder's own are not here: what is known of them stays
            self.model.moments.setdefault(person, {}).update(
                {f"{name}.{key}": value for name, moments in named for key, value in moments.items()}
            )

    def _watch(self, person: str, value: float, lost: float) -> None:
        """See whether the loss explodes, within one visit: after another's the first losses are higher anyway."""
        before, lowest = self._watched[1:] if self._watched and self._watched[0] == person else (value, value)
        now = WATCHED * before + (1 - WATCHED) * value
        self._watched = (person, now, min(lowest, now))
        _refuse_spoilt(person, value, lost)
        if now > max(EXPLODED * lowest, HARMLESS):
            raise DivergedError(f"the loss of {person} exploded to {value:.2f}")

    def _optimizer(self, person: str) -> torch.optim.Adam:
        if person not in self._optimizers:
            named = dict(self._parameters(person))
            optimizer = torch.optim.Adam(named.values(), lr=self.learning_rate, betas=BETAS, fused=True)
            _restore(optimizer, named, self.model.moments.get(person, {}))
            self._optimizers[person] = optimizer
        return self._optimizers[person]

    def _parameters(self, person: str) -> Iterator[tuple[str, nn.Parameter]]:
        parts = {"decoder": self.model.decoders[person]}
        networks: dict[str, nn.Module] = {**({} if self._fix_encoder else {"encoder": self.model.encoder}), **parts}
        for part, network in networks.items():
            for name, parameter in network.named_parameters():
                yield f"{part}.{name}", parameter


def _judgement(made: torch.Tensor, targets: torch.Tensor, loss: torch.Tensor) -> torch.Tensor:
    """(2,): the loss, and how much of the pictures is lost."""
    with torch.no_grad():
        lost = ((made < BLACK) | (made > WHITE)) & ((made - targets).abs() > FAR_OFF)
        return torch.stack([loss.detach(), lost.float().mean()])


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
