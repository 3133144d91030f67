"""A picture that shows some frames as convert would make them, so that a person can choose by looking."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from models.checkpoint import Model
from pipeline.console import Console
from pipeline.converting.compose import Swap, mask_of, new_faces, put_in
from pipeline.converting.prepare import look_of, make_swapper
from pipeline.converting.stills import Stills
from pipeline.converting.swapper import Swapper
from pipeline.converting.timeline import Timeline
from pipeline.errors import NothingToDoError, RecastError, as_recast_error
from pipeline.faces.alignment import SEEN, cut_crop
from pipeline.faces.crops import describe_missing, find_missing
from pipeline.faces.footage import name_footage, pictures_at, result_name
from pipeline.faces.mesh import has_mesh
from pipeline.faces.store import FaceStore
from pipeline.media.canvas import Canvas, PictureCanvas, PixelFormat
from pipeline.media.pictures import read_picture, write_picture
from pipeline.media.reader import VideoReader
from pipeline.options import Look, PreviewOptions
from pipeline.types import Image, Rect
from pipeline.workspace import Workspace, extend_name

COMPARED: dict[str, tuple[Any, ...]] = {
    "mask": ("outline", "mesh", "ellipse", "box"),
    "color": ("none", "mean", "reinhard", "lab-hist"),
    "blend": ("feather", "poisson"),
    "match-grain": (False, True),
    "erode": (0.0, 5.0, 10.0, 15.0),
    "feather": (5.0, 14.0, 25.0, 40.0),
    "sharpen": (0.0, 0.5, 1.0, 2.0),
    "opacity": (0.5, 0.75, 1.0),
    "scale": (0.9, 0.95, 1.0, 1.05, 1.1),
}
"""Values that are shown side by side, by option."""

SHOWN_PX = 256  # side of each picture on the sheet: a crop as it is
HEAD_PX = 24  # height of the line of words above


@dataclass
class PreviewReport:
    """What a preview run wrote."""

    written: list[Path] = field(default_factory=list)
    failed: list[RecastError] = field(default_factory=list)
    incomplete: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Where the pictures are."""
        return [f"look at {path}" for path in self.written]

    def problems(self) -> list[str]:
        """The videos of which none could be made, and what was left out because its crops are lost."""
        return [*map(str, self.failed), *self.incomplete]


def preview(options: PreviewOptions, model: Model, videos: Sequence[Path], console: Console) -> PreviewReport:
    """Write a sheet for each video; one that fails is reported and does not stop the others."""
    swapper, report = make_swapper(options, model, console), PreviewReport()
    for path in videos:
        try:
            report.written.append(_preview_video(path, options, swapper, console))
            report.incomplete += _problems(path, options)
        except (RecastError, OSError, UnicodeError) as error:
            report.failed.append(as_recast_error(error))
    return report


def _preview_video(path: Path, options: PreviewOptions, swapper: Swapper, console: Console) -> Path:
    workspace, looks = Workspace(options.workspace), _looks(options)
    rows, faces = [], _faces_of_video if pictures_at(path) is None else _faces_of_pictures
    with console.bar(f"preview {path.name}", None, "frame") as bar:
        for canvas, swap in faces(path, options):
            rows.append(_row(canvas, swap, swapper, looks))
            bar.advance()
    if not rows:
        raise NothingToDoError(f"no frame of {path} shows a face to swap")
    words = ["original", *(["drawn", "mask"] if options.compare is None else []), *looks]
    sheet = np.vstack([np.hstack([_words(text) for text in words]), *(np.hstack(row) for row in rows)])
    compared = "" if options.compare is None else f"_{options.compare}"
    final = workspace.previews / f"{extend_name(result_name(workspace, path), options.swap_name + compared)}.png"
    write_picture(final, sheet)
    return final


def _problems(path: Path, options: PreviewOptions) -> list[str]:
    """Say which pictures could not be read, and which faces stay as they are because their crops are lost."""
    workspace = Workspace(options.workspace)
    video = name_footage(workspace, path)
    with FaceStore(workspace.store(video)) as store:
        missing = describe_missing(find_missing(store, workspace, options.people()), video, path)
        lost = store.fact("lost") if path.is_dir() else None
    return [*([f"{path}: {lost}"] if lost else []), *([missing] if missing else [])]


def _faces_of_video(path: Path, options: PreviewOptions) -> Iterator[tuple[Canvas, Swap]]:
    """Frames spread over how far the head is turned, with the face to draw."""
    workspace = Workspace(options.workspace)
    with VideoReader(path) as reader:
        film = Timeline(workspace, name_footage(workspace, path), reader.info, options.people())
        pixels = PixelFormat.for_video(reader.info)
        for number in _spread(film.turned(), options.frames):
            frame = next(reader.frames(number, film.moment(number)))
            yield Canvas(frame.native, pixels), film.swaps(number, number + 1)[number][0]


def _faces_of_pictures(path: Path, options: PreviewOptions) -> Iterator[tuple[PictureCanvas, Swap]]:
    """Pictures from first to last, with the face to draw."""
    stills = Stills(Workspace(options.workspace), path, options.people())
    for place in _spread(sorted(stills.swaps), options.frames):
        yield PictureCanvas(read_picture(stills.pictures[place])), stills.swaps[place][0]


def _spread(numbers: Sequence[int], count: int) -> list[int]:
    places = np.linspace(0, len(numbers) - 1, min(count, len(numbers))).round().astype(int)
    return [numbers[place] for place in places]


def _looks(options: PreviewOptions) -> dict[str, Look]:
    """The looks to show, by what is written above them."""
    chosen = look_of(options)
    if options.compare is None:
        return {"result": chosen}
    name = options.compare.replace("-", "_")
    values = [value for value in COMPARED[options.compare] if value != "mesh" or has_mesh()]
    return {f"{options.compare} {value}": replace(chosen, **{name: value}) for value in values}


def _row(original: Canvas | PictureCanvas, swap: Swap, swapper: Swapper, looks: dict[str, Look]) -> list[Image]:
    def crop_of(canvas: Canvas | PictureCanvas) -> Image:
        height, width = canvas.size_hw
        return cut_crop(canvas.part(Rect(0, 0, width, height)), swap.crop_from_frame, SHOWN_PX)

    row = [crop_of(original)]
    for name, look in looks.items():
        faces = new_faces([original], [[swap]], swapper, look)[0]
        if name == "result":
            drawn, mask = np.full((SHOWN_PX, SHOWN_PX, 3), 128, np.uint8), np.zeros((SHOWN_PX, SHOWN_PX), np.float32)
            for face in faces:
                drawn[SEEN, SEEN], mask = face.picture, mask_of(face, look)
            row += [drawn, np.repeat((mask[..., None] * 255).round().astype(np.uint8), 3, axis=2)]
        canvas = original.copy()
        put_in(canvas, faces, look)
        row.append(crop_of(canvas))
    return row


def _words(text: str) -> Image:
    line = np.zeros((HEAD_PX, SHOWN_PX, 3), np.uint8)
    return np.asarray(cv2.putText(line, text, (6, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1, cv2.LINE_AA))
