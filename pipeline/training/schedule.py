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
        faces: by person, indices of the person's faces, (B,) int64.
        here: place of this batch in the loop.
        after: place of the next one.
        ends_epoch: every person has now been visited.
    """

    faces: Mapping[str, torch.Tensor]
    here: Position
    after: Position
    ends_epoch: bool

    @property
    def samples(self) -> int:
        """Number of faces, of all people."""
        return sum(map(len, self.faces.values()))


@dataclass(frozen=True)
class Schedule:
    """An endless course through the faces of all people.

    Every epoch visits the people in a fresh order; a visit is ``inner_loop`` passes over the person's faces, each in a
    fresh order, in batches of ``batch_size`` (the last of a pass may be smaller).

    Interleaved, every batch holds as many faces of each person, and an epoch is ``inner_loop`` passes over the faces of
    the person who has most; those of others come again before it is over.

    Args:
        face_counts: number of faces by person.
        batch_size: faces per step.
        inner_loop: passes per visit.
        seed: where the orders come from.
        interleave: faces of all people in every batch.
    """

    face_counts: Mapping[str, int]
    batch_size: int
    inner_loop: int
    seed: int
    interleave: bool = False

    @property
    def samples_per_epoch(self) -> int:
        """Faces drawn in one epoch."""
        if self.interleave:
            return self._joint_steps * self._each * len(self.face_counts) * self.inner_loop
        return sum(self.face_counts.values()) * self.inner_loop

    @property
    def samples_per_step(self) -> int:
        """Faces of a batch; the last of a pass may have fewer."""
        return self._each * len(self.face_counts) if self.interleave else self.batch_size

    @property
    def _each(self) -> int:
        """Faces of each person in an interleaved batch."""
        return max(1, self.batch_size // len(self.face_counts))

    @property
    def _joint_steps(self) -> int:
        """Interleaved batches in a pass."""
        return -(-max(self.face_counts.values()) // self._each)

    def samples_until_all_visited(self) -> int:
        """Faces drawn in the first epoch before the last person's turn comes."""
        if self.interleave:
            return 0
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
            yield from self._joint_epoch(place) if self.interleave else self._epoch(place)
            place = Position(place.epoch + 1)

    def _epoch(self, start: Position) -> Iterator[Batch]:
        """Yield the batches of an epoch's visits from a place on."""
        order, place = self.order(start.epoch), start
        for visit in range(start.visit, len(order)):
            yield from self._visit(order, Position(place.epoch, visit, place.inner, place.batch))
            place = Position(place.epoch, visit + 1)

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
                here = Position(epoch, visit, inner, batch)
                yield Batch({person: chunks[batch]}, here, after, after.epoch > epoch)

    def _joint_epoch(self, start: Position) -> Iterator[Batch]:
        """Yield an epoch's interleaved batches from a place on."""
        epoch, steps = start.epoch, self._joint_steps
        for inner in range(start.inner, self.inner_loop):
            orders = {person: self._joint_order(person, epoch, inner) for person in sorted(self.face_counts)}
            for batch in range(start.batch if inner == start.inner else 0, steps):
                after = Position(epoch, 0, inner, batch + 1)
                if batch + 1 == steps:
                    after = Position(epoch, 0, inner + 1) if inner + 1 < self.inner_loop else Position(epoch + 1)
                part = slice(batch * self._each, (batch + 1) * self._each)
                faces = {person: order[part] for person, order in orders.items()}
                yield Batch(faces, Position(epoch, 0, inner, batch), after, after.epoch > epoch)

    def _joint_order(self, person: str, epoch: int, inner: int) -> torch.Tensor:
        """Mix a person's faces for a whole pass: as often as they are needed to fill it, each time afresh."""
        count, needed = self.face_counts[person], self._joint_steps * self._each
        chance = generator(self.seed, epoch, inner, person)
        return torch.cat([torch.randperm(count, generator=chance) for _ in range(0, needed, count)])[:needed]


def generator(*numbers: int | str) -> torch.Generator:
    """Make a source of randomness, on the CPU, that depends on these numbers and words alone."""
    digest = hashlib.sha256(repr(numbers).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big", signed=True))
