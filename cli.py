#!/usr/bin/env python3
"""Recast's command line: parse, dispatch, report, exit code.

Exit codes: 0 all done; 1 something could not be done; 2 wrong usage; 3 a mistake in Recast itself; 130 interrupted.
"""

import gc
import io
import json
import logging
import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from itertools import takewhile
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TextIO, Union, cast

# Read by OpenMP when torch is loaded: threads that wait sleep. By default they spin, and where another program takes
# one of two cores, training fell to 40 % of its pace instead of 60 % (docs/log.md); by itself it is as fast.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

try:
    import tyro
except ModuleNotFoundError as missing:
    sys.exit(f"error: {missing}; use the environment's Python, .venv/bin/python cli.py …, or see README: Start")

from models import CheckpointError
from pipeline.console import Bar, RunLog, Stream, printable, to_json
from pipeline.errors import RecastError, UsageError, line_and_code
from pipeline.options import (
    CheckOptions,
    CommandOptions,
    ConvertOptions,
    DoctorOptions,
    ExtractOptions,
    ImportOptions,
    ModelsOptions,
    Options,
    PeopleOptions,
    PreviewOptions,
    ReviewOptions,
    SwapOptions,
    TrainOptions,
    VerifyOptions,
    WorkspaceOptions,
)
from pipeline.runtime import leave_closed_terminal

if TYPE_CHECKING:
    from pathlib import Path

    from tqdm import tqdm

    from models.checkpoint import Model
    from pipeline.console import OldReport, Report

OPTION = re.compile(r"--\w")
ANSI = re.compile(r"\x1b\[[0-9;]*m")  # what tyro colours words with
logging.getLogger("recast").addHandler(logging.NullHandler())  # before there is a log: errors are printed anyway

