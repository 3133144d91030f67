"""Face recognition: dlib's face embedding (King, "High Quality Face Recognition with Deep Metric Learning", 2017).

The networks' weights (CC0) come in the package ``face-recognition-models``, which is not imported: that needs a module
that new versions of setuptools lack.

Convention: crops are (S, S, 3) BGR, aligned as extract does; an embedding is (128,) float64, and Euclidean distances
below ``SAME_PERSON`` mean one person.
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
EMBEDDED_FACES = 3  # per track; each costs a tenth of a second
MIN_EYE_DISTANCE_PX = 18.0  # in the frame; embeddings of smaller faces are unreliable
FULL_EYE_DISTANCE_PX = 60.0  # from which on more resolution is no better
DETAIL_PX, MIN_DETAIL = 36, 6.0  # size at which detail is measured, and its least Laplacian, of 255 grey levels
MIN_PICTURES_PER_PROCESS = 40  # that make another process worth its start of some seconds
MAX_EYE_DISAGREEMENT_PX = 10.0  # between dlib and MTCNN: portraits up to 8, profiles 16, hands 9 … 32
STEADY_SCORE = 0.94  # median along a track; hands 0.81 … 0.97, faces that dlib sees elsewhere 0.95 and more
PROFILE_NOSE_OFFSET = 0.45  # nose beside the middle of the eyes, of the eye distance
PREDICTOR, NETWORK = "shape_predictor_5_face_landmarks.dat", "dlib_face_recognition_resnet_model_v1.dat"
FACE_IN_CROP = (76, 84, 180, 188)  # left, top, right, bottom: what dlib's own detector would frame in a 256 px crop


@dataclass(frozen=True)
class Track:
    """One face through consecutive frames; ``embedding`` is None where it cannot be identified."""

    number: int
    frames: frozenset[int]
    embedding: Embedding | None


@cache
def _networks() -> tuple[Any, Any, Any]:
    import dlib  # noqa: PLC0415 - slow to load, and needed only where people are told apart

    predictor, network = (package_file("face_recognition_models", f"models/{name}") for name in (PREDICTOR, NETWORK))
    predictor, network = dlib.shape_predictor(str(predictor)), dlib.face_recognition_model_v1(str(network))
    return dlib, predictor, network


def _predict(crop: Image) -> tuple[Image, Any]:
    """Return a crop as dlib takes it, and dlib's five landmarks."""
    dlib, predictor, _ = _networks()
    rgb = np.ascontiguousarray(as_crop(crop)[..., ::-1])
    return rgb, predictor(rgb, dlib.rectangle(*FACE_IN_CROP))


def embed(crop: Image) -> Embedding:
    """Compute the embedding of a crop."""
    _, _, network = _networks()
    return np.array(network.compute_face_descriptor(*_predict(crop)))


def eye_disagreement_px(crop: Image) -> float:
    """Mean distance, in px of a 256 crop, of dlib's eyes from MTCNN's, which lie on the template."""
    _, landmarks = _predict(crop)
    corners = np.array([(point.x, point.y) for point in landmarks.parts()])  # of the right eye, the left eye; the nose
    eyes = np.stack([corners[2:4].mean(axis=0), corners[0:2].mean(axis=0)])
    return float(np.linalg.norm(eyes - TEMPLATE[:2], axis=1).mean())


def shows_face(crops: Sequence[Image], scores: Sequence[float]) -> bool:
    """Return whether a track shows a face: MTCNN also detects some hands and patterns (docs/log.md).

    A track is rejected only if dlib and MTCNN disagree about the eyes and a second test confirms it: the face mesh or,
    if that is not installed, MTCNN's own scores along the track.

    Args:
        crops: the best of the track; without any, the track counts as a face.
        scores: of all its detections.
    """
    if not crops or float(np.median([eye_disagreement_px(crop) for crop in crops])) <= MAX_EYE_DISAGREEMENT_PX:
        return True
    if has_mesh():
        return max(face_presence(crop) for crop in crops) > 0
    return float(np.median(scores)) >= STEADY_SCORE


