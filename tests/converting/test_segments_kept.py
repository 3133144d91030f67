"""The folder of unfinished segments: nobody else's files are touched, and two runs never share it."""

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.converting.segments import segments_folder
from pipeline.errors import WorkspaceError
from tests.conftest import ROOT

RESULT, FINISHED = "made.mp4", "00000000-4_0123456789abcdef.nut"


@pytest.fixture
def final(tmp_path: Path) -> Path:
    (tmp_path / "made").mkdir()
    return tmp_path / "made" / RESULT


@pytest.fixture
def folder(final: Path) -> Path:
    return final.with_name(f".{RESULT}.segments")


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A folder with files of somebody's own."""
    (tmp_path / "own").mkdir()
    for name in ("part_1.nut", "rehearsal.txt", "00000000_a.nut"):
        (tmp_path / "own" / name).write_text("mine")
    return tmp_path / "own"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_it_goes_when_all_is_done(final: Path, folder: Path) -> None:
    with segments_folder(final) as kept:
        assert kept == folder
        (kept / FINISHED).touch()
    assert names(final.parent) == []


def test_what_is_finished_outlives_an_interrupt_and_what_is_not_does_not(final: Path, folder: Path) -> None:
    with pytest.raises(KeyboardInterrupt), segments_folder(final) as kept:
        (kept / "part_1.nut").touch()
        raise KeyboardInterrupt
    assert names(final.parent) == []
    with pytest.raises(KeyboardInterrupt), segments_folder(final) as kept:
        (kept / FINISHED).touch()
        (kept / "part_1.nut").touch()
        raise KeyboardInterrupt
    assert names(final.parent) == [folder.name]
    with segments_folder(final) as kept:
        assert names(kept) == [FINISHED], "what was not finished is gone"


def test_a_folder_that_is_a_link_is_refused(final: Path, folder: Path, elsewhere: Path) -> None:
    before = names(elsewhere)
    folder.symlink_to(elsewhere, target_is_directory=True)
    with pytest.raises(WorkspaceError, match=r"segments is a link.*move it away"), segments_folder(final):
        pytest.fail("it was entered")
    assert names(elsewhere) == before
    assert folder.is_symlink()


def test_a_link_in_the_folder_is_refused(final: Path, folder: Path, elsewhere: Path) -> None:
    folder.mkdir()
    before = names(elsewhere)
    (folder / "part_more").symlink_to(elsewhere, target_is_directory=True)
    with pytest.raises(WorkspaceError, match="part_more is a link"), segments_folder(final):
        pytest.fail("it was entered")
    assert names(elsewhere) == before
    assert names(folder) == ["part_more"]


def test_a_link_that_leads_nowhere_is_refused(final: Path, folder: Path, tmp_path: Path) -> None:
    folder.symlink_to(tmp_path / "nowhere")
    with pytest.raises(WorkspaceError, match="is a link"), segments_folder(final):
        pytest.fail("it was entered")
    assert not (tmp_path / "nowhere").exists()


def test_the_lock_is_held_until_the_folder_is_gone(final: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another run that begins while the folder is being deleted would lose what it makes there."""
    script = (
        "import sys, pathlib; from pipeline.converting.segments import segments_folder\n"
        "with segments_folder(pathlib.Path(sys.argv[1])): pass"
    )
    said, rmdir = list[str](), Path.rmdir

    def delete(path: Path) -> None:
        command = [sys.executable, "-c", script, str(final)]
        said.append(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stderr)
        rmdir(path)

    with monkeypatch.context() as patch, segments_folder(final):
        patch.setattr(Path, "rmdir", delete)
    assert "another run is converting into" in said[0]
    assert names(final.parent) == []
