"""MTCNN on two portraits, and the picture pyramid against averaging by hand."""

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest
import torch
from facenet_pytorch import MTCNN
from facenet_pytorch.models.mtcnn import ONet

from demo.clips import COLLINS, HOPPER, read_portrait
from pipeline.faces.detection import Detector, ImagePyramid, suppress_nested
from pipeline.media.pictures import read_picture
from pipeline.types import Boxes, Face, Image, Points

CPU = torch.device("cpu")
WIDTH, HEIGHT = 420, 400
# Left ear, hairline or brim of the hat, right ear, chin; measured by eye in the pictures below.
HEADS = {"hopper": (100, 130, 308, 332), "collins": (112, 75, 215, 180)}


class Found(NamedTuple):
    """Pictures of one size, and what the detector makes of them one by one and all at once."""

    pictures: list[ImagePyramid]
    alone: list[list[Face]]
    together: list[list[Face]]


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector(min_face=32, min_confidence=0.95)


@pytest.fixture(scope="module")
def found(detector: Detector) -> Found:
    hopper, collins = (read_portrait(portrait)[:HEIGHT, 60 : 60 + WIDTH] for portrait in (HOPPER, COLLINS))
    both = np.concatenate([collins[:, 90:240], hopper[:, 60 : 60 + WIDTH - 150]], axis=1)
    noise = np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    pictures = [ImagePyramid(image) for image in (hopper, collins, both, noise)]
    return Found(pictures, [detector.detect([one])[0] for one in pictures[:2]], detector.detect(pictures))


@pytest.mark.parametrize(("place", "name"), list(enumerate(HEADS)))
def test_a_portrait_shows_one_face(found: Found, place: int, name: str) -> None:
    (face,) = found.alone[place]
    assert 0.95 <= face.score <= 1
    left, top, right, bottom = face.box
    assert face.height_px == bottom - top
    low_x, low_y, high_x, high_y = HEADS[name]
    common = max(0, min(right, high_x) - max(left, low_x)) * max(0, min(bottom, high_y) - max(top, low_y))
    union = (right - left) * (bottom - top) + (high_x - low_x) * (high_y - low_y) - common
    assert common / union > 0.65


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


def test_the_cascade_and_the_close_look_agree(found: Found) -> None:
    mtcnn = MTCNN(keep_all=True, min_face_size=32, device=CPU)
    for place in (0, 1):
        _, _, landmarks = mtcnn.detect(np.ascontiguousarray(found.pictures[place].image[..., ::-1]), landmarks=True)
        plain = landmarks[0].astype(np.float64)
        eyes_px = np.linalg.norm(plain[1] - plain[0])
        apart = np.linalg.norm(found.alone[place][0].landmarks - plain, axis=1).mean()
        assert apart < 0.04 * eyes_px


def look_plainly(picture: Image, box: Boxes) -> tuple[Boxes, Points, float]:
    """What MTCNN's last network says of the square about a box."""
    side = round((box[2:] - box[:2]).max() + 1)
    left, top = (round(v) for v in (box[:2] + box[2:] + 1 - side) / 2)
    wide = np.pad(picture, ((500, 500), (500, 500), (0, 0)), mode="edge")
    square = wide[top + 500 : top + 500 + side, left + 500 : left + 500 + side]
    rgb = cv2.resize(square, (48, 48), interpolation=cv2.INTER_AREA)[..., ::-1].astype(np.float32)
    with torch.inference_mode():
        shifts, points, scores = ONet()((torch.from_numpy(rgb.transpose(2, 0, 1)[None]) - 127.5) / 128)
    corners = np.array([left, top, left + side - 1, top + side - 1]) + side * shifts[0].double().numpy()
    return corners, side * points[0].double().numpy().reshape(2, 5).T + (left, top), float(scores[0, 1])


