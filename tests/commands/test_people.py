"""Looking after the people of a workspace."""

import ctypes
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cli import main
from models import checkpoint
from pipeline.faces.store import FaceStore
from pipeline.workspace import Workspace, locked_model
from tests.conftest import FRAMES, ROOT, SMALL


def people(workspace: Path, *arguments: str) -> int:
    return main(["people", *arguments, "--workspace", str(workspace)])


def crops(workspace: Path) -> dict[str, int]:
    return {folder.name: len(list(folder.iterdir())) for folder in sorted((workspace / "data").iterdir())}


def recorded(workspace: Path, video: str) -> set[str]:
    with FaceStore(Workspace(workspace).store(video)) as store:
        return set(store.people())


def test_the_list_says_crops_videos_and_seconds(extracted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (extracted / "data" / "own").mkdir()
    source = next((extracted / "data" / "hopper").iterdir())
    (extracted / "data" / "own" / "photo.jpg").write_bytes(source.read_bytes())
    source.unlink()
    assert people(extracted) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"collins: {FRAMES} crops, in collins, 0 seconds on screen",
        f"hopper: {FRAMES - 1} crops, in hopper, 0 seconds on screen",
        "own: 1 crops, own pictures",
    ]
    assert people(extracted, "--json") == 0
    listed = json.loads(capsys.readouterr().out)["report"]["people"]
    assert listed["hopper"] == {"crops": FRAMES - 1, "videos": ["hopper"], "seconds": pytest.approx(0.44, abs=0.06)}
    assert listed["own"] == {"crops": 1, "videos": [], "seconds": 0}


def obey_permissions() -> None:
    """Let the superuser, too, write only where that is allowed: drop the capabilities that override it."""
    if os.geteuid() == 0:
        system = ctypes.CDLL(None, use_errno=True)
        for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
            system.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP


@pytest.mark.skipif(sys.platform != "linux", reason="permissions of the superuser can be dropped on Linux only")
def test_a_workspace_that_cannot_be_written_is_listed_and_renaming_is_refused_in_one_line(extracted: Path) -> None:
    paths = [extracted, *extracted.rglob("*")]
    for path in paths:
        path.chmod(path.stat().st_mode & ~0o222)
    before = {path: path.stat().st_mtime_ns for path in paths}
    try:
        commands = [[], ["rename", "hopper", "grace"]]
        runs = [
            subprocess.run(
                [sys.executable, "cli.py", "people", *command, "--workspace", str(extracted)],
                cwd=ROOT,
                capture_output=True,
                text=True,
                check=False,
                preexec_fn=obey_permissions,
            )
            for command in commands
        ]
        assert [run.returncode for run in runs] == [0, 1], runs
        assert f"hopper: {FRAMES} crops, in hopper" in runs[0].stdout
        (line,) = runs[1].stderr.splitlines()
        assert "Permission denied" in line
        assert {path: path.stat().st_mtime_ns for path in [extracted, *extracted.rglob("*")]} == before
    finally:
        for path in paths:
            path.chmod(path.stat().st_mode | 0o200)


