"""The help of commands, made from their options: for ``--help`` and for docs/options.md."""

import ast
import inspect
import textwrap
import types
from dataclasses import MISSING, fields
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from tyro.conf import Positional, UseAppendAction, arg

from pipeline.options import (
    COMMANDS,
    MACHINE,
    MAX_COUNT,
    WHAT,
    CommandOptions,
    ConvertOptions,
    ExtractOptions,
    Group,
    Range,
    TrainOptions,
)

METAVARS = {int: "N", float: "X", str: "NAME", Path: "PATH", bool: ""}
TEXT_COLUMN = 24


def describe_options(command: type[CommandOptions]) -> list[tuple[Group, str, str]]:
    """List a command's options: group, how to type it (``-b, --batch-size N``), help with range and default."""
    hints, texts, rows = get_type_hints(command, include_extras=True), _help_texts(command), []
    for option in fields(command):
        kind, *marks = get_args(hints[option.name])
        group = next(mark for mark in marks if isinstance(mark, Group))
        config: Any = next((mark for mark in marks if hasattr(mark, "metavar")), arg())
        if get_origin(kind) is types.UnionType:  # ... | None
            kind = get_args(kind)[0]
        value = config.metavar or METAVARS.get((get_args(kind) or (kind,))[0]) or "|".join(map(str, get_args(kind)))
        if get_origin(kind) is tuple and UseAppendAction not in marks and not value.startswith("["):
            value += " ..."
        if Positional in marks:
            usage = value if option.default is MISSING else f"[{value}]"
        else:
            names = [*(config.aliases or ()), f"--{(config.name or option.name).replace('_', '-')}"]
            usage = f"{', '.join(names)} {value}".rstrip()
        facts = [str(mark) for mark in marks if isinstance(mark, Range) and mark.high < MAX_COUNT]
        if option.default not in (MISSING, None, ()) and not isinstance(option.default, bool):
            is_float = isinstance(option.default, float)
            facts.append(f"default: {option.default:g}" if is_float else f"default: {option.default}")
        text = texts[option.name].removesuffix(".")
        if facts:
            text = f"{text[:-1]}; " if text.endswith(")") else f"{text} ("
            text += f"{'; '.join(facts)})"
        rows.append((group, usage, f"{text}."))
    return sorted(rows, key=lambda row: list(Group).index(row[0]))


def _help_texts(command: type[CommandOptions]) -> dict[str, str]:
    """Read the texts under the fields of a class and its bases."""
    texts = {}
    for kind in command.__mro__[:-1]:
        (definition,) = ast.parse(inspect.getsource(kind)).body
        for pair in pairwise(definition.body if isinstance(definition, ast.ClassDef) else ()):
            match pair:
                case (ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text)))):
                    texts[name] = text
    return texts


def format_help(command: str | None, width: int) -> str:
    """Format the help of a command, or of the program, in lines of ``width`` characters."""
    if command is None:
        usage, about = "COMMAND ...", "Recast swaps faces in videos in three steps: extract, train, convert."
        rows = [("commands", name, str(kind.__doc__)) for name, kind in COMMANDS.items()]
        rows.append(("commands", "COMMAND --help", "Show the options of a command."))
        examples = [kind.examples[0] for kind in (ExtractOptions, TrainOptions, ConvertOptions)]
    else:
        options = COMMANDS[command]
        about, rows, examples = str(options.__doc__), list(describe_options(options)), list(options.examples)
        rows.append((MACHINE, "-h, --help", "Show this help."))
        usage = " ".join([command, "[options]", *(row[1] for row in rows if row[0] == WHAT and row[1][0] != "-")])
    lines = [f"usage: python cli.py {usage}", "", *textwrap.wrap(about, width)]
    heading = ""
    for group, typed, text in rows:
        lines += ["", f"{group}:"] if group != heading else []
        heading = group
        wrapped = textwrap.wrap(text, width - TEXT_COLUMN, break_on_hyphens=False)
        if len(typed) <= TEXT_COLUMN - 4:
            lines.append(f"  {typed:{TEXT_COLUMN - 2}}{wrapped.pop(0)}")
        else:
            lines.append(f"  {typed}")
        lines += [f"{'':{TEXT_COLUMN}}{line}" for line in wrapped]
    return "\n".join([*lines, "", "examples:", *(f"  python cli.py {example}" for example in examples)])
