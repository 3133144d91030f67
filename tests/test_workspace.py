import os
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.converting import segments
from pipeline.converting.segments import segments_folder
from pipeline.errors import MediaError, UsageError, WorkspaceError
from pipeline.workspace import (
    Workspace,
    atomic_path,
    checked_name,
    is_name,
    list_people,
    list_pictures,
    locked,
    name_from_file,
    write_bytes,
)
from tests.conftest import ROOT

GOOD = ["cage", "Grace Hopper", "trump_2", "a.b-c", "_", "7", "影", "Äön", "नमस्ते", "com10", "nullify", "x" * 100]
BAD = {
    "empty": "",
    "dot": ".",
    "parent": "..",
    "hidden": ".cage",
    "dot at the end": "cage.",
    "space at the start": " cage",
    "space at the end": "cage ",
    "slash": "a/b",
    "backslash": "a\\b",
    "colon": "c:",
    "star": "*",
    "question mark": "who?",
    "quote": 'a"b',
    "line": "a\nb",
    "tab": "a\tb",
    "nul": "a\0b",
    "direction mark": "a\u202eb",
    "private use": "\ue000",
    "half a character": "a\ud800b",
    "too long": "x" * 101,
    "device": "con",
    "device in capitals": "NUL",
    "device with suffix": "aux.tar.gz",
    "port": "Com1",
    "port in superscript": "lpt²",  # Windows reads ¹, ² and ³ as digits here
}
FILE_NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), max_size=120)


@pytest.mark.parametrize("name", GOOD)
def test_names(name: str, tmp_path: Path) -> None:
    assert is_name(name)
    assert checked_name(name, "person") == name
    (tmp_path / name).mkdir()


@pytest.mark.parametrize("name", BAD.values(), ids=BAD)
def test_what_cannot_be_a_name(name: str) -> None:
    assert not is_name(name)
    with pytest.raises(UsageError, match=r"cannot name a person: use letters"):
        checked_name(name, "person")


def test_the_error_shows_the_name() -> None:
    with pytest.raises(UsageError, match=r"'\.\./cage' cannot name a model"):
        checked_name("../cage", "model")


@settings(deadline=None)
@given(st.text(max_size=110))
def test_a_name_stays_in_its_folder(text: str) -> None:
    if is_name(text):
        assert Path("data", text).parts == ("data", text)
        assert text == text.strip(". ")
        assert text.isprintable()


@pytest.mark.parametrize("name", ["x" * 100, "影" * 100, "नमस्ते" * 16], ids=["1 byte", "3 bytes", "3 bytes combined"])
def test_the_longest_names_fit_the_file_system(name: str, tmp_path: Path) -> None:
    """Common file systems take 255 bytes; a crop's name has the video's and more in it."""
    made = name_from_file(Path(f"{name}.mp4"))
    folder = tmp_path / made
    write_bytes(folder / f"{made}_0123456_0123.png", b"crop")
    assert [path.read_bytes() for path in folder.iterdir()] == [b"crop"]


@settings(deadline=None)
@given(FILE_NAMES)
@example("con.mp4")
@example("...mp4")
@example(" .mp4")
@example("nul.tar.gz")
@example("con." + "x" * 100 + ".mp4")
@example("x" * 99 + ". .mp4")
@example("e\u0301" * 100 + ".mp4")
def test_every_file_gives_a_valid_name(name: str) -> None:
    made = name_from_file(Path(name))
    assert is_name(made)
    assert made == name_from_file(Path(name))


@settings(deadline=None)
@given(st.sampled_from(GOOD))
def test_a_file_with_a_valid_name_keeps_it(name: str) -> None:
    assert name_from_file(Path("folder", f"{name}.mp4")) == unicodedata.normalize("NFC", name)


def test_what_cannot_stand_in_a_name_becomes_an_underscore() -> None:
    assert name_from_file(Path("films/My: film? (1).mp4")) == "My_ film_ _1_"
    assert name_from_file(Path("con.mp4")) == "video_con"
    assert name_from_file(Path(".mp4")) == "mp4"