def test_rename_moves_the_folder_and_tells_the_stores(extracted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert people(extracted, "rename", "hopper", "grace") == 0
    assert crops(extracted) == {"collins": FRAMES, "grace": FRAMES}
    assert (recorded(extracted, "hopper"), recorded(extracted, "collins")) == ({"grace"}, {"collins"})
    assert people(extracted, "rename", "grace", "collins") == 1
    assert "people merge grace collins" in capsys.readouterr().err
    assert crops(extracted) == {"collins": FRAMES, "grace": FRAMES}


def test_rename_tells_the_models_and_training_goes_on(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = trained / "output" / "model"
    before = checkpoint.load(folder, for_training=True)
    assert people(trained, "rename", "hopper", "grace") == 0
    assert "hopper is now grace, in 1 model too" in capsys.readouterr().out
    after = checkpoint.load(folder, for_training=True)
    assert set(after.decoders) == {"collins", "grace"}
    assert after.trained["grace"] == before.trained["hopper"]
    for name, tensor in before.decoders["hopper"].state_dict().items():
        assert torch.equal(after.decoders["grace"].state_dict()[name], tensor)
    for name, tensor in before.moments["hopper"].items():
        assert torch.equal(after.moments["grace"][name], tensor)
    assert main(["train", *SMALL, "--max-steps", "1", "--workspace", str(trained)]) == 0
    assert "grace: smoothed" in capsys.readouterr().out


def test_a_name_that_a_model_has_for_another_is_refused(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert people(trained, "remove", "collins") == 0
    assert people(trained, "rename", "hopper", "collins") == 1
    assert "the model 'model' draws a 'collins' already" in capsys.readouterr().err
    assert crops(trained) == {"hopper": FRAMES}


def test_a_model_that_is_being_trained_is_not_renamed(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with locked_model(trained / "output" / "model"):
        assert people(trained, "rename", "hopper", "grace") == 1
    assert "another run is training 'model'" in capsys.readouterr().err
    assert set(crops(trained)) == {"collins", "hopper"}


def test_a_name_may_change_its_case(extracted: Path) -> None:
    assert people(extracted, "rename", "hopper", "Grace") == 0
    assert people(extracted, "rename", "Grace", "grace") == 0
    assert crops(extracted) == {"collins": FRAMES, "grace": FRAMES}


def test_merge_keeps_every_crop(extracted: Path) -> None:
    twin = extracted / "data" / "collins" / "hopper_000003_0.jpg"
    twin.write_bytes(b"another of the same name")
    assert people(extracted, "merge", "hopper", "collins") == 0
    assert crops(extracted) == {"collins": 2 * FRAMES + 1}
    assert twin.read_bytes() == b"another of the same name"
    assert recorded(extracted, "hopper") == {"collins"}


def test_remove_sets_aside_and_can_be_undone(extracted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert people(extracted, "remove", "hopper") == 0
    assert crops(extracted) == {"collins": FRAMES}
    assert len(list((extracted / "removed" / "hopper").iterdir())) == FRAMES
    assert str(extracted / "removed" / "hopper") in capsys.readouterr().out
    (extracted / "removed" / "hopper").rename(extracted / "data" / "hopper")
    assert people(extracted) == 0
    assert f"hopper: {FRAMES} crops, in hopper" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("rename", "hopper"), 2, "people rename OLD NEW"),
        (("remove",), 2, "people remove NAME"),
        (("list", "hopper"), 2, "people list"),
        (("rename", "hopper", "a/b"), 2, "cannot name a person"),
        (("rename", "hopper", "Events"), 2, "'Events' cannot name a person: a model has files of that name; choose"),
        (("rename", "hopper", "Collins"), 2, "'Collins' cannot name a person: 'collins' has the same name"),
        (("merge", "hopper", "hopper"), 2, "nothing to merge"),
        (("remove", "nixon"), 1, "nobody called 'nixon'"),
        (("merge", "hopper", "nixon"), 1, "nobody called 'nixon'"),
    ],
)
def test_bad_input(
    extracted: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], code: int, words: str
) -> None:
    assert people(extracted, *arguments) == code
    assert words in capsys.readouterr().err
    assert crops(extracted) == {"collins": FRAMES, "hopper": FRAMES}


def test_an_empty_workspace_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert people(tmp_path) == 1
    assert "nobody in" in capsys.readouterr().err


class TestDiscard:
    def write_list(self, folder: Path, *names: str) -> Path:
        path = folder / "list.txt"
        path.write_text("\n".join(["", *names, ""]), encoding="utf-8")
        return path

    def test_listed_crops_are_set_aside_and_nothing_is_lost(
        self, extracted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        names = sorted(path.name for path in (extracted / "data" / "hopper").iterdir())[:3]
        content = (extracted / "data" / "hopper" / names[0]).read_bytes()
        listed = self.write_list(tmp_path, *names, names[0])
        assert people(extracted, "discard", "hopper", "--list", str(listed)) == 0
        assert "3 crops of hopper set aside" in capsys.readouterr().out
        assert sorted(path.name for path in (extracted / "removed" / "hopper").iterdir()) == names
        assert (extracted / "removed" / "hopper" / names[0]).read_bytes() == content
        assert crops(extracted) == {"collins": FRAMES, "hopper": FRAMES - 3}
        assert people(extracted, "discard", "hopper", "--list", str(listed)) == 0, "the same again needs nothing"
        assert "0 crops of hopper set aside (3 were before)" in capsys.readouterr().out

    def test_one_of_the_same_name_is_not_written_over(self, extracted: Path, tmp_path: Path) -> None:
        name = min(path.name for path in (extracted / "data" / "hopper").iterdir())
        (extracted / "removed" / "hopper").mkdir(parents=True)
        (extracted / "removed" / "hopper" / name).write_bytes(b"an older one")
        assert people(extracted, "discard", "hopper", "--list", str(self.write_list(tmp_path, name))) == 0
        assert (extracted / "removed" / "hopper-2" / name).is_file(), "under its own name, which says where it is from"
        assert (extracted / "removed" / "hopper" / name).read_bytes() == b"an older one"

    def test_what_is_not_there_is_said_and_nothing_outside_moves(
        self, extracted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        name = min(path.name for path in (extracted / "data" / "hopper").iterdir())
        outside = "../collins/" + min(path.name for path in (extracted / "data" / "collins").iterdir())
        listed = self.write_list(tmp_path, name, "gone.jpg", outside)
        assert people(extracted, "discard", "hopper", "--list", str(listed)) == 1
        words = capsys.readouterr()
        assert "1 crops of hopper set aside" in words.out
        assert f"2 crops of the list do not exist: gone.jpg, {outside}" in words.err
        assert crops(extracted) == {"collins": FRAMES, "hopper": FRAMES - 1}

    @pytest.mark.parametrize(
        ("arguments", "code", "words"),
        [
            (("discard", "hopper"), 2, "people discard NAME --list FILE"),
            (("remove", "hopper", "--list", "x"), 2, "people remove NAME"),
            (("discard", "hopper", "--list", "nowhere.txt"), 1, "cannot read nowhere.txt"),
            (("discard", "nixon", "--list", "nowhere.txt"), 1, "nobody called 'nixon'"),
        ],
    )
    def test_bad_input(
        self, extracted: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], code: int, words: str
    ) -> None:
        assert people(extracted, *arguments) == code
        assert words in capsys.readouterr().err
        assert crops(extracted) == {"collins": FRAMES, "hopper": FRAMES}

    def test_full_paths_are_taken_and_an_empty_list_is_not(
        self, extracted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        crop = min((extracted / "data" / "hopper").iterdir())
        assert people(extracted, "discard", "hopper", "--list", str(self.write_list(tmp_path, str(crop)))) == 0
        assert (extracted / "removed" / "hopper" / crop.name).is_file()
        assert people(extracted, "discard", "hopper", "--list", str(self.write_list(tmp_path))) == 1
        assert "names no crop" in capsys.readouterr().err

    def test_a_list_that_is_no_text(self, extracted: Path, capsys: pytest.CaptureFixture[str]) -> None:
        picture = min((extracted / "data" / "hopper").iterdir())
        assert people(extracted, "discard", "hopper", "--list", str(picture)) == 1
        assert "as a list of crops" in capsys.readouterr().err


def test_a_folder_whose_name_could_not_be_given_is_listed(extracted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (extracted / "data" / "hopper").rename(extracted / "data" / "hopper (old)")
    assert people(extracted) == 0
    assert "hopper (old): 12 crops" in capsys.readouterr().out


def test_a_folder_that_is_no_model_and_one_whose_model_is_damaged(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (trained / "output" / "model (copy)?").mkdir()
    (trained / "output" / "elsewhere").symlink_to(trained.parent)
    assert people(trained, "rename", "hopper", "grace") == 0
    capsys.readouterr()
    for facts in (trained / "output" / "model").glob("state-*/model.json"):
        facts.unlink()
        facts.write_text("{}")
    assert people(trained, "rename", "grace", "hopper") == 1
    assert "cannot be read" in capsys.readouterr().err
    assert set(crops(trained)) == {"collins", "grace"}, "nothing is renamed in part"
