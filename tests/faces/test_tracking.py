"""Faces linked from frame to frame."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.faces.tracking import LINKED_IOU, link, overlaps
from pipeline.types import Boxes


def box(left: float, top: float, width: float, height: float) -> Boxes:
    return np.array([left, top, left + width, top + height], np.float64)


places, lengths = st.floats(-50, 50), st.floats(0, 40)
boxes = st.builds(box, places, places, lengths, lengths)


def overlap_of_two(one: Boxes, other: Boxes) -> float:
    def area(width: float, height: float) -> float:
        return max(width, 0) * max(height, 0)

    common = area(min(one[2], other[2]) - max(one[0], other[0]), min(one[3], other[3]) - max(one[1], other[1]))
    whole = area(one[2] - one[0], one[3] - one[1]) + area(other[2] - other[0], other[3] - other[1]) - common
    return common / whole if whole > 0 else 0


@settings(deadline=None)
@given(st.lists(boxes, min_size=1, max_size=4), st.lists(boxes, min_size=1, max_size=4))
def test_overlaps_are_common_area_over_whole_area(some: list[Boxes], others: list[Boxes]) -> None:
    expected = [[overlap_of_two(one, other) for other in others] for one in some]
    np.testing.assert_allclose(overlaps(np.stack(some), np.stack(others)), expected, atol=1e-9)


def test_overlaps_of_boxes_worked_out_by_hand() -> None:
    some = np.array([[0.0, 0.0, 10.0, 4.0], [100.0, 100.0, 110.0, 120.0]])
    others = np.array([[5.0, 2.0, 15.0, 6.0], [0.0, 0.0, 10.0, 4.0], [10.0, 0.0, 20.0, 4.0]])
    np.testing.assert_allclose(overlaps(some, others), [[10 / 70, 1.0, 0.0], [0.0, 0.0, 0.0]])


def test_faces_keep_their_tracks_whatever_their_order() -> None:
    previous = {4: box(100, 50, 40, 60), 9: box(300, 40, 80, 100), 2: box(110, 300, 30, 30)}
    moved = [box(305, 46, 82, 99), box(108, 303, 33, 31), box(95, 47, 38, 61)]
    assert link(moved, previous, 10) == [9, 2, 4]


def test_a_face_far_from_all_others_begins_a_track() -> None:
    previous = {0: box(100, 50, 40, 60), 1: box(300, 40, 80, 100)}
    assert link([box(700, 50, 40, 60), box(102, 50, 40, 60), box(700, 400, 40, 60)], previous, 7) == [7, 0, 8]


@pytest.mark.parametrize(("shift", "track"), [(0.5, 3), (0.6, 8)])
def test_a_face_may_move_about_half_its_width(shift: float, track: int) -> None:
    assert link([box(200 + 80 * shift, 10, 80, 120)], {3: box(200, 10, 80, 120)}, 8) == [track]


def test_of_two_faces_at_one_place_the_nearer_goes_on() -> None:
    previous = {5: box(100, 100, 50, 70)}
    assert link([box(115, 100, 50, 70), box(103, 100, 50, 70)], previous, 6) == [6, 5]


def test_no_faces_and_no_earlier_faces() -> None:
    assert link([], {1: box(1, 2, 3, 4)}, 5) == []
    assert link([box(1, 2, 3, 4), box(30, 2, 3, 4)], {}, 5) == [5, 6]
    assert link([], {}, 0) == []


@settings(deadline=None)
@given(st.lists(boxes, max_size=6), st.lists(boxes, max_size=6))
def test_a_track_goes_on_once_and_new_ones_are_counted_on(now: list[Boxes], before: list[Boxes]) -> None:
    previous = {3 * place: earlier for place, earlier in enumerate(before)}
    tracks = link(now, previous, 100)
    assert len(tracks) == len(now)
    new = [track for track in tracks if track >= 100]
    assert new == list(range(100, 100 + len(new)))
    known = [track for track in tracks if track < 100]
    assert len(set(known)) == len(known)
    for place, track in enumerate(tracks):
        if track < 100:
            assert overlap_of_two(now[place], previous[track]) >= LINKED_IOU - 1e-9
        else:
            free = [earlier for number, earlier in previous.items() if number not in known]
            assert all(overlap_of_two(now[place], earlier) < LINKED_IOU + 1e-9 for earlier in free)