def is_clear(crop: Image) -> bool:
    """Return whether a crop shows enough detail to identify a person; very blurred or dark crops do not."""
    left, top, right, bottom = (side * crop.shape[0] // CROP_PX for side in FACE_IN_CROP)
    grey = cv2.cvtColor(crop[top:bottom, left:right], cv2.COLOR_BGR2GRAY)
    small = cv2.resize(grey, (DETAIL_PX, DETAIL_PX), interpolation=cv2.INTER_AREA).astype(np.float64)
    return float(cv2.Laplacian(small, cv2.CV_64F).std()) >= MIN_DETAIL


def embed_files(paths: Sequence[Path]) -> Iterator[Embedding]:
    """Compute the embeddings of crops on disk in several processes: dlib uses one core and holds the GIL.

    Raises:
        MediaError: one cannot be read.
    """
    processes = min(os.cpu_count() or 1, len(paths) // MIN_PICTURES_PER_PROCESS)
    if processes < 2:
        yield from map(_embed_file, paths)
        return
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, spawn, initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_IGN))
    try:
        yield from pool.map(_embed_file, paths, chunksize=4)
    finally:
        pool.shutdown(cancel_futures=True)


def _embed_file(path: Path) -> Embedding:
    return embed(read_picture(path))


def best_frames(faces: Iterable[StoredFace]) -> dict[int, list[int]]:
    """Choose the clearest faces of each track (large, frontal, high score), one from each third of the track.

    Args:
        faces: in order of frame; read one at a time, as there may be millions.

    Returns:
        By track, at most three frames that have a crop; empty if all faces are too small or turned too far.
    """
    frames: dict[int, array[int]] = defaultdict(lambda: array("q"))
    clarities: dict[int, array[float]] = defaultdict(lambda: array("d"))
    for face in faces:
        clarity = _clarity(face) if face.crop is not None else 0.0
        frames_of_track = frames[face.track]  # tracks without a clear face have none
        if clarity > 0:
            frames_of_track.append(face.frame)
            clarities[face.track].append(clarity)
    best: dict[int, list[int]] = {}
    for track, clear in frames.items():
        parts = np.array_split(np.arange(len(clear)), min(EMBEDDED_FACES, len(clear))) if clear else []
        best[track] = [clear[max(part, key=clarities[track].__getitem__)] for part in parts]
    return best


def _clarity(stored: StoredFace) -> float:
    """Estimate how well a face identifies a person, from 0 (not at all) to 1."""
    eye_distance_px = float(np.linalg.norm(stored.face.landmarks[1] - stored.face.landmarks[0]))
    offset = abs(nose_offset(stored.face.landmarks))
    if eye_distance_px < MIN_EYE_DISTANCE_PX or offset > PROFILE_NOSE_OFFSET:
        return 0.0
    size = min(1.0, eye_distance_px / FULL_EYE_DISTANCE_PX)
    return float(stored.face.score * (1 - offset / PROFILE_NOSE_OFFSET) * size)


def combine_embeddings(embeddings: Sequence[Embedding]) -> Embedding | None:
    """Average the embeddings of one track; None if there are none or they disagree."""
    if not embeddings:
        return None
    mean = np.mean(embeddings, axis=0)
    return mean if all(distance(embedding, mean) < SAME_PERSON for embedding in embeddings) else None


def cluster_tracks(tracks: Sequence[Track]) -> list[list[Track]]:
    """Cluster tracks that have embeddings by person; return the person seen in most frames first.

    Starting with the longest, each track joins the nearest cluster within ``SAME_PERSON`` that shares no frame with it,
    or starts a new one.
    """
    clusters: list[list[Track]] = []
    for track in sorted(tracks, key=lambda track: (-len(track.frames), track.number)):
        assert track.embedding is not None
        free = [members for members in clusters if not any(track.frames & member.frames for member in members)]
        distances = [distance(mean_embedding(members), track.embedding) for members in free]
        if distances and min(distances) < SAME_PERSON:
            free[int(np.argmin(distances))].append(track)
        else:
            clusters.append([track])
    return sorted(clusters, key=lambda members: -sum(len(track.frames) for track in members))


def mean_embedding(tracks: Sequence[Track]) -> Embedding:
    """Average the embeddings of tracks, weighted by their lengths."""
    weighted = [(track.embedding, len(track.frames)) for track in tracks if track.embedding is not None]
    embeddings, weights = zip(*weighted, strict=True)
    return np.average(np.stack(embeddings), axis=0, weights=weights)


def distance(embedding: Embedding, other: Embedding | None) -> float:
    """Euclidean distance of two embeddings; infinite if the other is None."""
    return float("inf") if other is None else float(np.linalg.norm(embedding - other))
