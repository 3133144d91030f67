"""Stage 2: train one shared encoder and one decoder per person on folders of faces."""

import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from models import checkpoint
from models.checkpoint import Model, Position, Training
from models.networks import REFERENCE
from models.pretrained import Base, base_of, has_builtin, load_builtin
from models.segmenter import load_segmenter
from pipeline.console import Console, NullConsole, Report, format_duration, join_words, plural
from pipeline.errors import UsageError, WorkspaceError, command
from pipeline.faces.occlusions import OcclusionFinder
from pipeline.media.pictures import write_picture
from pipeline.names import check_people
from pipeline.options import RECIPES, TrainOptions
from pipeline.runtime import StopRequest, keep_freed_memory, prefetched
from pipeline.training.dataset import Batch, Dataset, FaceFormat, Faces, load_faces
from pipeline.training.distributed import LostProcessError, join_processes
from pipeline.training.evaluation import Evaluator, best_swap, in_words, verdict
from pipeline.training.monitor import TrainingLog, preview_pairs, preview_sheet, swap_sheet
from pipeline.training.sampler import Pace, Sampler, cosine_factor, fraction_done
from pipeline.training.segmenter import learn_occlusions
from pipeline.training.trainer import (
    LOSSES,
    Computing,
    DivergedError,
    Loss,
    Trainer,
    check_compiler,
    choose_precision,
    weighted,
)
from pipeline.workspace import Workspace, locked_model

SAVE_EVERY_S = 600
SAVING_SHARE = 0.02  # largest part of the time spent on saves at the ends of short epochs
MAX_SETBACKS = 3  # in a row; then the run ends
PREFETCH = 2  # batches prepared ahead while a GPU computes
SCHEDULE_PARTS = 1_000_000  # resolution of the learning rate schedule, per run
END_REASONS = ("", "you", "--epochs {epochs}", "--max-steps {max_steps}", "--max-minutes {max_minutes:g}")


@dataclass
class Outcome:
    """What a training run did.

    Attributes:
        people: progress of each decoder.
        unreadable: pictures that were left out, and why.
        setbacks: each return to the last save after divergence, with its reason.
        undone: number of steps undone by setbacks.
        is_first: whether this is the process that reports.
        has_diverged: whether the run ended because of too many setbacks.
    """

    folder: Path
    ended_by: str = ""
    epoch: int = 0
    steps: int = 0
    samples: int = 0
    seconds: float = 0.0
    people: dict[str, Training] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)
    setbacks: list[str] = field(default_factory=list)
    verdict: list[str] = field(default_factory=list)
    undone: int = 0
    is_first: bool = True
    has_diverged: bool = False

    def add_setback(self, error: DivergedError, step: int, last_step: int, learning_rate: float) -> None:
        """Record that training went back to an earlier step, to continue with another rate unless it diverged."""
        self.undone += last_step - step
        self.ended_by = "its setbacks" if self.has_diverged else ""  # the last save may have failed
        next_try = "" if self.has_diverged else f", continuing with --lr {learning_rate:g}"
        self.setbacks.append(f"{error}: back to step {step}{next_try}")


