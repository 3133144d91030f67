"""The command review: a page to sort and clean a person's crops, with advice on what the set lacks."""

import base64
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

import cv2
import numpy as np

from models import PICTURE_PX
from pipeline.console import Console, Report, join_words
from pipeline.errors import MediaError, command
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

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PAGE = Path(__file__).with_name("review.html")
READER_THREADS = 4
TILE_PX, TILE_QUALITY = 160, 80
OWN_PICTURE_MIN_FACE_PX, OWN_PICTURE_MIN_CONFIDENCE = 60, 0.9  # for pictures that are not from extract
PROFILE_DEG = 40.0  # beyond it one eye is hidden, and the alignment is a guess
OUTLIER_ROUNDS = 2  # in which faces far from the mean of the others are left out
YAW_EDGES_DEG = (-40.0, -25.0, -10.0, 10.0, 25.0, 40.0)
YAW_NAMES = ("left profile", "left", "half left", "frontal", "half right", "right", "right profile")
NEEDED_YAWS = ("half left", "frontal", "half right")  # talking heads turn that far
GOOD_COUNT, MIN_COUNT = 500, 100  # distinct faces: good, and enough for a start
GOOD_YAW_COUNT = 25  # distinct faces, of each needed yaw
NOTABLE_SHARE = 0.1  # of the set: from here on a doubt gets a line of advice
INK, GREY, BLUE, RED = "#1c1c1c", "#777777", "#2a6fdb", "#cc3333"
SHARPNESS_EDGES = (0.0, 0.1, 0.2, 0.35, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2, 1.4)
SIZE_EDGES_PX = (0, 32, 64, 96, 128, 192, 256, 384, 512, 768, 1024)

Source = tuple[str, float, StoredFace]
"""Video, time in it in seconds (for pictures the number of the picture), and the record of a crop's face."""


@dataclass(frozen=True)
class Item:
    """One crop.

    Attributes:
        name: of its file.
        tile: small JPEG of it; empty if it cannot be read.
        sharpness: see ``measures.sharpness``.
        yaw_deg: positive to the right as seen; None if no face was found.
        seen_px: side of the square of the footage that the model sees; below 64 the crop is enlarged.
        video: where it comes from; empty for the user's own picture.
        time: in seconds, or the number of the picture.
        group: index of the first of its near-duplicates.
        distance: of its embedding from the person's mean; None if it cannot be read.
    """

    name: str
    tile: bytes
    sharpness: float
    yaw_deg: float | None
    seen_px: float
    video: str
    time: float
    group: int
    distance: float | None

    def doubts(self) -> list[str]:
        """Reasons why the crop may be wrong or useless, most serious first."""
        if self.distance is None:
            return ["unreadable"]
        claims = {
            "another person?": self.distance >= SAME_PERSON,
            "no face?": self.yaw_deg is None,
            "blurred": self.sharpness < BLURRED,
            "profile": self.yaw_deg is not None and abs(self.yaw_deg) > PROFILE_DEG,
            "small": self.seen_px < PICTURE_PX,
        }
        return [doubt for doubt, is_so in claims.items() if is_so]


def review(options: ReviewOptions, console: Console) -> Report:
    """Measure a person's crops; write the page and the summary picture.

    Raises:
        NothingToDoError: there is no such person.
        WorkspaceError: the page cannot be written.
    """
    workspace = Workspace(options.workspace)
    require_person(workspace, options.person)
    pictures = list_pictures(workspace.person(options.person))
    items = measure(pictures, _find_sources(workspace, pictures), console)
    advice = advise(items)
    summary = draw_summary(items, advice)
    page = workspace.review(options.person)
    picture = page.with_suffix(".png")
    write_bytes(picture, summary)
    write_bytes(page, build_page(options.person, items, advice, summary, options.workspace).encode())
    unreadable, groups = [item.name for item in items if item.distance is None], len(distinct(items))
    return Report(
        [
            f"{len(items)} crops, {groups} of them distinct",
            *(f"  {line}" for line in advice),
            f"page: {page} (open it in a browser)",
            f"picture: {picture}",
        ],
        [f"{len(unreadable)} cannot be read: {join_words(unreadable)}"] if unreadable else [],
        {
            "page": page,
            "picture": picture,
            "crops": len(items),
            "groups": groups,
            "advice": advice,
            "unreadable": unreadable,
        },
    )


def _find_sources(workspace: Workspace, pictures: Sequence[Path]) -> dict[str, Source]:
    """Find the records of crops, by file name without suffix."""
    stems, sources = {picture.stem for picture in pictures}, {}
    for path in workspace.stores():
        with FaceStore(path) as store:
            rate = store.average_rate() or Fraction(1)
            for face in store.each_face():
                if face.crop is not None and (stem := Path(face.crop).stem) in stems:
                    sources[stem] = path.parent.name, float(face.frame / rate), face
    return sources