def test_decomposed_and_composed_names_are_one() -> None:
    """MacOS gives file names taken apart, where others have single characters."""
    assert name_from_file(Path("e\u0301te\u0301.mp4")) == name_from_file(Path("\xe9t\xe9.mp4")) == "\xe9t\xe9"


def test_paths(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    assert workspace.person("cage") == tmp_path / "data" / "cage"
    assert workspace.model("small") == tmp_path / "output" / "small"
    assert workspace.store("clip") == tmp_path / "videos" / "clip" / "faces.sqlite"
    assert workspace.converted == tmp_path / "converted"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["../escape", "/tmp", "a/b", ""])
def test_no_path_leads_out_of_the_workspace(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="cannot name a person"):
        Workspace(tmp_path).person(name)
    with pytest.raises(UsageError, match="cannot name a model"):
        Workspace(tmp_path).model(name)


def test_stores_are_found_by_name(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    assert workspace.stores() == []
    for video in ("b", "a"):
        write_bytes(workspace.store(video), b"")
    (tmp_path / "videos" / "empty").mkdir()
    assert workspace.stores() == [workspace.store("a"), workspace.store("b")]


def test_people_are_folders_with_pictures(tmp_path: Path) -> None:
    for place in ("hopper/1.png", "collins/a.JPEG", "nobody/notes.txt", ".cache/1.png", "shy/.1.png"):
        write_bytes(tmp_path / place, b"")
    (tmp_path / "nothing").mkdir()
    write_bytes(tmp_path / "loose.png", b"")
    assert list_people(tmp_path) == ["collins", "hopper"]


def test_there_are_no_people_where_there_is_no_folder(tmp_path: Path) -> None:
    write_bytes(tmp_path / "file", b"")
    assert list_people(tmp_path / "nowhere") == []
    assert list_people(tmp_path / "file") == []
    assert list_pictures(tmp_path / "nowhere") == []
    assert list_pictures(tmp_path / "file") == []


def test_pictures_are_sorted_and_not_hidden(tmp_path: Path) -> None:
    for name in ("b.png", "a.JPG", "c.webp", "d.tiff", ".hidden.png", "notes.txt", "png", "e.bmp", "f.png.part"):
        write_bytes(tmp_path / name, b"")
    write_bytes(tmp_path / "deeper" / "g.png", b"")
    assert [path.name for path in list_pictures(tmp_path)] == ["a.JPG", "b.png", "c.webp", "d.tiff", "e.bmp"]


def test_a_folder_is_no_picture(tmp_path: Path) -> None:
    (tmp_path / "cage" / "folder.png").mkdir(parents=True)
    assert list_pictures(tmp_path / "cage") == []
    assert list_people(tmp_path) == []


def test_a_file_appears_when_its_block_ends(tmp_path: Path) -> None:
    final = tmp_path / "new" / "deep" / "a.tar.mp4"
    with atomic_path(final) as temporary:
        assert temporary.parent == final.parent
        assert temporary.suffix == ".mp4"
        assert temporary.name.startswith(".")
        temporary.write_text("new", encoding="utf-8")
        assert not final.exists()
    assert final.read_text(encoding="utf-8") == "new"
    assert list(final.parent.iterdir()) == [final]


def test_a_file_is_replaced_when_its_block_ends(tmp_path: Path) -> None:
    final = tmp_path / "a.json"
    final.write_text("old", encoding="utf-8")
    with atomic_path(final) as temporary:
        temporary.write_text("new", encoding="utf-8")
        assert final.read_text(encoding="utf-8") == "old"
    assert final.read_text(encoding="utf-8") == "new"
    assert list(tmp_path.iterdir()) == [final]


@pytest.mark.parametrize("error", [MediaError, KeyboardInterrupt, ValueError])
@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("before", [None, "old"])
def test_a_block_that_fails_changes_nothing(
    tmp_path: Path, error: type[BaseException], begun: bool, before: str | None
) -> None:
    final = tmp_path / "a.mp4"
    if before is not None:
        final.write_text(before, encoding="utf-8")
    with pytest.raises(error), atomic_path(final) as temporary:
        if begun:
            temporary.write_text("half", encoding="utf-8")
        raise error
    assert [path.read_text(encoding="utf-8") for path in tmp_path.iterdir()] == ([before] if before else [])


def test_what_a_killed_run_left_is_written_over(tmp_path: Path) -> None:
    final = tmp_path / "a.bin"
    with pytest.raises(ValueError), atomic_path(final) as temporary:
        left = temporary
        raise ValueError
    left.write_bytes(b"left over and longer")
    write_bytes(final, b"new")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"new"]


