"""Stage 2: train one shared encoder and one decoder per person on folders of faces."""

import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from models import checkpoint
from models.autoencoder import Encoder
from models.checkpoint import Model
from pipeline.console import Bar, Console, NullConsole, plural
from pipeline.errors import NothingToDoError, UsageError, WorkspaceError
from pipeline.media.pictures import write_picture
from pipeline.options import TrainOptions
from pipeline.runtime import StopRequest, keep_freed_memory, prefetched
from pipeline.training.dataset import Faces, Fetcher, check_people, load_faces, split_faces
from pipeline.training.distributed import LostProcessError, joined
from pipeline.training.monitor import (
    MOST_SETBACKS,
    Evaluation,
    TrainingLog,
    TrainReport,
    preview_pairs,
    preview_sheet,
    swap_sheet,
    validation_l1,
)
from pipeline.training.sampler import Batch, Pace, Schedule, rate_left
from pipeline.training.trainer import LOSSES, Computing, DivergedError, Trainer, check_compiler, choose_precision
from pipeline.workspace import Workspace, locked

SAVE_EVERY_S = 600
SAVING_SHARE = 0.02  # of the time at most goes into saving at the ends of short epochs
FINE = 1_000_000  # parts of a run that are told apart
AHEAD = 2  # batches that are fetched while a GPU computes
ENDS = ("", "you", "--epochs {epochs}", "--max-steps {max_steps}", "--max-minutes {max_minutes:g}")


def train(options: TrainOptions, console: Console) -> TrainReport:
    """Train a model, or go on with one, until a limit or Ctrl-C.

    Started by torchrun in several processes, they train it together; the first writes and speaks.

    Raises:
        NothingToDoError: there are not faces of two people.
        UsageError: the model there has other sizes.
        WorkspaceError: the model there is damaged, is being trained, or cannot be saved.
    """
    workspace = Workspace(options.workspace)
    folder = workspace.model(options.model_name)
    busy = f"another run is training '{options.model_name}': wait until it has ended, or choose another name with -n"
    with joined(options.no_cuda) as (processes, device):
        if options.compile:
            check_compiler(device)
        computing = Computing(device, choose_precision(options.precision, device), options.compile, processes)
        console = console if processes.is_first else NullConsole()
        faces = load_faces(options.data_dir or workspace.data, console, workspace.root / "spill", options.chosen())
        lock = locked(folder.with_name(f".{folder.name}.lock"), busy) if processes.is_first else nullcontext()
        with StopRequest() as stop, lock:  # from here on: before, there is nothing to save
            keep_freed_memory()
            if computing.on_gpu:
                torch.set_float32_matmul_precision("high")  # TF32
            report = _Run(options, folder, faces, computing, console, stop).until_the_end()
    report.unreadable = faces.unreadable
    return report


