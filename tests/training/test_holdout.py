import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.training.holdout import FEWEST, GAP, hold_out


@given(st.integers(0, 5000))
def test_no_face_judged_by_is_a_neighbour_of_one_trained_on(count: int) -> None:
    trained, held = hold_out(count)
    assert trained.dtype == held.dtype == torch.int64
    together = torch.cat([trained, held])
    assert len(set(together.tolist())) == len(together)
    assert all(0 <= place < count for place in together.tolist())
    if len(held):
        apart = (trained[:, None] - held[None]).abs().min()
        assert apart > GAP
        assert len(trained) >= 0.8 * count


@pytest.mark.parametrize(("count", "held", "trained"), [(99, 0, 99), (100, 5, 85), (448, 22, 416), (1008, 50, 938)])
def test_five_percent_of_those_who_have_enough(count: int, held: int, trained: int) -> None:
    assert tuple(map(len, hold_out(count))) == (trained, held)
    assert FEWEST == 100


def test_many_are_judged_at_several_moments() -> None:
    _, held = hold_out(4000)
    assert len(held) == 200
    assert int((held.diff() > 1).sum()) == 3
