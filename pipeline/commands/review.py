"""Show a person's crops on a page to sort and clean them by, and say what the set lacks.

A crop as review shows it, and what is doubtful about it.

Whether a set of faces is good enough to train on, in words and as a picture.

The page that shows a person's crops: one HTML file that needs no network.
"""

import base64
import json
import os
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from string import Template
from subprocess import list2cmdline
from typing import Any

import cv2
import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from models import PICTURE_PX
from pipeline.console import Console, join_words
from pipeline.errors import MediaError
from pipeline.faces.alignment import CROP_PX, SEEN_PX, as_crop, scale_of
from pipeline.faces.detection import Detector, ImagePyramid
from pipeline.faces.identity import SAME_PERSON, distance, embed_files
from pipeline.faces.measures import BLURRED, Floats, group_near_duplicates, sharpness, thumbnail, yaw_deg
from pipeline.faces.people import require_person
from pipeline.faces.store import FaceStore, StoredFace
from pipeline.media.pictures import read_picture
from pipeline.options import ReviewOptions
from pipeline.types import Embedding
from pipeline.workspace import Workspace, list_pictures, write_bytes

PROFILE_DEG = 40.0  # turned further, one eye is hidden, and the aligned crop is a guess
WITHOUT_STRANGERS = 2  # rounds of leaving out who is unlike the mean of the others


@dataclass(frozen=True)
class Item:
    """One crop.

    Attributes:
        name: of its file.
        tile: JPEG of it, smaller; empty where it cannot be read.
        sharpness: see ``measures.sharpness``.
        yaw_deg: how far it is turned, positive to the right as seen; None where no face was found in it.
        seen_px: side of the square of the footage that the model sees, px; below 64 the crop is enlarged.
        video: where it comes from; empty for a picture of someone's own.
        time: where in the video: seconds, or the number of the frame.
        group: place of the first of its near-duplicates.
        unlike: distance of its embedding from the person's mean; None where it cannot be read.
    """

    name: str
    tile: bytes
    sharpness: float
    yaw_deg: float | None
    seen_px: float
    video: str
    time: float
    group: int
    unlike: float | None

    def doubts(self) -> list[str]:
        """Say why it may be wrong or useless, the gravest first; empty where there is no doubt."""
        if self.unlike is None:
            return ["unreadable"]
        claims = {
            "another person?": self.unlike >= SAME_PERSON,
            "no face?": self.yaw_deg is None,
            "blurred": self.sharpness < BLURRED,
            "profile": self.yaw_deg is not None and abs(self.yaw_deg) > PROFILE_DEG,
            "small": self.seen_px < PICTURE_PX,
        }
        return [doubt for doubt, is_so in claims.items() if is_so]


def unlikeness(embeddings: Mapping[int, Embedding], counts: Mapping[int, int]) -> dict[int, float]:
    """Say how far faces are from the mean of those that are the person's.

    Args:
        embeddings: by group of near-duplicates.
        counts: crops in each group.

    Returns:
        Distance by group. Who is unlike the first mean does not count in the next.
    """
    members: Sequence[int] = list(embeddings)
    apart: dict[int, float] = {}
    for _ in range(1 + WITHOUT_STRANGERS):
        if not members:
            break
        weights = [counts[group] for group in members]
        mean = np.average([embeddings[group] for group in members], axis=0, weights=weights)
        apart = {group: distance(mean, embedding) for group, embedding in embeddings.items()}
        members = [group for group in embeddings if apart[group] < SAME_PERSON]
    return apart


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


TEMPLATE = Path(__file__).with_name("review.html")


def build_page(person: str, items: Sequence[Item], advice: Sequence[str], summary: bytes, workspace: Path) -> str:
    """Build the page.

    Args:
        person: whose crops.
        items: in the order of time.
        advice: what the set lacks, a line each.
        summary: PNG of the summary picture.
        workspace: for the command that sets crops aside.

    Returns:
        HTML. Whatever stands in names is data to the page, never markup.
    """
    facts = {
        "person": person,
        "command": _command(person, workspace),
        "advice": list(advice),
        "summary": _data_url("png", summary),
        "items": [_facts(item) for item in items],
    }
    text = json.dumps(facts).replace("<", "\\u003c")  # no "</script>" inside
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(facts=text)


def _command(person: str, workspace: Path) -> str:
    """The command up to the list's name, which the page adds, as a shell takes it."""
    quote = list2cmdline if os.name == "nt" else shlex.join
    where = [] if workspace == Path("workspace") else ["--workspace", str(workspace)]
    return quote(["python", "cli.py", "people", "discard", person, *where, "--list"])


def _facts(item: Item) -> dict[str, Any]:
    return {
        "name": item.name,
        "tile": _data_url("jpeg", item.tile) if item.tile else "",
        "sharpness": round(item.sharpness, 3),
        "yaw": None if item.yaw_deg is None else round(item.yaw_deg),
        "size": round(item.seen_px),
        "video": item.video,
        "time": round(item.time, 2),
        "group": item.group,
        "unlike": None if item.unlike is None else round(item.unlike, 3),
        "doubts": item.doubts(),
    }


