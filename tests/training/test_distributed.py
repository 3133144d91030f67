"""Several processes on one model: the same steps as one, and what happens when one of them dies."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from models import checkpoint
from pipeline.training.distributed import Processes
from tests.conftest import ROOT
from tests.test_train import make_people
from tests.training.worker import losses

ROUNDING = 1e-3  # sums in another order; Adam moves a weight by the whole rate even where its gradient is rounding
PATIENCE_S = 180  # processes that wait for each other for ever must fail a test, not hang it
SMALL = ["--init-dim", "8", "--code-dim", "64", "--inner-loop", "1", "--lr", "3e-4"]


def torchrun(*command: str) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *command]
    return subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=False, timeout=PATIENCE_S)


def in_two_processes(*arguments: str) -> tuple[int, str, str]:
    """Run Python twice, as torchrun does, without the process that torchrun itself is; codes, and what both print."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": "2"}
    processes = [
        subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            env={**os.environ, **shared, "OMP_NUM_THREADS": "1", "RANK": rank, "LOCAL_RANK": rank},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in "01"
    ]
    try:
        said = [process.communicate(timeout=PATIENCE_S) for process in processes]
    finally:
        for process in processes:
            process.kill()
    codes = [process.returncode for process in processes]
    return max(codes, key=abs), "".join(out for out, _ in said), "".join(err for _, err in said)


def write_script(folder: Path, first: str) -> Path:
    """A program for torchrun: train, after some lines of its own."""
    script = folder / "each.py"
    script.write_text(
        f"""
import os, sys
sys.path.insert(0, {str(ROOT)!r})
from cli import main
folder, data = {str(folder)!r}, {str(folder / "data")!r}
{first}
code = main(["train", "-d", data, *{SMALL!r}, "-b", "2", "--max-steps", "6", "--workspace", folder + "/w"])
sys.stdout.flush()
os._exit(code)  # as cli.py ends: destroying the threads of torch one by one aborts now and then
""",
        encoding="utf-8",
    )
    return script


def test_two_processes_take_the_steps_of_one() -> None:
    alone = losses(8, 5)  # not divisible by two
    done = torchrun("-m", "tests.training.worker", "8", "5")
    assert done.returncode == 0, done.stderr
    printed = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    assert len(printed) == 2
    for together in printed:
        np.testing.assert_allclose(together, alone, rtol=ROUNDING)
    assert alone[-1] < alone[0], "and they learn"


@pytest.mark.slow
def test_train_in_two_processes_writes_the_model_of_one(tmp_path: Path) -> None:
    make_people(tmp_path / "data", "cage", "trump")
    command = ["cli.py", "train", "-d", str(tmp_path / "data"), *SMALL, "-b", "2", "--max-steps", "5"]
    done = torchrun(*command, "--workspace", str(tmp_path / "two"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("trained 5 steps, 8 samples") == 1, "one speaks"
    assert "in 2 processes" in done.stderr
    subprocess.run([sys.executable, *command, "--workspace", str(tmp_path / "one")], cwd=ROOT, check=True)
    two, one = (checkpoint.load(tmp_path / name / "output" / "model") for name in ("two", "one"))
    assert two.position == one.position
    for person, training in one.trained.items():
        assert two.trained[person].samples == training.samples
        assert two.trained[person].loss == pytest.approx(training.loss, rel=ROUNDING)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_a_process_that_dies_ends_the_run_with_a_line_and_leaves_a_model(tmp_path: Path) -> None:
    make_people(tmp_path / "data", "cage", "trump")
    command = [sys.executable, "cli.py", "train", "-d", str(tmp_path / "data"), *SMALL, "-b", "2"]
    command += ["--workspace", str(tmp_path / "w")]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    shared = {**os.environ, "WORLD_SIZE": "2", **place}
    first, second = (
        subprocess.Popen(
            command, cwd=ROOT, env={**shared, "RANK": rank, "LOCAL_RANK": rank}, stderr=subprocess.PIPE, text=True
        )
        for rank in "01"
    )
    model = tmp_path / "w" / "output" / "model"
    while not (model / "history.jsonl").exists():  # the last that a save writes: now steps follow
        assert first.poll() is None and second.poll() is None, "it ended by itself"
        time.sleep(0.1)
    second.send_signal(signal.SIGKILL)
    _, words = first.communicate(timeout=PATIENCE_S)
    second.communicate()
    assert first.returncode == 1, words
    assert "error: another process of this training ended or cannot be reached" in words
    assert "Traceback" not in words
    assert checkpoint.load(model, for_training=True).steps > 0


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_ends_the_wait_for_processes_that_do_not_come(tmp_path: Path, name: str) -> None:
    make_people(tmp_path / "data", "cage", "trump")
    script = f"""
import os, signal, sys, threading, time
from torch import distributed
real = distributed.init_process_group
def wait_for_others(*given):
    threading.Timer(0.5, os.kill, (os.getpid(), signal.{name})).start()
    real(*given)
distributed.init_process_group = wait_for_others
import cli
code = cli.main(["train", "-d", {str(tmp_path / "data")!r}, "--workspace", {str(tmp_path / "w")!r}])
sys.stdout.write(f"ended with {{code}}")
sys.stdout.flush()
os._exit(code)
"""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    env = {**os.environ, **place, "WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}
    program = [sys.executable, "-c", script]
    done = subprocess.run(program, cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    assert done.returncode == 130, done.stderr
    assert "ended with 130" in done.stdout
    assert "interrupted" in done.stderr


def test_shares_cover_everything_once() -> None:
    for count in (1, 2, 3, 8):
        for items in (1, 2, 7, 64):
            parts = [range(items)[Processes(rank, count).share(items)] for rank in range(count)]
            assert [item for part in parts for item in part] == list(range(items))
            assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_one_process_agrees_with_itself() -> None:
    Processes().check_equal("models", "any")
    assert Processes().largest(7) == 7
    assert Processes().is_first


def test_processes_that_see_different_data_are_stopped(tmp_path: Path) -> None:
    make_people(tmp_path / "0", "cage", "trump", count=2)
    make_people(tmp_path / "1", "cage", "trump", count=3)
    script = write_script(tmp_path, "data = f\"{folder}/{os.environ['RANK']}\"")
    code, _, errors = in_two_processes(str(script))
    assert code != 0
    assert "the processes see different models, faces or options" in errors
    assert not checkpoint.exists(tmp_path / "w" / "output" / "model")


def test_processes_go_back_together_when_one_of_them_is_spoilt(tmp_path: Path) -> None:
    make_people(tmp_path / "data", "cage", "trump")
    script = write_script(
        tmp_path,
        """
import torch
from pipeline.training.trainer import Trainer
real, taken = Trainer.step, []
def step(trainer, *given):
    real(trainer, *given)
    taken.append(1)
    if len(taken) == 5 and os.environ["RANK"] == "1":
        with torch.no_grad():
            trainer.model.encoder.linear1.weight.fill_(float("nan"))
Trainer.step = step
""",
    )
    code, said, errors = in_two_processes(str(script))
    assert code == 0, errors
    assert said.count("set back: the loss of") == 1, said
    model = checkpoint.load(tmp_path / "w" / "output" / "model")
    assert all(torch.isfinite(parameter).all() for parameter in model.encoder.parameters())
