"""Faces found by the real MTCNN in two portraits."""

from typing import NamedTuple

import numpy as np
import pytest
import torch
from facenet_pytorch import MTCNN

from demo.clips import COLLINS, HOPPER, read_portrait
from pipeline.arrays import Image
from pipeline.faces.detection import Detector, Face

CPU = torch.device("cpu")
WIDTH, HEIGHT = 420, 400
# Left ear, hairline or brim of the hat, right ear, chin; measured by eye in the pictures below.
HEADS = {"hopper": (100, 130, 308, 332), "collins": (112, 75, 215, 180)}


class Found(NamedTuple):
    """Pictures of one size, and what the detector makes of them one by one and all at once."""

    pictures: list[Image]
    alone: list[list[Face]]
    together: list[list[Face]]


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector(min_face=32, min_confidence=0.95, device=CPU)


@pytest.fixture(scope="module")
def found(detector: Detector) -> Found:
    hopper, collins = (read_portrait(portrait)[:HEIGHT, 60 : 60 + WIDTH] for portrait in (HOPPER, COLLINS))
    both = np.concatenate([collins[:, 90:240], hopper[:, 60 : 60 + WIDTH - 150]], axis=1)
    noise = np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    pictures = [hopper, collins, both, noise]
    return Found(pictures, [detector.detect([hopper])[0], detector.detect([collins])[0]], detector.detect(pictures))


@pytest.mark.parametrize(("place", "name"), list(enumerate(HEADS)))
def test_a_portrait_shows_one_face(found: Found, place: int, name: str) -> None:
    (face,) = found.alone[place]
    assert 0.95 <= face.score <= 1
    left, top, right, bottom = face.box
    assert face.height_px == bottom - top
    low_x, low_y, high_x, high_y = HEADS[name]
    common = max(0, min(right, high_x) - max(left, low_x)) * max(0, min(bottom, high_y) - max(top, low_y))
    union = (right - left) * (bottom - top) + (high_x - low_x) * (high_y - low_y) - common
    assert common / union > 0.7


@pytest.mark.parametrize("place", range(2))
def test_landmarks_are_eyes_nose_and_mouth_as_seen(found: Found, place: int) -> None:
    face = found.alone[place][0]
    (left_eye, right_eye, nose, left_mouth, right_mouth) = face.landmarks
    assert left_eye[0] < nose[0] < right_eye[0]
    assert left_mouth[0] < nose[0] < right_mouth[0]
    assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1])
    assert (face.landmarks > face.box[:2]).all()
    assert (face.landmarks < face.box[2:]).all()
    assert face.landmarks.dtype == face.box.dtype == np.float64


def test_a_batch_gives_each_picture_what_it_gives_alone(found: Found) -> None:
    for alone, together in zip(found.alone, found.together[:2], strict=True):
        assert len(together) == 1
        np.testing.assert_allclose(together[0].box, alone[0].box, atol=0.1)
        np.testing.assert_allclose(together[0].landmarks, alone[0].landmarks, atol=0.1)
        assert together[0].score == pytest.approx(alone[0].score, abs=1e-3)


def test_of_two_faces_the_larger_comes_first(found: Found) -> None:
    larger, smaller = found.together[2]
    assert larger.height_px > smaller.height_px
    assert larger.box[0] > smaller.box[2], "the large face stands on the right"


def test_noise_shows_no_face(found: Found) -> None:
    assert found.together[3] == []


def test_colours_reach_the_networks_in_their_order(found: Found) -> None:
    mtcnn = MTCNN(keep_all=True, min_face_size=32, device=CPU)
    boxes, scores, landmarks = mtcnn.detect(np.ascontiguousarray(found.pictures[1][..., ::-1]), landmarks=True)
    np.testing.assert_allclose(found.alone[1][0].box, boxes[0].astype(np.float64), atol=1e-3)
    np.testing.assert_allclose(found.alone[1][0].landmarks, landmarks[0].astype(np.float64), atol=1e-3)
    assert found.alone[1][0].score == pytest.approx(float(scores[0]), abs=1e-6)


def test_a_picture_smaller_than_the_smallest_face_shows_none(detector: Detector, found: Found) -> None:
    strip = found.pictures[0][200:231]
    assert detector.detect([strip, strip]) == [[], []]
    assert detector.detect([strip.transpose(1, 0, 2)]) == [[]]


def test_faces_below_the_least_confidence_are_dropped(found: Found) -> None:
    assert Detector(min_face=32, min_confidence=1.0, device=CPU).detect([found.pictures[0]]) == [[]]


def test_faces_far_below_the_least_size_are_not_looked_for(found: Found) -> None:
    assert found.alone[1][0].height_px < 130
    assert Detector(min_face=300, min_confidence=0.95, device=CPU).detect([found.pictures[1]]) == [[]]
