"""How good a swap is: numbers from crops of the original and of the result, and a sheet to look at.

Convention: crops are (256, 256, 3) BGR, the same part of both; a list of them is one face, frame after frame.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.converting.masks import face_mask
from pipeline.faces.alignment import CROP_PX
from pipeline.faces.identity import embed
from pipeline.faces.mesh import POINTS, find_mesh_points
from pipeline.types import Affine, Image

Numbers = npt.NDArray[np.float64]

STILL = np.array([[1.0, 0, 0], [0, 1, 0]])
LIPS, FACE = (13, 14), (10, 152)  # inner middles of upper and lower lip; forehead and chin
EYES = ((159, 145, 33, 133), (386, 374, 362, 263))  # upper and lower lid, outer and inner corner; the other eye
RIGID = np.array([6, 168, 197, 195, 33, 133, 362, 263])  # nose bridge, corners of the eyes: they move with the head
SECTORS, RING_PX = 24, 10  # round the mask's edge


def identity(crops: Sequence[Image], references: Sequence[Image]) -> float:
    """Mean dlib distance of faces to the mean of someone's faces; below 0.6 dlib calls two pictures one person."""
    mean = np.mean([embed(crop) for crop in references], axis=0)
    return float(np.mean([np.linalg.norm(embed(crop) - mean) for crop in crops]))


def meshes(crops: Sequence[Image]) -> Numbers:
    """Find the mesh in each crop, (N, 468, 2)."""
    return np.stack([find_mesh_points(crop, STILL, range(POINTS)) for crop in crops])


def mouth_opening(mesh: Numbers) -> Numbers:
    """How far apart the lips are, of the face's height; (N,)."""
    return _apart(mesh, *LIPS) / _apart(mesh, *FACE)


def eye_opening(mesh: Numbers) -> Numbers:
    """How far apart the lids are, of the eyes' width; (N,), the mean of both."""
    return np.asarray(np.mean([_apart(mesh, *eye[:2]) / _apart(mesh, *eye[2:]) for eye in EYES], axis=0))


def likeness(left: Numbers, right: Numbers) -> float:
    """Pearson's correlation; 0 where one of the two never changes."""
    if min(np.std(left), np.std(right)) < 1e-9:
        return 0.0
    return float(np.corrcoef(left, right)[0, 1])


def jitter(points: Numbers) -> float:
    """Mean second difference from frame to frame, px; points are (N, K, 2)."""
    return float(np.linalg.norm(np.diff(points, 2, axis=0), axis=2).mean())


def head_jitter(mesh: Numbers) -> float:
    """Jitter of what moves with the head only."""
    return jitter(mesh[:, RIGID])


def seam(crop: Image) -> float:
    """Mean step in CIE Lab from just inside the outline's soft edge to just outside it, all round."""
    lab = cv2.cvtColor(crop.astype(np.float32) / 255, cv2.COLOR_BGR2LAB)
    steps = [np.linalg.norm(lab[inner].mean(axis=0) - lab[outer].mean(axis=0)) for inner, outer in _rings()]
    return float(np.mean(steps))


def flicker(originals: Sequence[Image], crops: Sequence[Image]) -> float:
    """How much the face changes from frame to frame beside its movement, as a multiple of the original's.

    The original's optical flow (Kroeger et al. 2016, arXiv:1603.03590) takes each crop to the next; what then still
    differs inside the mask counts.
    """
    estimator, mask = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM), face_mask() > 0.5
    y, x = np.mgrid[0:CROP_PX, 0:CROP_PX].astype(np.float32)
    errors = []
    for (earlier, later), pair in zip(pairwise(originals), pairwise(crops), strict=True):
        later_grey, earlier_grey = (cv2.cvtColor(crop, cv2.COLOR_BGR2GRAY) for crop in (later, earlier))
        flow = estimator.calc(later_grey, earlier_grey, np.zeros((CROP_PX, CROP_PX, 2), np.float32))
        both = []
        for before, after in ((earlier, later), pair):
            moved = cv2.remap(before, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR)
            both.append(np.abs(moved.astype(float) - after)[mask].mean())
        errors.append(both)
    original, result = np.mean(errors, axis=0)
    return float(result / original)


def sheet(rows: Mapping[str, Sequence[Image]]) -> Image:
    """Show crops in rows, each with its name."""
    lines = []
    for name, crops in rows.items():
        line = np.hstack(crops).copy()
        cv2.putText(line, name, (6, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1, cv2.LINE_AA)
        lines.append(line)
    return np.vstack(lines)


def _apart(mesh: Numbers, first: int, second: int) -> Numbers:
    return np.asarray(np.linalg.norm(mesh[:, first] - mesh[:, second], axis=1))


def _rings() -> list[tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]]:
    """Pixels just inside the soft edge, and just outside it, by direction from the middle."""
    mask = face_mask()
    full, none = (mask >= 1).astype(np.uint8), (mask <= 0).astype(np.uint8)
    within = (cv2.distanceTransform(full, cv2.DIST_L2, 5) <= RING_PX) & (full > 0)
    beyond = (cv2.distanceTransform(none, cv2.DIST_L2, 5) <= RING_PX) & (none > 0)
    y, x = np.mgrid[0:CROP_PX, 0:CROP_PX]
    sector = ((np.arctan2(y - 141, x - 127.5) / (2 * np.pi) + 0.5) * SECTORS).astype(int) % SECTORS
    return [(within & (sector == number), beyond & (sector == number)) for number in range(SECTORS)]


def corners_in_crop_px(crops_from_frame: Sequence[Affine]) -> Numbers:
    """Corners of crops in the frame, (N, 4, 2), in px of the first crop."""
    scale = np.sqrt(np.linalg.det(crops_from_frame[0][:, :2]))
    ends = np.array([[x, y] for x in (0, CROP_PX - 1) for y in (0, CROP_PX - 1)], float)
    return np.stack([scale * ((ends - crop[:, 2]) @ np.linalg.inv(crop[:, :2]).T) for crop in crops_from_frame])