def train(options: TrainOptions, console: Console) -> Report:
    """Train a new or existing model until a limit or Ctrl-C.

    Several processes started by torchrun train it together; the first of them writes and prints.

    Raises:
        NothingToDoError: there are no faces of two people.
        UsageError: the existing model has other sizes.
        CheckpointError: the existing model is damaged, or cannot be saved.
        WorkspaceError: the model is being trained by another run, or a person's name cannot name files.
    """
    if options.only_mask:
        return learn_occlusions(options, console)
    workspace = Workspace(options.workspace)
    folder = workspace.model(options.model_name)
    with join_processes(options.no_cuda) as (processes, device):
        if options.compile:
            check_compiler(device)
        computing = Computing(device, choose_precision(options.precision, device), options.compile, processes)
        console = console if processes.is_first else NullConsole()
        network = open_model(folder, options).network  # refuses what does not fit before faces are read
        faces = _load_faces(options, workspace, network, device, console)
        lock = locked_model(folder) if processes.is_first else nullcontext()
        with StopRequest() as stop, lock:  # only from here on is there something to save
            keep_freed_memory()
            if computing.on_gpu:
                torch.set_float32_matmul_precision("high")  # TF32
            model = open_model(folder, options)
            check_people(faces.people, model.decoders, f"the folder {faces.folder}/{{}}")
            dataset = Dataset(faces, model, device, processes, augments_colors=options.augment_color)
            counts = {person: len(split.trained) for person, split in dataset.splits.items()}
            is_interleaved = options.interleave or model.network != REFERENCE
            sampler = Sampler(counts, options.batch_size, options.inner_loop, options.seed, is_interleaved)
            outcome = _train(_Run(options, folder, dataset, sampler, computing, console), model, stop)
    outcome.unreadable = faces.unreadable
    return _report(outcome)


def _load_faces(
    options: TrainOptions, workspace: Workspace, network: str, device: torch.device, console: Console
) -> Faces:
    """Read the faces; tell the user if they have fewer pixels than the network draws."""
    data_dir, folder = options.data_dir or workspace.data, workspace.model(options.model_name)
    counts_by_place = _loss(network, options) is weighted
    finder = OcclusionFinder(load_segmenter(folder), device) if counts_by_place and network != REFERENCE else None
    face_format = FaceFormat.of(network, finder)
    faces = load_faces(data_dir, console, workspace.root / "spill", options.chosen(), face_format)
    if faces.small:
        console.note(
            f"{faces.small} of {plural(sum(map(len, faces.people.values())), 'face')} have fewer than the "
            f"{face_format.needed_px} px that {network} can draw; for larger ones run: "
            f"python cli.py extract VIDEO --again --size {face_format.crop_px}"
        )
    if covered := sum(map(len, faces.covered.values())):
        console.note(f"{plural(covered, 'face')} with something in front: what is there is not learned")
    return faces


@dataclass(frozen=True)
class _Run:
    """What stays the same while a model is trained."""

    options: TrainOptions
    folder: Path
    dataset: Dataset
    sampler: Sampler
    computing: Computing
    console: Console


def _train(run: _Run, model: Model, stop: StopRequest) -> Outcome:
    """Train until a limit is reached or the user stops the run; save regularly and at the end."""
    pace, log = Pace(run.sampler, run.options), TrainingLog(run.folder, model.steps)
    saver = _Saver(run, pace, log, saved_steps=model.steps if checkpoint.exists(run.folder) else -1)
    outcome = Outcome(run.folder, is_first=run.computing.processes.is_first)
    learning_rate, setbacks_in_a_row, schedule = run.options.lr, 0, _Schedule()
    trainer = _make_trainer(run, model, learning_rate)
    _announce(run, model, log)
    with run.console.bar("train", pace.expected_samples(), "face") as bar:
        while not outcome.ended_by:
            source = run.dataset.batches(run.sampler, trainer.model.position, lambda: schedule.warp_factor)
            try:
                with prefetched(source, PREFETCH) if run.computing.on_gpu else nullcontext(source) as batches:
                    for batch in batches:
                        outcome.ended_by = _reason_to_end(run, batch.position, pace, stop)
                        if outcome.ended_by:
                            break
                        schedule.update(run, pace)
                        trainer.learning_rate = learning_rate * schedule.rate_factor
                        trainer.step(batch)
                        trainer.model.position = batch.next_position
                        for line in pace.count(batch.samples):
                            run.console.note(line)
                        bar.expect(pace.expected_samples())
                        bar.advance(batch.samples)
                        loss = trainer.read_losses()
                        if loss is not None and pace.steps % run.options.log_interval == 0:
                            bar.status(_status(batch, loss, run.options.inner_loop))
                        if saver.is_due(batch):
                            saver.save(trainer)
                            setbacks_in_a_row = 0
                if saver.saved_steps != trainer.model.steps:
                    saver.save(trainer)
            except DivergedError as error:
                setbacks_in_a_row += 1
                learning_rate /= 2
                last_step = trainer.model.steps
                trainer = _make_trainer(run, open_model(run.folder, run.options), learning_rate)
                log.forget_after(trainer.model.steps)
                outcome.has_diverged = setbacks_in_a_row == MAX_SETBACKS
                outcome.add_setback(error, trainer.model.steps, last_step, learning_rate)
                run.console.note(outcome.setbacks[-1])
            except LostProcessError:
                if not run.computing.on_gpu:  # on a GPU, saving would wait forever for the lost process
                    saver.write(trainer)
                raise
    saver.write_timelapse()
    outcome.steps, outcome.samples, outcome.seconds = pace.steps, pace.samples, pace.seconds
    outcome.people, outcome.epoch = trainer.model.trained, trainer.model.position.epoch
    outcome.verdict = [*verdict(log.evaluations), *_what_to_look_at(log, run.options)]
    return outcome


