"""Review: the page to clean a person's crops, in a real browser, the command it ends in, and the advice."""

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from playwright.sync_api import Page, sync_playwright

from cli import main
from pipeline.commands.review import Item, advise, distances_from_mean, distinct, draw_summary, yaw_name
from pipeline.faces.identity import embed, embed_files
from pipeline.media.pictures import read_picture, write_picture
from pipeline.types import Embedding
from tests.conftest import FRAMES

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
HOSTILE = "<!--<script><img src=x onerror=alert(1)>.jpg"
FLAGS = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
TILE = cv2.imencode(".jpg", np.full((160, 160, 3), (40, 90, 200), np.uint8))[1].tobytes()
GOOD = Item("a_000000_0.jpg", TILE, 0.8, 2.0, 200.0, "a", 0.0, 0, 0.2)


def review(workspace: Path, person: str) -> int:
    return main(["review", person, "--workspace", str(workspace)])


@pytest.fixture
def odd_set(extracted: Path) -> Path:
    """Hopper's crops with one that is blurred, one of Collins, one that is no picture, and a photo of one's own."""
    folder = extracted / "data" / "hopper"
    first, second = sorted(folder.iterdir())[:2]
    write_picture(first, np.asarray(cv2.GaussianBlur(read_picture(first), (0, 0), 4), np.uint8))
    shutil.copy(min((extracted / "data" / "collins").iterdir()), folder / HOSTILE)
    write_picture(folder / "own.png", np.asarray(cv2.resize(read_picture(second), (100, 100)), np.uint8))
    write_picture(folder / "wall.png", np.full((200, 300, 3), 128, np.uint8))
    (folder / "broken.jpg").write_bytes(b"no picture")
    return extracted


def facts_of(page: Path) -> dict[str, dict[str, object]]:
    text = page.read_text(encoding="utf-8")
    start = text.index('type="application/json">') + len('type="application/json">')
    return {item["name"]: item for item in json.loads(text[start : text.index("</script>", start)])["items"]}


def test_what_it_says_of_each_crop(odd_set: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert review(odd_set, "hopper") == 1, "one crop cannot be read"
    words = capsys.readouterr()
    assert f"{FRAMES + 4} crops" in words.out
    assert "too few to train on" in words.out
    assert "error: 1 cannot be read: broken.jpg" in words.err
    items = facts_of(odd_set / "review" / "hopper.html")
    assert items["hopper_000000_0.jpg"]["doubts"] == ["blurred"]
    assert items[HOSTILE]["doubts"] == ["another person?"]
    assert items["broken.jpg"]["doubts"] == ["unreadable"]
    assert "no face?" in items["wall.png"]["doubts"]  # type: ignore[operator]
    assert items["hopper_000005_0.jpg"]["doubts"] == []
    assert items["hopper_000005_0.jpg"]["video"] == "hopper"
    assert items["own.png"]["seen_px"] == round(100 * 180 / 256)
    assert items["own.png"]["yaw_deg"] == pytest.approx(items["hopper_000001_0.jpg"]["yaw_deg"], abs=6)
    assert read_picture(odd_set / "review" / "hopper.png").shape[1] == 1120


@pytest.fixture
def browser_page(tmp_path: Path) -> Iterator[Page]:
    if CHROMIUM is None:
        pytest.skip("no chromium on PATH; on Debian: apt-get install chromium")
    flags = [*FLAGS, "--no-sandbox"] if getattr(os, "geteuid", lambda: 1)() == 0 else FLAGS  # root has no sandbox
    with sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path=CHROMIUM, args=flags)
        page = browser.new_page(viewport={"width": 1200, "height": 800})
        page.on("pageerror", lambda error: pytest.fail(f"the page's script failed: {error}"))
        page.on("dialog", lambda dialog: pytest.fail(f"a name became script: {dialog.message}"))
        yield page
        browser.close()


def shown(page: Page) -> list[str]:
    return [str(name) for name in page.eval_on_selector_all(".tile", "tiles => tiles.map(tile => tile.dataset.name)")]


