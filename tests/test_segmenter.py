"""The network that finds what is in front of a face, and the pictures it learned from."""

import cv2
import numpy as np
import pytest
import torch

from demo.clips import COLLINS, HOPPER, Portrait, read_portrait
from models.segmenter import load_segmenter
from pipeline.converting.masks import face_mask
from pipeline.faces.alignment import SEEN, SEEN_PX, TEMPLATE, align, cut_crop
from pipeline.faces.detection import Detector, ImagePyramid
from pipeline.faces.occlusions import OcclusionFinder, cut_seen
from pipeline.options import Look
from pipeline.training import occluders
from pipeline.training.occluders import MAX_COVER, PX, SHAPES, occlude
from pipeline.training.segmenter import face_weights, find_wearers
from pipeline.types import Image

PICTURES = 60


@pytest.fixture(scope="module")
def finder() -> OcclusionFinder:
    return OcclusionFinder(load_segmenter(), torch.device("cpu"))


@pytest.fixture(scope="module")
def crops() -> list[Image]:
    detector = Detector(min_face=40, min_confidence=0.95)

    def crop(portrait: Portrait) -> Image:
        image = read_portrait(portrait)
        return cut_crop(image, align(detector.detect([ImagePyramid(image)])[0][0].landmarks))

    return [crop(HOPPER), crop(COLLINS)]


@pytest.mark.parametrize("number", range(len(SHAPES)))
def test_shapes_are_masks_of_some_size(number: int) -> None:
    rng, covers = np.random.default_rng(1), []
    for _ in range(40):
        parts = SHAPES[number](rng)
        for part in parts:
            assert part.shape == (PX, PX)
            assert part.dtype == np.float32
            assert part.min() >= 0
            assert part.max() <= 1
        covers.append(max(float(part.mean()) for part in parts))
    assert 0.005 < np.median(covers) < MAX_COVER


def test_a_picture_is_covered_where_its_mask_says(crops: list[Image]) -> None:
    grey = np.full((PX, PX, 3), 120, np.float32)
    for seed in range(PICTURES):
        covered, mask = occluders._cover(grey.copy(), crops[seed % 2], np.random.default_rng(seed))
        change = np.abs(covered - grey).max(axis=2)
        assert (covered[mask == 0] <= grey[mask == 0] + 0.01).all(), "shadows only"
        if (mask > 0.9).sum() > 50:
            assert (change[mask > 0.9] > 2).mean() > 0.5


def test_some_faces_are_left_as_they_are(crops: list[Image]) -> None:
    rng = np.random.default_rng(4)
    faces = [occlude(crops[0], crops, rng) for _ in range(PICTURES)]
    assert {(face.picture.shape, face.picture.dtype.name) for face in faces} == {((PX, PX, 3), "uint8")}
    assert 0.5 * PICTURES < sum(face.things.max() > 0.5 for face in faces) < PICTURES
    assert 0.15 * PICTURES < sum(face.glasses.max() > 0.5 for face in faces) < 0.55 * PICTURES
    worn = [occlude(crops[0], crops, rng, has_glasses=True).glasses for _ in range(PICTURES)]
    assert not np.any(worn), "nobody gets a second pair"


def test_glasses_are_drawn_where_their_mask_says_over_both_eyes() -> None:
    grey = np.full((256, 256, 3), 120, np.uint8)
    for seed in range(PICTURES):
        picture, mask = occluders._put_on_glasses(grey, grey, np.random.default_rng(seed))
        left, right = mask[:, :128].sum(), mask[:, 128:].sum()
        assert 0.3 < left / right < 3
        assert mask[:60].max() == mask[170:].max() == 0, "neither on the forehead nor on the mouth"
        change = np.abs(picture.astype(int) - 120).max(axis=2)
        assert change[:60].max() == change[175:].max() == 0


def test_the_network_finds_new_drawings_on_faces_that_it_has_not_seen(
    crops: list[Image], finder: OcclusionFinder
) -> None:
    inside, rng = face_weights()[0, 0].numpy() > 0.5, np.random.default_rng(9)
    pictures, masks, _ = zip(*(occlude(crops[index % 2], crops, rng) for index in range(PICTURES)), strict=True)
    found_px, drawn_px, both_px = 0, 0, 0
    for occlusion, mask in zip(finder.find(pictures), masks, strict=True):
        found = inside & (occlusion > 0.5) if occlusion is not None else np.zeros_like(inside)
        drawn = inside & (mask > 0.5)
        found_px, drawn_px, both_px = found_px + found.sum(), drawn_px + drawn.sum(), both_px + (found & drawn).sum()
    assert both_px / (found_px + drawn_px - both_px) > 0.6


@pytest.mark.parametrize("person", range(2))
def test_it_finds_nothing_in_front_of_a_bare_face_in_any_light(
    person: int, crops: list[Image], finder: OcclusionFinder
) -> None:
    seen = cv2.resize(crops[person][SEEN, SEEN], (PX, PX), interpolation=cv2.INTER_AREA)
    pictures = [np.clip(seen * gain, 0, 255).astype(np.uint8) for gain in (0.4, 0.7, 1.0, 1.3)]
    below_the_hat = face_mask(Look(mask="outline", erode=10))[SEEN, SEEN] > 0.5
    inside = cv2.resize(below_the_hat.astype(np.float32), (PX, PX), interpolation=cv2.INTER_AREA) > 0.5
    for occlusion in finder.find(pictures):
        assert occlusion is None or (inside & (occlusion > 0.5)).sum() < 0.02 * inside.sum()


def test_it_finds_real_glasses_and_none_where_none_are(crops: list[Image], finder: OcclusionFinder) -> None:
    """Hopper wears some, Collins does not."""
    hopper, collins = finder.probabilities(cut_seen(crops))[:, 1] > 0.5
    assert hopper.sum() > 80
    eyes_y = round((TEMPLATE[0, 1] - SEEN.start) * PX / SEEN_PX)
    assert hopper[eyes_y - 25 : eyes_y + 30].sum() > 0.9 * hopper.sum()
    assert collins.sum() < 10
    with_glasses, without = (finder.find(cut_seen(crops[:1]), with_glasses=flag)[0] for flag in (True, False))
    assert with_glasses is not None
    assert without is None or without.sum() < with_glasses.sum()
    assert find_wearers(load_segmenter(), crops) == {0}


def test_what_would_cover_nearly_the_whole_face_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    finder, picture = OcclusionFinder(load_segmenter(), torch.device("cpu")), np.zeros((PX, PX, 3), np.uint8)
    rows = np.arange(PX)[:, None].repeat(PX, axis=1)
    for first_row, is_believed in ((64, True), (45, False), (10, False)):
        things = (rows >= first_row).astype(np.float32)
        found = np.stack([things, np.zeros_like(things)])[None]
        monkeypatch.setattr(OcclusionFinder, "probabilities", lambda *_, found=found: found)
        assert (finder.find([picture])[0] is not None) == is_believed
