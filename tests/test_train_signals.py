"""Signals at moments of every phase of training: then the model is whole, no older than what was saved, and goes on.

A program trains and sends itself a signal before or after the n-th call of a function, so nothing depends on how fast
the machine is; which moments, the seed says.
"""

import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from models import checkpoint
from tests.conftest import ROOT
from tests.test_train import SMALL, make_people

PATIENCE_S = 300  # to end a hang
MOMENTS = {  # functions, and how often a run of four steps calls them at least
    "pipeline.training.dataset:_read_crop": 6,
    "pipeline.train:open_model": 1,
    "pipeline.training.trainer:Trainer.step": 4,
    "models.checkpoint:save_file": 3,
    "models.checkpoint:flush": 6,
    "models.checkpoint:_publish": 1,
    "models.checkpoint:_remove": 1,
    "pipeline.train:write_picture": 2,
    "pipeline.training.monitor:write_bytes": 2,
    "pipeline.training.monitor:_write_tensorboard": 1,
    "pipeline.training.monitor:write_clip": 1,
}
READING = "pipeline.training.dataset:_read_crop"
PROGRAM = """
import importlib, os, signal, sys
from models import checkpoint
where, number, is_after, signals, saved, *arguments = sys.argv[1:]
module, _, path = where.partition(":")
*owners, name = path.split(".")
owner = importlib.import_module(module)
for part in owners:
    owner = getattr(owner, part)
real, calls = getattr(owner, name), []

def called(*given, **more):
    calls.append(1)
    is_now = len(calls) == int(number)
    if is_now and not int(is_after):
        send()
    result = real(*given, **more)
    if is_now and int(is_after):
        send()
    return result

def send():
    for one in signals.split():
        os.kill(os.getpid(), int(one))

setattr(owner, name, called)
save = checkpoint.save

def save_and_note(folder, model, *given, **more):
    save(folder, model, *given, **more)
    with open(saved, "a") as file:
        file.write(f"{model.steps}\\n")

checkpoint.save = save_and_note
import cli
code = cli.main(["train", *arguments])
os._exit(code)
"""
ENDINGS = {"SIGINT": 1, "SIGTERM": 1, "SIGHUP": 1, "SIGKILL": 1, "SIGINT twice": 2}
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals"),
]


def cases() -> list[tuple[str, int, int, str]]:
    """Each function with two endings."""
    rng, chosen = random.Random(8), []
    for where, count in MOMENTS.items():
        for ending in rng.sample(sorted(ENDINGS), 2):
            chosen.append((where, rng.randint(1, count), rng.randint(0, 1), ending))
    rng.shuffle(chosen)
    return chosen


def test_signals_at_moments_of_every_phase(tmp_path: Path) -> None:
    make_people(tmp_path / "data", "ann", "bob")
    folder, saved = tmp_path / "w" / "output" / "model", tmp_path / "saved.txt"
    train = [*SMALL, "-b", "2", "-d", str(tmp_path / "data"), "--workspace", str(tmp_path / "w"), "--max-steps", "4"]

    def run(where: str, number: int, is_after: int, ending: str) -> tuple[int, str]:
        numbers = " ".join([str(int(getattr(signal, ending.split(maxsplit=1)[0])))] * ENDINGS[ending])
        command = [sys.executable, "-c", PROGRAM, where, str(number), str(is_after), numbers, str(saved), *train]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
        return done.returncode, done.stderr

    code, said = run(READING, 999, 0, "SIGKILL")  # never comes: the first run is left alone
    assert code == 0, said
    reached = checkpoint.load(folder).steps
    assert reached == 4
    for case in cases():
        where, _, _, ending = case
        code, said = run(*case)
        expected = {-signal.SIGKILL} if ending == "SIGKILL" else {130} if where == READING else {0, 130}
        assert code in expected, (case, said)
        assert "Traceback" not in said, (case, said)
        assert f"from step {reached} on" in said or where == READING or "open_model" in where, (case, said)
        model = checkpoint.load(folder, for_training=True)
        steps = [int(line) for line in saved.read_text(encoding="utf-8").split()]
        assert model.steps >= max(steps), case
        assert set(model.moments) == {"ann", "bob"}, case
        reached = model.steps
    code, said = run(READING, 999, 0, "SIGKILL")
    assert (code, checkpoint.load(folder).steps) == (0, reached + 4), said
    assert not list(folder.glob(".*")), "nothing is left of what was cut short"