def test_the_page_in_a_browser(odd_set: Path, browser_page: Page, tmp_path: Path) -> None:
    assert review(odd_set, "hopper") == 1, "one crop cannot be read"
    asked: list[str] = []
    browser_page.on("request", lambda request: asked.append(request.url))
    browser_page.goto((odd_set / "review" / "hopper.html").as_uri())
    items = facts_of(odd_set / "review" / "hopper.html")

    assert {name for name in shown(browser_page) if items[name]["doubts"]} == set(shown(browser_page)[:4])
    browser_page.uncheck("#grouped")
    assert len(shown(browser_page)) == FRAMES + 4
    browser_page.click("button[data-order=sharpness]")
    by_sharpness = sorted(items, key=lambda name: (items[name]["sharpness"], list(items).index(name)))
    assert shown(browser_page) == by_sharpness
    browser_page.click("button[data-order=sharpness]")
    assert shown(browser_page)[0] == by_sharpness[-1], "a second click turns the order round"
    browser_page.click("button[data-order=time]")
    assert shown(browser_page) == list(items)
    assert shown(browser_page)[:2] == ["hopper_000000_0.jpg", "hopper_000001_0.jpg"]

    browser_page.click("button[data-order=likeness]")
    strange = next(name for name in shown(browser_page) if items[name]["distance"] is not None)
    tile = browser_page.locator(".tile", has=browser_page.locator(f'img[alt="{strange}"]'))
    tile.click()
    assert tile.get_attribute("aria-pressed") == "true"
    assert browser_page.inner_text("#count") == "1 marked"
    browser_page.reload()
    assert browser_page.inner_text("#count") == "1 marked", "marks outlive the page"
    with browser_page.expect_download() as waiting:
        browser_page.click("#save")
    saved = tmp_path / waiting.value.suggested_filename
    waiting.value.save_as(saved)
    assert saved.read_text(encoding="utf-8") == strange + "\n"
    command = browser_page.inner_text("#command")
    assert command.startswith(f"python cli.py people discard hopper --workspace {odd_set} --list ")
    assert saved.name in command
    assert all(url.startswith(("file:", "data:", "blob:")) for url in asked), "it needs no network"

    assert main(["people", "discard", "hopper", "--workspace", str(odd_set), "--list", str(saved)]) == 0
    assert (odd_set / "removed" / "hopper" / strange).is_file()
    assert strange not in {path.name for path in (odd_set / "data" / "hopper").iterdir()}


def test_a_click_on_a_group_marks_all_of_it(extracted: Path, browser_page: Page) -> None:
    folder = extracted / "data" / "hopper"
    first = min(folder.iterdir())
    for twin in ("z1.jpg", "z2.jpg"):
        shutil.copy(first, folder / twin)
    assert review(extracted, "hopper") == 0
    browser_page.goto((extracted / "review" / "hopper.html").as_uri())
    groups = [item["group"] for item in facts_of(extracted / "review" / "hopper.html").values()]
    assert len(shown(browser_page)) == len(set(groups)) <= FRAMES
    browser_page.click("button[data-order=time]")
    browser_page.locator(".tile").first.click()
    assert browser_page.inner_text("#count") == f"{groups.count(groups[0])} marked"
    assert groups.count(groups[0]) >= 3
    browser_page.locator(".tile").last.click(modifiers=["Shift"])
    assert browser_page.inner_text("#count") == f"{FRAMES + 2} marked", "Shift marks all between"
    browser_page.click("#clear")
    assert browser_page.inner_text("#count") == "0 marked"
    browser_page.uncheck("#grouped")
    browser_page.locator(".tile").last.click()
    browser_page.check("#grouped")
    states = browser_page.eval_on_selector_all(".tile", "tiles => tiles.map(tile => tile.ariaPressed)")
    assert states.count("mixed") == 1, "a group with one crop marked is neither marked nor not"


