"""A crop as review shows it, and what is doubtful about it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from models import PICTURE_PX
from pipeline.arrays import Embedding
from pipeline.faces.identity import SAME_PERSON, distance
from pipeline.faces.measures import BLURRED

PROFILE_DEG = 40.0  # turned further, one eye is hidden, and the aligned crop is a guess
WITHOUT_STRANGERS = 2  # rounds of leaving out who is unlike the mean of the others


@dataclass(frozen=True)
class Item:
    """One crop.

    Attributes:
        name: of its file.
        tile: JPEG of it, smaller; empty where it cannot be read.
        sharpness: see ``measures.sharpness``.
        yaw_deg: how far it is turned, positive to the right as seen; None where no face was found in it.
        seen_px: side of the square of the footage that the model sees, px; below 64 the crop is enlarged.
        video: where it comes from; empty for a picture of someone's own.
        time: where in the video: seconds, or the number of the frame.
        group: place of the first of its near-duplicates.
        unlike: distance of its embedding from the person's mean; None where it cannot be read.
    """

    name: str
    tile: bytes
    sharpness: float
    yaw_deg: float | None
    seen_px: float
    video: str
    time: float
    group: int
    unlike: float | None

    def doubts(self) -> list[str]:
        """Say why it may be wrong or useless, the gravest first; empty where there is no doubt."""
        if self.unlike is None:
            return ["unreadable"]
        claims = {
            "another person?": self.unlike >= SAME_PERSON,
            "no face?": self.yaw_deg is None,
            "blurred": self.sharpness < BLURRED,
            "profile": self.yaw_deg is not None and abs(self.yaw_deg) > PROFILE_DEG,
            "small": self.seen_px < PICTURE_PX,
        }
        return [doubt for doubt, is_so in claims.items() if is_so]


def unlikeness(embeddings: Mapping[int, Embedding], counts: Mapping[int, int]) -> dict[int, float]:
    """Say how far faces are from the mean of those that are the person's.

    Args:
        embeddings: by group of near-duplicates.
        counts: crops in each group.

    Returns:
        Distance by group. Who is unlike the first mean does not count in the next.
    """
    members: Sequence[int] = list(embeddings)
    apart: dict[int, float] = {}
    for _ in range(1 + WITHOUT_STRANGERS):
        if not members:
            break
        weights = [counts[group] for group in members]
        mean = np.average([embeddings[group] for group in members], axis=0, weights=weights)
        apart = {group: distance(mean, embedding) for group, embedding in embeddings.items()}
        members = [group for group in embeddings if apart[group] < SAME_PERSON]
    return apart
