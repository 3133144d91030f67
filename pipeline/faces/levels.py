"""A picture at its own size, half of it, a quarter …, to make small ones from, fast and without aliasing."""

from typing import cast

import cv2
import numpy as np

from pipeline.arrays import Boxes, Image

Square = tuple[int, int, int]
"""Left, top and side, px."""


MOST_FOR_WHOLE = 2  # halvings of a whole picture: odd columns left out shift the result by less than one of its px


class Levels:
    """A picture and its halvings, each made when first asked for.

    A pixel of a level is the mean of 2 x 2 px of the level before; an odd last row or column is left out.

    Args:
        image: (H, W, 3) BGR.
    """

    def __init__(self, image: Image) -> None:
        self.image = image
        self._levels = [image]

    def resized(self, size_hw: tuple[int, int]) -> Image:
        """Make the picture smaller.

        Args:
            size_hw: height and width, px; not larger than the picture.
        """
        shrink = min(self.image.shape[0] / size_hw[0], self.image.shape[1] / size_hw[1])
        level = self._level(min(_halvings(shrink), MOST_FOR_WHOLE))
        return cast(Image, cv2.resize(level, size_hw[::-1], interpolation=cv2.INTER_AREA))

    def cut(self, box: Boxes, size_px: int) -> tuple[Image, Square]:
        """Cut out the square about a box; beyond the picture its edge goes on, and far beyond it is black.

        Args:
            box: (4,) left, top, right, bottom px; its middle and longer side count.
            size_px: width and height of the result.

        Returns:
            (size, size, 3), and exactly which square of the picture it shows.
        """
        side = max(2.0, float(max(box[2] - box[0], box[3] - box[1])) + 1)
        most = min(self.image.shape[:2]).bit_length() - 1
        halvings = min(_halvings(side / size_px / 2), most)  # twice the size is left for averaging
        level, unit = self._level(halvings), 2**halvings
        side_units = round(side / unit)
        left, top = (round((float(box[i] + box[i + 2] + 1) / unit - side_units) / 2) for i in (0, 1))
        return _cut(level, (left, top, side_units), size_px), (left * unit, top * unit, side_units * unit)

    def _level(self, halvings: int) -> Image:
        while len(self._levels) <= halvings:
            finer = self._levels[-1]
            height, width = finer.shape[0] // 2, finer.shape[1] // 2
            even = finer[: 2 * height, : 2 * width]
            self._levels.append(cast(Image, cv2.resize(even, (width, height), interpolation=cv2.INTER_AREA)))
        return self._levels[halvings]


def _halvings(shrink: float) -> int:
    return int(np.log2(shrink)) if shrink > 1 else 0


def _cut(image: Image, square: Square, size_px: int) -> Image:
    left, top, side = square
    height, width = image.shape[:2]
    x0, x1, y0, y1 = max(left, 0), min(left + side, width), max(top, 0), min(top + side, height)
    if x0 >= x1 or y0 >= y1:
        return np.zeros((size_px, size_px, 3), np.uint8)
    inside = image[y0:y1, x0:x1]
    if inside.shape[:2] != (side, side):
        margins = (y0 - top, top + side - y1, x0 - left, left + side - x1)
        inside = cast(Image, cv2.copyMakeBorder(inside, *margins, cv2.BORDER_REPLICATE))
    return cast(Image, cv2.resize(inside, (size_px, size_px), interpolation=cv2.INTER_AREA))