def open_model(folder: Path, options: TrainOptions) -> Model:
    """Load the model of a folder, or make a new one of the sizes asked for.

    Raises:
        UsageError: the model there has other sizes.
    """
    torch.manual_seed(options.seed)  # for new networks, of a new person too
    if not checkpoint.exists(folder):
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
    """One run of training: the loop, its limits, its saves, its setbacks."""

    options: TrainOptions
    folder: Path
    faces: Faces
    computing: Computing
    console: Console
    stop: StopRequest

    def __post_init__(self) -> None:
        self.model = open_model(self.folder, self.options)
        check_people(self.faces.people, self.model.decoders, f"the folder {self.faces.folder}/{{}}")
        seen = [person for person, training in self.model.trained.items() if training.samples]
        self.parts, self.held_out = split_faces(self.faces.files, self.model.held_out, seen)
        counts = {person: len(part.trained) for person, part in self.parts.items()}
        for person in (person for person, count in counts.items() if not count):
            raise NothingToDoError(
                f"the faces left of {person!r} were kept from training, to judge '{self.folder.name}' by: add others, "
                "or train another model with -n"
            )
        batch_size, inner_loop, seed = self.options.batch_size, self.options.inner_loop, self.options.seed
        self.schedule = Schedule(counts, batch_size, inner_loop, seed, self.options.interleave)
        trained_on = {person: part.trained for person, part in self.parts.items()}
        self.fetcher = Fetcher(self.faces.people, trained_on, seed, self.computing)
        self.pace = Pace(self.schedule, self.options)
        self.processes = self.computing.processes
        self.report = TrainReport(self.folder, is_first=self.processes.is_first)
        self.began = self.saved = time.monotonic()
        self.saving_s = 0.0
        self.learning_rate, self.setbacks_in_a_row = self.options.lr, 0
        self._prepare()

    def _prepare(self) -> None:
        """Make a model that was opened ready to be trained."""
        self.model.held_out = self.held_out
        for person in self.faces.people:
            self.model.add_person(person)
        loss = LOSSES[self.options.loss]
        self.trainer = Trainer(self.model, self.learning_rate, self.options.fix_enc, self.computing, loss)
        self.record = TrainingLog(self.folder, self.model.steps)
        if self.record.damaged and self.processes.is_first:
            lines = plural(self.record.damaged, "damaged line")
            self.console.note(f"passed over {lines} of {self.folder / 'history.jsonl'}; nothing depends on it")
        self.saved_steps = self.model.steps if checkpoint.exists(self.folder) else -1
        chosen = (self.options.lr_schedule, self.options.loss, self.options.fix_enc)
        options = (self.learning_rate, *chosen, self.computing.precision)
        if self.processes.count > 1:
            facts = (self.model.steps, self.model.position, self.schedule, self.held_out, options)
            self.processes.check_equal("models, faces or options", repr((facts, self.trainer.weights_in_short())))

    def until_the_end(self) -> TrainReport:
        """Step until a limit is reached or an end is asked for; save on the way and at the end."""
        whose = " and ".join(f"{count} faces of {person}" for person, count in self.schedule.face_counts.items())
        begun = f"going on with '{self.folder.name}' at step {self.model.steps}" if self.model.steps else "a new model"
        several = f" in {self.processes.count} processes" if self.processes.count > 1 else ""
        how = f"{self.computing.device.type}{several}, {self.computing.precision}"
        self.console.note(f"training {begun} on {how}: {whose}")
        with self.console.bar("train", self.pace.expected_samples(), "face") as bar:
            while not self.report.ended_by:
                try:
                    self._go_on(bar)
                except DivergedError as error:
                    self._set_back(error)
                except LostProcessError:
                    if not self.computing.on_gpu:  # where what it was to send is waited for, for ever
                        self._write()
                    raise
        if self.processes.is_first:
            try:
                self.record.film()
            except WorkspaceError as error:
                self.console.note(str(error))
        self.report.verdict = self.record.verdict()
        self.report.seconds = time.monotonic() - self.began
        self.report.people, self.report.epoch = self.model.trained, self.model.position.epoch
        return self.report

    def _go_on(self, bar: Bar) -> None:
        """Step until there is a reason to end."""
        fetched = ((batch, self.fetcher.fetch(batch)) for batch in self.schedule.batches(self.model.position))
        with prefetched(fetched, AHEAD) if self.computing.on_gpu else nullcontext(fetched) as batches:
            for batch, own in batches:
                ended_by = self._reason_to_end(batch)
                if ended_by:
                    break
                self.trainer.learning_rate = self._rate_now()
                self.trainer.step({person: faces.portion() for person, faces in own.items()})
                self._count(batch, bar)
                if self._is_save_due(batch):
                    self._save()
        if self.saved_steps != self.model.steps:
            self._save()
        self.report.ended_by = ended_by

    def _rate_now(self) -> float:
        """Learning rate at this point of the run, the same in all processes."""
        if self.options.lr_schedule == "constant":
            return self.learning_rate
        done = self.pace.done(self.report.steps, time.monotonic() - self.began)
        return self.learning_rate * rate_left(self.processes.largest(round(FINE * done)) / FINE)

    def _count(self, batch: Batch, bar: Bar) -> None:
        self.model.position = batch.after
        self.report.steps += 1
        self.report.samples += batch.samples
        for line in self.pace.count(batch.samples):
            self.console.note(line)
        bar.expect(self.pace.expected_samples())
        bar.advance(batch.samples)
        loss = self.trainer.read_losses()
        if loss is not None and self.report.steps % self.options.log_interval == 0:
            passes = f"pass {batch.here.inner + 1}/{self.options.inner_loop}"
            bar.status(f"epoch {batch.here.epoch + 1}, {' and '.join(batch.faces)} {passes}, L1 {loss:.4f}")

    def _reason_to_end(self, batch: Batch) -> str:
        """Say what ends the run now, the same in all processes; empty where nothing does."""
        options, seconds = self.options, time.monotonic() - self.began
        claims = (
            self.stop.requested,
            batch.here.epoch >= options.epochs,
            options.max_steps is not None and self.report.steps >= options.max_steps,
            options.max_minutes is not None and seconds >= options.max_minutes * 60,
        )
        number = next((number for number, holds in enumerate(claims, 1) if holds), 0)
        return ENDS[self.processes.largest(number)].format(**asdict(options))

    def _is_save_due(self, batch: Batch) -> bool:
        waited = time.monotonic() - self.saved
        ends_epoch = batch.ends_epoch and batch.after.epoch % self.options.log_interval == 0
        is_due = waited > SAVE_EVERY_S or (ends_epoch and waited * SAVING_SHARE >= self.saving_s)
        return bool(self.processes.largest(int(is_due and self.processes.is_first)))

    def _save(self) -> None:
        """Save, unless the last steps have spoilt the weights, in whichever process's eyes."""
        self.trainer.read_losses(wait=True)
        spoilt = None
        try:
            for person, crops in self.faces.people.items():
                self.trainer.check(person, preview_pairs(crops, self.computing.device))
        except DivergedError as error:
            spoilt = error
        if self.processes.largest(int(spoilt is not None)):
            raise spoilt or DivergedError("another process sees the weights spoilt")
        self._write()

    def _write(self) -> None:
        began = time.monotonic()
        if self.processes.is_first:
            self.trainer.store_moments()
            checkpoint.save(self.folder, self.model, self.options.keep)
            try:
                self._show()
            except WorkspaceError as error:  # a picture is not worth the end of a night's training
                self.console.note(f"{error}; the model itself is saved, training goes on")
        self.saved, self.saved_steps = time.monotonic(), self.model.steps
        self.saving_s, self.setbacks_in_a_row = self.saved - began, 0

    def _show(self) -> None:
        """Write what a person looks at: previews, and the course of training."""
        for person, crops in self.faces.people.items():
            sheet = preview_sheet(self.model, person, crops, self.computing.device)
            write_picture(self.folder / person / f"epoch_{self.model.position.epoch}.png", sheet)
        self.record.add(self._judgement(), swap_sheet(self.model, self.faces.people, self.computing.device))

    def _judgement(self) -> Evaluation:
        """Say how far training has come, by the faces it has not seen too."""
        losses = {person: one.loss for person, one in self.model.trained.items() if one.loss is not None}
        validation = {
            person: validation_l1(self.model, person, self.faces.people[person][part.held], self.computing.device)
            for person, part in self.parts.items()
            if len(part.held) and self.model.trained[person].samples
        }
        return Evaluation(self.model.steps, self.pace.rate, losses, validation)

    def _set_back(self, error: DivergedError) -> None:
        """Go back to what was saved last, with half the learning rate; not for ever."""
        self.setbacks_in_a_row += 1
        self.learning_rate /= 2
        reached = self.model.steps
        self.model = open_model(self.folder, self.options)
        self._prepare()
        self.report.undone += reached - self.model.steps
        on = f", on with --lr {self.learning_rate:g}"
        if self.setbacks_in_a_row == MOST_SETBACKS:
            self.report.has_diverged, self.report.ended_by, on = True, "its setbacks", ""
        self.report.setbacks.append(f"{error}: back to step {self.model.steps}{on}")
        self.console.note(self.report.setbacks[-1])