@pytest.mark.parametrize("corner", [(0, 0), (40, 90)], ids=["whole", "cut off by the edge"])
def test_a_close_look_is_the_mean_of_what_the_last_network_says_twice(
    detector: Detector, found: Found, corner: tuple[int, int]
) -> None:
    x, y = corner
    picture = np.ascontiguousarray(found.pictures[1].image[y:, x + 90 :])
    start = found.alone[1][0].box - np.array([x + 90, y] * 2) + 5
    (face,) = detector.refine([(ImagePyramid(picture), start)], 0)
    assert face is not None
    first = look_plainly(picture, start)
    second = look_plainly(picture, first[0])
    np.testing.assert_allclose(face.box, (first[0] + second[0]) / 2, atol=1e-3)
    np.testing.assert_allclose(face.landmarks, (first[1] + second[1]) / 2, atol=1e-3)
    assert face.score == pytest.approx(second[2], abs=1e-4)


def test_a_close_look_finds_the_face_from_a_place_that_is_a_little_off(detector: Detector, found: Found) -> None:
    (face,), (other,) = found.alone
    places = [
        (found.pictures[i], one.box + 0.1 * one.height_px * np.array([1, -1, 1, -1]))
        for i, one in ((0, face), (1, other))
    ]
    for again, (one,) in zip(detector.refine(places, 0.95), found.alone, strict=True):
        assert again is not None
        eyes_px = np.linalg.norm(one.landmarks[1] - one.landmarks[0])
        assert np.linalg.norm(again.landmarks - one.landmarks, axis=1).mean() < 0.05 * eyes_px


def test_a_close_look_at_no_face_finds_none(detector: Detector, found: Found) -> None:
    hopper, _, _, noise = found.pictures
    sky, beyond = np.array([300.0, 10, 400, 110]), np.array([-300.0, -300, -200, -200])
    face = found.alone[0][0]
    assert detector.refine([(hopper, sky), (noise, sky), (hopper, beyond)], 0.8) == [None] * 3
    assert detector.refine([(hopper, face.box)], 1.0) == [None]
    assert detector.refine([], 0.8) == []


@pytest.mark.parametrize("min_face", [20, 36, 40, 48])
def test_a_shadow_at_the_edge_is_no_face_and_a_face_that_the_edge_cuts_off_is_one(
    min_face: int, real_data: Path
) -> None:
    detector = Detector(min_face, 0.95)
    shadow = read_picture(real_data / "photos" / "hat_shadow.jpg")
    assert len(MTCNN(keep_all=True, device=CPU).detect(shadow[..., ::-1].copy())[0]) == 2, "facenet-pytorch sees two"
    assert [face.box[0] > 100 for face in detector.detect([ImagePyramid(shadow)])[0]] == [True]
    for name in ("obama_partial_left.jpg", "obama_partial_right.jpg"):
        assert len(detector.detect([ImagePyramid(read_picture(real_data / "photos" / name))])[0]) == 1


def test_pictures_are_looked_at_on_the_networks_device(found: Found) -> None:
    nowhere = Detector(min_face=32, min_confidence=0.95, device="meta")
    # All is computed there, and only the result is asked back, which a device without memory cannot give.
    with pytest.raises(NotImplementedError, match="Cannot copy out of meta tensor"):
        nowhere.refine([(found.pictures[0], found.alone[0][0].box)], 0.95)


def test_a_picture_smaller_than_the_smallest_face_shows_none(detector: Detector, found: Found) -> None:
    strip = found.pictures[0].image[200:231]
    assert detector.detect([ImagePyramid(strip), ImagePyramid(strip)]) == [[], []]
    assert detector.detect([ImagePyramid(strip.transpose(1, 0, 2))]) == [[]]


def test_faces_below_the_least_confidence_are_dropped(found: Found) -> None:
    assert Detector(min_face=32, min_confidence=1.0).detect([found.pictures[0]]) == [[]]


def test_faces_far_below_the_least_size_are_not_looked_for(found: Found) -> None:
    assert found.alone[1][0].height_px < 130
    assert Detector(min_face=300, min_confidence=0.95).detect([found.pictures[1]]) == [[]]


