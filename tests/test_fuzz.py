"""The fuzzer itself: it finds what breaks, and the readers hold for some seconds."""

import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.fuzz.__main__ import change
from tests.fuzz.faults import answers, breaks, dies, hangs, leaves_a_process, leaves_files_open
from tests.fuzz.worker import Worker


@pytest.mark.parametrize(
    ("read", "expected"),
    [
        (answers, ""),
        (breaks, "ValueError"),
        (dies, "died with 3"),
        (hangs, "no answer"),
        (leaves_a_process, "left 1 processes"),
        (leaves_files_open, "files are open"),
    ],
)
def test_whatever_goes_wrong_is_found_and_the_next_file_is_read(
    read: Callable[[Path], None], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.fuzz.worker.ANSWER_S", 2 if read is hangs else 300)
    worker = Worker(read)
    try:
        first, second = (worker.check(Path(name)) for name in ("1", "2"))
    finally:
        worker.end()
    assert expected in second
    assert bool(second) == bool(expected)
    assert bool(first) == (bool(expected) and read is not leaves_files_open)


def test_changes_differ_and_come_again_from_the_same_seed() -> None:
    content = bytes(range(256)) * 4
    changes = [change(content, random.Random(seed)) for seed in range(50)]
    assert changes == [change(content, random.Random(seed)) for seed in range(50)]
    assert len(set(changes)) > 45
    assert any(len(changed) != len(content) for changed in changes)


def test_the_readers_hold_for_some_seconds(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.fuzz", "--seconds", "4", "--seed", "4", "--keep", str(tmp_path / "found")]
    fuzzer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert fuzzer.returncode == 0, fuzzer.stdout + fuzzer.stderr
    counts, verdict = fuzzer.stdout.splitlines()
    assert all(int(part.split()[1]) > 0 for part in counts.split(", "))
    assert verdict == "nothing broke"
    assert not (tmp_path / "found").exists()
