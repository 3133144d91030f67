"""What is doubtful of a crop, and whose mean counts."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline.commands.review import Item, unlikeness
from pipeline.types import Embedding
from tests.commands.examples import GOOD


@pytest.mark.parametrize(
    ("odd", "doubts"),
    [
        (GOOD, []),
        (replace(GOOD, sharpness=0.2, seen_px=40), ["blurred", "small"]),
        (replace(GOOD, unlike=0.7, yaw_deg=-55), ["another person?", "profile"]),
        (replace(GOOD, yaw_deg=None), ["no face?"]),
        (replace(GOOD, unlike=None, yaw_deg=None, sharpness=0, seen_px=0), ["unreadable"]),
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
    apart = unlikeness(embeddings, {0: 5, 4: 5, 9: 4})
    assert apart[0] == pytest.approx(0.05)
    assert apart[4] == pytest.approx(0.05)
    assert apart[9] == pytest.approx(0.95)


def test_large_groups_weigh_more() -> None:
    apart = unlikeness({0: at(0.0), 1: at(0.4)}, {0: 3, 1: 1})
    assert [apart[0], apart[1]] == pytest.approx([0.1, 0.3])


def test_nobody_and_nobody_alike() -> None:
    assert unlikeness({}, {}) == {}
    far = unlikeness({0: at(0.0), 1: at(2.0)}, {0: 1, 1: 1})
    assert set(far) == {0, 1}
    assert min(far.values()) > 0.5
