"""Whether a set of faces is good enough to train on, in words and as a picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from models import PICTURE_PX
from pipeline.faces.measures import BLURRED
from pipeline.reviewing.items import Item

YAW_EDGES_DEG = (-40.0, -25.0, -10.0, 10.0, 25.0, 40.0)
YAW_NAMES = ("left profile", "left", "half left", "frontal", "half right", "right", "right profile")
NEEDED = ("half left", "frontal", "half right")  # heads that talk turn that far
ENOUGH, FEWEST = 500, 100  # faces that differ: good, and what makes a start
ENOUGH_OF_YAW = 25  # faces that differ, of each needed yaw
MANY = 0.1  # of the set: worth a word

WIDTH, MARGIN = 1120, 40
TILE_PX, BAR_PX = 120, 130
PAPER, INK, GREY, BLUE, RED = "#ffffff", "#1c1c1c", "#777777", "#2a6fdb", "#cc3333"
SHARPNESS_EDGES = (0.0, 0.1, 0.2, 0.35, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2, 1.4)
SIZE_EDGES_PX = (0, 32, 64, 96, 128, 192, 256, 384, 512, 768, 1024)


@dataclass(frozen=True)
class _Bar:
    name: str
    count: int
    is_poor: bool


def yaw_name(item: Item) -> str | None:
    """Say which way a face looks, as seen in the picture; None where no face was found."""
    return None if item.yaw_deg is None else YAW_NAMES[int(np.searchsorted(YAW_EDGES_DEG, item.yaw_deg))]


def different(items: Sequence[Item]) -> list[Item]:
    """Leave one crop, the sharpest, of each group of near-duplicates; what cannot be read is left out."""
    best: dict[int, Item] = {}
    for item in items:
        if item.unlike is not None and (item.group not in best or item.sharpness > best[item.group].sharpness):
            best[item.group] = item
    return list(best.values())


def advise(items: Sequence[Item]) -> list[str]:
    """Say whether the set is good enough to train on, and what to add or take out, a line each."""
    kept = different(items)
    lines = [_verdict(len(kept))]
    names = [yaw_name(item) for item in kept]
    for name in NEEDED:
        count = names.count(name)
        if count < ENOUGH_OF_YAW:
            lines.append(f"add faces seen {name} (there are {count}; {ENOUGH_OF_YAW} and more are good)")
    doubts = [item.doubts() for item in items]
    strangers = sum("another person?" in some for some in doubts)
    if strangers:
        lines.append(f"look at the {strangers} that may be another person")
    for doubt, remedy in (
        ("blurred", "add sharper footage"),
        ("small", f"fewer than {PICTURE_PX} px of the footage are drawn on; add close-ups"),
        ("no face?", "look at them"),
    ):
        count = sum(doubt in some for some in doubts)
        if count > MANY * len(items):
            lines.append(f"{count} of {len(items)} are doubtful, '{doubt}': {remedy}")
    unreadable = sum("unreadable" in some for some in doubts)
    if unreadable:
        lines.append(f"{unreadable} cannot be read: set them aside")
    return lines


def _verdict(count: int) -> str:
    if count < FEWEST:
        return f"too few to train on: {count} faces that differ; {FEWEST} make a start, {ENOUGH} and more are good"
    if count < ENOUGH:
        return f"enough for a start: {count} faces that differ; {ENOUGH} and more are good"
    return f"enough to train on: {count} faces that differ"


def draw_summary(items: Sequence[Item], advice: Sequence[str]) -> bytes:
    """Draw counts by yaw with an example of each, sharpness, resolution, and the advice.

    Returns:
        A PNG. Names are not on it: the font has Latin letters only.
    """
    kept = different(items)
    top = MARGIN + 30 * len(advice) + 30
    paper = Pillow.new("RGB", (WIDTH, top + TILE_PX + 2 * BAR_PX + 160), PAPER)
    draw = ImageDraw.Draw(paper)
    for row, line in enumerate(advice):
        _write(draw, (MARGIN, MARGIN + 30 * row), line, INK if row else BLUE, 19)
    _draw_yaws(paper, draw, kept, top)
    below = top + TILE_PX + BAR_PX + 65
    half = (WIDTH - 3 * MARGIN) // 2
    sharp = _bars([item.sharpness for item in kept], SHARPNESS_EDGES, BLURRED)
    _write(draw, (MARGIN, below), "sharpness (red: blurred)", GREY, 15)
    _draw_bars(draw, (MARGIN, below + 30, half), sharp)
    seen = _bars([item.seen_px for item in kept], SIZE_EDGES_PX, PICTURE_PX)
    right = 2 * MARGIN + half
    _write(draw, (right, below), f"size in the footage, px (red: less than the {PICTURE_PX} px of the model)", GREY, 15)
    _draw_bars(draw, (right, below + 30, half), seen)
    file = BytesIO()
    paper.save(file, "PNG")
    return file.getvalue()


def _draw_yaws(paper: Pillow.Image, draw: ImageDraw.ImageDraw, kept: Sequence[Item], top: int) -> None:
    """A column for each yaw: an example, and how many there are."""
    by_name: dict[str, list[Item]] = {name: [item for item in kept if yaw_name(item) == name] for name in YAW_NAMES}
    width = (WIDTH - 2 * MARGIN) // len(YAW_NAMES)
    most = max(1, *map(len, by_name.values()))
    _write(draw, (MARGIN, top - 28), "faces that differ, by where they look (as seen)", GREY, 15)
    for place, (name, members) in enumerate(by_name.items()):
        left = MARGIN + place * width
        if members:
            example = max(members, key=lambda item: item.sharpness)
            tile = Pillow.open(BytesIO(example.tile)).resize((TILE_PX, TILE_PX))
            paper.paste(tile, (left, top))
        else:
            draw.rectangle((left, top, left + TILE_PX, top + TILE_PX), outline=GREY)
        foot = top + TILE_PX + 10 + BAR_PX
        is_poor = name in NEEDED and len(members) < ENOUGH_OF_YAW
        height = round((BAR_PX - 25) * len(members) / most)
        draw.rectangle((left, foot - height, left + TILE_PX, foot), fill=RED if is_poor else BLUE)
        _write(draw, (left, foot - height - 24), str(len(members)), INK, 17)
        _write(draw, (left, foot + 6), name, RED if is_poor else INK, 15)


def _bars(values: Sequence[float], edges: Sequence[float], least: float) -> list[_Bar]:
    """Count values between edges; the last bar holds all above."""
    counts = np.histogram(values, [*edges, np.inf])[0]
    return [_Bar(f"{edge:g}", int(count), edge < least) for edge, count in zip(edges, counts, strict=True)]


def _draw_bars(draw: ImageDraw.ImageDraw, place: tuple[int, int, int], bars: Sequence[_Bar]) -> None:
    """Bars in (left, top, width), each with its count above and its name below."""
    left, top, width = place
    step, most = width // len(bars), max(1, *(bar.count for bar in bars))
    for i, bar in enumerate(bars):
        x, foot = left + i * step, top + BAR_PX
        height = round((BAR_PX - 25) * bar.count / most)
        draw.rectangle((x, foot - height, x + step - 5, foot), fill=RED if bar.is_poor else BLUE)
        if bar.count:
            _write(draw, (x, foot - height - 19), str(bar.count), INK, 12)
        _write(draw, (x, foot + 5), bar.name, GREY, 12)


def _write(draw: ImageDraw.ImageDraw, place: tuple[int, int], text: str, color: str, size: int) -> None:
    draw.text(place, text, fill=color, font=ImageFont.load_default(size))
