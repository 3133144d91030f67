"""What is in front of a face stays in front of it."""

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from demo.clips import COLLINS, HOPPER, read_portrait
from models.checkpoint import Model
from models.segmenter import OCCLUSION_PX, load_segmenter
from pipeline.converting.compose import DrawnFace, FaceStats, FaceSwap, compose, draw_faces
from pipeline.converting.occlusions import keep_in_front, median_of_three, refine, uncovered
from pipeline.converting.smoothing import DrawnBatch, smooth_stats
from pipeline.converting.swapper import Swapper
from pipeline.faces.alignment import align, cut_crop, invert, transform
from pipeline.faces.detection import Detector, ImagePyramid
from pipeline.faces.occlusions import OcclusionFinder, cut_seen, keep_certain_regions
from pipeline.media.canvas import PictureCanvas
from pipeline.options import PLAIN_VIEW, Look, ResultView
from pipeline.types import Image, Mask, Patch, Rect

PX = OCCLUSION_PX
CPU = torch.device("cpu")
SAME = np.array([[1.0, 0, 0], [0, 1, 0]])


def disc(x: float, y: float, radius: float, value: float = 1.0) -> Mask:
    rows, columns = np.mgrid[0:PX, 0:PX]
    return np.where(np.hypot(columns - x, rows - y) < radius, value, 0).astype(np.float32)


def test_what_is_small_or_doubtful_is_nothing() -> None:
    assert keep_certain_regions(disc(64, 64, 2)) is None
    assert keep_certain_regions(disc(64, 64, 20, 0.9)) is None
    kept = keep_certain_regions(np.maximum(disc(30, 30, 12, 0.99), disc(100, 100, 12, 0.9)))
    np.testing.assert_array_equal(kept, disc(30, 30, 12, 0.99))


def test_what_shows_in_one_frame_only_goes_and_what_moves_does_not_lag() -> None:
    assert median_of_three(None, disc(64, 64, 20), None) is None
    passing = [disc(20 + 8 * frame, 64, 20) for frame in range(3)]
    middle = median_of_three(*passing)
    assert middle is not None
    assert np.abs(middle - passing[1]).mean() < 0.25 * np.abs(passing[0] - passing[1]).mean()
    appearing = median_of_three(None, disc(64, 64, 20), disc(64, 64, 20))
    np.testing.assert_array_equal(appearing, disc(64, 64, 20))
    assert median_of_three(None, disc(64, 64, 20), None) is None, "nor at the end of a track"
    flickering = median_of_three(disc(64, 64, 20), None, disc(64, 64, 20))
    np.testing.assert_array_equal(flickering, disc(64, 64, 20))


@pytest.mark.parametrize("zoom", [1, 3])
def test_edges_come_from_the_frame(zoom: int) -> None:
    """The network's edge is 3 px off and soft; that of the dark thing in the frame is exact."""
    side = PX * zoom
    rows, columns = np.mgrid[0:side, 0:side]
    inside = np.hypot(columns - 64 * zoom, rows - 70 * zoom) < 25 * zoom
    frame = np.where(inside[..., None], 40, 180).astype(np.uint8).repeat(3, axis=2)
    rough = np.asarray(cv2.GaussianBlur(disc(64, 67, 25), (0, 0), 3), np.float32)
    grown = np.array([[zoom, 0, (zoom - 1) / 2], [0, zoom, (zoom - 1) / 2]], float)
    found = refine(rough, frame, grown)
    assert found.shape == (side, side)
    unrefined = cv2.warpAffine(rough, grown, (side, side))
    assert np.abs(found - inside).mean() < 0.7 * np.abs(unrefined - inside).mean()


def test_colours_are_measured_where_nothing_covers_the_face() -> None:
    core, hand = np.ones((64, 64), np.float32), disc(64, 127, 60)
    left = uncovered(core, hand)
    assert left[:20].min() == 1
    assert left[55:, 28:36].max() == 0
    assert uncovered(core, None) is core
    assert uncovered(core, np.ones((PX, PX), np.float32)) is core, "too little would be left"


def test_over_a_whole_track_what_lasts_stays() -> None:
    still = np.array([[1.0, 0, 0], [0, 1, 0]])
    finds = [None, disc(64, 64, 20), None, disc(20, 64, 20), disc(20, 64, 20), disc(20, 64, 20)]
    faces = [
        [DrawnFace(Rect(0, 0, 9, 9), still, np.zeros((9, 9, 3), np.uint8), 7, FaceStats(None, 0.0, None, find))]
        for find in finds
    ]
    (smooth,) = smooth_stats([DrawnBatch("segment", 0, [], faces, is_last=True)])
    kept = [face.stats.occlusion is not None for (face,) in smooth.faces]
    assert kept == [False, False, False, True, True, True]


def test_the_frame_shows_where_something_is_in_front() -> None:
    frame = np.full((40, 60, 3), 10, np.uint8)
    patch = Patch(20, 10, np.full((20, 30, 3), 200, np.uint8), np.ones((20, 30), bool))
    hidden = np.zeros((40, 60), np.float32)
    hidden[:, :30], hidden[:, 40:] = 1, 0.5
    shown = keep_in_front(patch, hidden, frame)
    assert (shown.left, shown.top) == (20, 10)
    assert (shown.image[:, :10] == 10).all()
    assert not shown.changed[:, :10].any()
    assert (shown.image[:, 10:20] == 200).all()
    assert (np.abs(shown.image[:, 20:].astype(int) - 105) <= 1).all()
    assert shown.changed[:, 10:].all()


