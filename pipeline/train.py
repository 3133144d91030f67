"""Stage 2: train one shared encoder and one decoder per person on folders of faces."""

import time
from dataclasses import dataclass, field
from pathlib import Path

import torch

from models import checkpoint
from models.autoencoder import Encoder
from models.checkpoint import Model, Training
from pipeline.errors import UsageError
from pipeline.interrupt import StopRequest
from pipeline.media.pictures import write_picture
from pipeline.memory import keep_freed_memory
from pipeline.options import TrainOptions
from pipeline.progress import Bar, Console
from pipeline.report import in_words, some
from pipeline.training.augment import Augmentation, draw_pairs
from pipeline.training.dataset import load_faces
from pipeline.training.preview import preview_sheet
from pipeline.training.schedule import Batch, Schedule, generator
from pipeline.training.trainer import Trainer
from pipeline.workspace import Workspace

SAVE_EVERY_S = 600
PACE_STEPS = 5  # timed, after one that warms up, before it is said how long an epoch takes


@dataclass
class TrainReport:
    """What a training run did."""

    folder: Path
    ended_by: str = ""
    epoch: int = 0
    steps: int = 0
    samples: int = 0
    seconds: float = 0.0
    people: dict[str, Training] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """What was trained, and where it is."""
        rate = self.samples / self.seconds if self.seconds else 0
        lines = [
            f"trained {self.steps} steps, {self.samples} samples in {in_words(self.seconds)} "
            f"({rate:.1f} samples/s); ended by {self.ended_by}"
        ]
        for person, training in sorted(self.people.items()):
            state = (
                f"L1 {training.loss:.4f} after {training.samples} samples" if training.samples else "not trained yet"
            )
            lines.append(f"  {person}: {state}")
        if self.unreadable:
            lines.append(f"left out {len(self.unreadable)} unreadable pictures: {some(self.unreadable)}")
        return [*lines, f"model and previews: {self.folder}"]

    def problems(self) -> list[str]:
        """Nothing: what fails in training ends it with an error."""
        return []


def train(options: TrainOptions, console: Console) -> TrainReport:
    """Train a model, or go on with one, until a limit or Ctrl-C.

    Raises:
        NothingToDoError: there are not faces of two people.
        UsageError: the model there has other sizes.
        WorkspaceError: the model there is damaged, or cannot be saved.
    """
    workspace = Workspace(options.workspace)
    folder = workspace.model(options.model_name)
    device = torch.device("cuda" if torch.cuda.is_available() and not options.no_cuda else "cpu")
    keep_freed_memory()
    with StopRequest() as stop:
        model = open_model(folder, options)
        faces = load_faces(options.data_dir or workspace.data, console)
        for person in faces.people:
            model.add_person(person)
        trainer = Trainer(model, options.lr, options.fix_enc, device)
        run = _Run(options, folder, trainer, faces.people, console, stop)
        report = run.until_the_end()
    report.unreadable = faces.unreadable
    return report


def open_model(folder: Path, options: TrainOptions) -> Model:
    """Load the model of a folder, or make a new one of the sizes asked for.

    Raises:
        UsageError: the model there has other sizes.
    """
    if not checkpoint.exists(folder):
        torch.manual_seed(options.seed)
        return Model(Encoder(options.init_dim, options.code_dim))
    model = checkpoint.load(folder, for_training=True)
    init_dim, code_dim = model.encoder.init_dim, model.encoder.code_dim
    if (init_dim, code_dim) != (options.init_dim, options.code_dim):
        raise UsageError(
            f"the model {folder.name!r} has --init-dim {init_dim} --code-dim {code_dim}: "
            "go on with these, or choose another name with -n"
        )
    return model


