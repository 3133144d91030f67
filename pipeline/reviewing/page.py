"""The page that shows a person's crops: one HTML file that needs no network."""

import base64
import json
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from string import Template
from subprocess import list2cmdline
from typing import Any

from pipeline.reviewing.items import Item

TEMPLATE = Path(__file__).with_name("page.html")


def build_page(person: str, items: Sequence[Item], advice: Sequence[str], summary: bytes, workspace: Path) -> str:
    """Build the page.

    Args:
        person: whose crops.
        items: in the order of time.
        advice: what the set lacks, a line each.
        summary: PNG of the summary picture.
        workspace: for the command that sets crops aside.

    Returns:
        HTML. Whatever stands in names is data to the page, never markup.
    """
    facts = {
        "person": person,
        "command": _command(person, workspace),
        "advice": list(advice),
        "summary": _data_url("png", summary),
        "items": [_facts(item) for item in items],
    }
    text = json.dumps(facts).replace("<", "\\u003c")  # no "</script>" inside
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(facts=text)


def _command(person: str, workspace: Path) -> str:
    """The command up to the list's name, which the page adds, as a shell takes it."""
    quote = list2cmdline if os.name == "nt" else shlex.join
    where = [] if workspace == Path("workspace") else ["--workspace", str(workspace)]
    return quote(["python", "cli.py", "people", "discard", person, *where, "--list"])


def _facts(item: Item) -> dict[str, Any]:
    return {
        "name": item.name,
        "tile": _data_url("jpeg", item.tile) if item.tile else "",
        "sharpness": round(item.sharpness, 3),
        "yaw": None if item.yaw_deg is None else round(item.yaw_deg),
        "size": round(item.seen_px),
        "video": item.video,
        "time": round(item.time, 2),
        "group": item.group,
        "unlike": None if item.unlike is None else round(item.unlike, 3),
        "doubts": item.doubts(),
    }


def _data_url(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
