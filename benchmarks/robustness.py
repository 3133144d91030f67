"""Extract and convert every awkward file, as a person would, and tell what came of it.

    python -m benchmarks.robustness [FOLDER]

The folder is by default ``hard`` in ``RECAST_TEST_DATA``. Prints a table (docs/robustness.md) and fails where a
traceback is shown, an exit code lies, a result does not play all frames at their times and all sound of the original,
or a failure leaves something under a final name.
"""

import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import torch

from benchmarks.__main__ import DATA, ROOT
from models import checkpoint
from models.autoencoder import Encoder
from models.checkpoint import Model
from pipeline.errors import MediaError
from pipeline.media.playback import check_result
from pipeline.media.reader import VideoReader
from pipeline.workspace import Workspace

LIMIT_S = 300  # for one command on one file; what takes longer hangs
WORDS = 160  # of a line that are shown


@dataclass
class Outcome:
    """What came of a file.

    Attributes:
        cells: of the table.
        wrong: what should not be, a line each.
    """

    cells: list[str]
    wrong: list[str] = field(default_factory=list)


def main() -> int:
    """Do all of it; return the exit code."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else DATA / "hard"
    if not folder.is_dir():
        sys.exit(f"error: no folder {folder}; set RECAST_TEST_DATA, or name another")
    wrong = []
    print("| file | extract | convert |\n|---|---|---|", flush=True)
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        outcome = try_out(path)
        print(f"| {' | '.join(outcome.cells)} |", flush=True)
        wrong += [f"{path.name}: {line}" for line in outcome.wrong]
    print(
        "\n".join(["", *wrong]) if wrong else "\nnothing wrong: no traceback, no false exit code, nothing left behind"
    )
    return 1 if wrong else 0


def try_out(path: Path) -> Outcome:
    """Extract a file and convert it, in a workspace of its own."""
    with tempfile.TemporaryDirectory() as temporary:
        workspace = Workspace(Path(temporary) / "workspace")
        model = Model(Encoder(8, 64))
        torch.manual_seed(1)
        for person in ("everyone", "other"):
            model.add_person(person)
        checkpoint.save(workspace.model("model"), model)
        outcome = Outcome([path.name.replace("|", "\\|")])
        result = workspace.converted / "made.mp4"
        swap = ["--from", "everyone", "--to", "other", "--preset", "ultrafast", "-o", str(result)]
        for command in (["extract", str(path), "--everyone", "everyone"], ["convert", str(path), *swap]):
            _run([*command, "--workspace", str(workspace.root)], outcome)
        if outcome.cells[-1].startswith("refused") and result.exists():
            outcome.wrong.append("a failed convert left a result")
        if outcome.cells[-1].startswith("accepted"):
            outcome.wrong += _differs(path, result)
        left = [file for file in workspace.root.rglob("*") if ".part" in file.name]
        outcome.wrong += [f"left behind: {file.relative_to(workspace.root)}" for file in left]
        return outcome


def _differs(path: Path, result: Path) -> list[str]:
    """Compare what is played of a result with the original, decoded anew: frames, their times, sound."""
    with VideoReader(path) as reader:
        pts = [frame.pts for frame in reader]
        try:
            check_result(result, reader.info, pts, None)
        except MediaError as error:
            return [str(error)]
    return []


def _run(command: list[str], outcome: Outcome) -> None:
    folder = Path(command[1]).parent
    try:
        done = subprocess.run(
            [sys.executable, "cli.py", *command],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        outcome.cells.append("HANGS")
        outcome.wrong.append(f"{command[0]} hangs")
        return
    errors = [line.removeprefix("error: ") for line in done.stderr.splitlines() if line.startswith("error: ")]
    said = errors if done.returncode else done.stdout.splitlines()
    told = "; ".join(line.strip() for line in said if "marked as synthetic" not in line)
    told = re.sub(r", \d+ seconds \([^)]*\)", "", told)  # how long it took is for other tables
    told = re.sub(r"^extracted .*?: (?=\d+ faces? in )", "", told)
    for place in (f": {command[-1]}/converted/made.mp4", f"; crops in {command[-1]}/data/everyone", f"{folder}/"):
        told = told.replace(place, "")
    outcome.cells.append(f"{'refused' if done.returncode else 'accepted'}: {told[:WORDS]}".replace("|", "\\|"))
    if "Traceback" in done.stderr + done.stdout or done.returncode not in (0, 1, 2):
        outcome.wrong.append(f"{command[0]} broke down with {done.returncode}: {done.stderr[-300:]}")
    if done.returncode and not errors:
        outcome.wrong.append(f"{command[0]} failed and did not say why")


if __name__ == "__main__":
    sys.exit(main())
