"""Show a person's crops on a page to sort and clean them by, and say what the set lacks."""

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from pipeline.errors import MediaError
from pipeline.faces.alignment import CROP_PX, SEEN_PX, as_crop, scale_of
from pipeline.faces.detection import Detector
from pipeline.faces.identity import embed_files
from pipeline.faces.levels import Levels
from pipeline.faces.measures import Floats, group_near_duplicates, sharpness, thumbnail, yaw_deg
from pipeline.faces.people import require_person
from pipeline.faces.records import StoredFace
from pipeline.faces.store import FaceStore
from pipeline.media.pictures import read_picture
from pipeline.options import ReviewOptions
from pipeline.progress import Console
from pipeline.report import some
from pipeline.reviewing.items import Item, unlikeness
from pipeline.reviewing.page import build_page
from pipeline.reviewing.summary import advise, different, draw_summary
from pipeline.workspace import Workspace, list_pictures, write_bytes

READERS = 4  # threads
TILE_PX, TILE_QUALITY = 160, 80
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
        return [f"{len(self.unreadable)} cannot be read: {some(self.unreadable)}"] if self.unreadable else []


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
    tile = cv2.resize(crop, (TILE_PX, TILE_PX), interpolation=cv2.INTER_AREA)
    if source is None:
        faces = detector.detect([Levels(crop)])[0]
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
