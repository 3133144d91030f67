"""How well convert finds a hand in front of a face: a photographed hand, laid over faces at known places.

    python -m benchmarks.occlusions

``RECAST_TEST_DATA`` names the folder of clips. The hands are cut out of a clip of a man who signs; they are not what
the network has learned from. The network that comes with Recast has not seen these faces; then it learns on them for
five minutes (``train --only-mask``), and is measured again. Both are also measured on frames with real things in front
of faces, labelled by hand (occlusion_labels.json).
"""

import json
import sys
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch

from benchmarks.measuring import DATA, Row, as_markdown, evenly_spread, require_clips
from benchmarks.quality import run_shown
from benchmarks.swap_measures import sheet
from models.segmenter import OCCLUSION_PX, OcclusionNet, load_segmenter
from pipeline.converting.masks import face_mask, mesh_mask
from pipeline.faces.alignment import CROP_PX, SEEN, SEEN_PX, cut_crop, shrink_seen
from pipeline.faces.mesh import face_outline
from pipeline.faces.occlusions import OcclusionFinder
from pipeline.media.pictures import read_picture, write_picture
from pipeline.media.reader import VideoReader
from pipeline.options import Look
from pipeline.types import Image, Mask
from pipeline.workspace import Workspace, list_pictures

SIGNING = DATA / "hard" / "16_full_range_hands_asl.mkv"
HANDS_FRAME, HANDS = 50, (slice(235, 335), slice(225, 380))  # clasped before a dark sweater
SKIN_CR, DARK = (140, 180), 60  # of YCrCb
CLIPS = {
    "womA": DATA / "pairs" / "womA_lp_d6.mp4",
    "womB": DATA / "pairs" / "womB_lp_d10.mp4",
    "manA": DATA / "pairs" / "manA_lp_d9.mp4",
    "manB": DATA / "pairs" / "manB_lp_d13.mp4",
    "signing": SIGNING,
}
FACES, SHOWN = 40, 8  # of each person
LABELS = Path(__file__).parent / "occlusion_labels.json"
SHARP = Look(mask="mesh", feather=0)
MIN_COVERED = 0.005  # of a face, that counts as something in front
WORKSPACE = Workspace(Path("benchmarks/results/occlusions"))


def main() -> int:
    """Measure; return the exit code."""
    require_clips()
    for person, clip in CLIPS.items():
        run_shown(WORKSPACE.root, "extract", clip, "--person", person)
    measure("as it comes", load_segmenter())
    run_shown(WORKSPACE.root, "train", "--only-mask")
    measure("learned on these people", load_segmenter(WORKSPACE.model("model")))
    return 0


def measure(title: str, network: OcclusionNet) -> None:
    """Print how well a network finds the hands, and write what it finds on a sheet."""
    hands, rng, rows, tiles = cut_hands(), np.random.default_rng(5), list[Row](), dict[str, list[Image]]()
    inside, finder = shrink(face_mask()) > 0.5, OcclusionFinder(network, torch.device("cpu"))
    for person in CLIPS:
        crops = [read_picture(path) for path in evenly_spread(list_pictures(WORKSPACE.person(person)), FACES)]
        covered, masks = zip(*(lay_over(crop, *hands, rng) for crop in crops), strict=True)
        pictures = [shrink_seen(crop[SEEN, SEEN], OCCLUSION_PX, is_smoothed=True) for crop in (*covered, *crops)]
        found = [none_as_zero(mask) > 0.5 for mask in finder.find(pictures)]
        true = [shrink(mask) > 0.5 for mask in masks]
        pairs = list(zip(found[:FACES], true, strict=True))
        wrong = [(mask & inside).sum() / inside.sum() for mask in found[FACES:]]
        rows.append(
            {
                "face": person,
                "IoU of the face": np.mean([overlap(~mask & inside, ~truth & inside) for mask, truth in pairs]),
                "without": np.mean([overlap(inside, ~truth & inside) for _, truth in pairs]),
                "IoU of the hand": np.mean([overlap(mask & inside, truth & inside) for mask, truth in pairs]),
                "found on bare faces, %": 100 * float(np.mean(wrong)),
            }
        )
        tiles[person] = evenly_spread(pictures[:FACES], SHOWN)
        tiles[f"{person}: found"] = [
            np.repeat(mask[..., None], 3, axis=2) * np.uint8(255) for mask in evenly_spread(found[:FACES], SHOWN)
        ]
    path = WORKSPACE.root / f"{title}.png"
    write_picture(path, sheet(tiles))
    print(f"{title}:\n\n{as_markdown(rows)}\nsheet to look at: {path}\n\n{as_markdown(measure_labelled(finder))}")