COMMANDS = {
    "extract": ExtractOptions,
    "people": PeopleOptions,
    "review": ReviewOptions,
    "train": TrainOptions,
    "preview": PreviewOptions,
    "convert": ConvertOptions,
    "models": ModelsOptions,
    "verify": VerifyOptions,
    "doctor": DoctorOptions,
    "check": CheckOptions,
    "import": ImportOptions,
}


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code."""
    _end_in_good_order()
    _print_any_name()
    typed = sys.argv[1:] if arguments is None else arguments
    try:
        options = parse(typed)
    except (RecastError, KeyboardInterrupt) as error:
        return Terminal(CommandOptions(json="--json" in typed)).fail(*line_and_code(error))
    command = next(name for name, kind in COMMANDS.items() if isinstance(options, kind))
    workspace = options.workspace if isinstance(options, WorkspaceOptions) else None
    terminal = Terminal(options)
    log = RunLog(workspace, command, typed, terminal.echo if options.verbose else None)
    logging.getLogger("recast").debug("options: %s", options)
    try:
        return terminal.show(run(options, terminal))
    except SystemExit:
        raise
    except BaseException as error:  # noqa: BLE001 - each ends in one line, and a code
        line, code = line_and_code(error)
        is_foreseen = isinstance(error, RecastError | CheckpointError | KeyboardInterrupt)
        return terminal.fail(line if is_foreseen else f"{line}; where: {log.break_down()}", code)
    finally:
        log.end()


def parse(arguments: list[str]) -> Options:
    """Turn the command line into the options of the command it names.

    Raises:
        SystemExit: after showing help, with the exit code.
        UsageError: it names none, or an option that there is not or a value that cannot be meant.
    """
    commands = [Annotated[kind, tyro.conf.subcommand(name)] for name, kind in COMMANDS.items()]
    anything: Any = Union[tuple(commands)]  # noqa: UP007 - built from a list
    helped, refused = Stream(sys.stdout), io.StringIO()
    try:
        with redirect_stdout(cast(TextIO, helped)), redirect_stderr(refused), _wide_lines(arguments):
            parsed: Options = tyro.cli(
                anything,
                args=arguments,
                prog="cli.py",
                description="Recast swaps faces in videos in three steps: extract, train, convert.",
                config=(tyro.conf.FlagCreatePairsOff,),
            )
    except SystemExit as end:
        if end.code:
            raise UsageError(_in_a_line(refused.getvalue())) from end
        helped.flush()
        if helped.failure:
            Stream(sys.stderr).line(f"error: {helped.failure}")
            raise SystemExit(1) from end
        raise
    return parsed


@contextmanager
def _wide_lines(arguments: list[str]) -> Iterator[None]:
    """Keep tyro from breaking what it refuses into lines; help is broken as the terminal is wide."""
    before = os.environ.get("COLUMNS")
    if not {"-h", "--help"} & set(arguments):
        os.environ["COLUMNS"] = "5000"
    try:
        yield
    finally:
        os.environ.pop("COLUMNS", None)
        if before is not None:
            os.environ["COLUMNS"] = before


def _in_a_line(refused: str) -> str:
    """Say in one line what tyro says in a box: what is wrong, what may have been meant, where to read on."""
    lines = ANSI.sub("", refused).splitlines()
    rows = [
        line.strip(" │") for line in lines[1 if "╭" in refused else 2 :]
    ]  # without the title, and its line in ASCII
    said = [row for row in takewhile(lambda row: not row or set(row) - {"─", "-"}, rows) if row]
    meant = dict.fromkeys(row.split()[0] for row in rows if OPTION.match(row) and "Perhaps you meant:" in rows)
    helps = next((row.partition("cli.py ")[2] for row in rows if row.startswith("For full helptext")), "--help")
    perhaps = f"; perhaps {' or '.join(meant)}" if meant else ""
    return f"{' '.join(said).rstrip('.') or 'wrong usage'}{perhaps}; see: python cli.py {helps}"


def run(options: Options, console: "Terminal") -> "Report | OldReport":
    """Run the stage the options are for; only its own imports are loaded."""
    report: Report | OldReport
    match options:
        case ExtractOptions():
            from pipeline.extract import extract

            report = extract(options, console)
        case TrainOptions():
            from pipeline.train import train

            report = train(options, console)
        case PreviewOptions():
            report = _preview(options, console)
        case ConvertOptions():
            report = _convert(options, console)
        case PeopleOptions():
            from pipeline.commands.people import people_command

            report = people_command(options)
        case ReviewOptions():
            from pipeline.commands.review import review

            report = review(options, console)
        case ModelsOptions():
            from pipeline.commands.models import list_models

            report = list_models(options)
        case DoctorOptions():
            from pipeline.commands.doctor import doctor

            report = doctor(options)
        case CheckOptions():
            from pipeline.commands.check import check

            report = check(options, console)
        case VerifyOptions():
            from pipeline.commands.verify import verify

            report = verify(options)
        case ImportOptions():
            from pipeline.commands.models import import_model

            report = import_model(options)
    return report


def _preview(options: PreviewOptions, console: "Terminal") -> "Report | OldReport":
    from pipeline.commands.preview import preview

    model, videos, failed = _ready(options, console)
    report = preview(options, model, videos, console)
    report.failed = [*failed, *report.failed]
    return report


def _convert(options: ConvertOptions, console: "Terminal") -> "Report | OldReport":
    from pipeline.convert import ConvertReport, check, convert

    check(options)
    model, videos, failed = _ready(options, console)
    try:
        report = convert(options, model, videos, console)
    except RecastError as error:
        if not failed or isinstance(error, UsageError):
            raise
        report = ConvertReport(failed=[error])
    report.failed = [*failed, *report.failed]
    return report


def _ready(options: SwapOptions, console: "Terminal") -> "tuple[Model, list[Path], list[RecastError]]":
    """Check a command against the workspace, extract the videos that are not; return also what failed of those."""
    from pipeline.converting.prepare import plan

    planned = plan(options)
    ready, failed = list(planned.known), list(planned.failed)
    for path in planned.unknown:  # each by itself: pictures named together would become one set
        from pipeline.extract import extract

        first = ExtractOptions(
            videos=(path,), person=planned.name, workspace=options.workspace, no_cuda=options.no_cuda
        )
        extracted = extract(first, console)
        ready += [path for _ in extracted.done]
        failed += extracted.failed
    return planned.model, ready, failed


class Terminal:
    """Notes and progress bars on stderr; stdout is for the report. All is logged, with the time it took.

    Args:
        options: how much to show, and in what form.
    """

    def __init__(self, options: CommandOptions) -> None:
        self._log, self._quiet, self._json = logging.getLogger("recast"), options.quiet, options.json
        self._out, self._err = Stream(sys.stdout), Stream(sys.stderr)

    def echo(self, line: str) -> None:
        """Print what else only the log gets."""
        self._err.line(line)

    def note(self, line: str) -> None:
        """Print a line above the bars."""
        from tqdm import tqdm

        self._log.info("%s", line)
        if not self._quiet:
            tqdm.write(printable(line), file=cast(TextIO, self._err))

    @contextmanager
    def bar(self, description: str, total: int | None, unit: str) -> Iterator[Bar]:
        """Show a bar with rate and time left."""
        from tqdm import tqdm

        shown: dict[str, Any] = {"unit": f" {unit}", "dynamic_ncols": True, "smoothing": 0.1, "disable": self._quiet}
        with tqdm(desc=printable(description), total=total, file=cast(TextIO, self._err), **shown) as bar:
            counted, began = TerminalBar(bar), time.monotonic()
            try:
                yield counted
            finally:
                took = time.monotonic() - began
                self._log.debug("%s: %d x %s in %.1f s", description, counted.count, unit, took)

    def show(self, outcome: "Report | OldReport") -> int:
        """Print what a command did; return the exit code."""
        from pipeline.console import Report

        if isinstance(outcome, Report):
            report = outcome
        else:
            report = Report(outcome.lines(), outcome.problems(), to_json(outcome))
        lines, problems = report.lines, list(dict.fromkeys(report.problems))  # two stages may say the same
        code = 1 if problems else 0
        for line in lines:
            self._log.info("%s", line)
            if not self._quiet and not self._json:
                self._out.line(line)
        return self._end([f"error: {problem}" for problem in problems], code, report)

    def fail(self, line: str, code: int) -> int:
        """Print why a command did nothing, or not all; return the exit code."""
        return self._end([line], code, None)

    def _end(self, errors: list[str], code: int, report: "Report | None") -> int:
        for line in errors:
            self._log.error("%s", line)
            self._err.line(line)
        if self._json:
            said = {
                "exit_code": code,
                "errors": errors,
                "lines": report.lines if report else [],
                "report": to_json(report.facts) if report else None,
            }
            self._out.write(f"{json.dumps(said, indent=1)}\n")
        self._out.flush()
        if self._out.failure:
            self._log.error("%s", self._out.failure)
            self._err.line(f"error: {self._out.failure}; what was to be shown is in the log")
            code = code or 1
        self._log.debug("exit code %d", code)
        return code


class TerminalBar:
    """One tqdm bar."""

    def __init__(self, bar: "tqdm[NoReturn]") -> None:
        self._bar, self.count = bar, 0

    def advance(self, count: int = 1) -> None:
        """Count more as done."""
        self.count += count
        self._bar.update(count)

    def expect(self, total: int | None) -> None:
        """Change where the bar ends."""
        self._bar.total = total

    def status(self, text: str) -> None:
        """Show a text after the numbers."""
        self._bar.set_postfix_str(printable(text), refresh=False)


def _end_in_good_order() -> None:
    """Let what ends a program unwind it like Ctrl-C, unless whoever started it wants it to be ignored (nohup)."""
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _end)


def _print_any_name() -> None:
    """Show bytes of file names that are no text as escapes, where the terminal's encoding would refuse them."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


def _end(number: int, frame: FrameType | None) -> NoReturn:
    """Unwind like Ctrl-C, so that temporary files go and encoders end."""
    leave_closed_terminal()
    raise KeyboardInterrupt


if __name__ == "__main__":
    gc.set_threshold(100_000)  # what imports make stays: looking through it every 700 objects took 0.1 s
    try:
        code: Any = main()
    except SystemExit as end:
        code = end.code or 0
    for stream in (sys.stdout, sys.stderr):
        Stream(stream).flush()
    os._exit(code)  # all is done and closed; taking torch apart, object by object, took 0.5 s
