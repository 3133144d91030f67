"""Whether a set is good enough, in words and as a picture."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from pipeline.commands.review import Item, advise, different, draw_summary, yaw_name
from tests.commands.examples import GOOD


def join_words(count: int, first: int = 0, **facts: float | None) -> list[Item]:
    return [replace(GOOD, name=f"{i}.jpg", group=i, **facts) for i in range(first, first + count)]  # type: ignore[arg-type]


GOOD_SET = [*join_words(400), *join_words(60, 400, yaw_deg=-15.0), *join_words(60, 500, yaw_deg=15.0)]


@pytest.mark.parametrize(
    ("yaw", "name"),
    [(-60, "left profile"), (-30, "left"), (-12, "half left"), (0, "frontal"), (24, "half right"), (26, "right"),
     (41, "right profile"), (None, None)],
)  # fmt: skip
def test_yaw_has_names(yaw: float | None, name: str | None) -> None:
    assert yaw_name(replace(GOOD, yaw_deg=yaw)) == name


def test_a_good_set_needs_nothing() -> None:
    assert advise(GOOD_SET) == ["enough to train on: 520 faces that differ"]


@pytest.mark.parametrize(
    ("odd", "words"),
    [
        (join_words(70), ["too few to train on: 70 faces", "add faces seen half left", "add faces seen half right"]),
        (GOOD_SET[:430], ["enough for a start: 430 faces", "add faces seen half right (there are 0;"]),
        ([*GOOD_SET, *join_words(80, 900, sharpness=0.1)], ["600", "80 of 600 are doubtful, 'blurred'"]),
        ([*GOOD_SET, *join_words(80, 900, seen_px=30.0)], ["600", "'small'"]),
        ([*GOOD_SET, *join_words(2, 900, unlike=0.8)], ["522", "look at the 2 that may be another person"]),
        ([*GOOD_SET, *join_words(1, 900, unlike=None)], ["520", "1 cannot be read"]),
    ],
)
def test_what_is_lacking_is_said(odd: list[Item], words: list[str]) -> None:
    lines = advise(odd)
    assert len(lines) == len(words)
    assert all(word in line for word, line in zip(words, lines, strict=True)), lines


def test_near_duplicates_count_once_and_the_sharpest_stands_for_them() -> None:
    alike = [replace(GOOD, name=f"{i}.jpg", group=7, sharpness=0.5 + (i == 2) / 10) for i in range(4)]
    assert [item.name for item in different([*alike, *join_words(1, 9)])] == ["2.jpg", "9.jpg"]


def test_the_picture_shows_bars_examples_and_what_is_poor() -> None:
    def drawn(items: list[Item]) -> tuple[int, int, int]:
        png = np.frombuffer(draw_summary(items, advise(items)), np.uint8)
        picture = np.asarray(cv2.imdecode(png, cv2.IMREAD_COLOR), np.int64)
        counts = [(np.abs(picture - color).max(axis=2) < 20).sum() for color in
                  ((0xDB, 0x6F, 0x2A), (0x33, 0x33, 0xCC), (40, 90, 200))]  # fmt: skip
        return int(counts[0]), int(counts[1]), int(counts[2])

    blue, red, example = drawn(GOOD_SET)
    assert blue > 5000
    assert example == pytest.approx(3 * 120 * 120, rel=0.02), "an example of each yaw there is"
    _, more_red, _ = drawn([*GOOD_SET, *join_words(200, 900, sharpness=0.1, seen_px=20.0)])
    assert more_red > red + 2500


def test_an_empty_set_is_drawn_too() -> None:
    nothing = [replace(GOOD, unlike=None, tile=b"")]
    assert len(draw_summary(nothing, advise(nothing))) > 1000
