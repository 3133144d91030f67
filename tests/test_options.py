"""Options: the help that is made from them, ranges, and timecodes."""

import shlex
from fractions import Fraction

import pytest

from cli import main, parse
from pipeline.errors import UsageError
from pipeline.help import describe_options, format_help
from pipeline.options import COMMANDS, Group, Timecode, frame_at, parse_timecode

GROUPS = {
    "extract": ["what", "output", "machine and messages"],
    "train": ["what", "training", "network", "output", "machine and messages"],
    "preview": ["what", "look", "output", "machine and messages"],
    "convert": ["what", "look", "output", "marking", "machine and messages"],
    "verify": ["what", "machine and messages"],
    "doctor": ["output", "machine and messages"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_groups_and_examples_and_fits_the_terminal(command: str) -> None:
    lines = format_help(command, 80).splitlines()
    headings = [line.removesuffix(":") for line in lines if line.endswith(":") and not line.startswith(" ")]
    assert headings == [*GROUPS.get(command, GROUPS["extract"]), "examples"]
    assert max(map(len, lines)) <= 80
    assert len([line for line in lines if line.startswith(f"  python cli.py {command}")]) == 2
    text = "\n".join(lines)
    for odd in ("None", "(default: )", "default: False", "PosixPath"):
        assert odd not in text


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_and_example_of_the_help_is_accepted(command: str) -> None:
    for example in COMMANDS[command].examples:
        assert type(parse(shlex.split(example))) is COMMANDS[command]
    rows = describe_options(COMMANDS[command])
    assert [group for group, _, _ in rows] == sorted((group for group, _, _ in rows), key=list(Group).index)
    assert all(text.endswith(".") for _, _, text in rows)


def test_help_says_what_is_typed_its_range_and_its_default() -> None:
    rows = {usage: text for _, usage, text in describe_options(COMMANDS["convert"])}
    assert "[VIDEO ...]" in rows
    assert rows["-n, --model-name NAME"].endswith("(default: model).")
    assert rows["--feather X"].endswith("(0 to 50 percent; default: 14).")
    assert rows["--blend feather|poisson"].endswith("(poisson, slower; default: feather).")
    assert rows["--side-by-side"].endswith("result.")
    assert {"--from NAME", "--swap FROM:TO", "--label [TEXT]", "--cert PATH", "-o, --output PATH"} <= set(rows)


def test_the_help_of_extract_fits_one_screen(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["extract", "--help"]) == 0
    text = capsys.readouterr().out
    assert text == f"{format_help('extract', 80)}\n"
    assert len(text.splitlines()) <= 40
    monkeypatch.setenv("COLUMNS", "10")
    assert main(["-h"]) == 0
    words = capsys.readouterr().out
    assert all(f"  {command} " in words for command in COMMANDS)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("extract a.mp4 --size 2000", "--size 2000: must be 64 to 1024 px"),
        ("extract a.mp4 --every 0", "--every 0: must be 1 or more"),
        ("extract a.mp4 --min-confidence 0", "--min-confidence 0: must be above 0, at most 1"),
        ("train --max-minutes 0", "--max-minutes 0: must be above 0"),
        ("train --batch-size 2000000000", "--batch-size 2000000000: must be at most 1000000000"),
        ("preview --from a --to b --scale 1.2", "--scale 1.2: must be 0.9 to 1.1"),
    ],
)
def test_numbers_out_of_range_are_refused(line: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse(line.split())


def test_none_is_a_name_like_others() -> None:
    assert getattr(parse(["extract", "a.mp4", "--person", "None"]), "person") == "None"  # noqa: B009
    with pytest.raises(UsageError, match="--max-steps"):
        parse(["train", "--max-steps", "None"])


UNIT = Fraction(1, 1000)
PTS = [500, 540, 580, 700]  # the first frame is not at 0


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("0f", 0),
        ("250f", 250),
        ("12.5", Fraction(25, 2)),
        ("12.5s", Fraction(25, 2)),
        ("1:30", Fraction(90)),
        ("1:02:03.4", Fraction(37234, 10)),
        ("90", Fraction(90)),
    ],
)
def test_times_and_frames_are_read(text: str, moment: Timecode) -> None:
    assert parse_timecode(text, "--start") == moment
    assert isinstance(parse_timecode(text, "--start"), type(moment))


@pytest.mark.parametrize("text", ["", "f", "-1", "1.5f", "1:2:3:4", "1e5", "a", "٣", "12,5", "1" * 40, " 1"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--start"):
        parse_timecode(text, "--start")


@pytest.mark.parametrize(
    ("moment", "place"),
    [(0, 0), (3, 3), (9, 4), (Fraction(0), 0), (Fraction(1, 1000), 1), (Fraction(4, 100), 1), (Fraction(41, 1000), 2),
     (Fraction(2, 10), 3), (Fraction(201, 1000), 4)],
)  # fmt: skip
def test_a_time_is_counted_from_the_first_frame(moment: Timecode, place: int) -> None:
    assert frame_at(moment, PTS, UNIT) == place