def _data_url(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


READERS = 4  # threads
REVIEW_TILE_PX, TILE_QUALITY = 160, 80
OWN_FACE_PX = 60  # smallest face looked for in pictures that extract did not cut
OWN_CONFIDENCE = 0.9


@dataclass(frozen=True)
class _Source:
    """What the store of a video says of a crop."""

    video: str
    time: float
    face: StoredFace


@dataclass(frozen=True)
class _Looks:
    """What is measured of a crop by itself."""

    tile: bytes
    thumbnail: Floats
    sharpness: float
    seen_px: float
    yaw_deg: float | None


@dataclass(frozen=True)
class ReviewReport:
    """What a review found."""

    page: Path
    picture: Path
    crops: int
    groups: int
    advice: list[str]
    unreadable: list[str]

    def lines(self) -> list[str]:
        """Whether the set is good, and where to see it."""
        return [
            f"{self.crops} crops, {self.groups} that differ",
            *(f"  {line}" for line in self.advice),
            f"page: {self.page} (open it in a browser)",
            f"picture: {self.picture}",
        ]

    def problems(self) -> list[str]:
        """Crops that cannot be read."""
        return [f"{len(self.unreadable)} cannot be read: {join_words(self.unreadable)}"] if self.unreadable else []


def review(options: ReviewOptions, console: Console) -> ReviewReport:
    """Measure a person's crops and write the page and the summary picture.

    Raises:
        NothingToDoError: there is nobody of that name.
        WorkspaceError: the page cannot be written.
    """
    workspace = Workspace(options.workspace)
    require_person(workspace, options.person)
    pictures = list_pictures(workspace.person(options.person))
    items = measure(pictures, _sources(workspace, pictures), console)
    advice = advise(items)
    summary = draw_summary(items, advice)
    page = workspace.review(options.person)
    picture = page.with_suffix(".png")
    write_bytes(picture, summary)
    write_bytes(page, build_page(options.person, items, advice, summary, options.workspace).encode())
    unreadable = [item.name for item in items if item.unlike is None]
    return ReviewReport(page, picture, len(items), len(different(items)), advice, unreadable)


def measure(pictures: Sequence[Path], sources: Mapping[str, _Source], console: Console) -> list[Item]:
    """Look at every crop by itself, then at one of each group of near-duplicates to tell whose it is.

    Args:
        pictures: the crops.
        sources: of those that extract cut, by file name without suffix.
        console: shows how far it is.

    Returns:
        In the order of video and time, pictures of someone's own last.
    """
    ordered = sorted(pictures, key=lambda path: _place(path, sources))
    detector = Detector(OWN_FACE_PX, OWN_CONFIDENCE)
    looks: list[_Looks | None] = []
    with ThreadPoolExecutor(READERS) as pool, console.bar("look at crops", len(ordered), "crop") as bar:
        for one in pool.map(lambda path: _look(path, sources.get(path.stem), detector), ordered):
            looks.append(one)
            bar.advance()
    readable = [place for place, one in enumerate(looks) if one is not None]
    groups = group_near_duplicates(np.array([one.thumbnail for one in looks if one is not None]))
    group_of = {place: readable[first] for place, first in zip(readable, groups, strict=True)}
    apart = _unlike(ordered, group_of, console)
    return [
        _item(path, one, sources.get(path.stem), group_of.get(place, place), apart)
        for place, (path, one) in enumerate(zip(ordered, looks, strict=True))
    ]


def _unlike(paths: Sequence[Path], group_of: Mapping[int, int], console: Console) -> dict[int, float]:
    counts = Counter(group_of.values())
    embeddings = {}
    with console.bar("tell whose", len(counts), "face") as bar:
        for group, embedding in zip(counts, embed_files([paths[group] for group in counts]), strict=True):
            embeddings[group] = embedding
            bar.advance()
    return unlikeness(embeddings, counts)


def _sources(workspace: Workspace, pictures: Sequence[Path]) -> dict[str, _Source]:
    """Find what the stores know of crops, by file name without suffix."""
    stems = {picture.stem for picture in pictures}
    sources = {}
    for path in workspace.stores():
        with FaceStore(path) as store:
            rate = store.average_rate() or Fraction(1)
            for face in store.each_face():
                if face.crop is not None and (stem := Path(face.crop).stem) in stems:
                    sources[stem] = _Source(path.parent.name, float(face.frame / rate), face)
    return sources


def _place(path: Path, sources: Mapping[str, _Source]) -> tuple[bool, str, float, str]:
    source = sources.get(path.stem)
    return (True, "", 0.0, path.name) if source is None else (False, source.video, source.time, path.name)


def _look(path: Path, source: _Source | None, detector: Detector) -> _Looks | None:
    """Measure a crop; None where it cannot be read."""
    try:
        picture = read_picture(path)
    except MediaError:
        return None
    crop = as_crop(picture)
    tile = cv2.resize(crop, (REVIEW_TILE_PX, REVIEW_TILE_PX), interpolation=cv2.INTER_AREA)
    if source is None:
        faces = detector.detect([ImagePyramid(crop)])[0]
        yaw, seen = yaw_deg(faces[0].landmarks) if faces else None, min(picture.shape[:2]) * SEEN_PX / CROP_PX
    else:
        yaw, seen = yaw_deg(source.face.face.landmarks), SEEN_PX / scale_of(source.face.crop_from_frame)
    jpeg = cv2.imencode(".jpg", tile, [cv2.IMWRITE_JPEG_QUALITY, TILE_QUALITY])[1].tobytes()
    return _Looks(jpeg, thumbnail(crop), sharpness(crop), seen, yaw)


def _item(path: Path, looks: _Looks | None, source: _Source | None, group: int, apart: Mapping[int, float]) -> Item:
    video, time = (source.video, source.time) if source else ("", 0.0)
    if looks is None:
        return Item(path.name, b"", 0.0, None, 0.0, video, time, group, None)
    return Item(path.name, looks.tile, looks.sharpness, looks.yaw_deg, looks.seen_px, video, time, group, apart[group])