def _what_to_look_at(log: TrainingLog, options: TrainOptions) -> list[str]:
    """Name the command that shows the best swap in its footage, if there is both."""
    swap = best_swap(log.evaluations)
    if swap is None or options.data_dir is not None or not any(Workspace(options.workspace).stores()):
        return []
    words: list[str | Path] = ["preview", "--from", swap.from_person, "--to", swap.to_person]
    if options.model_name != TrainOptions.model_name:
        words += ["-n", options.model_name]
    if options.workspace != TrainOptions.workspace:
        words += ["--workspace", options.workspace]
    return [f"look at it: {command(*words)}"]


def open_model(folder: Path, options: TrainOptions) -> Model:
    """Load the model of a folder, or make a new one of the requested sizes.

    Raises:
        UsageError: the existing model has another network or other sizes.
    """
    torch.manual_seed(options.seed)  # for new networks, of a new person too
    if not checkpoint.exists(folder):
        model = Model.new(options.network or REFERENCE, options.init_dim, options.code_dim)
        if base := _load_base(model.network, options):
            model.encoder.load_state_dict(base.encoder)
            model.decoder_start = base.decoder
        return model
    model = checkpoint.load(folder, for_training=True)
    if options.network not in (None, model.network):
        raise UsageError(
            f"the model {folder.name!r} has --network {model.network}: continue with it, or choose another name with -n"
        )
    options.check_sizes(model.network)
    if model.sizes and model.sizes != (options.init_dim, options.code_dim):
        init_dim, code_dim = model.sizes
        raise UsageError(
            f"the model {folder.name!r} has --init-dim {init_dim} --code-dim {code_dim}: "
            "continue with these, or choose another name with -n"
        )
    if base := _load_base(model.network, options):
        model.decoder_start = base.decoder  # of people who are new in this model
    return model


def _load_base(network: str, options: TrainOptions) -> Base | None:
    """Load what new networks start from: the weights that come with Recast, or those of another model.

    Raises:
        UsageError: the other model has another network.
    """
    if options.base == "none" or (options.base == "builtin" and not has_builtin(network)):
        return None
    if options.base == "builtin":
        return load_builtin(network)
    model = checkpoint.load(Workspace(options.workspace).model(options.base))
    if model.network != network:
        raise UsageError(f"--base {options.base}: this model is of --network {model.network}, and not of {network}")
    return base_of(model)


def _make_trainer(run: _Run, model: Model, learning_rate: float) -> Trainer:
    """Prepare an opened model for training.

    Raises:
        WorkspaceError: the processes have different models, faces or options.
    """
    options, computing = run.options, run.computing
    model.held_out = run.dataset.held_out
    for person in run.dataset.faces.people:
        model.add_person(person)
    trainer = Trainer(model, learning_rate, options.fix_enc, computing, _loss(model.network, options))
    if computing.processes.count > 1:
        chosen = (
            learning_rate,
            options.lr_schedule,
            options.finish,
            options.augment_color,
            options.loss,
            options.fix_enc,
            computing.precision,
        )
        facts = (model.steps, model.position, run.sampler, model.held_out, chosen, trainer.weight_sums())
        computing.processes.check_equal("models, faces or options", repr(facts))
    return trainer


