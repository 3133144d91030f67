"""Power cuts at every moment of extract, train and convert: what was finished stays, and the next run goes on.

The three are recorded once; every state that a power cut could have left on the disk is then checked for results that
are damaged or gone, and from some of them the command is run again.
"""

import random
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

import pytest

from models import CheckpointError
from pipeline.errors import RecastError
from tests.conftest import FRAMES
from tests.crashes.disk import (
    Create,
    File,
    Loss,
    LostContents,
    LostNames,
    NoLoss,
    Recording,
    Remove,
    Rename,
    SomeLost,
    Sync,
    after_power_cut,
    is_whole,
    lay,
)
from tests.crashes.scenario import RESULT, STEPS_BEFORE, STEPS_MORE, STORE, run_to_the_end
from tests.crashes.tracing import needs_strace

Found = dict[PurePosixPath, File | None]

RESULTS = ("workspace/data/*/*.jpg", "workspace/output/model/state-*/*", str(RESULT))

pytestmark = needs_strace


@dataclass(frozen=True)
class Case:
    """A power cut: after how many operations, and what it takes with it."""

    command: str
    count: int
    loss: str

    def found(self, recording: Recording) -> Found:
        losses: dict[str, Loss] = {"nothing": NoLoss(), "contents": LostContents(), "names": LostNames()}
        return after_power_cut(recording, self.count, losses.get(self.loss) or SomeLost(int(self.loss.split()[-1])))


def ends(recording: Recording) -> dict[str, int]:
    """Number of operations after which each command had ended."""
    marks = {op.name: index for index, op in enumerate(recording.operations) if isinstance(op, Create)}
    return {name: marks[name] for name in ("extract", "train", "convert")}


def cases(recording: Recording) -> Iterator[tuple[Case, Found]]:
    """Every power cut that leaves something else on the disk than those before it, and what it leaves."""
    first, seen = 0, set[int]()
    for command, end in ends(recording).items():
        for count in range(first, end + 1):
            for loss in ("nothing", "contents", "names", f"some, seed {count}"):
                case = Case(command, count, loss)
                found = case.found(recording)
                state = hash((command, count == end, tuple((path, file and file.key) for path, file in found.items())))
                if state not in seen:
                    seen.add(state)
                    yield case, found
        first = end


class Stores:
    """Reads what a power cut has left of the store of the new clip.

    Args:
        recording: of what was done.
        folder: to lay stores into.
    """

    def __init__(self, recording: Recording, folder: Path) -> None:
        self._recording, self._folder = recording, folder
        self._known: dict[object, bool] = {}

    def are_finished(self, found: Found) -> bool:
        """Say whether the store says that the clip was extracted."""
        parts = {p: file for p, file in found.items() if p.parent == STORE.parent and p.name.startswith("faces.")}
        key = tuple((path.name, file and file.key) for path, file in parts.items())
        if key not in self._known:
            self._known[key] = STORE in parts and self._read(parts)
        return self._known[key]

    def _read(self, parts: Found) -> bool:
        folder = self._folder / str(len(self._known))
        folders: Found = {parent: None for parent in reversed(STORE.parents) if parent.name}
        lay(self._recording, folders | parts, folder)
        with closing(sqlite3.connect(folder / STORE)) as db:
            db.execute("PRAGMA synchronous = OFF")
            if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'facts'").fetchall():
                return False
            return db.execute("SELECT value FROM facts WHERE key = 'finished'").fetchall() == [("true",)]


def check(recording: Recording, case: Case, found: Found, stores: Stores) -> None:
    """Assert that all results are whole, and that those are there that had been reported."""
    ended = ends(recording)
    new = (f"clip_{index:06d}_0.jpg" for index in range(FRAMES))
    for path, file in found.items():
        if file is not None and any(fnmatch(str(path), pattern) for pattern in RESULTS):
            is_old = file.node in recording.nodes and not file.contents
            assert is_old or is_whole(recording, file), f"{path} is damaged"
    crops = {path.name for path in found if path.match("data/*/*.jpg")}
    assert {path.name for path, _ in recording.nodes.values() if path.match("data/*/*.jpg")} <= crops
    if not crops.issuperset(new):
        assert not stores.are_finished(found), "extracted, and crops are missing"
    if case.count == ended["extract"]:
        assert stores.are_finished(found), "forgotten that it was extracted"
    states = [path for path in found if path.match("model/state-*")]
    files = {"model.json", "encoder.safetensors", "decoder_hopper.safetensors", "decoder_collins.safetensors"}
    whole = [state.name for state in states if files <= {path.name for path in found if path.parent == state}]
    assert whole, "no model any more"
    if case.count >= ended["train"]:
        assert whole[-1] == f"state-{STEPS_BEFORE + STEPS_MORE:09d}", "the model that was saved last is gone"
    assert RESULT in found, "no result any more"
    if case.count >= ended["convert"]:
        result = found[RESULT]
        assert result is not None
        assert result.node not in recording.nodes, "the new result has not replaced the earlier one"


def test_what_was_finished_survives_a_power_cut_at_any_moment(recording: Recording, tmp_path: Path) -> None:
    broken, stores = [], Stores(recording, tmp_path)
    for case, found in cases(recording):
        try:
            check(recording, case, found, stores)
        except AssertionError as error:
            broken.append(f"{case}: {str(error).splitlines()[0]}")
    assert not broken, f"{len(broken)} states are broken: {broken[:5]} … {broken[-3:]}"


def chosen(recording: Recording, counts: dict[str, int], seed: int) -> list[Case]:
    """Choose so many power cuts of each command, rather those about when names change or something is flushed."""
    every = [case for case, _ in cases(recording)]
    random.Random(seed).shuffle(every)
    decisive = {i for i, operation in enumerate(recording.operations) if isinstance(operation, Rename | Remove | Sync)}
    every.sort(key=lambda case: decisive.isdisjoint((case.count - 1, case.count)))
    return [case for name, count in counts.items() for case in [c for c in every if c.command == name][:count]]


def run_all_again(recording: Recording, chosen_cases: list[Case], footage: Path, folder: Path) -> None:
    broken = []
    for case in chosen_cases:
        try:
            lay(recording, case.found(recording), folder / "laid")
            run_to_the_end(recording, case.command, footage, folder / "laid")
        except (AssertionError, RecastError, CheckpointError) as error:
            broken.append(f"{case}: {str(error).splitlines()[0]}")
        shutil.rmtree(folder / "laid")
    assert not broken


def test_after_a_power_cut_the_same_command_goes_on(recording: Recording, footage: Path, tmp_path: Path) -> None:
    run_all_again(recording, chosen(recording, {"extract": 3, "train": 1, "convert": 2}, seed=1), footage, tmp_path)


@pytest.mark.slow
def test_after_any_power_cut_the_same_command_goes_on(recording: Recording, footage: Path, tmp_path: Path) -> None:
    run_all_again(recording, chosen(recording, {"extract": 60, "train": 8, "convert": 30}, seed=2), footage, tmp_path)