def test_of_faces_in_each_other_the_surest_stays() -> None:
    def face(score: float, *box: float) -> Face:
        return Face(np.array(box, float), score, np.zeros((5, 2)))

    large, inside, beside, crossing = (
        face(0.99, 0, 0, 100, 120),
        face(0.97, 30, 30, 60, 70),
        face(0.96, 200, 0, 240, 300),
        face(0.98, 60, 0, 160, 110),
    )
    kept = suppress_nested([(0, inside), (0, large), (0, beside), (0, crossing), (1, inside)])
    assert [(owner, one.score) for owner, one in kept] == [(0, 0.96), (0, 0.99), (0, 0.98), (1, 0.97)], "largest first"
    kept = suppress_nested([(0, face(0.95, 0, 0, 100, 120)), (0, inside)])
    assert [one.score for _, one in kept] == [0.97]


def slope(height: int, width: int) -> Image:
    """A picture whose colours say where they are: blue by column, green by row, red by both."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    return np.stack([x / 4, y / 3, (x + 2 * y) / 8], axis=-1).round().astype(np.uint8)


def expected(left: float, top: float, side: float, size: int) -> np.ndarray:
    """The slope at the middles of the parts a square is divided into."""
    at = (np.arange(size) + 0.5) * side / size - 0.5
    y, x = np.meshgrid(top + at, left + at, indexing="ij")
    return np.stack([x / 4, y / 3, (x + 2 * y) / 8], axis=-1)


@pytest.mark.parametrize("side", [30, 48, 101, 250, 397, 500])
def test_a_cut_shows_the_square_it_says(side: int) -> None:
    box = np.array([101.0, 60, 100 + side, 59 + 0.8 * side])
    cut, (left, top, true_side) = ImagePyramid(slope(600, 700)).cut(box, 48)
    assert cut.shape == (48, 48, 3)
    assert abs(true_side - side) <= max(1, side / 48)
    assert abs(left - 101) <= max(1, side / 24)
    assert abs(top - (60 - 0.1 * side)) <= max(1, side / 24)
    np.testing.assert_allclose(cut, expected(left, top, true_side, 48), atol=1.6)


def test_beyond_the_picture_its_edge_goes_on() -> None:
    cut, square = ImagePyramid(slope(90, 120)).cut(np.array([-20.0, -10, 39, 49]), 30)
    assert square == (-20, -10, 60)
    assert (cut[:, :9, 0] == 0).all()
    assert (cut[:4, :, 1] == 0).all()
    np.testing.assert_allclose(cut[8:, 12:], expected(-20, -10, 60, 30)[8:, 12:], atol=1)
    nothing, _ = ImagePyramid(slope(90, 120)).cut(np.array([500.0, 0, 560, 60]), 30)
    assert not nothing.any()


@pytest.mark.parametrize("size_hw", [(241, 361), (120, 180), (77, 97), (13, 19), (2, 3)])
def test_resizing_keeps_the_borders(size_hw: tuple[int, int]) -> None:
    picture = slope(241, 361)
    made = ImagePyramid(picture).resized(size_hw)
    assert made.shape == (*size_hw, 3)
    y, x = ((np.arange(n) + 0.5) * whole / n - 0.5 for n, whole in zip(size_hw, (241, 361), strict=True))
    np.testing.assert_allclose(made[..., 0], np.broadcast_to(x / 4, size_hw), atol=1.8)
    np.testing.assert_allclose(made[..., 1], np.broadcast_to(y[:, None] / 3, size_hw), atol=1.8)


def test_a_fine_checkerboard_becomes_even_grey() -> None:
    rows, columns = np.mgrid[0:512, 0:640]
    board = np.repeat(np.where((rows + columns) % 2, 255, 0).astype(np.uint8)[..., None], 3, axis=2)
    levels = ImagePyramid(board)
    assert np.abs(levels.resized((60, 80)).astype(int) - 127.5).max() < 12
    assert np.abs(levels.cut(np.array([10.0, 10, 480, 480]), 48)[0].astype(int) - 127.5).max() < 12
    assert (levels.image == board).all()
