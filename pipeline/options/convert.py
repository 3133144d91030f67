"""Options of preview and convert."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from pipeline.moments import parse_moment
from pipeline.options.base import Short, WorkspaceOptions, require
from pipeline.workspace import checked_name


@dataclass(frozen=True, kw_only=True)
class LookOptions(WorkspaceOptions):
    """How new faces look."""

    mask: Literal["outline", "mesh", "ellipse", "box"] = "outline"
    """What shows of the new face: the outline of a face, of this very face (README), an ellipse, a box."""
    erode: float = 0
    """Make the mask smaller all around, by percent of the face's height."""
    feather: float = 14
    """Width of the mask's soft edge, in percent of the face's height."""
    color: Literal["none", "mean", "reinhard", "lab-hist"] = "reinhard"
    """Colours the new face takes from the old: none, their mean, mean and contrast, all their shades."""
    sharpen: float = 0
    """Sharpen the new face, 0 to 2."""
    match_grain: bool = False
    """Give the new face the softness and the grain of the footage."""
    blend: Literal["feather", "poisson"] = "feather"
    """Fade the new face in; poisson also fits its brightness to the skin around it (slower)."""
    opacity: float = 1
    """How much of the new face shows, 0 to 1."""
    scale: float = 1
    """Size of the new face, 0.9 to 1.1."""

    def __post_init__(self) -> None:
        require(0 <= self.erode <= 40, f"--erode {self.erode:g}: must be 0 to 40 percent")
        require(0 <= self.feather <= 50, f"--feather {self.feather:g}: must be 0 to 50 percent")
        require(0 <= self.sharpen <= 2, f"--sharpen {self.sharpen:g}: must be 0 to 2")
        require(0 <= self.opacity <= 1, f"--opacity {self.opacity:g}: must be 0 to 1")
        require(0.9 <= self.scale <= 1.1, f"--scale {self.scale:g}: must be 0.9 to 1.1")


@dataclass(frozen=True, kw_only=True)
class SwapOptions(LookOptions):
    """Who becomes whom, and where."""

    videos: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="VIDEO"), tyro.conf.Positional] = ()
    """Videos, pictures, folders of pictures (default: all videos that extract found the --from person in)."""
    from_person: Annotated[str | None, tyro.conf.arg(name="from")] = None
    """Who stands in the footage."""
    to_person: Annotated[str | None, tyro.conf.arg(name="to")] = None
    """Whose face is drawn in."""
    swap: Annotated[tuple[str, ...], tyro.conf.arg(metavar="FROM:TO"), tyro.conf.UseAppendAction] = ()
    """Instead of --from and --to, as often as needed: several people in one pass."""
    model_name: Annotated[str, Short(aliases=["-n"])] = "model"
    """Name of the model under WORKSPACE/output."""
    no_cuda: bool = False
    """Run the model on the CPU even where there is a CUDA device."""

    def __post_init__(self) -> None:
        super().__post_init__()
        checked_name(self.model_name, "model")
        given = self.from_person is not None and self.to_person is not None
        none = self.from_person is None and self.to_person is None
        require(given != bool(self.swap) and (given or none), "name who becomes whom: --from A --to B, or --swap A:B")
        for swap in self.swap:
            require(swap.count(":") == 1, f"--swap {swap}: type two names with a colon between, as in trump:cage")
        from_people = [from_person for from_person, _ in self._pairs()]
        twice = next((person for person in from_people if from_people.count(person) > 1), None)
        require(twice is None, f"--swap: {twice!r} cannot become two people")
        for from_person, to_person in self._pairs():
            for person in (from_person, to_person):
                checked_name(person, "person")
            require(from_person != to_person, f"{from_person!r} would become {to_person!r}: nothing to swap")

    def _pairs(self) -> list[tuple[str, str]]:
        if self.from_person is not None and self.to_person is not None:
            return [(self.from_person, self.to_person)]
        return [(swap.split(":")[0], swap.split(":")[1]) for swap in self.swap]

    def people(self) -> dict[str, str]:
        """Who becomes whom."""
        return dict(self._pairs())

    @property
    def in_words(self) -> str:
        """The same as the end of a file's name."""
        return "".join(f"_{from_person}_to_{to_person}" for from_person, to_person in self._pairs())


@dataclass(frozen=True, kw_only=True)
class ConvertOptions(SwapOptions):
    """Draw one person's face over another's in videos and pictures."""

    start: str | None = None
    """Convert from here on: a time since the first frame (12.5 or 1:30) or a frame (250f)."""
    end: str | None = None
    """Convert up to here, and without it: a time or a frame."""
    side_by_side: bool = False
    """Show the original to the left of the result."""
    only_mask: bool = False
    """Instead of the result, show in white what of it is new, on black: a matte for other programs."""
    output: Annotated[Path | None, Short(aliases=["-o"])] = None
    """File to write, or a folder (default: WORKSPACE/converted/<video>_<from>_to_<to>.mp4, or a picture)."""
    crf: int = 18
    """Quality of the encoded video: smaller is better and larger, 0 to 51 (AV1 and VP9: to 63)."""
    preset: str | None = None
    """Speed of the encoder, in its own words: ultrafast … medium … veryslow (default: the encoder's own)."""
    codec: str = "libx264"
    """ffmpeg's name of the video encoder: libx265, libsvtav1, h264_nvenc, hevc_videotoolbox …"""

    def __post_init__(self) -> None:
        super().__post_init__()
        for option, text in (("--start", self.start), ("--end", self.end)):
            if text is not None:
                parse_moment(text, option)
        require(not (self.side_by_side and self.only_mask), "--side-by-side and --only-mask: choose one")
        worst = 51 if self.codec in ("libx264", "libx265") else 63
        require(0 <= self.crf <= worst, f"--crf {self.crf}: must be 0 to {worst} for {self.codec}")


@dataclass(frozen=True, kw_only=True)
class PreviewOptions(SwapOptions):
    """Show some frames as convert would make them, on one picture, to choose how faces are to look."""

    frames: int = 8
    """Number of frames, spread over how far the head is turned."""
    compare: (
        Literal["mask", "color", "blend", "match-grain", "erode", "feather", "sharpen", "opacity", "scale"] | None
    ) = None
    """Show the frames with several values of this option, side by side."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(1 <= self.frames <= 100, f"--frames {self.frames}: must be 1 to 100")
