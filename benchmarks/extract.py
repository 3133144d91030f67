"""Extract: frames per second beside the plain per-frame loop and the bound, and what of the loop's faces is found.

python -m benchmarks.extract VIDEO WORKSPACE     extract one video and print its figures as JSON
python -m benchmarks.extract VIDEO WORKSPACE --bound     what no extraction of it can do without
"""

import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.table import Row, measured, middle
from pipeline.console import NullConsole
from pipeline.extract import Run, extract_footage
from pipeline.faces.alignment import cut_crop
from pipeline.faces.crops import encode_crop
from pipeline.faces.detection import Detector, ImagePyramid
from pipeline.faces.footage import VideoFootage, name_footage
from pipeline.faces.store import FaceStore, StoredFace
from pipeline.faces.tracking import overlaps
from pipeline.media.reader import VideoReader
from pipeline.options import ExtractOptions
from pipeline.types import Boxes, Points
from pipeline.workspace import Workspace, write_bytes

TIMED = ("pairs/manA_lp_d9.mp4", "pairs/manB_lp_d13.mp4", "multi/street_crowd_1080p.mp4")
COMPARED = ("multi/hamilton_stage_cuts.mp4", "multi/street_crowd_1080p.mp4")  # and all of pairs/
CORES = 2
LOWEST_PX, SURE = 40, 0.95  # faces of the plain loop that must be found: height and score
SAME_FACE_IOU = 0.5


@dataclass(frozen=True)
class Pair:
    """Landmarks of one face, (5, 2) px, by the plain loop and by us, and the distance of its eyes."""

    theirs: Points
    ours: Points
    eyes_px: float


def speed(data: Path, plain: Path, rounds: int) -> list[Row]:
    """Measure frames per second on three clips."""
    return [_speed(data / clip, plain, rounds) for clip in TIMED]


def faces(data: Path, plain: Path, rounds: int) -> list[Row]:
    """Compare what is found in nine clips with what the plain loop finds; once, whatever ``rounds`` says."""
    compared = [*sorted((data / "pairs").glob("*.mp4")), *(data / clip for clip in COMPARED)]
    return [_quality(clip, plain) for clip in compared]


def _speed(clip: Path, plain: Path, rounds: int) -> Row:
    ours, loops, bounds = [], [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            ours.append(measured("-m", "benchmarks.extract", str(clip), folder))
            bounds.append(measured("-m", "benchmarks.extract", str(clip), folder, "--bound"))
        loops.append(measured(str(plain), "extract", str(clip), "--frames", "60"))
    fps, loop_fps, bound_fps = (middle(rows, "fps") for rows in (ours, loops, bounds))
    return {
        "extract": clip.name,
        "frames/s": fps,
        "plain loop": loop_fps,
        "times the plain loop": fps / loop_fps,
        "bound": bound_fps,
        "of the bound": fps / bound_fps,
        "peak MB": middle(ours, "peak_mb"),
    }


def _quality(clip: Path, plain: Path) -> Row:
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / "plain.json"
        measured(str(plain), "extract", str(clip), "--out", str(found))
        measured("-m", "benchmarks.extract", str(clip), folder)
        workspace = Workspace(Path(folder))
        with FaceStore(workspace.store(name_footage(workspace, clip))) as store:
            return {"faces of the plain loop": clip.name, **compare(json.loads(found.read_text()), store.faces())}


def compare(plain: list[Row], faces: list[StoredFace]) -> Row:
    """Say how much of what the plain loop finds is found, how near, and how steady both are.

    Jitter is the mean change of velocity of the landmarks from frame to frame, of the eye distance.
    """
    wanted = [one for one in plain if one["score"] >= SURE and one["box"][3] - one["box"][1] >= LOWEST_PX]
    by_frame: dict[int, list[StoredFace]] = {}
    for face in faces:
        by_frame.setdefault(face.frame, []).append(face)
    ways: dict[int, dict[int, Pair]] = {}
    for one in wanted:
        match = _match(np.array(one["box"]), by_frame.get(one["frame"], []))
        if match is not None:
            points = np.array(one["points"])
            eyes = float(np.linalg.norm(points[1] - points[0]))
            ways.setdefault(match.track, {})[one["frame"]] = Pair(points, match.face.landmarks, eyes)
    pairs = [pair for way in ways.values() for pair in way.values()]
    if not pairs:
        return {"wanted": len(wanted), "found %": 0.0}
    apart = [float(np.linalg.norm(pair.theirs - pair.ours, axis=1).mean()) / pair.eyes_px for pair in pairs]
    return {
        "wanted": len(wanted),
        "found %": 100 * len(pairs) / max(1, len(wanted)),
        "landmarks apart, % of eye distance": 100 * float(np.median(apart)),
        "jitter %": 100 * _jitter(ways.values(), lambda pair: pair.ours),
        "plain loop's jitter %": 100 * _jitter(ways.values(), lambda pair: pair.theirs),
    }


def _match(box: Boxes, faces: list[StoredFace]) -> StoredFace | None:
    if not faces:
        return None
    iou = overlaps(box[None], np.stack([face.face.box for face in faces]))[0]
    return faces[int(iou.argmax())] if iou.max() >= SAME_FACE_IOU else None


def _jitter(ways: Iterable[dict[int, Pair]], whose: Callable[[Pair], Points]) -> float:
    changes = [
        np.linalg.norm(whose(way[i - 1]) - 2 * whose(way[i]) + whose(way[i + 1]), axis=1).mean() / way[i].eyes_px
        for way in ways
        for i in way
        if i - 1 in way and i + 1 in way
    ]
    return float(np.mean(changes))


def extract_once(video: Path, workspace: Path) -> Row:
    """Do what the plain loop does: find faces, write crops and store, tell nobody apart.

    The clock starts when the detector is loaded, as in the plain loop.
    """
    options = ExtractOptions(videos=(video,), workspace=workspace, everyone="everyone")
    run = Run(options, Detector(options.min_face, options.min_confidence), (), NullConsole())
    begin = time.perf_counter()
    with VideoReader(video) as reader:
        extracted = extract_footage(VideoFootage(reader), run)
    seconds = time.perf_counter() - begin
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"frames": extracted.frames, "fps": extracted.frames / seconds, "peak_mb": peak_mb}


def bound(video: Path, workspace: Path) -> Row:
    """Take the processor's time for what cannot be left out of an extracted video: decoding, close looks, crops.

    The rate is what two cores make of it if nothing waits.
    """
    opened = Workspace(workspace)
    with FaceStore(opened.store(name_footage(opened, video))) as store:
        by_frame: dict[int, list[StoredFace]] = {}
        for face in store.faces():
            by_frame.setdefault(face.frame, []).append(face)
    options = ExtractOptions(videos=(video,))
    detector = Detector(options.min_face, options.min_confidence)
    begin, frames = time.process_time(), 0
    with VideoReader(video) as reader:
        for frame in reader:
            frames += 1
            faces = by_frame.get(frame.index, [])
            picture = ImagePyramid(frame.image)
            detector.refine([(picture, face.face.box) for face in faces], 0)
            for face in faces:
                write_bytes(workspace / "bound.jpg", encode_crop(cut_crop(frame.image, face.crop_from_frame)))
    return {"fps": frames * CORES / (time.process_time() - begin)}


if __name__ == "__main__":
    once = bound if "--bound" in sys.argv else extract_once
    print(json.dumps(once(Path(sys.argv[1]), Path(sys.argv[2]))))
