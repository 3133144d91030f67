"""Sharpness, yaw and likeness of crops."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from demo.clips import HOPPER
from pipeline.faces.alignment import TEMPLATE
from pipeline.faces.measures import (
    BLURRED,
    group_near_duplicates,
    nose_offset,
    sharpness,
    spread_evenly,
    thumbnail,
    yaw_deg,
)
from pipeline.media.pictures import read_picture
from pipeline.types import Image, Points
from tests.conftest import FRAMES


@pytest.fixture
def crop(trained_once: Path) -> Image:
    return read_picture(min((trained_once / "data" / "hopper").iterdir()))


def test_sharpness_falls_with_blur_and_not_with_light(crop: Image) -> None:
    values = [sharpness(np.asarray(cv2.GaussianBlur(crop, (0, 0), sigma), np.uint8)) for sigma in (0.1, 1.5, 3, 6)]
    assert values == sorted(values, reverse=True)
    assert values[0] > 1.4 * BLURRED
    assert values[3] < BLURRED
    assert sharpness((crop * 0.4).astype(np.uint8)) == pytest.approx(values[0], rel=0.1)


def test_a_flat_crop_is_blurred_and_divides_by_nothing() -> None:
    assert sharpness(np.full((256, 256, 3), 77, np.uint8)) == 0


def turned_head(degrees: float, roll: float = 0) -> Points:
    """Project a head of eyes 60 apart and a nose 36 before them, turned to the right as seen; then roll the picture."""
    yaw, angle = np.radians(degrees), np.radians(roll)
    solid = np.array([[-30, 0, 0], [30, 0, 0], [0, 30, 36], [-24, 66, 0], [24, 66, 0]], np.float64)
    seen = np.column_stack([solid[:, 0] * np.cos(yaw) + solid[:, 2] * np.sin(yaw), solid[:, 1]])
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return np.asarray(seen @ turn + [300, 200])


@pytest.mark.parametrize("degrees", [-50, -20, 0, 10, 45])
@pytest.mark.parametrize("roll", [0, 25])
def test_yaw_of_a_turned_head(degrees: float, roll: float) -> None:
    assert yaw_deg(turned_head(degrees, roll)) == pytest.approx(degrees, abs=0.01)


def test_the_template_is_frontal() -> None:
    assert nose_offset(TEMPLATE) == 0
    assert nose_offset(np.zeros((5, 2))) == 0, "eyes in one place divide by nothing"


def test_near_duplicates_are_grouped_with_the_first_of_them(crop: Image) -> None:
    noise = np.random.default_rng(1).normal(0, 3, crop.shape)
    alike = np.clip(crop + noise, 0, 255).astype(np.uint8)
    other = crop[:, ::-1]
    thumbnails = np.array([thumbnail(one) for one in (other, crop, alike, other, np.roll(crop, 40, axis=0))])
    assert group_near_duplicates(thumbnails) == [0, 1, 1, 0, 4]


def test_a_slow_pan_is_not_one_group_from_end_to_end(trained_once: Path) -> None:
    crops = sorted((trained_once / "data" / HOPPER.name).iterdir())
    groups = group_near_duplicates(np.array([thumbnail(read_picture(path)) for path in crops]))
    assert len(groups) == FRAMES
    assert all(groups[first] == first for first in groups), "each group is named after its first"


def test_no_pictures_make_no_groups() -> None:
    assert group_near_duplicates(np.empty((0, 256), np.float32)) == []


@pytest.mark.parametrize(
    ("count", "most", "indices"), [(10, 4, [0, 3, 6, 9]), (3, 8, [0, 1, 2]), (7, 1, [0]), (0, 3, [])]
)
def test_indices_are_spread_from_the_first_to_the_last(count: int, most: int, indices: list[int]) -> None:
    assert spread_evenly(count, most) == indices
