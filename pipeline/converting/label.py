"""A small visible notice in results that they are synthetic."""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

from pipeline.errors import UsageError
from pipeline.media.canvas import Surface
from pipeline.runtime import package_file
from pipeline.types import Mask, Patch, Rect

HEIGHT = 1 / 26  # of the letters, relative to the picture's shorter side
MIN_LETTERS_PX = 12.0
PADDING = 0.4  # around the text, in letter heights
MARGIN = 0.6  # to the picture's edge, in letter heights
WHITE, GROUND = 255, 0.55  # brightness of the letters; factor that darkens the picture behind them
MISSING = "\uffff"  # a character that no font has; all missing characters are drawn alike


def check_label(text: str) -> None:
    """Raise UsageError if the font lacks a character of the notice."""
    font = _font(MIN_LETTERS_PX)
    missing = bytes(font.getmask(MISSING))
    for character in text:
        if not character.isspace() and bytes(font.getmask(character)) == missing:
            raise UsageError(f"--label: the font has no {character!r}; it has Latin, Greek and Cyrillic letters")


def draw_label(canvas: Surface, text: str) -> None:
    """Draw a notice at the lower left: white on a darkened background, in as many lines as needed."""
    letters, rect = _render(text, canvas.size_hw)
    ground = GROUND * canvas.part(rect).astype(np.float32)
    image = np.asarray((ground + (WHITE - ground) * letters[..., None]).round(), np.uint8)
    canvas.draw(Patch(rect.left, rect.top, image, np.ones(letters.shape, bool)))


@lru_cache(maxsize=4)
def _render(text: str, size_hw: tuple[int, int]) -> tuple[Mask, Rect]:
    """Draw the letters, (H, W) in [0, 1]; return them and their place in the picture, left and top even."""
    height, width = size_hw
    letters_px = max(MIN_LETTERS_PX, min(size_hw) * HEIGHT)
    font, padding, margin = _font(letters_px), round(PADDING * letters_px), round(MARGIN * letters_px)
    lines = "\n".join(_wrap(text, font, width - 2 * (padding + margin)))
    pen = PIL.ImageDraw.Draw(PIL.Image.new("L", (1, 1)))
    left, top, right, bottom = (round(side) for side in pen.multiline_textbbox((0, 0), lines, font))
    box_w, box_h = min(right - left + 2 * padding, width), min(bottom - top + 2 * padding, height)
    x, y = min(margin, width - box_w) // 2 * 2, max(0, height - margin - box_h) // 2 * 2
    rect = Rect(x, y, min(box_w + box_w % 2, width - x), min(box_h + box_h % 2, height - y))
    drawn = PIL.Image.new("L", (rect.width, rect.height))
    PIL.ImageDraw.Draw(drawn).multiline_text((padding - left, padding - top), lines, WHITE, font)
    return np.asarray(drawn, np.float32) / np.float32(WHITE), rect


def _wrap(text: str, font: PIL.ImageFont.FreeTypeFont, width_px: int) -> Iterator[str]:
    """Break a text into lines that fit; words that are too long are split."""
    line = ""
    for word in text.split():
        longer = f"{line} {word}".strip()
        if line and font.getlength(longer) > width_px:
            yield line
            longer = word
        while len(longer) > 1 and font.getlength(longer) > width_px:
            fits = max(n for n in range(1, len(longer)) if n == 1 or font.getlength(longer[:n]) <= width_px)
            yield longer[:fits]
            longer = longer[fits:]
        line = longer
    yield line


@lru_cache(maxsize=4)
def _font(size_px: float) -> PIL.ImageFont.FreeTypeFont:
    """Load DejaVu Sans from matplotlib's files; importing matplotlib would take a second."""
    return PIL.ImageFont.truetype(package_file("matplotlib", "mpl-data/fonts/ttf/DejaVuSans.ttf"), size_px)
