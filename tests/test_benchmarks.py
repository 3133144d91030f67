"""What the benchmarks make of what they measure."""

import numpy as np
import pytest

from benchmarks.measuring import Row, as_markdown
from benchmarks.speed import compare
from pipeline.faces.store import StoredFace
from pipeline.types import Face

LANDMARKS = np.array([[40.0, 50], [80, 50], [62, 70], [45, 90], [77, 90]])
BOX = np.array([20.0, 10, 100, 120])


def ours(frame: int, shift: float, track: int = 0) -> StoredFace:
    face = Face(BOX + shift, 0.99, LANDMARKS + np.array([shift, 0]))
    return StoredFace(frame, track, "x", None, face, np.zeros((2, 3)))


def theirs(frame: int, score: float = 0.99, height: float = 110) -> dict[str, object]:
    box = [BOX[0], BOX[1], BOX[2], BOX[1] + height]
    return {"frame": frame, "box": box, "score": score, "points": LANDMARKS.tolist()}


def test_compare_counts_what_is_found_and_how_near_and_steady_it_is() -> None:
    plain = [theirs(0), theirs(1), theirs(2), theirs(3), theirs(4, score=0.9), theirs(5, height=39)]
    found = [ours(0, 2), ours(1, 6), ours(2, 2), ours(3, 90, track=1)]
    row = compare(plain, found)
    assert row["wanted"] == 4
    assert row["found %"] == 75
    assert row["landmarks apart, % of eye distance"] == pytest.approx(100 * 2 / 40)
    assert row["jitter %"] == pytest.approx(100 * 8 / 40)
    assert row["plain loop's jitter %"] == 0


def test_compare_says_so_when_nothing_is_found() -> None:
    assert compare([theirs(0)], []) == {"wanted": 1, "found %": 0.0}


def test_a_table_begins_anew_where_the_columns_change() -> None:
    rows: list[Row] = [{"clip": "a", "fps": 12.345}, {"clip": "b", "fps": 1234.5}, {"other": 3}]
    assert as_markdown(rows).splitlines() == [
        "| clip | fps |",
        "|---|---|",
        "| a | 12.3 |",
        "| b | 1234 |",
        "",
        "| other |",
        "|---|",
        "| 3 |",
    ]
