"""Writes docs/options.md from the options of the commands, for ``make docs``."""

from itertools import groupby
from pathlib import Path

from pipeline.help import describe_options
from pipeline.options import COMMANDS

PAGE = Path(__file__).resolve().parent.parent / "docs" / "options.md"
HEAD = """# Options

Every option of every command, as `cli.py COMMAND --help` shows them. [The guide](guide.md) says when to use which.

*`make docs` writes this page from `pipeline/options.py`: change the texts there.*
"""


def options_page() -> str:
    """The page as Markdown: a section for each command, a table for each group of options."""
    lines = [HEAD]
    for name, command in COMMANDS.items():
        lines += [f"## {name}", "", str(command.__doc__), ""]
        lines += [*(f"    python cli.py {example}" for example in command.examples), ""]
        for group, rows in groupby(describe_options(command), key=lambda row: row[0]):
            lines += [f"| {group} | |", "|---|---|"]
            lines += [f"| `{_in_cell(typed)}` | {_in_cell(text).replace('<', '&lt;')} |" for _, typed, text in rows]
            lines.append("")
    return "\n".join(lines)


def _in_cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(options_page(), encoding="utf-8")
