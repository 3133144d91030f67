"""What a training run survives: kills, signals, losses that explode, a second run, a full disk."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from cli import main
from models import checkpoint
from pipeline.training.trainer import Trainer
from tests.conftest import ROOT
from tests.test_train import make_people

SMALL = ["--init-dim", "8", "--code-dim", "64", "-b", "8", "--inner-loop", "1", "--lr", "3e-4"]
PATIENCE_S = 120  # to end a hang
no_signals = pytest.mark.skipif(os.name == "nt", reason="Windows has neither SIGKILL nor SIGTERM")


def run(workspace: Path, *arguments: str) -> int:
    return main(["train", *SMALL, *arguments, "--workspace", str(workspace)])


def start(workspace: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "cli.py", "train", *SMALL, *arguments, "--workspace", str(workspace)]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def wait_for_a_save(process: subprocess.Popen[str], workspace: Path) -> Path:
    folder = workspace / "output" / "model"
    latest = time.monotonic() + PATIENCE_S
    while not list(folder.glob("*/epoch_*.png")):
        assert process.poll() is None, "it ended by itself"
        assert time.monotonic() < latest
        time.sleep(0.05)
    return folder


def equal(one: checkpoint.Model, other: checkpoint.Model) -> bool:
    networks = [(one.encoder, other.encoder), *((one.decoders[name], other.decoders[name]) for name in one.decoders)]
    return all(
        torch.equal(a, b)
        for some, others in networks
        for a, b in zip(some.state_dict().values(), others.state_dict().values(), strict=True)
    )


def test_three_steps_a_stop_and_two_more_are_five_bit_for_bit(
    extracted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(extracted, "--max-steps", "3", "-n", "stopped") == 0
    assert run(extracted, "--max-steps", "2", "-n", "stopped") == 0
    assert "training 'stopped' from step 3 on" in capsys.readouterr().err
    assert run(extracted, "--max-steps", "5", "-n", "whole") == 0
    stopped, whole = (checkpoint.load(extracted / "output" / name, for_training=True) for name in ("stopped", "whole"))
    assert (stopped.position, stopped.steps, stopped.trained) == (whole.position, 5, whole.trained)
    assert equal(stopped, whole)
    assert stopped.moments.keys() == whole.moments.keys()
    for person, moments in stopped.moments.items():
        assert all(torch.equal(value, whole.moments[person][name]) for name, value in moments.items())


def wait_for_words(process: subprocess.Popen[str], words: str) -> None:
    assert process.stderr is not None
    said = ""
    while words not in (line := process.stderr.readline()):
        said += line
        assert line, f"it ended by itself: {said}"


@no_signals
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_saves_and_ends_well(extracted: Path, name: str) -> None:
    process = start(extracted)
    folder = wait_for_a_save(process, extracted)
    process.send_signal(getattr(signal, name))
    words, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, errors
    assert "ended by you" in words
    assert checkpoint.load(folder).steps > 0


@no_signals
def test_closing_the_terminal_saves(extracted: Path) -> None:
    """A terminal of its own is taken away: the system sends SIGHUP, and nothing can be shown any more."""
    terminal, end = os.openpty()
    first = "import fcntl, runpy, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); del sys.argv[0]; "
    command = [sys.executable, "-c", f"{first}runpy.run_path('cli.py', run_name='__main__')", "cli.py"]
    command += ["train", *SMALL, "-n", "closed", "--workspace", str(extracted)]
    process = subprocess.Popen(command, cwd=ROOT, stdin=end, stdout=end, stderr=end, start_new_session=True)
    os.close(end)
    shown = b""
    while b"a new model" not in shown:
        shown += os.read(terminal, 1000)
    os.close(terminal)
    assert process.wait(timeout=PATIENCE_S) == 0
    assert checkpoint.exists(extracted / "output" / "closed")
    assert "ended by you" in max((extracted / "logs").glob("*_train_*")).read_text(encoding="utf-8")


@pytest.mark.slow
@no_signals
def test_started_with_nohup_it_goes_on_when_the_terminal_is_closed(extracted: Path) -> None:
    ignored = "import signal, runpy, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN); del sys.argv[0]; "
    command = [sys.executable, "-c", f"{ignored}runpy.run_path('cli.py', run_name='__main__')", "cli.py"]
    command += ["train", *SMALL, "--max-steps", "12", "--workspace", str(extracted)]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    wait_for_words(process, "a new model")
    process.send_signal(signal.SIGHUP)
    words, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, errors
    assert "ended by --max-steps 12" in words


@no_signals
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_while_faces_are_read_ends_the_run(name: str, tmp_path: Path) -> None:
    make_people(tmp_path / "data", "ann", "bob")
    for number in range(3, 1000):
        os.link(tmp_path / "data" / "ann" / "0.jpg", tmp_path / "data" / "ann" / f"{number}.jpg")
    script = f"""
