"""What is printed: on any terminal, to pipes that close, to disks that are full, and with names of all kinds."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

import pytest

from cli import main
from pipeline.console import Stream, printable
from tests.conftest import ROOT
from tests.provenance.test_credentials import made, signed


def cli(*arguments: str | Path, **options: Any) -> Any:
    command = [sys.executable, str(ROOT / "cli.py"), *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    done: Any = subprocess.run(command, check=False, **pipes)
    return done


def test_names_that_the_terminal_has_no_letters_for_are_shown_as_escapes(tmp_path: Path) -> None:
    path = signed(made(tmp_path / "\u0424\u0438\u043b\u044c\u043c.png"), made(tmp_path / "seen.png"))
    done = cli("verify", path, tmp_path / "\u0436.png", env={**os.environ, "PYTHONIOENCODING": "cp1252"})
    assert done.returncode == 1
    assert b"\\u0424" in done.stdout
    assert b"trusted" in done.stdout
    assert b"\\u0436.png" in done.stderr
    assert b"Traceback" not in done.stderr
    told = cli("verify", path, "--json", env={**os.environ, "PYTHONIOENCODING": "cp1252"})
    assert json.loads(told.stdout)["report"]["found"][0]["path"] == str(path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no disk that is always full")
@pytest.mark.parametrize("more", [[], ["--json"], ["--help"]])
def test_a_full_disk_behind_the_output_is_said(tmp_path: Path, more: list[str]) -> None:
    path = signed(made(tmp_path / "made.png"), made(tmp_path / "seen.png"))
    with Path("/dev/full").open("wb") as full:
        done = cli("verify", path, *more, stdout=full)
    assert done.returncode == 1
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("error: cannot write to standard output: No space left")


def closed_pipe() -> IO[bytes]:
    reading, writing = os.pipe()
    os.close(reading)
    return os.fdopen(writing, "wb")


@pytest.mark.parametrize("more", [[], ["--json"], ["--help"]])
def test_a_reader_that_has_enough_is_no_error(tmp_path: Path, more: list[str]) -> None:
    path = signed(made(tmp_path / "made.png"), made(tmp_path / "seen.png"))
    with closed_pipe() as pipe:
        done = cli("verify", path, *more, stdout=pipe)
    assert (done.returncode, done.stderr) == (0, b"")


def test_errors_that_nobody_can_read_do_not_end_the_work(extracted: Path, clips: dict[str, Path]) -> None:
    with closed_pipe() as pipe:
        done = cli("extract", clips["hopper"], "--again", "--workspace", extracted, stderr=pipe)
    assert done.returncode == 0
    assert b"extracted hopper: 12 faces" in done.stdout


def test_names_command_no_terminal_and_forge_no_line(
    extracted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "\x1b[31mred\x1b]0;title\x07\nerror: all is lost\r\x9b2J\u202e.mp4"
    (tmp_path / name).write_bytes(b"no video")
    assert main(["extract", str(tmp_path / name), "--workspace", str(extracted)]) == 1
    assert main(["verify", str(tmp_path / name)]) == 1
    said = capsys.readouterr()
    for text in (said.out, said.err, *(path.read_text() for path in (extracted / "logs").iterdir())):
        assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(text)
        assert not [line for line in text.splitlines() if line.startswith("error: all is lost")]
    assert r"\x1b[31mred" in said.err


def test_bars_and_notes_are_harmless_too(
    tmp_path: Path, clips: dict[str, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    name = tmp_path / "a\x1b[31mb.mp4"
    name.write_bytes(clips["hopper"].read_bytes())
    assert main(["extract", str(name), "--every", "6", "--workspace", str(tmp_path / "w")]) == 0
    said = capfd.readouterr().err
    assert r"extract a\x1b[31mb.mp4" in said
    assert "\x1b[31m" not in said


def test_what_is_legible_stays() -> None:
    for text in ("a b-c.mp4", "Фильм 影 ü", "\N{MAN}\u200d\N{PERSONAL COMPUTER}", "100 %", "a\xa0b"):
        assert printable(text) == text
    assert printable("a\tb\n\udcff") == r"a\tb\n\udcff"


def test_a_stream_that_is_not_there_takes_everything() -> None:
    stream = Stream(None)
    stream.line("words")
    assert stream.failure == ""
    closed = io.StringIO()
    closed.close()
    stream = Stream(closed)
    stream.line("words")
    assert stream.failure


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("bogus", "there is no command 'bogus'; see: python cli.py --help"),
        ("trian", "there is no command 'trian'; perhaps train; see: python cli.py --help"),
        ("review", "error: review needs a NAME; see: python cli.py review --help"),
        ("", "Expected one of {extract, people"),
        ("train --inner-loop many", "error: --inner-loop many: type a whole number; see: python cli.py train --help"),
        ("train -b 2.5", "error: --batch-size 2.5: type a whole number"),
        ("train --max-steps 3.5", "error: --max-steps 3.5: type a whole number"),
        ("train --lr x", "error: --lr x: type a number"),
        ("train --max-minutes soon", "error: --max-minutes soon: type a number"),
        ("people frob", "error: action frob: choose list, rename, merge, remove or discard; see: "),
        ("preview --mask foo --from a --to b", "choose auto, outline, mesh, learned, ellipse or box"),
        ("train --loss l2", "error: --loss l2: choose l1, l1+ssim or weighted"),
        ("convert --frm a", "error: there is no option --frm; perhaps --from; see: python cli.py convert --help"),
        ("extract a.mp4 --max-minutes 3", "error: there is no option --max-minutes; see: "),
        ("train film", "error: too many words: film"),
        ("train --lr", "error: --lr needs a value; see: python cli.py train --help"),
        (f"train --{'long-' * 60}option", "long-" * 60),
    ],
)
def test_wrong_usage_is_one_line_and_json_where_it_is_asked_for(
    line: str, words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(line.split()) == 2
    said = capsys.readouterr()
    (only,) = said.err.splitlines()
    assert only.startswith("error: ")
    assert words in only
    assert said.out == ""
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), "ascii"))
    assert main(line.split()) == 2
    assert capsys.readouterr().err.splitlines() == [only], "whatever the terminal can draw boxes with"
    monkeypatch.undo()
    assert main([*line.split(), "--json"]) == 2
    said = capsys.readouterr()
    told = json.loads(said.out)
    assert told["exit_code"] == 2
    assert len(told["errors"]) == 1
