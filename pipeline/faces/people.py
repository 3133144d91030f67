"""Which faces of a video are a person's: the folder a crop lies in is the label."""

from collections.abc import Iterable, Sequence, Set
from pathlib import Path

from pipeline.faces.store import StoredFace
from pipeline.workspace import list_pictures


def crop_name(video: str, frame: int, track: int) -> str:
    """File name of a crop; says where it came from."""
    return f"{video}_{frame:06d}_{track}.jpg"


def crops_in(folder: Path) -> frozenset[str]:
    """Names, without suffix, of the crops in a person's folder (a crop may have been re-saved in another format)."""
    return frozenset(path.stem for path in list_pictures(folder))


def faces_of_person(faces: Sequence[StoredFace], crops: Set[str]) -> list[StoredFace]:
    """Pick the faces of a video that are a person's.

    A face whose crop was written is the person's while that crop lies in the person's folder. A face that never had
    a crop (``extract --every``) goes with the nearest face of its track that has one.

    Args:
        faces: of one video.
        crops: names, without suffix, of what lies in the person's folder.

    Returns:
        The person's faces, in the given order.
    """
    with_crop: dict[int, list[StoredFace]] = {}
    for stored in faces:
        if stored.crop is not None:
            with_crop.setdefault(stored.track, []).append(stored)
    return [stored for stored in faces if _is_in(crops, _labelled(stored, with_crop.get(stored.track, [])))]


def _labelled(stored: StoredFace, candidates: Iterable[StoredFace]) -> StoredFace:
    if stored.crop is not None:
        return stored
    return min(candidates, key=lambda other: abs(other.frame - stored.frame), default=stored)


def _is_in(crops: Set[str], stored: StoredFace) -> bool:
    return stored.crop is not None and Path(stored.crop).stem in crops