import os, signal, sys, time
from pipeline.training import dataset
read, count = dataset._read_crop, []
def read_crop(*given, **named):
    count.append(1)
    if len(count) == 20:
        os.kill(os.getpid(), signal.{name})
    if len(count) >= 20:
        time.sleep(0.1)
    return read(*given, **named)
dataset._read_crop = read_crop
import cli
code = cli.main(["train", "-d", {str(tmp_path / "data")!r}, *{SMALL!r}, "--workspace", {str(tmp_path / "w")!r}])
print(code, len(count))
"""
    program = [sys.executable, "-c", script]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    code, read = done.stdout.split()
    assert code == "130", done.stderr
    assert int(read) < 900, "the rest is not read first"
    assert not (tmp_path / "w" / "output").exists()


@no_signals
def test_a_second_run_is_refused_and_a_killed_one_keeps_nobody_off(
    extracted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    process = start(extracted)
    wait_for_a_save(process, extracted)
    assert run(extracted, "--max-steps", "1") == 1
    assert "another run is training 'model'" in capsys.readouterr().err
    assert run(extracted, "--max-steps", "1", "-n", "other") == 0
    process.kill()
    process.communicate()
    assert run(extracted, "--max-steps", "1") == 0


class Poison:
    """Spoils the weights once, at one step of a run, as a failing machine or a far too high rate would."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int, value: float) -> None:
        self.taken, self.at, self.value = 0, at, value
        real = Trainer.step

        def step(trainer: Trainer, *arguments: object) -> None:
            real(trainer, *arguments)  # type: ignore[arg-type]
            self.taken += 1
            if self.taken == self.at:
                with torch.no_grad():
                    trainer.model.encoder.get_parameter("linear1.weight").fill_(self.value)

        monkeypatch.setattr(Trainer, "step", step)


@pytest.mark.parametrize(("value", "words"), [(float("nan"), "not a number any more"), (1e6, "exploded")])
def test_a_spoilt_model_goes_back_to_the_last_good_state_with_half_the_rate(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], value: float, words: str
) -> None:
    Poison(monkeypatch, at=3, value=value)
    assert run(trained, "--max-steps", "8") == 0
    said = capsys.readouterr()
    assert words in said.err
    assert "set back: the" in said.out
    assert ", continuing with --lr 0.00015" in said.out
    model = checkpoint.load(trained / "output" / "model")
    assert model.steps > 3
    assert all(torch.isfinite(p).all() for p in model.encoder.parameters())


def test_weights_that_are_spoilt_in_the_last_step_are_not_saved(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Poison(monkeypatch, at=2, value=float("nan"))
    assert run(trained, "--max-steps", "2") == 0
    model = checkpoint.load(trained / "output" / "model")
    assert all(torch.isfinite(p).all() for p in model.encoder.parameters())


def test_a_rate_that_is_far_too_high_ends_with_the_good_model(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = checkpoint.load(trained / "output" / "model")
    assert run(trained, "--lr", "0.9", "--max-steps", "60") == 1
    said = capsys.readouterr()
    assert "back to step 3, continuing with --lr 0.45" in said.out
    assert "back to step 3, continuing with --lr 0.225" in said.out
    assert "error: training was set back 3 times in a row" in said.err
    after = checkpoint.load(trained / "output" / "model")
    assert after.steps == 3
    assert equal(before, after)


@pytest.mark.slow
def test_as_many_states_are_kept_as_asked_for(trained: Path) -> None:
    for _ in range(3):
        assert run(trained, "--max-steps", "1", "--keep", "3") == 0
    assert len(list((trained / "output" / "model").glob("state-*"))) == 3


@pytest.mark.parametrize(("share", "expected"), [(1e-9, [2, 6]), (1e9, [2, 4, 6])])
def test_short_epochs_do_not_spend_their_time_on_saving(
    extracted: Path, monkeypatch: pytest.MonkeyPatch, share: float, expected: list[int]
) -> None:
    """An epoch is two steps: the first is saved, others where the time since is worth it, and the end."""
    saves: list[int] = []
    real = checkpoint.save

    def save(folder: Path, model: checkpoint.Model, keep: int) -> Path:
        saves.append(model.steps)
        return real(folder, model, keep)

    monkeypatch.setattr(checkpoint, "save", save)
    monkeypatch.setattr("pipeline.train.SAVING_SHARE", share)
    monkeypatch.setattr("pipeline.train.SAVE_EVERY_S", float("inf"))
    assert run(extracted, "-b", "12", "--max-steps", "6") == 0
    assert saves == expected


def test_fp16_needs_a_gpu_and_bf16_does_not(extracted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(extracted, "--precision", "fp16", "--no-cuda", "--max-steps", "1") == 2
    assert "--precision fp16 needs a GPU" in capsys.readouterr().err
    assert run(extracted, "--precision", "bf16", "--no-cuda", "--max-steps", "2") == 0
    assert "bf16" in capsys.readouterr().err