def test_nobody_of_that_name(extracted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert review(extracted, "nixon") == 1
    assert "nobody called 'nixon'" in capsys.readouterr().err
    assert not (extracted / "review").exists()


def test_many_crops_are_embedded_in_several_processes_with_the_same_result(trained_once: Path) -> None:
    crops = sorted((trained_once / "data" / "hopper").iterdir())
    paths = [*crops, *sorted((trained_once / "data" / "collins").iterdir())] * 4
    assert len(paths) >= 80, "enough for two processes"
    embeddings = list(embed_files(paths))
    assert len(embeddings) == len(paths)
    for place in (0, FRAMES, 95):
        assert np.array_equal(embeddings[place], embed(read_picture(paths[place])))


@pytest.mark.parametrize(
    ("odd", "doubts"),
    [
        (GOOD, []),
        (replace(GOOD, sharpness=0.2, seen_px=40), ["blurred", "small"]),
        (replace(GOOD, distance=0.7, yaw_deg=-55), ["another person?", "profile"]),
        (replace(GOOD, yaw_deg=None), ["no face?"]),
        (replace(GOOD, distance=None, yaw_deg=None, sharpness=0, seen_px=0), ["unreadable"]),
    ],
)
def test_doubts(odd: Item, doubts: list[str]) -> None:
    assert odd.doubts() == doubts


def at(place: float) -> Embedding:
    embedding = np.zeros(128)
    embedding[0] = place
    return embedding


def test_strangers_do_not_move_the_mean() -> None:
    embeddings = {0: at(0.0), 4: at(0.1), 9: at(1.0)}
    distances = distances_from_mean(embeddings, {0: 5, 4: 5, 9: 4})
    assert distances[0] == pytest.approx(0.05)
    assert distances[4] == pytest.approx(0.05)
    assert distances[9] == pytest.approx(0.95)


def test_large_groups_weigh_more() -> None:
    distances = distances_from_mean({0: at(0.0), 1: at(0.4)}, {0: 3, 1: 1})
    assert [distances[0], distances[1]] == pytest.approx([0.1, 0.3])


def test_nobody_and_nobody_alike() -> None:
    assert distances_from_mean({}, {}) == {}
    far = distances_from_mean({0: at(0.0), 1: at(2.0)}, {0: 1, 1: 1})
    assert set(far) == {0, 1}
    assert min(far.values()) > 0.5


def crops_of(count: int, first: int = 0, **facts: float | None) -> list[Item]:
    return [replace(GOOD, name=f"{i}.jpg", group=i, **facts) for i in range(first, first + count)]  # type: ignore[arg-type]


GOOD_SET = [*crops_of(400), *crops_of(60, 400, yaw_deg=-15.0), *crops_of(60, 500, yaw_deg=15.0)]


@pytest.mark.parametrize(
    ("yaw", "name"),
    [(-60, "left profile"), (-30, "left"), (-12, "half left"), (0, "frontal"), (24, "half right"), (26, "right"),
     (41, "right profile"), (None, None)],
)  # fmt: skip
def test_yaw_has_names(yaw: float | None, name: str | None) -> None:
    assert yaw_name(replace(GOOD, yaw_deg=yaw)) == name


def test_a_good_set_needs_nothing() -> None:
    assert advise(GOOD_SET) == ["enough to train on: 520 distinct faces"]


@pytest.mark.parametrize(
    ("odd", "words"),
    [
        (crops_of(70), ["too few to train on: 70 distinct", "add faces seen half left", "add faces seen half right"]),
        (GOOD_SET[:430], ["enough for a start: 430 distinct", "add faces seen half right (there are 0;"]),
        ([*GOOD_SET, *crops_of(80, 900, sharpness=0.1)], ["600", "80 of 600 are doubtful, 'blurred'"]),
        ([*GOOD_SET, *crops_of(80, 900, seen_px=30.0)], ["600", "'small'"]),
        ([*GOOD_SET, *crops_of(2, 900, distance=0.8)], ["522", "check the 2 that may be another person"]),
        ([*GOOD_SET, *crops_of(1, 900, distance=None)], ["520", "1 cannot be read"]),
    ],
)
def test_what_is_lacking_is_said(odd: list[Item], words: list[str]) -> None:
    lines = advise(odd)
    assert len(lines) == len(words)
    assert all(word in line for word, line in zip(words, lines, strict=True)), lines


def test_near_duplicates_count_once_and_the_sharpest_stands_for_them() -> None:
    alike = [replace(GOOD, name=f"{i}.jpg", group=7, sharpness=0.5 + (i == 2) / 10) for i in range(4)]
    assert [item.name for item in distinct([*alike, *crops_of(1, 9)])] == ["2.jpg", "9.jpg"]


def test_the_picture_shows_bars_examples_and_what_is_poor() -> None:
    def drawn(items: list[Item]) -> tuple[int, int, int]:
        png = np.frombuffer(draw_summary(items, advise(items)), np.uint8)
        picture = np.asarray(cv2.imdecode(png, cv2.IMREAD_COLOR), np.int64)
        counts = [(np.abs(picture - color).max(axis=2) < 20).sum() for color in
                  ((0xDB, 0x6F, 0x2A), (0x33, 0x33, 0xCC), (40, 90, 200))]  # fmt: skip
        return int(counts[0]), int(counts[1]), int(counts[2])

    blue, red, example = drawn(GOOD_SET)
    assert blue > 5000
    assert example == pytest.approx(3 * drawn(crops_of(400))[2], rel=0.1), "an example of each yaw there is"
    _, more_red, _ = drawn([*GOOD_SET, *crops_of(200, 900, sharpness=0.1, seen_px=20.0)])
    assert more_red > red + 2500


def test_an_empty_set_is_drawn_too() -> None:
    nothing = [replace(GOOD, distance=None, tile=b"")]
    assert len(draw_summary(nothing, advise(nothing))) > 1000