def measure(pictures: Sequence[Path], sources: Mapping[str, Source], console: Console) -> list[Item]:
    """Measure each crop, and the identity of one crop of each group of near-duplicates.

    Returns:
        Items in order of video and time; the user's own pictures last.
    """

    def order(path: Path) -> tuple[bool, str, float, str]:
        video, time = sources[path.stem][:2] if path.stem in sources else ("", 0.0)
        return path.stem not in sources, video, time, path.name

    paths = sorted(pictures, key=order)
    detector = Detector(OWN_PICTURE_MIN_FACE_PX, OWN_PICTURE_MIN_CONFIDENCE)
    measured: list[tuple[Item, Floats | None]] = []
    with ThreadPoolExecutor(READER_THREADS) as pool, console.bar("measure crops", len(paths), "crop") as bar:
        for result in pool.map(lambda path: _measure_crop(path, sources.get(path.stem), detector), paths):
            measured.append(result)
            bar.advance()
    readable = [index for index, (_, small) in enumerate(measured) if small is not None]
    firsts = group_near_duplicates(np.array([small for _, small in measured if small is not None]))
    group_of = {index: readable[first] for index, first in zip(readable, firsts, strict=True)}
    counts, embeddings = Counter(group_of.values()), {}
    with console.bar("compare identities", len(counts), "face") as bar:
        for group, embedding in zip(counts, embed_files([paths[group] for group in counts]), strict=True):
            embeddings[group] = embedding
            bar.advance()
    distances = distances_from_mean(embeddings, counts)
    return [
        replace(item, group=group_of.get(index, index), distance=distances.get(group_of.get(index, -1)))
        for index, (item, _) in enumerate(measured)
    ]


def _measure_crop(path: Path, source: Source | None, detector: Detector) -> tuple[Item, Floats | None]:
    """Measure a crop; group and distance are set later. The thumbnail is None if it cannot be read."""
    video, time = source[:2] if source else ("", 0.0)
    try:
        picture = read_picture(path)
    except MediaError:
        return Item(path.name, b"", 0.0, None, 0.0, video, time, 0, None), None
    crop = as_crop(picture)
    if source is None:
        (faces,) = detector.detect([ImagePyramid(crop)])
        yaw, seen_px = yaw_deg(faces[0].landmarks) if faces else None, min(picture.shape[:2]) * SEEN_PX / CROP_PX
    else:
        stored = source[2]
        yaw, seen_px = yaw_deg(stored.face.landmarks), SEEN_PX / scale_of(stored.crop_from_frame)
    tile = cv2.resize(crop, (TILE_PX, TILE_PX), interpolation=cv2.INTER_AREA)
    jpeg = cv2.imencode(".jpg", tile, [cv2.IMWRITE_JPEG_QUALITY, TILE_QUALITY])[1].tobytes()
    return Item(path.name, jpeg, sharpness(crop), yaw, seen_px, video, time, 0, None), thumbnail(crop)


def distances_from_mean(embeddings: Mapping[int, Embedding], counts: Mapping[int, int]) -> dict[int, float]:
    """Measure how far faces are from the person's mean, by group of near-duplicates.

    Args:
        embeddings: by group.
        counts: crops in each group, its weight in the mean. Faces far from the mean are left out of the next one.
    """
    members, distances = list(embeddings), dict[int, float]()
    for _ in range(1 + OUTLIER_ROUNDS):
        if not members:
            break
        weights = [counts[group] for group in members]
        mean = np.average([embeddings[group] for group in members], axis=0, weights=weights)
        distances = {group: distance(mean, embedding) for group, embedding in embeddings.items()}
        members = [group for group in embeddings if distances[group] < SAME_PERSON]
    return distances


def yaw_name(item: Item) -> str | None:
    """Name the direction a face looks in, as seen in the picture; None if no face was found."""
    return None if item.yaw_deg is None else YAW_NAMES[int(np.searchsorted(YAW_EDGES_DEG, item.yaw_deg))]


def distinct(items: Sequence[Item]) -> list[Item]:
    """Keep the sharpest of each group of near-duplicates; unreadable crops are left out."""
    best: dict[int, Item] = {}
    for item in items:
        if item.distance is not None and (item.group not in best or item.sharpness > best[item.group].sharpness):
            best[item.group] = item
    return list(best.values())


