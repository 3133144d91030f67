"""How fast training goes, and what that means for the person who waits."""

import math
import time

from pipeline.options import TrainOptions
from pipeline.report import in_words
from pipeline.training.schedule import Schedule

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
    notes = [f"one epoch {what} {epoch} samples: {in_words(epoch / pace)} at {pace:.0f} samples/s"]
    if limit_samples is not None and limit_samples <= schedule.samples_until_all_visited():
        fitting = max(1, int(limit_samples / faces / 2))
        remedy = f"stop it (Ctrl-C) and use --inner-loop {fitting} or less; for short runs 1 is best"
        if schedule.inner_loop == 1:
            remedy = "give it more time, or fewer faces"
        notes.append(
            f"this run's limit ends it after {round(limit_samples)} samples, before everyone was visited: {remedy}"
        )
    return notes
