"""The command preview: a sheet of frames as convert would make them, to choose a look."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import cv2
import numpy as np

from pipeline.console import Console, Report
from pipeline.converting.compose import FaceSwap, compose, draw_faces, visible_mask
from pipeline.converting.prepare import Extract, Prepared, prepare
from pipeline.converting.timeline import PictureSet, Timeline
from pipeline.errors import NothingToDoError, RecastError, as_recast_error
from pipeline.faces.alignment import SEEN, cut_crop
from pipeline.faces.footage import name_footage, pictures_at, result_name
from pipeline.faces.measures import spread_evenly
from pipeline.faces.mesh import has_mesh
from pipeline.media.canvas import Canvas, PictureCanvas, PixelFormat, Surface
from pipeline.media.pictures import read_picture, write_picture
from pipeline.media.reader import VideoReader
from pipeline.options import Blend, ColorMatch, Kept, Look, MaskShape, PreviewOptions
from pipeline.provenance.certificate import own_identity
from pipeline.provenance.credentials import Disclosure, sign
from pipeline.types import Image, Rect
from pipeline.workspace import Workspace, atomic_path, extend_name

COMPARED: dict[str, tuple[Any, ...]] = {
    "mask": get_args(MaskShape),
    "paint-over": (False, True),
    "keep": get_args(Kept),
    "color": get_args(ColorMatch),
    "blend": get_args(Blend),
    "match-grain": (False, True),
    "erode": (0.0, 5.0, 10.0, 15.0),
    "feather": (5.0, 14.0, 25.0, 40.0),
    "sharpen": (0.0, 0.5, 1.0, 2.0),
    "opacity": (0.5, 0.75, 1.0),
    "scale": (0.9, 0.95, 1.0, 1.05, 1.1),
}
"""Values shown side by side, by option."""

SHOWN_PX = 256  # side of each picture on the sheet: that of a crop
TITLE_PX = 24  # height of the line of titles


def preview(options: PreviewOptions, extract: Extract, console: Console) -> Report:
    """Write a sheet for each video; one that fails is reported and does not stop the rest."""
    needs_finder = options.compare in ("paint-over", "keep")
    prepared = prepare(replace(options, paint_over=False) if needs_finder else options, extract, console)
    written, failed, incomplete = list[Path](), list(prepared.problems), list[str]()
    for path in prepared.footage:
        try:
            written.append(_write_sheet(path, options, prepared, incomplete, console))
        except (RecastError, OSError, UnicodeError) as error:
            failed.append(str(as_recast_error(error)))
    facts: dict[str, object] = {"written": written, "failed": failed, "incomplete": incomplete}
    return Report([f"look at {path}" for path in written], [*failed, *incomplete], facts)


def _write_sheet(
    path: Path, options: PreviewOptions, prepared: Prepared, incomplete: list[str], console: Console
) -> Path:
    workspace, looks = Workspace(options.workspace), {"result": prepared.look}
    if options.compare is not None:
        name = options.compare.replace("-", "_")
        missing = {"auto", *([] if has_mesh() else ["mesh"]), *([] if prepared.swapper.draws_masks else ["learned"])}
        values = [value for value in COMPARED[options.compare] if value not in missing]
        looks = {f"{options.compare} {value}": replace(prepared.look, **{name: value}) for value in values}
    choose_frames = _frames_of_video if pictures_at(path) is None else _frames_of_pictures
    problems, rows = list[str](), []
    with console.bar(f"preview {path.name}", None, "frame") as bar:
        for canvas, swap in choose_frames(path, workspace, options, prepared, problems):
            rows.append(_draw_row(canvas, swap, prepared, looks))
            bar.advance()
    if not rows:
        raise NothingToDoError(f"no frame of {path} shows a face to swap")
    titles = ["original", *(["drawn", "mask"] if options.compare is None else []), *looks]
    sheet = np.vstack([np.hstack([_draw_title(title) for title in titles]), *(np.hstack(row) for row in rows)])
    suffix = "" if options.compare is None else f"_{options.compare}"
    final = workspace.previews / f"{extend_name(result_name(workspace, path), options.swap_name + suffix)}.png"
    with atomic_path(final) as temporary:
        write_picture(temporary, sheet)
        try:  # without the original's checksum: a long video would take longer than its sheet
            sign(temporary, Disclosure(options.model_name, {}), own_identity(), path, reads_original=False)
        except RecastError as error:
            console.note(f"{final} is not signed: {str(error).partition(';')[0]}")
    incomplete += problems
    console.picture(final)
    return final


def _frames_of_video(
    path: Path, workspace: Workspace, options: PreviewOptions, prepared: Prepared, problems: list[str]
) -> Iterator[tuple[Canvas, FaceSwap]]:
    """Choose frames spread evenly over the head's yaw, each with the face to draw."""
    with VideoReader(path) as reader:
        timeline = Timeline(workspace, name_footage(workspace, path), reader.info, prepared.people)
        problems += [timeline.missing] if timeline.missing else []
        pixels = PixelFormat.for_video(reader.info)
        frames = timeline.frames_by_yaw()
        for number in (frames[index] for index in spread_evenly(len(frames), options.frames)):
            frame = next(reader.frames(number, timeline.timestamps[number]))
            yield Canvas(frame.native, pixels), timeline.swaps(number, number + 1)[number][0]


def _frames_of_pictures(
    path: Path, workspace: Workspace, options: PreviewOptions, prepared: Prepared, problems: list[str]
) -> Iterator[tuple[PictureCanvas, FaceSwap]]:
    """Choose pictures spread evenly from first to last, each with the face to draw."""
    stills = PictureSet(workspace, path, prepared.people)
    problems += [f"{path}: {stills.unreadable}"] if stills.unreadable else []
    problems += [stills.missing] if stills.missing else []
    indices = sorted(stills.swaps)
    for index in (indices[position] for position in spread_evenly(len(indices), options.frames)):
        yield PictureCanvas(read_picture(stills.pictures[index])), stills.swaps[index][0]


def _draw_row(original: Surface, swap: FaceSwap, prepared: Prepared, looks: dict[str, Look]) -> list[Image]:
    def crop_of(canvas: Surface) -> Image:
        height, width = canvas.size_hw
        return cut_crop(canvas.part(Rect(0, 0, width, height)), swap.crop_from_frame, SHOWN_PX)

    row = [crop_of(original)]
    for title, look in looks.items():
        (faces,) = draw_faces([original], [[swap]], prepared.swapper, look)
        if title == "result":
            drawn, mask = np.full((SHOWN_PX, SHOWN_PX, 3), 128, np.uint8), np.zeros((SHOWN_PX, SHOWN_PX), np.float32)
            for face in faces:
                drawn[SEEN, SEEN], mask = face.picture, visible_mask(face, look, row[0])
            row += [drawn, np.repeat((mask[..., None] * 255).round().astype(np.uint8), 3, axis=2)]
        row.append(crop_of(compose(original.copy(), faces, look)))
    return row


def _draw_title(title: str) -> Image:
    line = np.zeros((TITLE_PX, SHOWN_PX, 3), np.uint8)
    return np.asarray(cv2.putText(line, title, (6, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1, cv2.LINE_AA))
