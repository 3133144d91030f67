"""Locks between processes."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.converting import segments
from pipeline.converting.segments import segments_folder
from pipeline.errors import WorkspaceError
from pipeline.workspace import locked
from tests.conftest import ROOT

HOLD = """
import sys
from pathlib import Path
from typing import Any
from pipeline.workspace import locked
with locked(Path(sys.argv[1]), "busy"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_another_process_is_kept_off_until_the_holder_dies(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "a.lock"
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], cwd=ROOT, text=True, **pipes) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(WorkspaceError, match="busy"), locked(path, "busy"):
            pass
        holder.kill()
        holder.wait()
    with locked(path, "busy"):
        pass


def test_what_is_in_the_file_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    path.write_bytes(b"garbage" * 1000)
    with locked(path, "busy"), pytest.raises(WorkspaceError, match="busy"), locked(path, "busy"):
        pass
    with locked(path, "busy"):
        pass


def test_a_file_in_the_way_of_the_folder_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(WorkspaceError, match="cannot write"), locked(tmp_path / "file" / "a.lock", ""):
        pass


def test_the_segments_are_deleted_before_their_lock_is_released(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a second run, which has the lock by then, would lose what it writes."""
    final, delete, refused = tmp_path / "a.mp4", segments._delete_folder, []

    def delete_while_another_tries(folder: Path) -> None:
        with pytest.raises(WorkspaceError, match="another run") as error, segments_folder(final):
            pass
        refused.append(error)
        delete(folder)

    with segments_folder(final) as folder:
        (folder / "part_0").write_bytes(b"half")
        monkeypatch.setattr(segments, "_delete_folder", delete_while_another_tries)
    assert refused
    assert not folder.exists()
