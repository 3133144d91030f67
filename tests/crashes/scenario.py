"""Extract, train and convert on a small workspace, on which crashes are tried, and what they have to leave."""

import json
import sys
from pathlib import Path, PurePosixPath

from cli import main
from models import checkpoint
from pipeline.faces.store import FaceStore
from pipeline.media.reader import VideoReader
from tests.conftest import FRAMES, ROOT, SMALL, copy_workspace
from tests.crashes.disk import Recording
from tests.crashes.tracing import record

STORE = PurePosixPath("workspace/videos/clip/faces.sqlite")
RESULT = PurePosixPath("workspace/converted/result.mp4")
WRITES_TO = {"extract": ("data", "videos"), "train": ("output/model",), "convert": ("converted",)}
STEPS_BEFORE, STEPS_MORE = 3, 2
PROGRAM = """
import json, os, sys
from cli import main
for command, mark in json.loads(sys.argv[1]):
    assert main(command) == 0
    os.mkdir(mark)
"""


def commands(footage: Path, root: Path) -> dict[str, list[str]]:
    """Give the three commands by name: a new clip, more steps, a result in place of an earlier one."""
    swap = ["--from", "hopper", "--to", "collins", "--preset", "ultrafast"]
    lines = {
        "extract": [str(footage / "clip.mp4"), "--person", "clip"],
        "train": [*SMALL, "--max-steps", str(STEPS_MORE), "--keep", "2", "--people", "hopper,collins"],
        "convert": [str(footage / "hopper.mp4"), *swap, "-o", str(root / RESULT)],
    }
    return {name: [name, *line, "--workspace", str(root / "workspace")] for name, line in lines.items()}


def prepare(root: Path, trained_once: Path) -> None:
    """Make a workspace that has two people, a model and an earlier result."""
    copy_workspace(trained_once, root / "workspace")
    (root / RESULT).parent.mkdir()
    (root / RESULT).write_bytes(b"an earlier result")


def record_all(trained_once: Path, footage: Path, folder: Path) -> Recording:
    """Record the three commands, one after the other; a folder ``marks/<command>`` appears when one has ended."""
    root = folder.resolve() / "root"
    prepare(root, trained_once)
    (root / "marks").mkdir()
    asked = [(command, str(root / "marks" / name)) for name, command in commands(footage, root).items()]
    return record([sys.executable, "-c", PROGRAM, json.dumps(asked)], root, folder.resolve() / "traced", cwd=ROOT)


def new_crops(recording: Recording) -> dict[str, bytes]:
    """Crops of the new clip, by name."""
    return {path.name: path.read_bytes() for path in recording.kept.values() if path.match("data/clip/*.jpg")}


def run_to_the_end(recording: Recording, command: str, footage: Path, root: Path) -> None:
    """Type a command again after a crash, and assert that it ends as if nothing had been."""
    model = root / "workspace" / "output" / "model"
    steps = checkpoint.load(model).steps
    assert main(commands(footage, root)[command]) == 0, "the next run does not go on"
    if command == "train":
        assert checkpoint.load(model, for_training=True).steps == steps + STEPS_MORE
    else:
        assert_done(recording, command, root)
    own = [path for folder in WRITES_TO[command] for path in (root / "workspace" / folder).rglob(".*")]
    hidden = [path for path in own if path.suffix != ".lock"]
    assert not hidden, f"something half-written is left: {hidden[0]}"


def assert_done(recording: Recording, command: str, root: Path) -> None:
    """Assert that all that a command has to leave is there, and whole."""
    if command == "extract":
        crops = {path.name: path.read_bytes() for path in root.glob("workspace/data/clip/*.jpg")}
        assert crops == new_crops(recording), "crops are missing or damaged"
        with FaceStore(root / STORE) as store:
            assert (store.fact("finished"), store.people()) == (True, {"clip": FRAMES})
    elif command == "train":
        assert checkpoint.load(root / "workspace" / "output" / "model").steps == STEPS_BEFORE + STEPS_MORE
    else:
        assert main(["verify", str(root / RESULT)]) == 0
        with VideoReader(root / RESULT) as reader:
            assert len(list(reader)) == FRAMES
