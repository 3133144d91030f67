"""The pages: made ones are up to date, links lead somewhere, the README stays short."""

import re
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.options_page import PAGE, options_page

README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\]\(([^)#]+)\)")


def links(page: Path) -> list[Path]:
    targets = LINK.findall(page.read_text(encoding="utf-8"))
    return [(page.parent / target).resolve() for target in targets if "://" not in target]


def test_the_page_of_options_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == options_page(), "run: make docs"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    assert [str(target) for target in links(page) if not target.is_file()] == []


def test_the_readme_is_short_and_links_each_page_once() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 200
    targets = links(README)
    assert sorted(targets) == sorted(set(targets))
    assert set(PAGES) - {README} <= set(targets)
