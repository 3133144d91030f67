"""One training step, and the optimizers behind it."""

from collections.abc import Iterator

import torch
from torch import nn

from models.checkpoint import Model, Tensors

BETAS = (0.5, 0.999)  # as the reference tool
REMEMBERED = 0.98  # of the smoothed loss at each step: about the last 50 steps count


class Trainer:
    """Takes optimizer steps on a model; one Adam state per person, over the encoder and that person's decoder.

    Args:
        model: trained in place, on ``device``.
        learning_rate: of Adam.
        fix_encoder: leave the encoder as it is, train the decoder alone.
        device: where to compute.
    """

    def __init__(self, model: Model, learning_rate: float, fix_encoder: bool, device: torch.device) -> None:
        self.model, self.device = model, device
        self._learning_rate, self._fix_encoder = learning_rate, fix_encoder
        self._optimizers: dict[str, torch.optim.Adam] = {}
        model.encoder.to(device).requires_grad_(not fix_encoder)
        for decoder in model.decoders.values():
            decoder.to(device)

    def step(self, person: str, inputs: torch.Tensor, targets: torch.Tensor) -> float:
        """Train encoder and a person's decoder on one batch.

        Args:
            person: whose faces they are.
            inputs: (N, 3, 64, 64) float32 in [0, 1].
            targets: as ``inputs``; what the decoder should make of them.

        Returns:
            Mean absolute error before the step, in [0, 1].
        """
        optimizer = self._optimizer(person)
        optimizer.zero_grad(set_to_none=True)
        loss = nn.functional.l1_loss(self.model.decoders[person](self.model.encoder(inputs)), targets)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        value = float(loss.item())
        self.model.steps += 1
        trained = self.model.trained[person]
        trained.samples += len(inputs)
        trained.loss = value if trained.loss is None else REMEMBERED * trained.loss + (1 - REMEMBERED) * value
        return value

    def store_moments(self) -> None:
        """Put the optimizers' state into the model, ready to be saved."""
        for person, optimizer in self._optimizers.items():
            state = optimizer.state
            named = [(name, state[parameter]) for name, parameter in self._parameters(person) if parameter in state]
            # with --fix-enc the encoder's own are not here: what is known of them stays
            self.model.moments.setdefault(person, {}).update(
                {f"{name}.{key}": value for name, moments in named for key, value in moments.items()}
            )

    def _optimizer(self, person: str) -> torch.optim.Adam:
        if person not in self._optimizers:
            named = dict(self._parameters(person))
            optimizer = torch.optim.Adam(named.values(), lr=self._learning_rate, betas=BETAS, fused=True)
            _restore(optimizer, named, self.model.moments.get(person, {}))
            self._optimizers[person] = optimizer
        return self._optimizers[person]

    def _parameters(self, person: str) -> Iterator[tuple[str, nn.Parameter]]:
        parts = {"decoder": self.model.decoders[person]}
        networks: dict[str, nn.Module] = {**({} if self._fix_encoder else {"encoder": self.model.encoder}), **parts}
        for part, network in networks.items():
            for name, parameter in network.named_parameters():
                yield f"{part}.{name}", parameter


def _restore(optimizer: torch.optim.Adam, named: dict[str, nn.Parameter], moments: Tensors) -> None:
    for name, parameter in named.items():
        found = {
            key: moments[f"{name}.{key}"] for key in ("step", "exp_avg", "exp_avg_sq") if f"{name}.{key}" in moments
        }
        if len(found) == 3:
            optimizer.state[parameter] = {key: value.to(parameter.device) for key, value in found.items()}
