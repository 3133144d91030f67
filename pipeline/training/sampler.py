"""The order in which training goes through people and faces; made from the seed and the place in it alone.

So a run can go on from any place, and needs to remember nothing but the place.

How fast training goes, and what that means for the person who waits.
"""

import hashlib
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch

from models.checkpoint import Position
from pipeline.console import format_duration
from pipeline.options import TrainOptions


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


WARM_UP_STEPS, PACE_STEPS = 1, 5  # not timed; timed before it is said how long an epoch takes


class Pace:
    """Measures samples per second, and works out how many a run will take.

    Args:
        schedule: what an epoch is.
        options: the run's limits.
    """

    def __init__(self, schedule: Schedule, options: TrainOptions) -> None:
        self._schedule, self._options = schedule, options
        self._steps = self.samples = 0
        self._timed: tuple[float, int] | None = None
        self.rate: float | None = None  # samples per second; None until it is known

    def count(self, samples: int) -> list[str]:
        """Count a step.

        Returns:
            What there is to say now, a line each: once, when the pace is first known.
        """
        self._steps += 1
        self.samples += samples
        if self._steps == WARM_UP_STEPS:
            self._timed = (time.monotonic(), self.samples)
        elif self._steps >= WARM_UP_STEPS + PACE_STEPS and self._timed:
            began, before = self._timed
            self.rate = (self.samples - before) / (time.monotonic() - began)
            if self._steps == WARM_UP_STEPS + PACE_STEPS:
                return pace_notes(self._schedule, self.rate, self._limit())
        return []

    def expected_samples(self) -> int | None:
        """Samples this run will have taken when its bar is full: at its limit, or else at the end of an epoch."""
        limit = self._limit()
        if limit is not None:
            return max(round(limit), self.samples)
        if self._options.max_minutes is not None:
            return None  # until the pace is known
        epochs_done = self.samples // self._schedule.samples_per_epoch
        return (epochs_done + 1) * self._schedule.samples_per_epoch

    def done(self, steps: int, seconds: float) -> float:
        """Say how much of the run is over, by whichever of its limits ends it first; 0 to 1, 0 where it has none."""
        parts = []
        if self._options.max_steps is not None:
            parts.append(steps / self._options.max_steps)
        if self._options.max_minutes is not None:
            parts.append(seconds / (60 * self._options.max_minutes))
        return min(1.0, max(parts, default=0.0))

    def _limit(self) -> float | None:
        """Samples this run can take under its limits, at the pace measured."""
        limits = []
        if self._options.max_steps is not None:
            limits.append(float(self._options.max_steps * self._schedule.samples_per_step))
        if self._options.max_minutes is not None and self.rate is not None:
            limits.append(self._options.max_minutes * 60 * self.rate)
        return min(limits, default=None)


def rate_left(done: float) -> float:
    """How much of the learning rate is left when a part of a run is over: half a cosine from 1 to 0.

    Loshchilov & Hutter 2017, arXiv:1608.03983, eq. 5, without restarts.
    """
    return (1 + math.cos(math.pi * done)) / 2


def pace_notes(schedule: Schedule, pace: float, limit_samples: float | None) -> list[str]:
    """Say how long an epoch takes, and what to do where a limit ends the run before everyone had a turn.

    Args:
        schedule: what an epoch is.
        pace: samples per second.
        limit_samples: samples the run can take; None where it has no limit.
    """
    people, faces = len(schedule.face_counts), sum(schedule.face_counts.values())
    epoch = schedule.samples_per_epoch
    what = f"visits {people} people, {faces} faces x {schedule.inner_loop} passes ="
    if schedule.interleave:
        what = f"is {schedule.inner_loop} x the faces of whoever has most, with as many of each other:"
    notes = [f"one epoch {what} {epoch} samples: {format_duration(epoch / pace)} at {pace:.0f} samples/s"]
    if limit_samples is not None and limit_samples <= schedule.samples_until_all_visited():
        fitting = max(1, int(limit_samples / faces / 2))
        remedy = f"stop it (Ctrl-C) and use --inner-loop {fitting} or less; for short runs 1 is best"
        if schedule.inner_loop == 1:
            remedy = "give it more time, or fewer faces"
        notes.append(
            f"this run's limit ends it after {round(limit_samples)} samples, before everyone was visited: {remedy}"
        )
    return notes