def advise(items: Sequence[Item]) -> list[str]:
    """Say whether the set is good enough to train on, and what to add or to remove, a line each."""
    kept = distinct(items)
    count = len(kept)
    if count < MIN_COUNT:
        lines = [
            f"too few to train on: {count} distinct faces; {MIN_COUNT} are a start, {GOOD_COUNT} and more are good"
        ]
    elif count < GOOD_COUNT:
        lines = [f"enough for a start: {count} distinct faces; {GOOD_COUNT} and more are good"]
    else:
        lines = [f"enough to train on: {count} distinct faces"]
    yaws = Counter(map(yaw_name, kept))
    for name in NEEDED_YAWS:
        if yaws[name] < GOOD_YAW_COUNT:
            lines.append(f"add faces seen {name} (there are {yaws[name]}; {GOOD_YAW_COUNT} and more are good)")
    doubts = Counter(doubt for item in items for doubt in item.doubts())
    if doubts["another person?"]:
        lines.append(f"check the {doubts['another person?']} that may be another person")
    for doubt, remedy in (
        ("blurred", "add sharper footage"),
        ("small", f"they have fewer than {PICTURE_PX} px of the footage; add close-ups"),
        ("no face?", "check them"),
    ):
        if doubts[doubt] > NOTABLE_SHARE * len(items):
            lines.append(f"{doubts[doubt]} of {len(items)} are doubtful, '{doubt}': {remedy}")
    if doubts["unreadable"]:
        lines.append(f"{doubts['unreadable']} cannot be read: set them aside")
    return lines


def draw_summary(items: Sequence[Item], advice: Sequence[str]) -> bytes:
    """Draw the advice, counts by yaw with an example of each, sharpness and resolution as a PNG, 1120 px wide."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - takes half a second to import
    from PIL import Image  # noqa: PLC0415

    figure = Figure((11.2, 6.5 + 0.25 * len(advice)), dpi=100, layout="constrained")
    figure.suptitle("\n".join(advice), x=0.01, ha="left", color=INK, fontsize=13)
    grid = figure.add_gridspec(3, 2 * len(YAW_NAMES), height_ratios=(1.5, 1.5, 2))
    kept = distinct(items)
    by_yaw = {name: [item for item in kept if yaw_name(item) == name] for name in YAW_NAMES}
    for index, members in enumerate(by_yaw.values()):
        axes = figure.add_subplot(grid[0, 2 * index : 2 * index + 2], xticks=[], yticks=[], box_aspect=1)
        if members:
            example = max(members, key=lambda item: item.sharpness)
            axes.imshow(Image.open(BytesIO(example.tile)))
        else:
            axes.text(0.5, 0.5, "none", ha="center", va="center", color=GREY)
    counts = [len(members) for members in by_yaw.values()]
    poor = [name in NEEDED_YAWS and len(members) < GOOD_YAW_COUNT for name, members in by_yaw.items()]
    title = "distinct faces by direction, as seen (red: too few)"
    _draw_bars(figure.add_subplot(grid[1, :]), title, YAW_NAMES, counts, poor)
    size_title = f"size in the footage, px (red: less than the {PICTURE_PX} px of the model)"
    for columns, title, values, edges, least in (
        (slice(6), "sharpness (red: blurred)", [item.sharpness for item in kept], SHARPNESS_EDGES, BLURRED),
        (slice(7, 14), size_title, [item.seen_px for item in kept], SIZE_EDGES_PX, PICTURE_PX),
    ):
        counts = np.histogram(values, [*edges, np.inf])[0].tolist()
        names, poor = [f"{edge:g}" for edge in edges], [edge < least for edge in edges]
        _draw_bars(figure.add_subplot(grid[2, columns]), title, names, counts, poor)
    file = BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def _draw_bars(axes: "Axes", title: str, names: Sequence[str], counts: Sequence[int], poor: Sequence[bool]) -> None:
    bars = axes.bar(names, counts, color=[RED if is_poor else BLUE for is_poor in poor])
    axes.bar_label(bars, [str(count or "") for count in counts], color=INK)
    axes.set_title(title, loc="left", color=GREY, fontsize=10)
    axes.set_frame_on(False)
    axes.yaxis.set_visible(False)
    axes.margins(x=0.01, y=0.15)
    axes.tick_params(length=0, labelsize=9)
    for label, is_poor in zip(axes.get_xticklabels(), poor, strict=True):
        label.set_color(RED if is_poor else INK)


def build_page(person: str, items: Sequence[Item], advice: Sequence[str], summary: bytes, workspace: Path) -> str:
    """Build the page: one HTML file that needs no network. Names are data in it, never markup."""
    where = [] if workspace == Path("workspace") else ["--workspace", str(workspace)]
    facts = {
        "person": person,
        "command": command("people", "discard", person, *where, "--list"),  # the page adds the file
        "advice": list(advice),
        "summary": _data_url("png", summary),
        "items": [
            {
                **asdict(item),
                "tile": _data_url("jpeg", item.tile) if item.tile else "",
                "sharpness": round(item.sharpness, 3),
                "yaw_deg": None if item.yaw_deg is None else round(item.yaw_deg),
                "seen_px": round(item.seen_px),
                "time": round(item.time, 2),
                "distance": None if item.distance is None else round(item.distance, 3),
                "doubts": item.doubts(),
            }
            for item in items
        ],
    }
    text = json.dumps(facts).replace("<", "\\u003c")  # no "</script>" inside
    return Template(PAGE.read_text(encoding="utf-8")).substitute(facts=text)


def _data_url(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
