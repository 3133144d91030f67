"""What many tests stand on: two clips with sound, a workspace they were extracted into, and a model trained on them.

``RECAST_TEST_DATA`` names the folder of real clips and photos (default ``../shared/data``).
"""

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli import main
from demo.clips import COLLINS, HOPPER, make_clip

FRAMES = 12
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session", autouse=True)
def signals_that_were_ignored() -> None:
    """Programs that tests start heed signals, even where the tests were started with nohup or in the background."""
    for name in ("SIGINT", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, lambda _number, _frame: None)  # what is handled here is not ignored by them


@pytest.fixture(scope="session", autouse=True)
def own_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of settings of the tests' own, so that they sign with a certificate of theirs."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("settings")
        patch.setenv("XDG_CONFIG_HOME", str(folder))
        yield folder / "recast"


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Clips of 12 frames, by person."""
    folder = tmp_path_factory.mktemp("clips")
    for portrait in (HOPPER, COLLINS):
        make_clip(portrait, folder / f"{portrait.name}.mp4", FRAMES)
    return {portrait.name: folder / f"{portrait.name}.mp4" for portrait in (HOPPER, COLLINS)}


@pytest.fixture(scope="session")
def trained_once(clips: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with both people extracted and a small model of three steps; not to be written to."""
    workspace = tmp_path_factory.mktemp("trained") / "workspace"
    assert main(["extract", *map(str, clips.values()), "--workspace", str(workspace)]) == 0
    small = ["--init-dim", "8", "--code-dim", "64", "-b", "8", "--inner-loop", "1", "--lr", "3e-4"]
    assert main(["train", *small, "--max-steps", "3", "--workspace", str(workspace)]) == 0
    return workspace


@pytest.fixture
def extracted(trained_once: Path, tmp_path: Path) -> Path:
    """A workspace of the test's own with both people extracted and no model."""
    workspace = tmp_path / "workspace"
    shutil.copytree(trained_once, workspace, ignore=shutil.ignore_patterns("output"))
    return workspace


@pytest.fixture
def trained(trained_once: Path, extracted: Path) -> Path:
    """A workspace of the test's own with both people extracted and a small model."""
    # Model files are large and never changed in place: linking them is enough.
    shutil.copytree(trained_once / "output", extracted / "output", copy_function=os.link)
    return extracted


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real clips; a test that asks for it is skipped where there is none."""
    folder = Path(os.environ.get("RECAST_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real clips in {folder}; set RECAST_TEST_DATA to a folder that has them")
    return folder
