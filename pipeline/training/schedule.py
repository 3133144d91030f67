"""The order in which training goes through people and faces; made from the seed and the place in it alone.

So a run can go on from any place, and needs to remember nothing but the place.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch

from models.checkpoint import Position


@dataclass(frozen=True)
class Batch:
    """One step's faces.

    Attributes:
        person: whose faces.
        faces: indices of the person's faces, (B,) int64.
        here: place of this batch in the loop.
        after: place of the next one.
        ends_epoch: every person has now been visited.
    """

    person: str
    faces: torch.Tensor
    here: Position
    after: Position
    ends_epoch: bool


@dataclass(frozen=True)
class Schedule:
    """An endless course through the faces of all people.

    Every epoch visits the people in a fresh order; a visit is ``inner_loop`` passes over the person's faces, each in a
    fresh order, in batches of ``batch_size`` (the last of a pass may be smaller).

    Args:
        face_counts: number of faces by person.
        batch_size: faces per step.
        inner_loop: passes per visit.
        seed: where the orders come from.
    """

    face_counts: Mapping[str, int]
    batch_size: int
    inner_loop: int
    seed: int

    @property
    def samples_per_epoch(self) -> int:
        """Faces drawn in one epoch."""
        return sum(self.face_counts.values()) * self.inner_loop

    def samples_until_all_visited(self) -> int:
        """Faces drawn in the first epoch before the last person's turn comes."""
        last = self.order(0)[-1]
        return self.samples_per_epoch - self.face_counts[last] * self.inner_loop

    def order(self, epoch: int) -> list[str]:
        """People in the order of an epoch's visits."""
        people = sorted(self.face_counts)
        return [people[i] for i in torch.randperm(len(people), generator=generator(self.seed, epoch)).tolist()]

    def batches(self, start: Position) -> Iterator[Batch]:
        """Yield batches from a place on, for ever."""
        place = start
        while True:
            order = self.order(place.epoch)
            for visit in range(place.visit, len(order)):
                yield from self._visit(order, Position(place.epoch, visit, place.inner, place.batch))
                place = Position(place.epoch, visit + 1)
            place = Position(place.epoch + 1)

    def _visit(self, order: list[str], start: Position) -> Iterator[Batch]:
        person, epoch, visit = order[start.visit], start.epoch, start.visit
        for inner in range(start.inner, self.inner_loop):
            mixed = torch.randperm(self.face_counts[person], generator=generator(self.seed, epoch, visit, inner))
            chunks = torch.split(mixed, self.batch_size)
            first = start.batch if inner == start.inner else 0
            for batch in range(first, len(chunks)):
                after = Position(epoch, visit, inner, batch + 1)
                if batch + 1 == len(chunks):
                    after = Position(epoch, visit, inner + 1)
                    if inner + 1 == self.inner_loop:
                        after = Position(epoch, visit + 1) if visit + 1 < len(order) else Position(epoch + 1)
                yield Batch(person, chunks[batch], Position(epoch, visit, inner, batch), after, after.epoch > epoch)


def generator(*numbers: int) -> torch.Generator:
    """Make a source of randomness, on the CPU, that depends on these numbers alone."""
    digest = hashlib.sha256(repr(numbers).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big", signed=True))
