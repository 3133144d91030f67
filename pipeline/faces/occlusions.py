"""What is in front of a face: a small network finds it in what a swap network sees.

Convention: pictures are (128, 128, 3) BGR uint8, what a network sees of a crop; occlusions are (128, 128) float32, 1
where something is in front of the face, or None where nothing is.
"""

import hashlib
from collections.abc import Sequence

import cv2
import numpy as np
import torch

from models.segmenter import OCCLUSION_PX, OcclusionNet
from pipeline.faces.alignment import SEEN, as_crop, shrink_seen
from pipeline.types import Image, Mask

POSSIBLE, CERTAIN = 0.3, 0.95  # probability of px that may belong to something, and of some px that it must have
MIN_AREA_PX = 100  # of something


class OcclusionFinder:
    """Finds what is in front of faces.

    Attributes:
        fingerprint: changes with the weights.
    """

    def __init__(self, network: OcclusionNet, device: torch.device) -> None:
        digest = hashlib.sha256()
        for tensor in network.state_dict().values():
            digest.update(tensor.cpu().numpy().tobytes())
        self.fingerprint = digest.hexdigest()
        network = network.to(device).eval()
        self._network = network if device.type != "cpu" else network.to(memory_format=torch.channels_last)
        self._device = device

    def find(self, pictures: Sequence[Image]) -> list[Mask | None]:
        """Find what is in front of the face in each picture."""
        batch = torch.from_numpy(np.stack(pictures)).to(self._device).permute(0, 3, 1, 2).float().div_(255)
        with torch.inference_mode():
            found = torch.sigmoid(self._network(batch))[:, 0].cpu().numpy()
        return [keep_certain_regions(probability) for probability in found]

    def find_in_crops(self, crops: Sequence[Image]) -> list[Mask | None]:
        """Find what is in front of the face in each crop, (S, S, 3); an occlusion shows the part that networks see."""
        seen = [as_crop(crop)[SEEN, SEEN] for crop in crops]
        return self.find([shrink_seen(picture, OCCLUSION_PX, is_smoothed=True) for picture in seen])


def keep_certain_regions(probability: Mask) -> Mask | None:
    """Keep the regions that are large, and certain somewhere."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats((probability > POSSIBLE).astype(np.uint8))
    kept = [
        number
        for number in range(1, count)
        if stats[number, cv2.CC_STAT_AREA] >= MIN_AREA_PX and probability[labels == number].max() >= CERTAIN
    ]
    return np.where(np.isin(labels, kept), probability, 0).astype(np.float32) if kept else None
