"""Make the weights that new models start from: train one on a folder of portraits, and store it in models/base.

    python -m demo.base PORTRAITS [--minutes 600]

Typed again, it continues the training.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro

from demo.children import Children, run
from models import checkpoint
from models.pretrained import FOLDER, write_base
from pipeline.console import NullConsole
from pipeline.training.dataset import load_faces
from pipeline.training.evaluation import undistorted
from pipeline.workspace import Workspace

TRAINING = ["--network", "hd128", "--base", "none", "--inner-loop", "1", "-b", "8", "--lr", "2.5e-4"]
ENDING = ["--lr-schedule", "cosine", "--finish", "0.1", "--log-interval", "20"]
NAME = "portraits"


@dataclass(frozen=True)
class Options:
    """Make the weights that new models start from."""

    portraits: Annotated[Path, tyro.conf.Positional]
    """Folder of pictures, of as many people as possible."""
    minutes: float = 600
    """How long to train."""
    workspace: Path = Path("base-workspace")
    """Where the faces are extracted and the model is trained."""


def main() -> int:
    """Run all steps; return the exit code."""
    options = tyro.cli(Options, prog="python -m demo.base", description=__doc__)
    children, workspace = Children(), Workspace(options.workspace)
    where = ["--workspace", str(options.workspace)]
    run(children, "extract", str(options.portraits), "--everyone", NAME, *where)
    if options.minutes:
        limits = ["--max-minutes", str(options.minutes)]
        run(children, "train", "-n", NAME, "--people", NAME, *TRAINING, *ENDING, *limits, *where)
    faces = load_faces(workspace.data, NullConsole(), workspace.root / "spill", [NAME])
    model = checkpoint.load(workspace.model(NAME))
    path = write_base(FOLDER, model, undistorted(model, faces.people[NAME], torch.device("cpu")))
    print(f"wrote {path}, {path.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
