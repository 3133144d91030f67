"""The order in which training sees faces, and its pace.

The order depends only on the seed and the position, so training can continue from any saved position.
"""

import hashlib
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch

from models.checkpoint import Position
from pipeline.console import format_duration
from pipeline.options import TrainOptions

WARM_UP_STEPS, TIMED_STEPS = 1, 5  # steps before timing starts; timed steps before the pace is reported


@dataclass(frozen=True)
class Selection:
    """The faces of one step.

    Attributes:
        faces: by person, indices of the person's faces, (B,) int64; B is the same for all.
        position: of this step.
        next_position: of the step after it.
    """

    faces: Mapping[str, torch.Tensor]
    position: Position
    next_position: Position


@dataclass(frozen=True)
class Sampler:
    """Chooses the faces of each step.

    Every epoch visits the people in a new order; a visit is ``inner_loop`` passes over the person's faces, each in a
    new order, in batches of ``batch_size`` (the last of a pass may be smaller).

    Interleaved, an epoch is one visit to all people: every batch has the same number of faces of each, and a pass ends
    when all faces of the person with most have been drawn; the faces of the others are repeated.
    """

    face_counts: Mapping[str, int]
    batch_size: int
    inner_loop: int
    seed: int
    interleave: bool = False

    @property
    def samples_per_step(self) -> int:
        """Faces of a batch; the last of a pass may have fewer."""
        return self._faces_each * len(self.face_counts) if self.interleave else self.batch_size

    @property
    def samples_per_epoch(self) -> int:
        """Faces drawn in one epoch."""
        faces = sum(self.face_counts.values())
        if self.interleave:
            faces = self._interleaved_steps * self._faces_each * len(self.face_counts)
        return faces * self.inner_loop

    @property
    def _faces_each(self) -> int:
        """Faces of each person in an interleaved batch."""
        return max(1, self.batch_size // len(self.face_counts))

    @property
    def _interleaved_steps(self) -> int:
        return math.ceil(max(self.face_counts.values()) / self._faces_each)

    def samples_until_all_visited(self) -> int:
        """Faces drawn in the first epoch before the last person is visited."""
        if self.interleave:
            return 0
        return self.samples_per_epoch - self.face_counts[self.order(0)[-1]] * self.inner_loop

    def order(self, epoch: int) -> list[str]:
        """People in the order of an epoch's visits."""
        people = sorted(self.face_counts)
        return [people[i] for i in torch.randperm(len(people), generator=generator(self.seed, epoch)).tolist()]

    def selections(self, start: Position) -> Iterator[Selection]:
        """Yield the steps from a position on, without end; if it no longer exists, from the next one that does."""
        if self.interleave:
            start = replace(start, visit=0)  # the model may have been trained in turns before
        visits = 1 if self.interleave else len(self.face_counts)
        while True:
            epoch = start.epoch
            for visit in range(start.visit, visits):
                for inner in range(start.inner if visit == start.visit else 0, self.inner_loop):
                    batches = self._pass(epoch, visit, inner)
                    is_start = (visit, inner) == (start.visit, start.inner)
                    for batch in range(start.batch if is_start else 0, len(batches)):
                        if batch + 1 < len(batches):
                            next_position = Position(epoch, visit, inner, batch + 1)
                        elif inner + 1 < self.inner_loop:
                            next_position = Position(epoch, visit, inner + 1)
                        elif visit + 1 < visits:
                            next_position = Position(epoch, visit + 1)
                        else:
                            next_position = Position(epoch + 1)
                        yield Selection(batches[batch], Position(epoch, visit, inner, batch), next_position)
            start = Position(epoch + 1)

    def _pass(self, epoch: int, visit: int, inner: int) -> list[dict[str, torch.Tensor]]:
        """Faces of each batch of a pass, by person."""
        if not self.interleave:
            person = self.order(epoch)[visit]
            order = torch.randperm(self.face_counts[person], generator=generator(self.seed, epoch, visit, inner))
            return [{person: faces} for faces in torch.split(order, self.batch_size)]
        needed, batches = self._interleaved_steps * self._faces_each, {}
        for person, count in sorted(self.face_counts.items()):
            rng = generator(self.seed, epoch, inner, person)
            order = torch.cat([torch.randperm(count, generator=rng) for _ in range(0, needed, count)])
            batches[person] = torch.split(order[:needed], self._faces_each)
        return [dict(zip(batches, faces, strict=True)) for faces in zip(*batches.values(), strict=True)]


def generator(*numbers: int | str) -> torch.Generator:
    """Make a random generator, on the CPU, whose seed is a hash of these values."""
    digest = hashlib.sha256(repr(numbers).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big", signed=True))


class Pace:
    """Progress and speed of this run, and how many samples it will take.

    Attributes:
        steps, samples: of this run, including undone ones.
        rate: samples per second; None until measured.
    """

    def __init__(self, sampler: Sampler, options: TrainOptions) -> None:
        self._sampler, self._options = sampler, options
        self._began, self._timed_from = time.monotonic(), (0.0, 0)
        self.steps = self.samples = 0
        self.rate: float | None = None

    @property
    def seconds(self) -> float:
        """Duration of the run so far."""
        return time.monotonic() - self._began

    def count(self, samples: int) -> list[str]:
        """Count a step; return the lines to show, once, when the pace becomes known."""
        self.steps += 1
        self.samples += samples
        if self.steps == WARM_UP_STEPS:
            self._timed_from = (time.monotonic(), self.samples)
        elif self.steps >= WARM_UP_STEPS + TIMED_STEPS:
            began, samples_before = self._timed_from
            self.rate = (self.samples - samples_before) / (time.monotonic() - began)
            if self.steps == WARM_UP_STEPS + TIMED_STEPS:
                return pace_notes(self._sampler, self.rate, self._limit())
        return []

    def expected_samples(self) -> int | None:
        """Samples at which the bar is full: at the run's limit, else at the end of the epoch; None while not known."""
        limit = self._limit()
        if limit is not None:
            return max(round(limit), self.samples)
        if self._options.max_minutes is not None:
            return None  # until the pace is known
        epochs_done = self.samples // self._sampler.samples_per_epoch
        return (epochs_done + 1) * self._sampler.samples_per_epoch

    def _limit(self) -> float | None:
        """Samples this run can take under its limits, at the measured pace."""
        limits = []
        if self._options.max_steps is not None:
            limits.append(float(self._options.max_steps * self._sampler.samples_per_step))
        if self._options.max_minutes is not None and self.rate is not None:
            limits.append(self._options.max_minutes * 60 * self.rate)
        return min(limits, default=None)


def fraction_done(options: TrainOptions, steps: int, seconds: float) -> float:
    """Fraction of a run that is over, by the limit that ends it first; 0 without a limit."""
    fractions = [0.0]
    if options.max_steps is not None:
        fractions.append(steps / options.max_steps)
    if options.max_minutes is not None:
        fractions.append(seconds / (60 * options.max_minutes))
    return min(1.0, max(fractions))


def cosine_factor(done: float) -> float:
    """Factor for the learning rate: half a cosine, from 1 to 0 while ``done`` goes from 0 to 1.

    Loshchilov & Hutter 2017, arXiv:1608.03983, eq. 5, without restarts.
    """
    return (1 + math.cos(math.pi * done)) / 2


def pace_notes(sampler: Sampler, rate: float, limit_samples: float | None) -> list[str]:
    """Describe how long an epoch takes, and what to do if a limit ends the run before everyone was visited.

    Args:
        sampler: defines an epoch.
        rate: samples per second.
        limit_samples: samples the run can take; None without a limit.
    """
    people, faces = len(sampler.face_counts), sum(sampler.face_counts.values())
    epoch = sampler.samples_per_epoch
    what = f"visits {people} people, {faces} faces x {sampler.inner_loop} passes ="
    if sampler.interleave:
        what = f"is {sampler.inner_loop} x the faces of the person with most, and as many of each other:"
    notes = [f"one epoch {what} {epoch} samples: {format_duration(epoch / rate)} at {rate:.0f} samples/s"]
    if limit_samples is not None and limit_samples <= sampler.samples_until_all_visited():
        fitting = max(1, int(limit_samples / faces / 2))
        remedy = f"stop it (Ctrl-C) and use --inner-loop {fitting} or less; for short runs 1 is best"
        if sampler.inner_loop == 1:
            remedy = "give it more time, or fewer faces"
        notes.append(
            f"this run's limit ends it after {round(limit_samples)} samples, before everyone was visited: {remedy}"
        )
    return notes
