"""Expressions for a still portrait: the points of its face mesh are moved, and the picture follows them.

Convention: points are (x, y) in px of the portrait.
"""

from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
from scipy.interpolate import LinearNDInterpolator  # type: ignore[import-untyped]

from pipeline.errors import MediaError
from pipeline.faces.alignment import align, invert, transform
from pipeline.faces.detection import Detector, ImagePyramid
from pipeline.faces.mesh import POINTS, find_mesh_points
from pipeline.runtime import choose_device
from pipeline.types import Image, Points

UPPER_LIDS = (246, 161, 160, 159, 158, 157, 173, 466, 388, 387, 386, 385, 384, 398)
LOWER_LIDS = (7, 163, 144, 145, 153, 154, 155, 249, 390, 373, 374, 380, 381, 382)
ABOVE_LIDS = (247, 30, 29, 27, 28, 56, 190, 467, 260, 259, 257, 258, 286, 414)
INNER_LIPS = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95)
LOWER_LIPS = (95, 88, 178, 87, 14, 317, 402, 318, 324, 146, 91, 181, 84, 17, 314, 405, 321, 375)
LEFT_CORNER, RIGHT_CORNER, UPPER_LIP, LOWER_LIP, NOSE_TIP, FOREHEAD, CHIN = 61, 291, 13, 17, 4, 10, 152
LEFT_SIDE, RIGHT_SIDE = 234, 454
ROUNDNESS = 0.62  # radius of the head, in widths of the face
GRID_PX = 2  # of the portrait, between the points where the movement is computed
INSIDE_MOUTH = np.array([24.0, 20, 56])  # BGR, dark red


@dataclass(frozen=True)
class Expression:
    """What a face does, each from 0 to 1; ``turn`` is an angle in radians, positive to the right of the picture."""

    blink: float = 0
    smile: float = 0
    open: float = 0
    turn: float = 0


