"""What is in front of a face: a small network finds it in what a swap network sees.

Convention: pictures are (128, 128, 3) BGR uint8, what a network sees of a crop; occlusions are (128, 128) float32, 1
where something is in front of the face, or None where nothing is.
"""

import hashlib
from collections.abc import Sequence
from functools import cache

import cv2
import numpy as np
import numpy.typing as npt
import torch

from models.segmenter import OCCLUSION_PX, OcclusionNet
from pipeline.faces.alignment import SEEN, SEEN_PX, as_crop, mean_outline, shrink_seen
from pipeline.types import Image, Mask

POSSIBLE, CERTAIN = 0.3, 0.98  # probability of px that may belong to something, and of some px that it must have
CERTAIN_OF_KNOWN = 0.7  # the same, of a network that has learned on the people that it is used for
MIN_AREA_PX = 100  # of something
MAX_COVERED = 0.6  # of a face; more is believed to be a face that the network does not know, in shadow or in profile
GLASSES_CERTAIN, GLASSES_AREA_PX = 0.8, 40  # the same for glasses, which are thin


class OcclusionFinder:
    """Finds what is in front of faces.

    Attributes:
        fingerprint: changes with the weights.
    """

    def __init__(self, network: OcclusionNet, device: torch.device) -> None:
        digest = hashlib.sha256(repr(network.knows_people).encode())
        for tensor in network.state_dict().values():
            digest.update(tensor.cpu().numpy().tobytes())
        self.fingerprint = digest.hexdigest()
        network = network.to(device).eval()
        self._network = network if device.type != "cpu" else network.to(memory_format=torch.channels_last)
        self._device, self._certain = device, CERTAIN_OF_KNOWN if network.knows_people else CERTAIN

    def find(self, pictures: Sequence[Image], *, with_glasses: bool = False) -> list[Mask | None]:
        """Find what is in front of the face in each picture; glasses count only if asked for."""
        found = list[Mask | None]()
        for things, glasses in self.probabilities(pictures):
            covered = keep_certain_regions(things, self._certain)
            if covered is not None and (covered > 0.5)[_mean_face()].mean() > MAX_COVERED:
                covered = None
            worn = keep_certain_regions(glasses, GLASSES_CERTAIN, GLASSES_AREA_PX) if with_glasses else None
            found.append(_union(covered, None if worn is None else _thicken(worn)))
        return found

    def probabilities(self, pictures: Sequence[Image]) -> npt.NDArray[np.float32]:
        """(N, 2, 128, 128): how likely each px is of a thing, and of glasses."""
        batch = torch.from_numpy(np.stack(pictures)).to(self._device).permute(0, 3, 1, 2).float().div_(255)
        with torch.inference_mode():
            found: npt.NDArray[np.float32] = torch.sigmoid(self._network(batch)).cpu().numpy()
        return found

    def find_in_crops(self, crops: Sequence[Image]) -> list[Mask | None]:
        """Find what is in front of the face in each crop, (S, S, 3); an occlusion shows the part that networks see."""
        return self.find(cut_seen(crops))


def cut_seen(crops: Sequence[Image]) -> list[Image]:
    """Cut what networks see out of crops, (S, S, 3), as pictures of 128 px."""
    return [shrink_seen(as_crop(crop)[SEEN, SEEN], OCCLUSION_PX, is_smoothed=True) for crop in crops]


@cache
def _mean_face() -> npt.NDArray[np.bool_]:
    """Where the face is in a picture, about; (128, 128)."""
    outline = (mean_outline() - SEEN.start + 0.5) * OCCLUSION_PX / SEEN_PX - 0.5
    inside = np.zeros((OCCLUSION_PX, OCCLUSION_PX), np.uint8)
    return cv2.fillPoly(inside, [outline.round().astype(np.int32)], 1) > 0


def _thicken(worn: Mask) -> Mask:
    """Widen thin rims by a px on each side: their edges come from the frame, which would wear thin lines away."""
    return np.asarray(cv2.dilate(worn, np.ones((3, 3), np.uint8)), np.float32)


def _union(first: Mask | None, second: Mask | None) -> Mask | None:
    if first is None or second is None:
        return second if first is None else first
    return np.maximum(first, second)


def keep_certain_regions(probability: Mask, certain: float = CERTAIN, min_area: int = MIN_AREA_PX) -> Mask | None:
    """Keep the regions that are large, and certain somewhere."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats((probability > POSSIBLE).astype(np.uint8))
    kept = [
        number
        for number in range(1, count)
        if stats[number, cv2.CC_STAT_AREA] >= min_area and probability[labels == number].max() >= certain
    ]
    return np.where(np.isin(labels, kept), probability, 0).astype(np.float32) if kept else None
