"""Options of extract."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from pipeline.options.base import WorkspaceOptions, require
from pipeline.workspace import checked_name


@dataclass(frozen=True, kw_only=True)
class ExtractOptions(WorkspaceOptions):
    """Find the faces of videos and pictures and write aligned crops into a folder per person."""

    videos: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="VIDEO"), tyro.conf.Positional]
    """Videos, pictures and folders of pictures to look through."""
    person: str | None = None
    """Name of the person seen longest (default: whom earlier videos showed, else named after the video)."""
    reference: tuple[Path, ...] = ()
    """Pictures of the person that --person names, instead of who is seen longest."""
    everyone: str | None = None
    """Put all faces into this one folder, without telling people apart."""
    every: int = 1
    """Write the crops of every N-th frame only; faces of all frames are recorded all the same."""
    size: int = 256
    """Width and height of a crop in px."""
    min_face: int = 40
    """Smallest face to look for in key frames, width and height in px of the frame."""
    min_confidence: float = 0.95
    """Smallest detector score that counts as a face in key frames, 0 to 1; between them less is enough."""
    no_cuda: bool = False
    """Find faces on the CPU even where there is a CUDA device."""
    again: bool = False
    """Forget what is known of these videos, delete their crops, and start over."""

    restore: bool = False
    """Make crops again that have gone missing of videos extracted before; nothing else changes."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(len(self.videos) > 0, "extract needs a video: python cli.py extract VIDEO")
        for name in filter(None, (self.person, self.everyone)):
            checked_name(name, "person")
        alone = self.everyone is None or (self.person is None and not self.reference)
        require(alone, "--everyone goes without --person and --reference: it does not tell people apart")
        require(not (self.again and self.restore), "--again starts over: there is nothing to --restore")
        require(self.every >= 1, f"--every {self.every}: must be 1 or more")
        require(64 <= self.size <= 1024, f"--size {self.size}: must be 64 to 1024 px")
        require(self.min_face >= 12, f"--min-face {self.min_face}: the detector sees nothing below 12 px")
        require(0 < self.min_confidence <= 1, f"--min-confidence {self.min_confidence}: must be above 0, at most 1")
