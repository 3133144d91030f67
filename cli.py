#!/usr/bin/env python3
"""Recast's command line: parse, dispatch, report, exit code.

Exit codes: 0 all done; 1 something could not be done; 2 wrong usage; 3 a bug in Recast; 130 interrupted.
"""

import gc
import io
import logging
import os
import re
import shutil
import sys
from contextlib import redirect_stderr
from dataclasses import replace
from difflib import get_close_matches
from itertools import takewhile
from typing import TYPE_CHECKING, Annotated, Any, Union

# OpenMP reads this when torch is imported: waiting threads sleep. By default they spin, and while another program used
# one of two cores, training fell to 40 % of its speed instead of 60 % (docs/log.md); alone it is as fast.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

try:
    import tyro
except ModuleNotFoundError as missing:
    sys.exit(f"error: {missing}; use the environment's Python, .venv/bin/python cli.py …, or see README: Start")

from models import CheckpointError
from pipeline.console import RunLog, Stream, Terminal
from pipeline.errors import RecastError, UsageError, command, describe_error
from pipeline.options import (
    COMMANDS,
    RECIPES,
    CheckOptions,
    CommandOptions,
    ConvertOptions,
    DoctorOptions,
    ExtractOptions,
    ImportOptions,
    ModelsOptions,
    PeopleOptions,
    PreviewOptions,
    ReviewOptions,
    TrainOptions,
    VerifyOptions,
    WorkspaceOptions,
)
from pipeline.runtime import unwind_on_signals

if TYPE_CHECKING:
    from pipeline.console import Console, Report

NAMES = r"(?:-\w/)?(?P<name>[\w-]+)"  # as tyro shows an option: -n/--model-name
PLAIN_WORDS = (  # tyro's messages, and ours
    (f"Error parsing {NAMES}: invalid literal for int.*: '(?P<value>.*)'", "{name} {value}: type a whole number"),
    (f"Error parsing {NAMES}: could not convert string to float: '(?P<value>.*)'", "{name} {value}: type a number"),
    (rf"Error parsing {NAMES}: no type .*INT .* \['(?P<value>.*?)'\].*", "{name} {value}: type a whole number"),
    (rf"Error parsing {NAMES}: no type .*FLOAT .* \['(?P<value>.*?)'\].*", "{name} {value}: type a number"),
    (
        f"invalid choice '(?P<value>.*)' for argument '{NAMES}'.*\\((?P<choices>.*)\\)",
        "{name} {value}: choose {choices}",
    ),
    (f"Missing value for argument '{NAMES}'.*", "{name} needs a value"),
    (r"Missing from cli.py (?P<name>\w+): (?P<value>\w+) .*", "{name} needs a {value}"),
    (r"Unrecognized.* options: (?P<value>-[^ ,=]*).*", "there is no option {value}"),
    (r"Unrecognized.* options: (?P<value>.*)", "too many words: {value}"),
)
ANSI_COLOR = re.compile(r"\x1b\[[0-9;]*m")


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code."""
    unwind_on_signals()
    typed = sys.argv[1:] if arguments is None else arguments
    if {"-h", "--help"} & set(typed):
        return show_help(typed[0])
    try:
        options = parse(typed)
    except (RecastError, KeyboardInterrupt) as error:
        return Terminal(CommandOptions(json="--json" in typed)).fail(*describe_error(error))
    name = next(name for name, kind in COMMANDS.items() if isinstance(options, kind))
    workspace = options.workspace if isinstance(options, WorkspaceOptions) and options.keeps_log else None
    terminal = Terminal(options)
    log = RunLog(workspace, name, typed, terminal.echo if options.verbose else None)
    logging.getLogger("recast").debug("options: %s", options)
    try:
        terminal.start(name, typed)
        return terminal.show(run(options, terminal))
    except SystemExit:
        raise
    except BaseException as error:  # noqa: BLE001 - every error ends in one line and an exit code
        line, code = describe_error(error)
        is_expected = isinstance(error, RecastError | CheckpointError | KeyboardInterrupt)
        return terminal.fail(line if is_expected else f"{line}; details: {log.log_traceback()}", code)
    finally:
        log.end()


def show_help(name: str) -> int:
    """Print the help of a command, or of the program if it is none; return the exit code."""
    from pipeline.help import format_help

    out = Stream(sys.stdout)
    width = max(60, min(100, shutil.get_terminal_size().columns))
    out.write(f"{format_help(name if name in COMMANDS else None, width)}\n")
    out.flush()
    if out.failure:
        Stream(sys.stderr).line(f"error: {out.failure}")
    return 1 if out.failure else 0


def parse(arguments: list[str]) -> CommandOptions:
    """Turn the command line into the options of its command; raises UsageError."""
    if arguments and arguments[0] not in COMMANDS and not arguments[0].startswith("-"):
        similar = get_close_matches(arguments[0], COMMANDS, n=1)
        perhaps = f"; perhaps {similar[0]}" if similar else ""
        raise UsageError(f"there is no command {arguments[0]!r}{perhaps}; see: python cli.py --help")
    commands = [
        Annotated[kind, tyro.conf.subcommand(name, default=_defaults(kind, arguments))]
        for name, kind in COMMANDS.items()
    ]
    any_command: Any = Union[tuple(commands)]  # noqa: UP007 - built from a list
    refused, columns = io.StringIO(), os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "5000"  # tyro then breaks no message into lines
    try:
        with redirect_stderr(refused):
            options: CommandOptions = tyro.cli(
                any_command,
                args=arguments,
                prog="cli.py",
                config=(tyro.conf.FlagCreatePairsOff, tyro.conf.DisallowNone),
            )
    except SystemExit as end:
        if end.code:
            raise UsageError(_one_line(refused.getvalue(), arguments)) from end
        raise  # after printing a shell completion
    finally:
        os.environ.pop("COLUMNS")
        if columns is not None:
            os.environ["COLUMNS"] = columns
    return options


def _defaults(kind: type[CommandOptions], arguments: list[str]) -> Any:
    """Return options of a command whose values are the defaults: those of train's recipe; tyro's mark for none."""
    words = [word for argument in arguments for word in argument.split("=", 1)]
    recipe = words[words.index("--recipe") + 1 :][:1] if "--recipe" in words else []
    if kind is not TrainOptions or not recipe or recipe[0] not in RECIPES:
        return tyro.MISSING_NONPROP
    return replace(TrainOptions(), **{"recipe": recipe[0], **RECIPES[recipe[0]]})


def _one_line(message: str, arguments: list[str]) -> str:
    """Turn tyro's message box into one line: the problem, similar options, and the command for help."""
    lines = ANSI_COLOR.sub("", message).splitlines()
    title_lines = 1 if "╭" in message else 2  # in ASCII the title is underlined
    rows = [line.strip(" │") for line in lines[title_lines:]]
    problem = [row for row in takewhile(lambda row: not row or set(row) - {"─", "-"}, rows) if row]
    similar = dict.fromkeys(row.split()[0] for row in rows if re.match(r"--\w", row) and "Perhaps you meant:" in rows)
    similar = {option: None for option in similar if option not in arguments}
    perhaps = f"; perhaps {' or '.join(similar)}" if similar else ""
    see = command(*(name for name in arguments[:1] if name in COMMANDS), "--help")
    return f"{_in_plain_words(' '.join(problem).rstrip('.')) or 'wrong usage'}{perhaps}; see: {see}"


