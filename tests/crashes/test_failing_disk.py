"""A disk that fails or is full at some moment of extract, train and convert.

strace makes single calls fail. A command then ends with one clear line and leaves nothing half under a final name; or,
where what failed is not needed, it has done all its work. The next run goes on.
"""

import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pytest

from models import CheckpointError, checkpoint
from pipeline.errors import RecastError
from tests.conftest import ROOT
from tests.crashes.disk import ROOT as TOP
from tests.crashes.disk import Create, Recording, Rename, Sync, Write
from tests.crashes.scenario import RESULT, assert_done, commands, new_crops, prepare, run_to_the_end
from tests.crashes.tracing import needs_strace

CALLS = {
    Create: "open,openat,mkdir,mkdirat",
    Write: "write,pwrite64",
    Sync: "fsync,fdatasync",
    Rename: "rename,renameat,renameat2",
}
NOT_NEEDED = ("workspace/logs/*", "workspace/logs", "marks/*")
LIMIT_S = 300

pytestmark = needs_strace


@dataclass(frozen=True)
class Failure:
    """Which call fails.

    Attributes:
        command: in which command.
        path: on which file or folder, below the root.
        calls: strace's names of the calls.
        when: the how manieth of these calls, and whether later ones fail too.
        error: name of the error.
    """

    command: str
    path: PurePosixPath
    calls: str
    when: str
    error: str


def failures(recording: Recording, seed: int) -> Iterator[Failure]:
    """Give a failure for every call on files whose names are the same in each run."""
    rng, counts = random.Random(seed), dict[tuple[PurePosixPath, str], int]()
    paths = {TOP: PurePosixPath()} | {node: path for node, (path, _) in recording.nodes.items()}
    names = iter(commands(Path(), Path()))
    command = next(names)
    for operation in recording.operations:
        match operation:
            case Create():
                path = paths[operation.node] = paths[operation.folder] / operation.name
                if path.parent.name == "marks":
                    command = next(names, command)
                    counts.clear()
            case Rename():
                path = paths[operation.node] = paths[operation.new_folder] / operation.new_name
            case Write() | Sync():
                path = paths[operation.node]
            case _:
                continue
        calls = CALLS[type(operation)]
        counts[path, calls] = counts.get((path, calls), 0) + 1
        if not path.name.startswith(".tmp") and not any(path.match(pattern) for pattern in NOT_NEEDED):
            when = f"{counts[path, calls]}{rng.choice(('', '+'))}"
            yield Failure(command, path, calls, when, rng.choice(("ENOSPC", "EIO")))


def fail(failure: Failure, footage: Path, root: Path, log: Path) -> "subprocess.CompletedProcess[str]":
    """Run a command with one of its calls failing."""
    inject = f"inject={failure.calls}:error={failure.error}:when={failure.when}"
    strace = ["strace", "-f", "--seccomp-bpf", "-qq", "-o", str(log), "-P", str(root / failure.path)]
    command = [sys.executable, "cli.py", *commands(footage, root)[failure.command]]
    watched = [*strace, "-e", f"trace={failure.calls}", "-e", inject, "-e", "signal=none", *command]
    return subprocess.run(watched, cwd=ROOT, capture_output=True, text=True, check=False, timeout=LIMIT_S)


def assert_nothing_is_half(recording: Recording, root: Path) -> None:
    whole = new_crops(recording)
    for crop in root.glob("workspace/data/clip/*.jpg"):
        assert crop.read_bytes() == whole[crop.name], f"{crop} is damaged"
    checkpoint.load(root / "workspace" / "output" / "model", for_training=True)
    if (root / RESULT).read_bytes() != b"an earlier result":
        assert_done(recording, "convert", root)


def try_one(failure: Failure, recording: Recording, trained_once: Path, footage: Path, folder: Path) -> bool:
    """Let a command fail and check what it says and leaves; say whether the call was met."""
    root = folder.resolve() / "root"
    prepare(root, trained_once)
    done = fail(failure, footage, root, folder / "strace.log")
    assert "Traceback" not in done.stderr
    if done.returncode == 0:
        assert_done(recording, failure.command, root)
    else:
        assert done.returncode == 1, f"exit code {done.returncode}: {done.stderr[-500:]}"
        problems = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert len(problems) == 1, f"no one clear line: {done.stderr[-500:]}"
        assert done.stderr.splitlines()[-1] == problems[0]
        assert_nothing_is_half(recording, root)
        run_to_the_end(recording, failure.command, footage, root)
    return "(INJECTED)" in (folder / "strace.log").read_text(encoding="utf-8", errors="replace")


def try_all(
    counts: dict[str, int], recording: Recording, trained_once: Path, footage: Path, folder: Path, seed: int
) -> None:
    every = list(failures(recording, seed))
    random.Random(seed).shuffle(every)
    chosen = [failure for name, n in counts.items() for failure in [f for f in every if f.command == name][:n]]
    broken, met = [], 0
    for number, failure in enumerate(chosen):
        own = folder / str(number)
        own.mkdir()
        try:
            met += try_one(failure, recording, trained_once, footage, own)
        except (AssertionError, RecastError, CheckpointError) as error:
            broken.append(f"{failure}: {error}")
        shutil.rmtree(own)
    assert not broken, "\n".join(broken)
    assert met > len(chosen) // 2


@pytest.mark.slow
def test_a_disk_that_fails_anywhere_is_said_in_one_line(
    recording: Recording, trained_once: Path, footage: Path, tmp_path: Path
) -> None:
    try_all({"extract": 30, "train": 12, "convert": 24}, recording, trained_once, footage, tmp_path, seed=2)