def test_a_full_disk_is_reported_with_the_path(tmp_path: Path) -> None:
    final = tmp_path / "a.png"
    final.write_bytes(b"old")
    with pytest.raises(WorkspaceError, match=r"cannot write .*a\.png: No space left on device"), atomic_path(final):
        raise OSError(28, "No space left on device")
    assert final.read_bytes() == b"old"


def test_a_folder_in_the_way_is_reported(tmp_path: Path) -> None:
    final = tmp_path / "a.png"
    (final / "full").mkdir(parents=True)
    with pytest.raises(WorkspaceError, match=r"cannot write .*a\.png"):
        write_bytes(final, b"new")
    assert list(tmp_path.iterdir()) == [final]


def test_a_file_in_place_of_the_folder_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(WorkspaceError, match=r"cannot write .*a\.png"):
        write_bytes(tmp_path / "file" / "a.png", b"new")
    assert (tmp_path / "file").read_bytes() == b"old"


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_bytes_are_written_whole(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    final = tmp_path_factory.mktemp("bytes") / "a.bin"
    write_bytes(final, content)
    assert final.read_bytes() == content


@pytest.mark.skipif(os.name == "nt", reason="Windows does not delete open files")
def test_what_a_killed_run_still_writes_does_not_get_into_the_file(tmp_path: Path) -> None:
    """A process that a killed run had started has the temporary file open, and writes on."""
    final = tmp_path / "a.mp4"
    with (tmp_path / ".a.part.mp4").open("wb") as orphan, atomic_path(final) as temporary:
        temporary.write_bytes(b"ours")
        orphan.write(b"theirs")
        orphan.flush()
    assert final.read_bytes() == b"ours"


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
@pytest.mark.parametrize(
    ("link", "ask"),
    [
        ("data", lambda workspace: workspace.data),
        ("data", lambda workspace: workspace.person("cage")),
        ("data/cage", lambda workspace: workspace.person("cage")),
        ("output/model", lambda workspace: workspace.model("model")),
        ("videos/clip", lambda workspace: workspace.store("clip")),
        ("videos/clip", lambda workspace: workspace.pending_crops("clip")),
        ("removed", lambda workspace: workspace.removed("cage")),
        ("converted", lambda workspace: workspace.converted),
        ("logs", lambda workspace: workspace.logs),
        ("output/model/cage", lambda workspace: workspace.model("model")),
    ],
)
def test_links_lead_nowhere_else(tmp_path: Path, link: str, ask: Callable[[Workspace], Path]) -> None:
    (tmp_path / "elsewhere").mkdir()
    workspace = Workspace(tmp_path / "workspace")
    ask(workspace)
    path = workspace.root / link
    path.parent.mkdir(parents=True)
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(WorkspaceError, match="leads out of the workspace"):
        ask(workspace)
    path.unlink()
    (workspace.root / "inside").mkdir()
    path.symlink_to(workspace.root / "inside")
    ask(workspace)


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_the_workspace_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "large disk" / "cage").mkdir(parents=True)
    (tmp_path / "workspace").symlink_to(tmp_path / "large disk")
    assert Workspace(tmp_path / "workspace").person("cage") == tmp_path / "workspace" / "data" / "cage"


@pytest.mark.parametrize("name", ["../elsewhere", "a/b", "", ".hidden"])
def test_no_video_is_named_out_of_the_workspace(tmp_path: Path, name: str) -> None:
    for ask in (Workspace(tmp_path).store, Workspace(tmp_path).pending_crops):
        with pytest.raises(UsageError):
            ask(name)


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
