"""Who a face is, by the real embedding on two portraits, and by made-up embeddings."""

import cv2
import numpy as np
import pytest

from demo.clips import COLLINS, HOPPER, Portrait, move, read_portrait
from pipeline.faces import mesh
from pipeline.faces.alignment import align, cut_crop
from pipeline.faces.detection import Detector, ImagePyramid
from pipeline.faces.identity import (
    MAX_EYE_DISAGREEMENT_PX,
    SAME_PERSON,
    Track,
    best_frames,
    cluster_tracks,
    combine_embeddings,
    distance,
    embed,
    eye_disagreement_px,
    is_clear,
    mean_embedding,
    shows_face,
)
from pipeline.faces.store import StoredFace
from pipeline.types import Embedding, Face, Image


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector(min_face=40, min_confidence=0.95)


def crop_of(detector: Detector, portrait: Portrait, moment: float) -> Image:
    image = move(read_portrait(portrait), portrait, moment)
    return cut_crop(image, align(detector.detect([ImagePyramid(image)])[0][0].landmarks))


def unit(*coordinates: float) -> Embedding:
    embedding = np.zeros(128)
    embedding[: len(coordinates)] = coordinates
    return embedding


def track(number: int, frames: range, *coordinates: float) -> Track:
    return Track(number, frozenset(frames), unit(*coordinates))


def stored(frame: int, *, eyes_px: float = 60, nose: float = 0.0, crop: bool = True, score: float = 1.0) -> StoredFace:
    eye = eyes_px / 2
    landmarks = np.array([[-eye, 0], [eye, 0], [nose * eyes_px, eye], [-0.8 * eye, eyes_px], [0.8 * eye, eyes_px]])
    face = Face(np.zeros(4), score, landmarks + 500)
    return StoredFace(frame, 0, "", f"{frame}.jpg" if crop else None, face, align(face.landmarks))


def test_one_person_is_near_and_another_far(detector: Detector) -> None:
    hopper, later = (embed(crop_of(detector, HOPPER, moment)) for moment in (0.0, 2.1))
    collins = embed(crop_of(detector, COLLINS, 0.0))
    assert hopper.shape == (128,)
    assert distance(hopper, later) < SAME_PERSON / 2
    assert distance(hopper, collins) > SAME_PERSON + 0.15


def test_a_crop_of_another_size_is_the_same_person(detector: Detector) -> None:
    crop = crop_of(detector, COLLINS, 1.0)
    small = np.asarray(cv2.resize(crop, (128, 128), interpolation=cv2.INTER_AREA), np.uint8)
    assert distance(embed(crop), embed(small)) < SAME_PERSON / 2


def test_a_track_is_no_face_only_where_two_witnesses_agree(detector: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    face = crop_of(detector, COLLINS, 0.0)
    aside, none = (np.roll(face, shift, axis=1) for shift in (60, 128))  # none: what is left and right of the face
    assert eye_disagreement_px(face) < 6
    assert min(eye_disagreement_px(aside), eye_disagreement_px(none)) > MAX_EYE_DISAGREEMENT_PX
    assert shows_face([face], [0.5])
    assert shows_face([], [0.5])
    assert shows_face([none, face, face], [0.5])
    assert shows_face([none, aside], [0.5]), "the mesh sees a face in one of them"
    assert not shows_face([none], [1.0]), "the mesh sees no face either"
    monkeypatch.setattr(mesh, "PACKAGE", "no_such_package")
    assert shows_face([none], [1.0, 0.9, 1.0]), "without the mesh, MTCNN's word counts where it is sure"
    assert not shows_face([none], [1.0, 0.8, 0.8])


def test_blurred_and_dark_crops_are_not_clear(detector: Detector) -> None:
    crop = crop_of(detector, HOPPER, 0.0)
    assert is_clear(crop)
    assert is_clear(np.asarray(cv2.resize(crop, (100, 100), interpolation=cv2.INTER_AREA), np.uint8))
    assert not is_clear(np.asarray(cv2.GaussianBlur(crop, (0, 0), 12), np.uint8))
    assert not is_clear((crop * 0.05).astype(np.uint8))


def test_the_best_frames_are_large_and_frontal_and_spread_over_the_track() -> None:
    faces = [stored(i, nose=0.0 if i in (3, 14, 25) else 0.2) for i in range(30)]
    assert best_frames(faces)[0] == [3, 14, 25]
    sizes = [stored(i, eyes_px=58 if i == 4 else 30) for i in range(9)]
    assert 4 in best_frames(sizes)[0]
    assert best_frames([stored(7), stored(9)])[0] == [7, 9]


def test_profiles_tiny_faces_and_faces_without_a_crop_say_nothing() -> None:
    assert best_frames([stored(0, nose=0.6), stored(1, eyes_px=10), stored(2, crop=False)])[0] == []
    assert best_frames([]) == {}


def test_faces_that_contradict_each_other_make_no_embedding() -> None:
    assert combine_embeddings([]) is None
    combined = combine_embeddings([unit(1, 0), unit(0.8, 0.2)])
    assert combined is not None
    np.testing.assert_allclose(combined, unit(0.9, 0.1))
    assert combine_embeddings([unit(1, 0), unit(-0.2, 0)]) is None


def test_near_tracks_are_one_person_and_the_one_seen_longest_comes_first() -> None:
    tracks = [
        track(0, range(10), 0.0),
        track(1, range(20, 50), 1.0),
        track(2, range(60, 85), 0.1),
        track(3, range(90, 93), 1.2),
    ]
    groups = cluster_tracks(tracks)
    assert [sorted(t.number for t in members) for members in groups] == [[0, 2], [1, 3]]
    np.testing.assert_allclose(mean_embedding(groups[0]), unit((10 * 0.0 + 25 * 0.1) / 35))


def test_two_faces_of_one_frame_are_two_people_however_alike() -> None:
    tracks = [track(0, range(30), 0.0), track(1, range(29, 40), 0.01), track(2, range(50, 60), 0.02)]
    groups = cluster_tracks(tracks)
    assert sorted(len(members) for members in groups) == [1, 2]
    assert not any({0, 1} <= {t.number for t in members} for members in groups)
