"""The command line: what it accepts, what it says, how it ends."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from cli import main, parse
from demo.clips import HOPPER, make_clip
from pipeline import __version__
from pipeline.console import LOGS_KEPT, Console, Report, to_json
from pipeline.errors import MediaError
from pipeline.extract import extract
from pipeline.options import ConvertOptions, ExtractOptions, TrainOptions
from pipeline.provenance.credentials import Credentials
from pipeline.runtime import choose_device
from tests.conftest import ROOT


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere file names are text")
@pytest.mark.parametrize("form", [(), ("--json",)])
def test_names_that_are_no_text_are_shown_whatever_the_terminal_takes(tmp_path: Path, form: tuple[str, ...]) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/data/wei\xffrd"))
    folder.mkdir(parents=True)
    (folder / "a.jpg").write_bytes(b"a picture")
    done = subprocess.run(
        [sys.executable, "cli.py", "people", *form, "--workspace", str(tmp_path)],
        cwd=ROOT,
        env=os.environ | {"PYTHONIOENCODING": "utf-8:strict"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert r"wei\udcffrd: 1 crops, own pictures" in done.stdout


def test_help_loads_no_heavy_library() -> None:
    probe = (
        "import sys, cli\n"
        "try: cli.main(['--help'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "heavy = {'torch', 'cv2', 'av', 'numpy', 'tqdm', 'facenet_pytorch'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "extract" in done.stdout


def test_converting_loads_nothing_of_finding_faces_and_of_training() -> None:
    """Each would cost a second at the start, and a tenth of the memory."""
    probe = (
        "import sys, pipeline.convert, pipeline.commands.preview\n"
        "heavy = {'torchvision', 'facenet_pytorch', 'matplotlib', 'tensorboardX', 'dlib'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("given", [None, "ACTIVE"])
def test_waiting_threads_sleep_unless_someone_wants_it_otherwise(given: str | None) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    environment |= {"OMP_WAIT_POLICY": given} if given else {}
    probe = "import os, sys, cli; print('torch' in sys.modules, os.environ['OMP_WAIT_POLICY'])"
    done = subprocess.run(
        [sys.executable, "-c", probe], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", given or "PASSIVE"], "it is said before torch is loaded"


def test_extracting_loads_no_torch_where_there_is_no_gpu() -> None:
    """It would take longer than extracting a short clip."""
    if choose_device(no_cuda=False) == "cuda":
        pytest.skip("there is a GPU, which torch drives")
    probe = (
        "import sys, pipeline.extract, pipeline.commands.review\n"
        "from pipeline.runtime import choose_device\n"
        "from pipeline.faces.detection import Detector\n"
        "Detector(40, 0.95, choose_device(no_cuda=False))\n"
        "heavy = {'torch', 'torchvision', 'facenet_pytorch', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_training_options_are_those_of_the_reference_tool() -> None:
    options = parse(["train"])
    assert isinstance(options, TrainOptions)
    assert (options.batch_size, options.init_dim, options.code_dim) == (64, 32, 1024)
    assert (options.log_interval, options.epochs, options.inner_loop) == (1, 100_000_000, 100)
    assert (options.lr, options.seed, options.no_cuda, options.fix_enc) == (5e-5, 1, False, False)
    line = "train -d ./data --init-dim 256 --code-dim 1024 -n model_256_1024 -b 32 --no-cuda --fix-enc --max-minutes 2"
    options = parse(line.split())
    assert isinstance(options, TrainOptions)
    assert (str(options.data_dir), options.init_dim, options.model_name) == ("data", 256, "model_256_1024")
    assert (options.batch_size, options.no_cuda, options.fix_enc, options.max_minutes) == (32, True, True, 2)


def test_from_and_to() -> None:
    options = parse(["convert", "a.mp4", "b.mp4", "--from", "trump", "--to", "cage", "-o", "out", "--workspace", "w"])
    assert isinstance(options, ConvertOptions)
    assert (options.from_person, options.to_person) == ("trump", "cage")
    assert [path.name for path in options.videos] == ["a.mp4", "b.mp4"]


def test_extract_takes_many_videos() -> None:
    options = parse(["extract", "a.mp4", "b.mp4", "--person", "x", "--every", "3"])
    assert isinstance(options, ExtractOptions)
    assert (len(options.videos), options.person, options.every) == (2, "x", 3)


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("extract", "needs a video"),
        ("extract a.mp4 --every 0", "--every 0"),
        ("extract a.mp4 --min-confidence 2", "--min-confidence 2"),
        ("extract a.mp4 --person ../x", "'../x'"),
        ("train -b 0", "--batch-size 0"),
        ("train --lr -1", "--lr -1"),
        ("train -n a/b", "'a/b'"),
        ("convert --from a --to a", "nothing to swap"),
        ("convert --from a", "--to"),
        ("train --inner-loop many", "many"),
        ("bogus", "bogus"),
    ],
)
def test_wrong_usage_exits_2_and_says_why(line: str, word: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code: object = main([*line.split(), "--workspace", "nowhere"] if line != "bogus" else [line])
    except SystemExit as end:
        code = end.code
    words = capsys.readouterr()
    assert code == 2
    assert word in words.err + words.out
    assert "Traceback" not in words.err


def test_the_version_is_said_once() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["version"] == __version__


NOBODY = 999_999_999  # the number of no process


def logs(workspace: Path) -> list[str]:
    return [path.read_text(encoding="utf-8") for path in sorted((workspace / "logs").glob("*.log"))]


def test_every_run_leaves_a_log(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(trained / "logs", ignore_errors=True)
    assert main(["preview", "--from", "hopper", "--to", "collins", "--frames", "2", "--workspace", str(trained)]) == 0
    assert main(["train", "-n", "none such", "--fix-enc", "--people", "nobody", "--workspace", str(trained)]) == 1
    done, failed = logs(trained)
    for words in ("typed: preview --from hopper", f"Recast {__version__}", "torch ", "frames=2", " s\n", "exit code 0"):
        assert words in done, words
    assert "ERROR error: --people: no faces of 'nobody'" in failed
    assert "Traceback" not in failed


def test_where_there_is_no_workspace_none_is_made_for_a_log(tmp_path: Path) -> None:
    assert main(["models", "--workspace", str(tmp_path / "mistyped")]) == 1
    assert not (tmp_path / "mistyped").exists()


def write_logs(workspace: Path, command: str, process: int, count: int = 40) -> list[Path]:
    (workspace / "logs").mkdir(exist_ok=True)
    paths = [workspace / "logs" / f"2020-01-01_{number:06d}_{command}_{process}.log" for number in range(count)]
    for path in paths:
        path.write_text("old")
    return paths


def test_old_logs_go(tmp_path: Path) -> None:
    write_logs(tmp_path, "models", NOBODY)
    assert main(["models", "--workspace", str(tmp_path)]) == 1
    (tmp_path / "logs" / "access.log").write_text("of another program")
    assert main(["models", "--workspace", str(tmp_path)]) == 1
    assert (tmp_path / "logs" / "access.log").exists()
    assert len(logs(tmp_path)) <= LOGS_KEPT + 1
    assert 0 < sum(text == "old" for text in logs(tmp_path)) < LOGS_KEPT


def test_logs_of_other_commands_and_of_runs_that_go_on_stay(tmp_path: Path) -> None:
    others = write_logs(tmp_path, "train", NOBODY)
    running = write_logs(tmp_path, "models", os.getpid(), 1)
    write_logs(tmp_path, "models", NOBODY, LOGS_KEPT)
    assert main(["models", "--workspace", str(tmp_path)]) == 1
    assert all(path.exists() for path in (*others, *running))


@pytest.mark.parametrize(
    ("error", "words", "code"),
    [
        (ZeroDivisionError("division by zero"), "ZeroDivisionError: division by zero; this is a bug in Recast", 3),
        (
            OSError(28, "No space left on device", "/some/file"),
            "No space left on device: /some/file; check the disk",
            1,
        ),
        (MemoryError(), "not enough memory", 1),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), "not enough memory", 1),
    ],
)
def test_what_nobody_foresaw_ends_in_one_line_and_a_log(
    tmp_path: Path,
    error: Exception,
    words: str,
    code: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def break_down(options: object) -> None:
        raise error

    monkeypatch.setattr("pipeline.commands.models.models_command", break_down)
    assert main(["models", "--workspace", str(tmp_path)]) == code
    said = capsys.readouterr()
    (line,) = said.err.splitlines()
    assert words in line
    (log,) = (tmp_path / "logs").glob("*.log")
    assert str(log) in line
    assert "Traceback" in log.read_text()
    assert "Traceback" not in said.err + said.out


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="there are no links")
def test_a_log_is_not_kept_outside_the_workspace(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "logs").symlink_to(tmp_path / "elsewhere")
    assert main(["models", "--workspace", str(tmp_path / "w")]) == 1
    assert not list((tmp_path / "elsewhere").iterdir())


def test_wrong_usage_is_json_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--lr", "7", "--json"]) == 2
    said = capsys.readouterr()
    assert json.loads(said.out)["exit_code"] == 2
    assert "--lr 7" in json.loads(said.out)["errors"][0]
    assert "--lr 7" in said.err


def test_quiet_shows_errors_only(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    swap = ["preview", "--from", "hopper", "--to", "collins", "--frames", "2", "--workspace", str(trained), "--quiet"]
    assert main(swap) == 0
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "")
    assert main(["preview", "--from", "nobody", "--to", "collins", "--workspace", str(trained), "--quiet"]) == 1
    assert capsys.readouterr().err.startswith("error: ")


def test_json_is_the_report_for_scripts(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    swap = ["--from", "hopper", "--to", "collins", "--preset", "ultrafast", "--workspace", str(trained), "--json"]
    assert main(["convert", *swap, "-o", str(trained / "made.mp4")]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["exit_code"] == 0
    (done,) = told["report"]["done"]
    assert done["output"] == str(trained / "made.mp4")
    assert done["faces"] == 12
    assert main(["convert", *swap, "--codec", "none such"]) != 0
    told = json.loads(capsys.readouterr().out)
    assert told["exit_code"] in (1, 2)
    assert "none such" in told["errors"][0]


def test_models_are_listed_for_scripts_too(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--workspace", str(trained), "--json"]) == 0
    (model,) = json.loads(capsys.readouterr().out)["report"]["models"]
    assert (model["name"], model["steps"], model["init_dim"]) == ("model", 3, 8)
    assert model["people"]["collins"]["samples"] > 0


def test_verbose_shows_what_the_log_gets(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--workspace", str(trained), "--verbose"]) == 0
    said = capsys.readouterr().err
    for words in ("typed: models", "torch ", "ModelsOptions(", "exit code 0"):
        assert words in said, words


def test_reports_of_all_kinds_become_json() -> None:
    found = to_json(
        {
            "found": [{"path": Path("a.mp4"), "credentials": Credentials("none")}],
            "failed": [MediaError("cannot read b.mp4")],
        }
    )
    assert found["found"][0]["path"] == "a.mp4"
    assert found["found"][0]["credentials"]["state"] == "none"
    assert found["failed"] == ["cannot read b.mp4"]
    assert to_json([float("nan"), float("inf"), 0.5]) == [None, None, 0.5]
    assert to_json({1: {2.5, None}, "é": (True,)}) in ({"1": [2.5, None], "é": [True]}, {"1": [None, 2.5], "é": [True]})


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_options_complete_in_bash(tmp_path: Path) -> None:
    script = tmp_path / "completion"
    command = [sys.executable, "cli.py", "--tyro-print-completion", "bash"]
    script.write_bytes(subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout)
    asking = (
        'source "$1"; COMP_WORDS=(./cli.py train --inter); COMP_CWORD=2; '
        '"$(complete -p cli.py | sed "s/.*-F \\([^ ]*\\).*/\\1/")" ./cli.py --inter train; echo "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-c", asking, "bash", str(script)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["--interleave"]


def test_what_convert_extracts_first_is_computed_where_convert_is_told_to(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_clip(HOPPER, tmp_path / "another.mp4", 3)
    asked: list[ExtractOptions] = []

    def listen(options: ExtractOptions, console: Console) -> Report:
        asked.append(options)
        return extract(options, console)

    monkeypatch.setattr("pipeline.extract.extract", listen)
    swap = ["--from", "hopper", "--to", "collins", "--frames", "1", "--workspace", str(trained)]
    assert main(["preview", str(tmp_path / "another.mp4"), *swap, "--no-cuda"]) == 0
    assert [options.no_cuda for options in asked] == [True]


FLOATS = [
    *(["train", f"--{name}"] for name in ("lr", "max-minutes")),
    *(
        ["preview", "--from", "a", "--to", "b", f"--{name}"]
        for name in ("erode", "feather", "sharpen", "opacity", "scale")
    ),
    ["extract", "x.mp4", "--min-confidence"],
]


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
@pytest.mark.parametrize("command", FLOATS, ids=lambda command: command[-1])
def test_options_that_are_no_finite_numbers_are_wrong_usage(
    command: list[str], value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, value]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {command[-1]} ")
