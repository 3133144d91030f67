"""The fuzzer itself: it finds what breaks, and the readers hold for a few seconds of it."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

from fuzzing.__main__ import Worker, changed
from tests.conftest import ROOT

READERS = {
    "answers": ("print('ok 5', flush=True)", ""),
    "breaks": ("print('broke ValueError', flush=True)", "broke ValueError"),
    "dies": ("sys.exit(3)", "died with 3"),
    "hangs": ("time.sleep(3600)", "no answer"),
    "leaves a process": ("subprocess.Popen(['sleep', '9']); print('ok 5', flush=True)", "left 1 processes"),
    "leaves files open": ("print('ok', 5 if line < '2' else 99, flush=True)", "99 files are open"),
}


@pytest.mark.parametrize("kind", READERS)
def test_whatever_goes_wrong_is_found_and_the_next_file_is_read(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fuzzing.__main__.ANSWER_S", 2 if kind == "hangs" else 300)
    action, expected = READERS[kind]
    code = f"import subprocess, sys, time\nfor line in sys.stdin:\n    {action}"
    worker = Worker([sys.executable, "-c", code], tmp_path)
    try:
        first, second = (worker.read(Path(name)) for name in ("1", "2"))
    finally:
        worker.end()
    assert expected in second
    assert first == ("" if kind == "leaves files open" else second)


def test_changes_differ_and_come_again_from_the_same_seed() -> None:
    content = bytes(range(256)) * 4
    made = [changed(content, random.Random(seed)) for seed in range(50)]
    assert made == [changed(content, random.Random(seed)) for seed in range(50)]
    assert len(set(made)) > 45
    assert any(len(one) != len(content) for one in made)


def test_the_readers_hold_for_some_seconds(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "fuzzing", "--seconds", "8", "--seed", "4", "--keep", str(tmp_path / "found")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    counts, verdict = done.stdout.splitlines()
    assert all(int(part.split()[1]) > 0 for part in counts.split(", "))
    assert verdict == "nothing broke"
    assert not (tmp_path / "found").exists()
