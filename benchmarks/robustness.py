"""Extract and convert every awkward file, as a person would, and tell what came of it.

    python -m benchmarks.robustness [FOLDER]

The folder is by default ``hard`` in ``RECAST_TEST_DATA``. Prints a table (docs/robustness.md). Fails where a traceback
is shown, an exit code is wrong, a result does not play all frames at their times and all sound of the original, or a
failure leaves something under a final name.
"""

import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.measuring import DATA, ROOT, require_clips
from benchmarks.speed import write_untrained_model
from models.autoencoder import Encoder
from pipeline.errors import MediaError
from pipeline.media.playback import check_result
from pipeline.media.reader import VideoReader
from pipeline.workspace import Workspace

LIMIT_S = 300  # for one command on one file; what takes longer hangs
WORDS = 160  # characters of a line that are shown


@dataclass
class Outcome:
    """What came of a file: cells of the table, and defects, a line each."""

    cells: list[str]
    defects: list[str] = field(default_factory=list)


def main() -> int:
    """Do all of it; return the exit code."""
    if len(sys.argv) == 1:
        require_clips()
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else DATA / "hard"
    defects = []
    print("| file | extract | convert |\n|---|---|---|", flush=True)
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        outcome = try_out(path)
        print(f"| {' | '.join(outcome.cells)} |", flush=True)
        defects += [f"{path.name}: {line}" for line in outcome.defects]
    print("", *(defects or ["no defect: no traceback, no wrong exit code, nothing left behind"]), sep="\n")
    return 1 if defects else 0


def try_out(path: Path) -> Outcome:
    """Extract a file and convert it, in a workspace of its own."""
    with tempfile.TemporaryDirectory() as temporary:
        workspace = Workspace(Path(temporary) / "workspace")
        write_untrained_model(workspace, Encoder(8, 64), ("everyone", "other"))
        outcome, result = Outcome([path.name.replace("|", "\\|")]), workspace.converted / "result.mp4"
        swap = ["--from", "everyone", "--to", "other", "--preset", "ultrafast", "-o", str(result)]
        for command in (["extract", str(path), "--everyone", "everyone"], ["convert", str(path), *swap]):
            _run([*command, "--workspace", str(workspace.root)], outcome)
        if outcome.cells[-1].startswith("refused") and result.exists():
            outcome.defects.append("a failed convert left a result")
        if outcome.cells[-1].startswith("accepted"):
            outcome.defects += _differences(path, result)
        left = [file for file in workspace.root.rglob("*") if ".part" in file.name]
        outcome.defects += [f"left behind: {file.relative_to(workspace.root)}" for file in left]
        return outcome


def _differences(path: Path, result: Path) -> list[str]:
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
    typed = [sys.executable, "cli.py", *command]
    try:
        process = subprocess.run(typed, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        outcome.cells.append("HANGS")
        outcome.defects.append(f"{command[0]} hangs")
        return
    errors = [line.removeprefix("error: ") for line in process.stderr.splitlines() if line.startswith("error: ")]
    lines = errors if process.returncode else process.stdout.splitlines()
    shown = "; ".join(line.strip() for line in lines if "marked as synthetic" not in line)
    shown = re.sub(r", \d+ seconds \([^)]*\)", "", shown)  # how long it took is for other tables
    shown = re.sub(r"^extracted .*?: (?=\d+ faces? in )", "", shown)
    for path in (f": {command[-1]}/converted/made.mp4", f"; crops in {command[-1]}/data/everyone", f"{folder}/"):
        shown = shown.replace(path, "")
    outcome.cells.append(f"{'refused' if process.returncode else 'accepted'}: {shown[:WORDS]}".replace("|", "\\|"))
    if "Traceback" in process.stderr + process.stdout or process.returncode not in (0, 1, 2):
        outcome.defects.append(f"{command[0]} ended with {process.returncode}: {process.stderr[-300:]}")
    if process.returncode and not errors:
        outcome.defects.append(f"{command[0]} failed and did not say why")


if __name__ == "__main__":
    sys.exit(main())
