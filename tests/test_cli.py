"""The command line: what it accepts, what it says, how it ends."""

import subprocess
import sys
import tomllib

import pytest

from cli import main, parse
from pipeline import __version__
from pipeline.options import ConvertOptions, ExtractOptions, TrainOptions
from tests.conftest import ROOT


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
        "import sys, pipeline.convert, pipeline.preview\n"
        "heavy = {'torchvision', 'facenet_pytorch', 'matplotlib', 'tensorboardX', 'dlib'} & set(sys.modules)\n"
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
