"""Faces of hd networks in frames: drawn with more px, in their place, and with the mask that was drawn."""

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from models.checkpoint import Model
from models.networks import picture_px
from pipeline.converting.compose import FaceSwap, draw_faces, mask_of
from pipeline.converting.masks import learned_mask
from pipeline.converting.swapper import Swapper
from pipeline.faces.alignment import CROP_PX, SEEN
from pipeline.options import Look
from pipeline.types import Affine, Mask
from tests.converting.test_compose import at, canvas, luma_of, mask_in_frame, shown, swap_faces


class SameEncoder(nn.Module):
    """Hands on what it gets, of one size alone."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        assert pictures.shape[1:] == (3, self.side, self.side)
        return pictures


class SameDecoder(nn.Module):
    """Draws what the encoder got, or its negative, with a mask."""

    def __init__(self, mask: Mask, is_negative: bool) -> None:
        super().__init__()
        self.mask, self.is_negative = torch.from_numpy(mask), is_negative

    def forward(self, encoded: torch.Tensor) -> torch.Tensor:
        faces = 1 - encoded if self.is_negative else encoded
        return torch.cat([faces, self.mask.expand(len(encoded), 1, -1, -1)], dim=1)


def half_mask(side: int) -> Mask:
    """An oval left of the middle."""
    rows, columns = np.mgrid[0:side, 0:side] / side
    inside = ((rows - 0.5) / 0.3) ** 2 + ((columns - 0.35) / 0.2) ** 2 < 1
    return np.asarray(inside, np.float32)


def make_swapper(network: str) -> Swapper:
    side = picture_px(network)
    decoders: dict[str, nn.Module] = {
        "same": SameDecoder(half_mask(side), False),
        "negative": SameDecoder(half_mask(side), True),
    }
    return Swapper(Model(SameEncoder(side), decoders, network=network), ["same", "negative"], torch.device("cpu"))


@pytest.mark.parametrize("network", ["hd128", "hd192", "hd256"])
def test_a_drawing_has_the_networks_size_and_a_mask(network: str) -> None:
    side = picture_px(network)
    picture = np.random.default_rng(2).integers(0, 256, (side, side, 3), dtype=np.uint8)
    (drawing,) = make_swapper(network).swap([picture], ["same"])
    np.testing.assert_array_equal(drawing.face, picture)
    assert drawing.mask is not None
    np.testing.assert_array_equal(drawing.mask, half_mask(side))


@pytest.mark.parametrize("network", ["hd128", "hd192", "hd256"])
@pytest.mark.parametrize("crop_from_frame", [at(60, 20), at(150, 60, 0.5, -30), at(-60, -40), at(-200, -150, 2.0, 3)])
def test_networks_that_change_nothing_change_nothing(network: str, crop_from_frame: Affine) -> None:
    changed, before = canvas(), canvas()
    swap_faces([changed], [[FaceSwap(crop_from_frame, "same")]], make_swapper(network), Look(color="none"))
    difference = np.abs(shown(changed) - shown(before))
    assert difference.mean() < 1
    assert np.percentile(difference, 99.9) <= 8


@pytest.mark.parametrize("network", ["hd128", "hd256"])
def test_the_new_face_shows_where_the_drawn_mask_says(network: str) -> None:
    crop_from_frame, look = at(60, 20), Look(mask="learned", feather=0, color="none", paint_over=True)
    (faces,) = draw_faces([canvas()], [[FaceSwap(crop_from_frame, "negative")]], make_swapper(network), look)
    expected = np.zeros((CROP_PX, CROP_PX), np.float32)
    seen_px = SEEN.stop - SEEN.start
    expected[SEEN, SEEN] = cv2.resize(half_mask(512), (seen_px, seen_px), interpolation=cv2.INTER_AREA)
    mask = mask_of(faces[0], look)
    assert np.abs(mask - expected).mean() < 0.01
    changed, before = canvas(), canvas()
    swap_faces([changed], [[FaceSwap(crop_from_frame, "negative")]], make_swapper(network), look)
    difference = np.abs(luma_of(changed).astype(int) - luma_of(before))
    plain = mask_in_frame(crop_from_frame)
    assert difference[plain > 0.9].mean() > 3
    right = mask[SEEN, SEEN][:, seen_px * 6 // 10 :]
    assert not right.any(), "what the mean outline would show and the drawn mask does not"


def test_a_learned_mask_fades_inwards_from_one_half() -> None:
    drawn = cv2.GaussianBlur(half_mask(128), (0, 0), 4).astype(np.float32)
    hard, soft = (learned_mask(Look(mask="learned", feather=feather), drawn) for feather in (0, 14))
    assert hard.shape == soft.shape == (CROP_PX, CROP_PX)
    assert (soft <= hard + 1e-6).all()
    assert 0.3 < soft.sum() / hard.sum() < 0.95
    assert not learned_mask(Look(mask="learned"), np.zeros((128, 128), np.float32)).any()
    everywhere = learned_mask(Look(mask="learned"), np.ones((128, 128), np.float32))
    assert not everywhere[:, SEEN.start].any(), "nothing at the edge of what the model sees"