@dataclass
class _Run:
    """One run of training: the loop, its limits, its saves."""

    options: TrainOptions
    folder: Path
    trainer: Trainer
    people: dict[str, torch.Tensor]
    console: Console
    stop: StopRequest

    def __post_init__(self) -> None:
        counts = {person: len(crops) for person, crops in self.people.items()}
        options = self.options
        self.schedule = Schedule(counts, options.batch_size, options.inner_loop, options.seed)
        self.model, self.device = self.trainer.model, self.trainer.device
        self.report = TrainReport(self.folder)
        self.began = self.saved = time.monotonic()
        self.saved_steps = -1
        self.pace: float | None = None  # samples per second
        self.timed: tuple[float, int] | None = None

    def until_the_end(self) -> TrainReport:
        """Step until a limit is reached or an end is asked for; save on the way and at the end."""
        counted = " and ".join(f"{len(crops)} faces of {person}" for person, crops in self.people.items())
        begun = f"going on with '{self.folder.name}' at step {self.model.steps}" if self.model.steps else "a new model"
        self.console.note(f"training {begun} on {self.device.type}: {counted}")
        with self.console.bar("train", self._expected_samples(), "face") as bar:
            for batch in self.schedule.batches(self.model.position):
                if ended_by := self._reason_to_end(batch):
                    self.report.ended_by = ended_by
                    break
                self._step(batch, bar)
                due = batch.ends_epoch and batch.after.epoch % self.options.log_interval == 0
                if due or time.monotonic() - self.saved > SAVE_EVERY_S:
                    self._save()
        if self.saved_steps != self.model.steps:
            self._save()
        self.report.seconds = time.monotonic() - self.began
        self.report.people, self.report.epoch = self.model.trained, self.model.position.epoch
        return self.report

    def _step(self, batch: Batch, bar: Bar) -> None:
        crops = self.people[batch.person][batch.faces].to(self.device, non_blocking=True)
        here = batch.here
        chance = generator(self.options.seed, here.epoch, here.visit, here.inner, here.batch, 1)
        loss = self.trainer.step(batch.person, *draw_pairs(crops, Augmentation(), chance))
        self.model.position = batch.after
        self.report.steps += 1
        self.report.samples += len(crops)
        self._measure_pace()
        bar.expect(self._expected_samples())
        bar.advance(len(crops))
        if self.report.steps % self.options.log_interval == 0:
            passes = f"pass {here.inner + 1}/{self.options.inner_loop}"
            bar.status(f"epoch {here.epoch + 1}, {batch.person} {passes}, L1 {loss:.4f}")

    def _reason_to_end(self, batch: Batch) -> str | None:
        options = self.options
        if self.stop.made:
            return "you"
        if batch.here.epoch >= options.epochs:
            return f"--epochs {options.epochs}"
        if options.max_steps is not None and self.report.steps >= options.max_steps:
            return f"--max-steps {options.max_steps}"
        if options.max_minutes is not None and time.monotonic() - self.began >= options.max_minutes * 60:
            return f"--max-minutes {options.max_minutes:g}"
        return None

    def _save(self) -> None:
        self.trainer.store_moments()
        checkpoint.save(self.folder, self.model)
        for person, crops in self.people.items():
            sheet = preview_sheet(self.model, person, crops, self.device)
            write_picture(self.folder / person / f"epoch_{self.model.position.epoch}.png", sheet)
        self.saved, self.saved_steps = time.monotonic(), self.model.steps

    def _measure_pace(self) -> None:
        if self.report.steps == 1:
            self.timed = (time.monotonic(), self.report.samples)
        elif self.report.steps > PACE_STEPS and self.timed:
            began, samples = self.timed
            self.pace = (self.report.samples - samples) / (time.monotonic() - began)
            if self.report.steps == 1 + PACE_STEPS:
                for line in pace_notes(self.schedule, self.pace, self._limit_samples()):
                    self.console.note(line)

    def _limit_samples(self) -> float | None:
        """Samples this run can take under its limits, at the pace measured."""
        limits = []
        if self.options.max_steps is not None:
            limits.append(float(self.options.max_steps * self.options.batch_size))
        if self.options.max_minutes is not None and self.pace is not None:
            limits.append(self.options.max_minutes * 60 * self.pace)
        return min(limits, default=None)

    def _expected_samples(self) -> int | None:
        """Samples this run will have taken when its bar is full: at its limit, or else at the end of an epoch."""
        limit = self._limit_samples()
        if limit is not None:
            return max(round(limit), self.report.samples)
        if self.options.max_minutes is not None:
            return None  # until the pace is known
        epochs_done = self.report.samples // self.schedule.samples_per_epoch
        return (epochs_done + 1) * self.schedule.samples_per_epoch


def pace_notes(schedule: Schedule, pace: float, limit_samples: float | None) -> list[str]:
    """Say how long an epoch takes, and what to do where a limit ends the run before everyone had a turn.

    Args:
        schedule: what an epoch is.
        pace: samples per second.
        limit_samples: samples the run can take; None where it has no limit.
    """
    people, faces = len(schedule.face_counts), sum(schedule.face_counts.values())
    epoch = schedule.samples_per_epoch
    notes = [
        f"one epoch visits {people} people, {faces} faces x {schedule.inner_loop} passes = {epoch} samples: "
        f"{in_words(epoch / pace)} at {pace:.0f} samples/s"
    ]
    if limit_samples is not None and limit_samples <= schedule.samples_until_all_visited():
        fitting = max(1, int(limit_samples / faces / 2))
        notes.append(
            f"this run's limit ends it after {round(limit_samples)} samples, before everyone was visited: "
            f"stop it (Ctrl-C) and use --inner-loop {fitting} or less; for short runs 1 is best"
        )
    return notes
