"""What the measurements of quality make of swaps that are known."""

import cv2
import numpy as np
import pytest

from benchmarks.swap_measures import (
    corners_in_crop_px,
    eye_opening,
    head_jitter,
    identity,
    jitter,
    likeness,
    meshes,
    mouth_opening,
    seam,
    sheet,
)
from demo.clips import COLLINS, HOPPER, Portrait, read_portrait
from pipeline.converting.masks import face_mask
from pipeline.faces.alignment import CROP_PX
from pipeline.types import Image
from tests.clips import scene


def head(portrait: Portrait) -> Image:
    """About what a crop shows."""
    x, y = (int(at) for at in portrait.centre_xy)
    half = int(portrait.side_px * 0.5)
    shown = read_portrait(portrait)[max(0, y - half) : y + half, max(0, x - half) : x + half]
    return np.asarray(cv2.resize(shown, (CROP_PX, CROP_PX), interpolation=cv2.INTER_AREA), np.uint8)


def test_a_person_is_nearer_to_herself() -> None:
    hopper, collins = head(HOPPER), head(COLLINS)
    assert identity([hopper], [hopper]) == 0
    assert identity([collins], [hopper]) > 0.5


def test_meshes_tell_open_from_shut() -> None:
    mesh = np.zeros((3, 468, 2))
    mesh[:, 152] = (0, 100)
    mesh[:, 14, 1] = [0, 5, 20]
    np.testing.assert_allclose(mouth_opening(mesh), [0, 0.05, 0.2])
    mesh[:, 33], mesh[:, 133], mesh[:, 362], mesh[:, 263] = (0, 0), (20, 0), (40, 0), (60, 0)
    mesh[:, 145, 1] = mesh[:, 374, 1] = [2, 4, 6]
    np.testing.assert_allclose(eye_opening(mesh), [0.1, 0.2, 0.3])
    assert likeness(mouth_opening(mesh), np.array([1.0, 2, 5])) == pytest.approx(1)
    assert likeness(mouth_opening(mesh), np.ones(3)) == 0
    assert meshes([head(COLLINS)]).shape == (1, 468, 2)


def test_jitter_counts_what_is_no_steady_way() -> None:
    steady = np.arange(10.0)[:, None, None] * np.array([2.0, 1]) + np.zeros((10, 468, 2))
    assert jitter(steady) == pytest.approx(0)
    trembling = steady + (np.arange(10) % 2)[:, None, None] * np.array([1.0, 0])
    assert jitter(trembling) == head_jitter(trembling) == pytest.approx(2)


def test_corners_are_measured_in_px_of_the_crop() -> None:
    half = np.array([[0.5, 0, 0], [0, 0.5, 0]])
    moved = np.array([[0.5, 0, -5], [0, 0.5, 0]])
    corners = corners_in_crop_px([half, moved])
    assert corners.shape == (2, 4, 2)
    np.testing.assert_allclose(corners[1] - corners[0], [[5, 0]] * 4)


def test_a_seam_is_a_step_of_colour_round_the_face() -> None:
    even = np.full((CROP_PX, CROP_PX, 3), (90, 110, 150), np.uint8)
    assert seam(even) < 0.5
    pasted = (even + 30 * face_mask()[..., None]).astype(np.uint8)
    assert seam(pasted) > 8


def test_a_sheet_has_a_row_for_each_name() -> None:
    crop = scene(1, CROP_PX, CROP_PX)
    assert sheet({"first": [crop, crop], "second": [crop, crop]}).shape == (2 * CROP_PX, 2 * CROP_PX, 3)
