"""Faces of a batch brought to where they are computed on, with how they are to be distorted."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from pipeline.training.augment import Augmentation, Draw, draw_transforms, make_pairs
from pipeline.training.computing import Computing
from pipeline.training.dataset import Feed
from pipeline.training.schedule import Batch, generator
from pipeline.training.trainer import Portion


@dataclass(frozen=True)
class Fetched:
    """One person's faces of a batch, or this process's share of them.

    Attributes:
        crops: (N, 3, 256, 256) uint8, on the device.
        draw: how they are to be distorted.
        samples: the person's faces in the whole batch.
        share: how much of these are here.
    """

    crops: torch.Tensor
    draw: Draw
    samples: int
    share: float

    def portion(self) -> Portion:
        """Make what a step learns from."""
        return Portion(make_pairs(self.crops, self.draw), self.samples, self.share)


class Fetcher:
    """Brings batches.

    Args:
        people: by name, (N, 3, 256, 256) uint8.
        trained_on: by name, places of the faces that the schedule counts.
        seed: where distortions come from.
        computing: where faces are wanted, and by which processes.
    """

    def __init__(
        self,
        people: Mapping[str, torch.Tensor],
        trained_on: Mapping[str, torch.Tensor],
        seed: int,
        computing: Computing,
    ) -> None:
        self._feed, self._places = Feed(people, computing.device), trained_on
        self._seed, self._processes = seed, computing.processes

    def fetch(self, batch: Batch) -> dict[str, Fetched]:
        """Bring this process's share of a batch to the device, and draw how it is distorted; by person."""
        here, fetched = batch.here, {}
        for number, (person, faces) in enumerate(batch.faces.items(), 1):
            count = len(faces)
            chance = generator(self._seed, here.epoch, here.visit, here.inner, here.batch, number)
            turn, grid = draw_transforms(count, Augmentation(), chance)
            mine = self._processes.share(count)
            share = (mine.stop - mine.start) / count
            if not share:  # fewer faces than processes
                mine = slice(0, 1)
            crops = self._feed.faces(person, self._places[person][faces[mine]])
            fetched[person] = Fetched(crops, (turn[mine], grid[mine]), count, share)
        return fetched