def _loss(network: str, options: TrainOptions) -> Loss:
    return LOSSES[options.loss or ("l1" if network == REFERENCE else "weighted")]


def _announce(run: _Run, model: Model, log: TrainingLog) -> None:
    """Tell the user which model is trained, where, and on which faces."""
    if log.damaged:
        lines = plural(log.damaged, "damaged line")
        run.console.note(f"skipped {lines} of {run.folder / 'history.jsonl'}; nothing depends on it")
    count, precision = run.computing.processes.count, run.computing.precision
    what = f"'{run.folder.name}' from step {model.steps} on" if model.steps else "a new model"
    where = run.computing.device.type + (f" in {count} processes" if count > 1 else "")
    options = run.options
    if not model.steps and (options.recipe, model.network, where) == ("reference", REFERENCE, "cpu"):
        run.console.note("for a good likeness after half an hour on a CPU, type: python cli.py train --recipe quick")
    if values := RECIPES[options.recipe]:
        chosen = ", ".join(f"{name.replace('_', '-')} {getattr(options, name)}" for name in values)
        run.console.note(f"recipe {options.recipe}: {chosen}")
    faces = " and ".join(f"{count} faces of {person}" for person, count in run.sampler.face_counts.items())
    run.console.note(f"training {what}; {where}, {precision}: {faces}")


def _status(batch: Batch, loss: float, inner_loop: int) -> str:
    position, people = batch.position, " and ".join(batch.pairs)
    return f"epoch {position.epoch + 1}, {people} pass {position.inner + 1}/{inner_loop}, L1 {loss:.4f}"


def _reason_to_end(run: _Run, position: Position, pace: Pace, stop: StopRequest) -> str:
    """Return what ends the run now, the same in all processes; empty to continue."""
    options = run.options
    reasons = (
        stop.requested,
        position.epoch >= options.epochs,
        options.max_steps is not None and pace.steps >= options.max_steps,
        options.max_minutes is not None and pace.seconds >= options.max_minutes * 60,
    )
    number = next((number for number, holds in enumerate(reasons, 1) if holds), 0)
    reason = END_REASONS[run.computing.processes.largest(number)]
    if reason == "you":
        run.console.note("saving; a second Ctrl-C ends at once, and loses what is not saved yet")
    return reason.format(**asdict(options))


@dataclass
class _Schedule:
    """Factors that change while the run goes on: of the learning rate, and of the distortion of the faces."""

    rate_factor: float = 1.0
    warp_factor: float = 1.0

    def update(self, run: _Run, pace: Pace) -> None:
        """Set the factors for the next step, the same in all processes."""
        options = run.options
        if options.lr_schedule == "constant" and not options.finish:
            return
        fraction = fraction_done(options, pace.steps, pace.seconds)
        done = run.computing.processes.largest(round(SCHEDULE_PARTS * fraction)) / SCHEDULE_PARTS
        if options.lr_schedule == "cosine":
            self.rate_factor = cosine_factor(done)
        if options.finish:
            self.warp_factor = min(1.0, (1 - done) / options.finish)