def _in_plain_words(problem: str) -> str:
    """Say tyro's usual messages in a few words; others stay as they are."""
    for pattern, words in PLAIN_WORDS:
        if found := re.fullmatch(pattern, problem):
            facts = found.groupdict()
            choices = re.findall("'(.*?)'", facts.get("choices", ""))
            if "None" in choices:  # of optional values, which tyro lists in random order
                choices = sorted(set(choices) - {"None"})
            return words.format_map({**facts, "choices": " or ".join([", ".join(choices[:-1]), *choices[-1:]])})
    return problem


def run(options: CommandOptions, console: Terminal) -> "Report":  # noqa: PLR0911 - one for each command
    """Run the command that the options belong to; only its own imports are loaded."""
    match options:
        case ExtractOptions():
            return _extract(options, console)
        case TrainOptions():
            from pipeline.train import train

            return train(options, console)
        case PreviewOptions():
            from pipeline.commands.preview import preview

            return preview(options, _extract, console)
        case ConvertOptions():
            from pipeline.convert import convert

            return convert(options, _extract, console)
        case PeopleOptions():
            from pipeline.commands.people import people_command

            return people_command(options)
        case ReviewOptions():
            from pipeline.commands.review import review

            return review(options, console)
        case ModelsOptions():
            from pipeline.commands.models import models_command

            return models_command(options)
        case ImportOptions():
            from pipeline.commands.models import import_model

            return import_model(options)
        case VerifyOptions():
            from pipeline.commands.verify import verify

            return verify(options)
        case DoctorOptions():
            from pipeline.commands.doctor import doctor

            return doctor(options)
        case CheckOptions():
            from pipeline.commands.check import check

            return check(options, console)
    raise AssertionError(f"no command takes {type(options).__name__}")


def _extract(options: ExtractOptions, console: "Console") -> "Report":
    from pipeline.extract import extract

    return extract(options, console)


if __name__ == "__main__":
    gc.set_threshold(100_000)  # imported objects stay; collecting garbage every 700 objects took 0.1 s
    try:
        code: Any = main()
    except SystemExit as end:
        code = end.code or 0
    for stream in (sys.stdout, sys.stderr):
        Stream(stream).flush()
    os._exit(code)  # everything is written and closed; destroying torch's objects one by one took 0.5 s
