"""What many tests stand on: two clips with sound, a workspace they were extracted into, and a model trained on them.

``RECAST_TEST_DATA`` names the folder of real clips and photos (default ``../shared/data``).
"""

import os
import shutil
import signal
import tempfile
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import psutil
import pytest
from filelock import FileLock

# One thread for each process of the tests and those they start: what they find must not depend on the machine's cores.
# Here, before torch is loaded; processes that pytest-xdist starts get it too.
os.environ["OMP_NUM_THREADS"] = "1"

from cli import main
from demo.clips import COLLINS, HOPPER, make_clip

FRAMES = 12
SMALL = ["--init-dim", "8", "--code-dim", "64", "-b", "8", "--inner-loop", "1", "--lr", "3e-4"]
ROOT = Path(__file__).resolve().parent.parent
SHARED_MEMORY, ROOMY_BYTES = Path("/dev/shm"), 16e9  # a disk in memory: flushing models to a real one takes a minute


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Give each run temporary folders of its own, gone at its end: pytest's are numbered, and cleared by other runs."""
    if config.option.basetemp is None:
        is_roomy = SHARED_MEMORY.is_dir() and psutil.virtual_memory().available > ROOMY_BYTES
        config.option.basetemp = folder = tempfile.mkdtemp(
            prefix="recast-tests-", dir=SHARED_MEMORY if is_roomy else None
        )
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say in one line what was skipped, and why."""
    reasons = Counter(str(report.longrepr[-1]) for report in terminalreporter.getreports("skipped"))
    words = [f"{count} ({reason.removeprefix('Skipped: ')})" for reason, count in reasons.most_common()]
    if words:
        terminalreporter.write_line(f"skipped: {', '.join(words)}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Make what a failed test printed fit to be sent between processes: names that are no text are in some of it."""
    report = yield
    report.sections = [(title, _sendable(text)) for title, text in report.sections]
    if report.longrepr is not None and not isinstance(report.longrepr, tuple):
        words = str(report.longrepr)
        if words != _sendable(words):
            report.longrepr = _sendable(words)
    return report


def _sendable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def made_once(name: str, make: Callable[[Path], None], factory: pytest.TempPathFactory) -> Path:
    """Make a folder once for all processes of a run (pytest-xdist starts several); the others wait for it.

    Args:
        name: of the folder.
        make: fills it.
        factory: says where it goes.
    """
    own = factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / f"once-{name}"
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            part = folder.with_name(f"{folder.name}.part")
            shutil.rmtree(part, ignore_errors=True)  # of a process that failed at it
            part.mkdir()
            make(part)
            part.rename(folder)
    return folder


@pytest.fixture(scope="session", autouse=True)
def signals_that_were_ignored() -> None:
    """Programs that tests start heed signals, even where the tests were started with nohup or in the background."""
    for name in ("SIGINT", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)  # what is handled here is not ignored by them


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

    def make(folder: Path) -> None:
        for portrait in (HOPPER, COLLINS):
            make_clip(portrait, folder / f"{portrait.name}.mp4", FRAMES)

    folder = made_once("clips", make, tmp_path_factory)
    return {portrait.name: folder / f"{portrait.name}.mp4" for portrait in (HOPPER, COLLINS)}


@pytest.fixture(scope="session")
def trained_once(clips: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with both people extracted and a small model of three steps; not to be written to."""

    def make(folder: Path) -> None:
        workspace = ["--workspace", str(folder / "workspace")]
        assert main(["extract", *map(str, clips.values()), *workspace]) == 0
        assert main(["train", *SMALL, "--max-steps", "3", *workspace]) == 0

    return made_once("trained", make, tmp_path_factory) / "workspace"


@pytest.fixture
def extracted(trained_once: Path, tmp_path: Path) -> Path:
    """A workspace of the test's own with both people extracted and no model."""
    workspace = tmp_path / "workspace"
    shutil.copytree(trained_once, workspace, ignore=shutil.ignore_patterns("output"))
    return workspace


@pytest.fixture
def trained(trained_once: Path, tmp_path: Path) -> Path:
    """A workspace of the test's own with both people extracted and a small model."""
    return copy_workspace(trained_once, tmp_path / "workspace")


def copy_workspace(workspace: Path, copy: Path) -> Path:
    """Copy a workspace with its models, whose files are large and never changed in place: linking them is enough."""
    shutil.copytree(workspace, copy, ignore=shutil.ignore_patterns("output"))
    others = shutil.ignore_patterns("*.lock")  # a linked lock would be held for all copies at once
    shutil.copytree(workspace / "output", copy / "output", copy_function=os.link, ignore=others)
    return copy


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real clips; a test that asks for it is skipped where there is none."""
    folder = Path(os.environ.get("RECAST_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real clips in {folder}; set RECAST_TEST_DATA to a folder that has them")
    return folder
