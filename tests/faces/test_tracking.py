"""Faces linked from frame to frame, and tracked through frames of two portraits by the real networks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demo.clips import COLLINS, FPS, HOPPER, Portrait, move, read_portrait
from pipeline.faces.detection import Detector, ImagePyramid
from pipeline.faces.footage import frame_signature, is_cut
from pipeline.faces.tracking import (
    LINKED_IOU,
    FacesByTrack,
    Tracker,
    detect_key_frames,
    drop_duplicates,
    interpolate_boxes,
    key_frames,
    link,
    pairwise_iou,
)
from pipeline.types import Boxes, Face, Image


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
    np.testing.assert_allclose(pairwise_iou(np.stack(some), np.stack(others)), expected, atol=1e-9)


def test_overlaps_of_boxes_worked_out_by_hand() -> None:
    some = np.array([[0.0, 0.0, 10.0, 4.0], [100.0, 100.0, 110.0, 120.0]])
    others = np.array([[5.0, 2.0, 15.0, 6.0], [0.0, 0.0, 10.0, 4.0], [10.0, 0.0, 20.0, 4.0]])
    np.testing.assert_allclose(pairwise_iou(some, others), [[10 / 70, 1.0, 0.0], [0.0, 0.0, 0.0]])


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


SIDE = 400
NOISE = np.random.default_rng(1).integers(90, 130, (SIDE, SIDE, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector(min_face=40, min_confidence=0.95)


def moving(portrait: Portrait, frames: int, start: int = 0) -> list[Image]:
    picture = read_portrait(portrait)
    return [move(picture, portrait, (start + index) / FPS) for index in range(frames)]


def scan(
    detector: Detector, images: list[Image], cuts: tuple[int, ...] = (0,), tracker: Tracker | None = None
) -> list[FacesByTrack]:
    group = detect_key_frames(detector, images, [index in cuts for index in range(len(images))])
    return (tracker or Tracker(detector, {}, 0)).track(group)


def face_at(left: float, top: float, side: float = 50) -> Face:
    return Face(np.array([left, top, left + side, top + side], float), 0.99, np.full((5, 2), left))


@pytest.mark.parametrize(
    ("length", "cuts", "keys"),
    [
        (20, (0,), [0, 8, 16, 19]),
        (20, (), [7, 15, 19]),
        (8, (), [7]),
        (1, (0,), [0]),
        (12, (0, 5), [0, 4, 5, 11]),
        (6, (2, 3), [1, 2, 3, 5]),
    ],
)
def test_key_frames_are_every_eighth_the_first_of_a_shot_and_the_last(
    length: int, cuts: tuple[int, ...], keys: list[int]
) -> None:
    assert key_frames([index in cuts for index in range(length)]) == keys


def test_boxes_are_interpolated_from_one_key_frame_to_the_next() -> None:
    before, after = {3: face_at(0, 100), 5: face_at(7, 7)}, {3: face_at(40, 60, 90), 6: face_at(9, 9)}
    expected = list(interpolate_boxes(range(11, 14), before, after))
    assert [(face.frame, face.track) for face in expected] == [(11, 3), (12, 3), (13, 3)]
    np.testing.assert_allclose(expected[0].box, [10, 90, 70, 150])
    np.testing.assert_allclose(expected[2].box, [30, 70, 110, 150])


def test_of_two_tracks_on_one_face_the_older_stays() -> None:
    faces = {7: face_at(10, 10), 2: face_at(14, 10), 9: face_at(200, 10)}
    drop_duplicates(faces)
    assert set(faces) == {2, 9}


def test_a_moving_face_is_one_track_and_near_the_cascades(detector: Detector) -> None:
    images = moving(COLLINS, 21)
    seen = scan(detector, images)
    assert [set(faces) for faces in seen] == [{0}] * 21
    for image, faces in zip(images, seen, strict=True):
        ((plain,),) = detector.detect([ImagePyramid(image)])
        eyes_px = np.linalg.norm(plain.landmarks[1] - plain.landmarks[0])
        assert np.linalg.norm(faces[0].landmarks - plain.landmarks, axis=1).mean() < 0.04 * eyes_px


def test_a_cut_ends_a_track_wherever_it_lies(detector: Detector) -> None:
    images = [*moving(HOPPER, 5), *moving(COLLINS, 7)]
    assert [set(faces) for faces in scan(detector, images, (0, 5))] == [{0}] * 5 + [{1}] * 7


def test_going_on_after_a_group_equals_one_that_goes_through(detector: Detector) -> None:
    images = moving(HOPPER, 14)
    through = Tracker(detector, {}, 0)
    whole = [*scan(detector, images[:9], (0,), through), *scan(detector, images[9:], (), through)]
    again = scan(detector, images[9:], (), Tracker(detector, whole[8], 1))
    for faces, others in zip(whole[9:], again, strict=True):
        assert faces.keys() == others.keys() == {0}
        np.testing.assert_array_equal(faces[0].landmarks, others[0].landmarks)
        np.testing.assert_array_equal(faces[0].box, others[0].box)


@pytest.mark.parametrize("there", [range(4), range(3, 9), range(11, 16)], ids=["leaves", "stays", "comes"])
def test_a_face_that_one_key_frame_shows_is_followed_to_where_it_ends(detector: Detector, there: range) -> None:
    images = [image if index in there else NOISE for index, image in enumerate(moving(COLLINS, 16))]
    assert [index for index, faces in enumerate(scan(detector, images)) if faces] == list(there)


def test_two_faces_keep_their_tracks(detector: Detector) -> None:
    images = [np.hstack(both) for both in zip(moving(HOPPER, 10), moving(COLLINS, 10), strict=True)]
    seen = scan(detector, images)
    assert [set(faces) for faces in seen] == [{0, 1}] * 10
    on_the_left = {min(faces, key=lambda track: faces[track].box[0]) for faces in seen}
    assert len(on_the_left) == 1


@pytest.mark.parametrize("apart", [160, 180, 200])
def test_a_face_that_is_gone_does_not_take_over_its_neighbour(detector: Detector, apart: int) -> None:
    gone = move(read_portrait(HOPPER), HOPPER, 0.0)[60:340, 80:320]
    stays = move(read_portrait(COLLINS), COLLINS, 0.0)[60:340, 80:320]
    images = []
    for index in range(17):
        image = np.full((SIDE, 2 * SIDE, 3), 110, np.uint8)
        if index == 0:
            image[60:340, 80:320] = gone
        image[60:340, 80 + apart : 320 + apart] = stays
        images.append(image)
    seen = scan(detector, images)
    stayed = max(seen[0], key=lambda track: seen[0][track].box[0])
    assert len(seen[0]) == 2
    assert [set(faces) for faces in seen[1:]] == [{stayed}] * 16


def test_going_on_from_a_store_keeps_the_order_of_tracks(detector: Detector) -> None:
    small = [image[100:300, 100:300] for image in moving(HOPPER, 3)]
    images = [
        np.hstack([np.pad(a, ((100, 100), (0, 0), (0, 0))), b]) for a, b in zip(small, moving(COLLINS, 3), strict=True)
    ]
    tracker = Tracker(detector, {}, 0)
    scan(detector, images, (0,), tracker)
    assert list(tracker.last_faces) == sorted(tracker.last_faces)


def test_a_face_that_leaps_between_key_frames_stays_one_track(detector: Detector) -> None:
    picture = read_portrait(COLLINS)
    face = move(picture, COLLINS, 0.0)[60:340, 80:320]
    images = []
    for index in range(9):
        image = np.full((SIDE, 3 * SIDE, 3), 110, np.uint8)
        image[60:340, 40 + 30 * index : 280 + 30 * index] = face
        images.append(image)
    seen = scan(detector, images)
    assert seen[8][0].box[0] > seen[0][0].box[2], "too short a way: the boxes still touch"
    assert [set(faces) for faces in seen] == [{0}] * 9


def test_cuts_are_told_from_movement() -> None:
    hopper, later = moving(HOPPER, 1)[0], moving(HOPPER, 1, start=1)[0]
    collins = moving(COLLINS, 1)[0]
    assert frame_signature(hopper).shape == (32, 32)
    assert not is_cut(frame_signature(hopper), frame_signature(later))
    assert is_cut(frame_signature(hopper), frame_signature(collins))
    assert is_cut(frame_signature(hopper), np.zeros((32, 32), np.uint8))
