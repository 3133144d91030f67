"""Still pictures to convert: which faces are to be drawn in each, and the pictures as surfaces to draw on."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pipeline.converting.compose import Swap, new_faces, put_in, put_masks_in
from pipeline.converting.label import draw_label
from pipeline.converting.swapper import Swapper
from pipeline.converting.timeline import whose_faces
from pipeline.faces.crops import describe_missing, find_missing
from pipeline.faces.footage import name_footage, pictures_at, recorded_frames, result_name
from pipeline.faces.store import FaceStore
from pipeline.media.canvas import PictureCanvas
from pipeline.options import Look, ResultView
from pipeline.types import Image
from pipeline.workspace import Workspace


class Stills:
    """A picture, or those of a folder.

    Args:
        workspace: where their faces are recorded.
        path: of the picture or folder.
        people: whose face becomes whose.

    Attributes:
        pictures: the files, in order.
        swaps: what to draw, by place of the picture; those without are not in it.
        missing: what to say of faces that stay as they are because their crops are lost; None where there are none.
        lost: which pictures could not be read, in words; None where all could.

    Raises:
        NothingToDoError: none of the people is in any of them.
    """

    def __init__(self, workspace: Workspace, path: Path, people: Mapping[str, str]) -> None:
        self.pictures = pictures_at(path) or []
        self.name = result_name(workspace, path)
        video = name_footage(workspace, path)
        self.swaps: dict[int, tuple[Swap, ...]] = {}
        with FaceStore(workspace.store(video)) as store:
            self.lost: str | None = store.fact("lost") if path.is_dir() else None  # one picture of a folder was read
            shown = {number: place for place, number in enumerate(recorded_frames(store, self.pictures))}
            missing = [crop for crop in find_missing(store, workspace, people) if crop.frame in shown]
            self.missing = describe_missing(missing, video, path)
            chosen = whose_faces(store, workspace, video, people)
            for stored in store.each_face():
                if stored.frame in shown and (stored.frame, stored.track) in chosen:
                    swap = Swap(stored.crop_from_frame, chosen[stored.frame, stored.track], stored.track)
                    place = shown[stored.frame]
                    self.swaps[place] = (*self.swaps.get(place, ()), swap)


def draw_still(image: Image, swaps: tuple[Swap, ...], swapper: Swapper, look: Look, shown: ResultView) -> Image:
    """Draw the new faces of one picture.

    Args:
        image: (H, W, 3) BGR.
        swaps: what to draw.
        swapper: the model.
        look: how the new faces are put in.
        shown: what the result shows.
    """
    canvas = PictureCanvas(image)
    faces = new_faces([canvas], [swaps], swapper, look)[0]
    if shown.kind == "mask":
        black = PictureCanvas(np.zeros_like(image))
        put_masks_in(black, faces, look)
        return black.image
    put_in(canvas, faces, look)
    if shown.label:
        draw_label(canvas, shown.label)
    return np.hstack([image, canvas.image]) if shown.kind == "beside" else canvas.image