class Puppet:
    """A portrait whose face can move.

    Raises:
        MediaError: no face is found in it.
    """

    def __init__(self, picture: Image) -> None:
        (faces,) = Detector(40, 0.95, choose_device(no_cuda=True)).detect([ImagePyramid(picture)])
        if not faces:
            raise MediaError("no face is found in the portrait")
        crop_from_picture = align(max(faces, key=lambda face: face.score).landmarks)
        mesh = find_mesh_points(picture, crop_from_picture, range(POINTS))
        self._picture, self._rest = picture, transform(mesh, invert(crop_from_picture))
        height, width = picture.shape[:2]
        ends = [(x, y) for x in np.linspace(0, width - 1, 9) for y in np.linspace(0, height - 1, 9)]
        middle, reach = self._rest.mean(axis=0), 1.15 * np.ptp(self._rest, axis=0)
        self._still = np.array([end for end in ends if (np.abs(end - middle) > reach).any()])

    def show(self, expression: Expression) -> Image:
        """Draw the portrait with an expression."""
        moved = self._move(expression)
        height, width = self._picture.shape[:2]
        columns, rows = np.arange(0, width, GRID_PX), np.arange(0, height, GRID_PX)
        change = np.concatenate([self._rest - moved, np.zeros_like(self._still)])
        field = LinearNDInterpolator(np.concatenate([moved, self._still]), change, fill_value=0.0)
        coarse = field(*np.meshgrid(columns, rows)).astype(np.float32)
        smooth = cv2.resize(cv2.GaussianBlur(coarse, (0, 0), 0.7), (width, height), interpolation=cv2.INTER_LINEAR)
        y, x = np.mgrid[0:height, 0:width].astype(np.float32)
        shown = cv2.remap(self._picture, x + smooth[..., 0], y + smooth[..., 1], cv2.INTER_CUBIC)
        return self._fill_mouth(cast(Image, shown), moved, expression.open)

    def _move(self, expression: Expression) -> Points:
        rest, moved = self._rest, self._rest.copy()
        face_px = float(np.linalg.norm(rest[CHIN] - rest[FOREHEAD]))
        mouth_px = float(np.linalg.norm(rest[RIGHT_CORNER] - rest[LEFT_CORNER]))
        for corner, side in ((LEFT_CORNER, -1), (RIGHT_CORNER, 1)):
            near = np.exp(-0.5 * (np.linalg.norm(rest - rest[corner], axis=1) / (0.4 * mouth_px)) ** 2)
            moved += expression.smile * near[:, None] * mouth_px * np.array([0.09 * side, -0.10])
        is_low = (rest[:, 1] > rest[LOWER_LIP, 1]) | np.isin(np.arange(POINTS), LOWER_LIPS)
        beside = np.abs(rest[:, 0] - rest[LOWER_LIP, 0]) / (0.62 * mouth_px)
        moved[:, 1] += expression.open * 0.075 * face_px * is_low * np.exp(-0.5 * beside**2)
        lids = moved[list(LOWER_LIDS)] - moved[list(UPPER_LIDS)]
        moved[list(UPPER_LIDS)] += 0.93 * expression.blink * lids
        moved[list(ABOVE_LIDS)] += 0.45 * expression.blink * lids
        return self._turn(moved, expression.turn)

    def _turn(self, points: Points, angle: float) -> Points:
        """Turn the head like a ball; the nose, in front of it, moves farther."""
        middle = (self._rest[LEFT_SIDE, 0] + self._rest[RIGHT_SIDE, 0]) / 2
        width = self._rest[RIGHT_SIDE, 0] - self._rest[LEFT_SIDE, 0]
        across = np.clip((points[:, 0] - middle) / (ROUNDNESS * width), -1, 1)
        depth = np.sqrt(1 - across**2) - np.sqrt(1 - (0.5 / ROUNDNESS) ** 2)
        near_nose = np.exp(-0.5 * (np.linalg.norm(points - points[NOSE_TIP], axis=1) / (0.13 * width)) ** 2)
        turned = points.copy()
        turned[:, 0] += np.sin(angle) * ROUNDNESS * width * (np.clip(depth, 0, None) + 0.2 * near_nose)
        return turned

    def _fill_mouth(self, picture: Image, points: Points, opening: float) -> Image:
        """Darken what lies between the lips: there is nothing to see there in a portrait."""
        if opening <= 0:
            return picture
        inside = np.zeros(picture.shape[:2], np.uint8)
        cv2.fillPoly(inside, [(points[list(INNER_LIPS)] * 16).round().astype(np.int32)], 255, cv2.LINE_AA, 4)
        gap = float(points[14, 1] - points[UPPER_LIP, 1])
        y = np.arange(picture.shape[0])[:, None]
        low = np.clip((y - points[UPPER_LIP, 1]) / max(gap, 1) * 1.6 - 0.35, 0, 1)  # below the upper teeth
        alpha = cv2.GaussianBlur(inside.astype(np.float32) / 255, (0, 0), 0.8) * low * min(1, 2 * opening)
        mixed = picture * (1 - alpha[..., None]) + INSIDE_MOUTH * alpha[..., None]
        return cast(Image, mixed.round().astype(np.uint8))


def expression_at(time_s: float, phase: float) -> Expression:
    """The expression at a time: blinks, smiles, talks, and turns the head."""
    blink = max(np.exp(-((((time_s + phase) % period - 0.3) / 0.09) ** 2)) for period in (2.3, 3.7))
    talk = max(0.0, np.sin(5.3 * time_s + phase)) * max(0.0, np.sin(0.9 * time_s + 2 * phase))
    wide = max(0.0, np.sin(0.63 * time_s + phase)) ** 4
    smile = 0.5 - 0.5 * np.cos(0.8 * time_s + phase)
    return Expression(
        float(blink), float(smile), float(max(0.55 * talk, wide)), float(0.2 * np.sin(0.55 * time_s + phase))
    )