class Negative(nn.Module):
    """Draws light what was dark."""

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Map pictures to pictures."""
        return 1 - pictures


def test_a_thing_in_front_of_a_portrait_stays_unless_it_is_painted_over() -> None:
    picture = read_portrait(COLLINS)
    (face,) = Detector(min_face=40, min_confidence=0.95).detect([ImagePyramid(picture)])[0][:1]
    crop_from_frame = align(face.landmarks)
    covered = picture.copy()
    corners = transform(np.array([[95, 165], [165, 150], [172, 185], [102, 200]], float), invert(crop_from_frame))
    thing = cv2.fillConvexPoly(np.zeros(picture.shape[:2], np.uint8), corners.round().astype(np.int32), 1) > 0
    covered[thing] = (90, 60, 40)
    well_inside = cv2.erode(thing.astype(np.uint8), np.ones((5, 5))) > 0
    swapper = Swapper(
        Model(nn.Identity(), {"negative": Negative()}), ["negative"], CPU, OcclusionFinder(load_segmenter(), CPU)
    )

    def change(picture: Image, look: Look, view: ResultView = PLAIN_VIEW) -> npt.NDArray[np.int_]:
        canvas = PictureCanvas(picture.copy())
        (faces,) = draw_faces([canvas], [[FaceSwap(crop_from_frame, "negative")]], swapper, look)
        image = compose(canvas, faces, look, view).image
        before = np.zeros_like(picture) if view.kind == "mask" else picture
        return np.asarray(np.abs(image.astype(int) - before).max(axis=2))

    kept, painted = (change(covered, Look(paint_over=over, color="none")) for over in (False, True))
    assert kept[well_inside].mean() < 0.1 * painted[well_inside].mean()
    around = (painted > 20) & ~(cv2.dilate(thing.astype(np.uint8), np.ones((25, 25))) > 0)
    assert kept[around].mean() > 0.9 * painted[around].mean(), "the rest of the face is swapped"
    bare, bare_painted = (change(picture, Look(paint_over=over, color="none")) for over in (False, True))
    assert (bare != bare_painted).mean() < 0.002, "nothing is in front of this face"
    mask = change(covered, Look(), ResultView("mask"))
    assert mask[well_inside].mean() < 25, "so does --only-mask"


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_of_two_faces_that_overlap_the_nearer_one_wins(order: tuple[int, int]) -> None:
    """The larger face is the nearer one, whoever was found first."""
    frame = np.full((300, 400, 3), 128, np.uint8)
    rect = Rect(0, 0, 400, 300)
    faces = [
        DrawnFace(
            rect, np.array([[zoom, 0, -x * zoom], [0, zoom, -20 * zoom]]), picture, number, FaceStats(None, 0, None)
        )
        for number, (zoom, x, picture) in enumerate(
            [
                (1.2, 90, np.full((180, 180, 3), 50, np.uint8)),  # a face of 150 px
                (0.8, 130, np.full((180, 180, 3), 220, np.uint8)),  # one of 225 px
            ]
        )
    ]
    canvas = compose(PictureCanvas(frame), [faces[index] for index in order], Look(color="none"))
    row = canvas.image[115, :, 0]
    assert row[130] < 70, "the far face alone"
    assert row[200] > 200, "where both are: the near one"


def test_glasses_are_kept_if_that_is_asked_for() -> None:
    picture = read_portrait(HOPPER)
    (face,) = Detector(min_face=40, min_confidence=0.95).detect([ImagePyramid(picture)])[0][:1]
    swap, finder = FaceSwap(align(face.landmarks), "negative"), OcclusionFinder(load_segmenter(), CPU)
    swapper = Swapper(Model(nn.Identity(), {"negative": Negative()}), ["negative"], CPU, finder)
    images = {}
    for keep in ("nothing", "glasses"):
        canvas, look = PictureCanvas(picture.copy()), Look(keep=keep, color="none")
        (faces,) = draw_faces([canvas], [[swap]], swapper, look)
        images[keep] = compose(canvas, faces, look).image
    (worn,) = finder.find(cut_seen([cut_crop(picture, swap.crop_from_frame)]), with_glasses=True)
    (bare,) = finder.find(cut_seen([cut_crop(picture, swap.crop_from_frame)]))
    assert worn is not None
    glasses = (worn > 0.9) & ((bare if bare is not None else np.zeros_like(worn)) < 0.1)
    change = {
        keep: cut_seen([cut_crop(np.abs(image.astype(int) - picture).astype(np.uint8), swap.crop_from_frame)])[0]
        for keep, image in images.items()
    }
    assert change["glasses"][glasses].mean() < 0.4 * change["nothing"][glasses].mean()
    far = worn < 0.01
    assert change["glasses"][far].mean() > 0.85 * change["nothing"][far].mean(), "the face between is swapped"