def measure_labelled(finder: OcclusionFinder) -> list[Row]:
    """Compare masks with what people see, inside the mesh's outline: overlaps (IoU) with the visible face."""
    labels = json.loads(LABELS.read_text(encoding="utf-8"))
    crops = [labelled_crop(label) for label in labels]
    overlaps: dict[str, list[tuple[bool, float]]] = {"mesh": [], "mesh without things in front": []}
    for label, crop, occlusion in zip(labels, crops, finder.find_in_crops(crops), strict=True):
        outline = mesh_mask(SHARP, face_outline(crop))[SEEN, SEEN] > 0.5
        covered = filled(label["covered"])[SEEN, SEEN] & outline
        truth = filled([label["face"]])[SEEN, SEEN] & outline & ~covered
        things = cv2.resize(none_as_zero(occlusion), (SEEN_PX, SEEN_PX), interpolation=cv2.INTER_LINEAR)
        for mask, values in zip((outline, outline & (things < 0.5)), overlaps.values(), strict=True):
            values.append((bool(covered.sum() > MIN_COVERED * outline.sum()), overlap(mask, truth)))
    return [
        {
            "mask": name,
            "something in front": np.mean([value for is_covered, value in values if is_covered]),
            "nothing in front": np.mean([value for is_covered, value in values if not is_covered]),
        }
        for name, values in overlaps.items()
    ]


def labelled_crop(label: Mapping[str, Any]) -> Image:
    """Cut a labelled face out of its frame again."""
    with VideoReader(DATA / label["clip"]) as reader:
        frame = next(islice(reader.frames(), label["frame"], None))
    return cut_crop(frame.image, np.array(label["crop_from_frame"]))


def filled(polygons: Sequence[Sequence[tuple[float, float]]]) -> npt.NDArray[np.bool_]:
    """Fill polygons with corners in px of a crop; (256, 256)."""
    inside = np.zeros((CROP_PX, CROP_PX), np.uint8)
    for polygon in polygons:
        cv2.fillPoly(inside, [(np.array(polygon) * 16).round().astype(np.int32)], 1, shift=4)
    return inside > 0


def cut_hands() -> tuple[Image, Mask]:
    """Cut the hands out of their frame: skin, then GrabCut (Rother et al. 2004)."""
    with VideoReader(SIGNING) as reader:
        frame = next(islice(reader.frames(), HANDS_FRAME, None))
    image = frame.image[HANDS]
    luma, red, _ = cv2.split(cv2.cvtColor(image, cv2.COLOR_BGR2YCrCb))
    skin = ((red > SKIN_CR[0]) & (red < SKIN_CR[1]) & (luma > DARK)).astype(np.uint8)
    kinds = np.where(cv2.erode(skin, np.ones((3, 3))) > 0, cv2.GC_PR_FGD, cv2.GC_BGD).astype(np.uint8)
    kinds[(cv2.dilate(skin, np.ones((9, 9))) > 0) & (kinds == cv2.GC_BGD)] = cv2.GC_PR_BGD
    cv2.grabCut(image, kinds, (0, 0, 0, 0), np.zeros((1, 65)), np.zeros((1, 65)), 6, cv2.GC_INIT_WITH_MASK)
    hands = np.isin(kinds, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(hands)
    largest = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    return image, (labels == largest).astype(np.float32)


def lay_over(crop: Image, hands: Image, shape: Mask, rng: np.random.Generator) -> tuple[Image, Mask]:
    """Lay the hands over the lower part of a crop, at a random place, size and light; return where they are, too."""
    scale, gain = rng.uniform(1.0, 1.9), rng.uniform(0.8, 1.6)
    height, width = shape.shape
    x, y = rng.uniform(70, 190) - scale * width / 2, rng.uniform(110, 215) - scale * height / 2
    if rng.random() < 0.5:
        hands, shape = hands[:, ::-1], shape[:, ::-1]
    matrix, size = np.array([[scale, 0, x], [0, scale, y]]), (CROP_PX, CROP_PX)
    layer = cv2.warpAffine(np.clip(hands * gain, 0, 255).astype(np.float32), matrix, size, flags=cv2.INTER_CUBIC)
    mask = np.asarray(cv2.GaussianBlur(cv2.warpAffine(shape, matrix, size), (0, 0), 1.0), np.float32)
    return np.clip(crop + mask[..., None] * (layer - crop), 0, 255).astype(np.uint8), mask


def shrink(mask: Mask) -> Mask:
    """Bring the part of a mask that the model sees to the size of an occlusion."""
    return np.asarray(
        cv2.resize(mask[SEEN, SEEN], (OCCLUSION_PX, OCCLUSION_PX), interpolation=cv2.INTER_AREA), np.float32
    )


def none_as_zero(mask: Mask | None) -> Mask:
    """Write out what None stands for."""
    return np.zeros((OCCLUSION_PX, OCCLUSION_PX), np.float32) if mask is None else mask


def overlap(first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_]) -> float:
    """Intersection over union; 1 if both are empty."""
    union = (first | second).sum()
    return float((first & second).sum() / union) if union else 1.0


if __name__ == "__main__":
    sys.exit(main())