@dataclass
class _Saver:
    """Saves the model with its previews and evaluation."""

    run: _Run
    pace: Pace
    log: TrainingLog
    saved_steps: int  # of the model on disk; -1 while there is none

    def __post_init__(self) -> None:
        self._saved_at, self._duration_s = time.monotonic(), 0.0
        self._processes, self._told = self.run.computing.processes, ""
        self._evaluator = Evaluator(self.run.dataset, self.run.computing.device)

    def is_due(self, batch: Batch) -> bool:
        """Whether to save after a batch, the same in all processes: every ten minutes, and after long epochs."""
        waited_s = time.monotonic() - self._saved_at
        ends_epoch = batch.ends_epoch and batch.next_position.epoch % self.run.options.log_interval == 0
        is_due = waited_s > SAVE_EVERY_S or (ends_epoch and waited_s * SAVING_SHARE >= self._duration_s)
        return bool(self._processes.largest(int(is_due and self._processes.is_first)))

    def save(self, trainer: Trainer) -> None:
        """Save, unless the last steps made the weights diverge.

        Raises:
            DivergedError: they did, in this process or another.
        """
        trainer.read_losses(wait=True)
        diverged: DivergedError | None = None
        try:
            for person, crops in self.run.dataset.faces.people.items():
                trainer.check(person, preview_pairs(trainer.model, crops, self.run.computing.device))
        except DivergedError as error:
            diverged = error
        if self._processes.largest(int(diverged is not None)):
            raise diverged or DivergedError("the weights diverged in another process")
        self.write(trainer)

    def write(self, trainer: Trainer) -> None:
        """Write the model, then previews and evaluation."""
        began, model, folder, device = time.monotonic(), trainer.model, self.run.folder, self.run.computing.device
        if self._processes.is_first:
            trainer.store_moments()
            checkpoint.save(folder, model, self.run.options.keep)
            people = self.run.dataset.faces.people
            try:
                for person, crops in people.items():
                    sheet = preview_sheet(model, person, crops, device)
                    write_picture(folder / person / f"epoch_{model.position.epoch}.png", sheet)
                evaluation = self._evaluator.evaluate(model, self.pace.rate)
                self.log.add(evaluation, swap_sheet(model, people, device))
                self.run.console.picture(folder / "swap.png")
                self._tell()
            except WorkspaceError as error:  # a missing picture must not end a long training
                self.run.console.note(f"{error}; the model itself is saved, training continues")
        self._saved_at, self.saved_steps = time.monotonic(), model.steps
        self._duration_s = self._saved_at - began

    def _tell(self) -> None:
        """Say how good the model is, if that sounds different than at the last save."""
        words = in_words(self.log.evaluations)
        if words != self._told:
            self.run.console.note(f"after {format_duration(self.pace.seconds)}: {words}")
        self._told = words

    def write_timelapse(self) -> None:
        """Make a clip of the swap sheets of all saves."""
        if self._processes.is_first:
            try:
                self.log.write_timelapse()
            except WorkspaceError as error:
                self.run.console.note(str(error))


def _report(outcome: Outcome) -> Report:
    """Report the outcome; of several processes only the first does."""
    lines, problems = list[str](), list[str]()
    if outcome.is_first:
        rate = outcome.samples / outcome.seconds if outcome.seconds else 0
        lines.append(
            f"trained {plural(outcome.steps, 'step')}, {plural(outcome.samples, 'sample')} in "
            f"{format_duration(outcome.seconds)} ({rate:.1f} samples/s); ended by {outcome.ended_by}"
        )
        if outcome.undone:
            lines.append(f"{outcome.undone} of these steps were undone:")
        lines += [f"  set back: {setback}" for setback in outcome.setbacks]
        for person, training in sorted(outcome.people.items()):
            state = "not trained here yet" if training.samples else "not trained yet"  # the first: imported
            if training.loss is not None:
                state = f"smoothed L1 {training.loss:.4f} after {training.samples} samples"
            lines.append(f"  {person}: {state}")
        lines += [*outcome.verdict, f"model and previews: {outcome.folder}"]
        if outcome.unreadable:
            pictures = plural(len(outcome.unreadable), "unreadable picture")
            remedy = "the model was trained on the others; delete or replace these"
            problems.append(f"left out {pictures}: {join_words(outcome.unreadable)}; {remedy}")
    if outcome.has_diverged:
        problems.append(
            f"training was set back {MAX_SETBACKS} times in a row and ended; what was saved before is unchanged: "
            "continue with a lower --lr (3e-4 and 5e-5 are usual)"
        )
    return Report(lines, problems, vars(outcome))
