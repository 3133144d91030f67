"""Every option of every command: name, type, default, help and check, once.

The command line is made from these classes (``cli.py``), and the stages take the same objects.
This module must stay quick to import: ``cli.py --help`` loads it and little else.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from pipeline.errors import UsageError
from pipeline.moments import parse_moment
from pipeline.workspace import checked_name

Short = tyro.conf.arg


def _require(claim: bool, message: str) -> None:
    if not claim:
        raise UsageError(message)


@dataclass(frozen=True, kw_only=True)
class WorkspaceOptions:
    """Shared by all commands."""

    workspace: Path = Path("workspace")
    """Folder that holds all data, models and results."""


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
    again: bool = False
    """Forget what is known of these videos, delete their crops, and start over."""

    def __post_init__(self) -> None:
        _require(len(self.videos) > 0, "extract needs a video: python cli.py extract VIDEO")
        for name in filter(None, (self.person, self.everyone)):
            checked_name(name, "person")
        alone = self.everyone is None or (self.person is None and not self.reference)
        _require(alone, "--everyone goes without --person and --reference: it does not tell people apart")
        _require(self.every >= 1, f"--every {self.every}: must be 1 or more")
        _require(64 <= self.size <= 1024, f"--size {self.size}: must be 64 to 1024 px")
        _require(self.min_face >= 12, f"--min-face {self.min_face}: the detector sees nothing below 12 px")
        _require(0 < self.min_confidence <= 1, f"--min-confidence {self.min_confidence}: must be above 0, at most 1")


@dataclass(frozen=True, kw_only=True)
class TrainOptions(WorkspaceOptions):
    """Train one shared encoder and one decoder per person."""

    data_dir: Annotated[Path | None, Short(aliases=["-d"])] = None
    """Folder of per-person folders of face pictures (default: WORKSPACE/data)."""
    model_name: Annotated[str, Short(aliases=["-n"])] = "model"
    """Name of the model: its folder under WORKSPACE/output."""
    batch_size: Annotated[int, Short(aliases=["-b"])] = 64
    """Faces per step."""
    init_dim: int = 32
    """Channels of the encoder's first convolution."""
    code_dim: int = 1024
    """Length of the code between encoder and decoder."""
    log_interval: int = 1
    """Refresh the status every N batches; save model and previews every N epochs."""
    epochs: int = 100_000_000
    """Train until this epoch (one epoch visits every person once)."""
    inner_loop: int = 100
    """Passes over a person's faces before the next person is visited."""
    lr: float = 5e-5
    """Learning rate."""
    no_cuda: bool = False
    """Train on the CPU even where there is a CUDA device."""
    seed: int = 1
    """Seed of everything random."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Numbers the networks compute in (auto: what is fastest on the device without hurting the result)."""
    compile: bool = False
    """Compile the networks first: minutes at the start, perhaps faster then (GPU; on CPUs it was slower)."""
    keep: int = 2
    """Number of saved states to keep."""
    fix_enc: bool = False
    """Keep the encoder as it is and train the decoders alone."""
    max_minutes: float | None = None
    """Stop this run after so many minutes."""
    max_steps: int | None = None
    """Stop this run after so many batches."""

    def __post_init__(self) -> None:
        checked_name(self.model_name, "model")
        for name in ("batch_size", "init_dim", "code_dim", "log_interval", "epochs", "inner_loop", "keep"):
            value = getattr(self, name)
            _require(value >= 1, f"--{name.replace('_', '-')} {value}: must be 1 or more")
        _require(0 < self.lr < 1, f"--lr {self.lr}: must be above 0 and below 1")
        _require(self.seed >= 0, f"--seed {self.seed}: must be 0 or more")
        _require(self.max_minutes is None or self.max_minutes > 0, f"--max-minutes {self.max_minutes}: must be above 0")
        _require(self.max_steps is None or self.max_steps >= 1, f"--max-steps {self.max_steps}: must be 1 or more")


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
        _require(0 <= self.erode <= 40, f"--erode {self.erode:g}: must be 0 to 40 percent")
        _require(0 <= self.feather <= 50, f"--feather {self.feather:g}: must be 0 to 50 percent")
        _require(0 <= self.sharpen <= 2, f"--sharpen {self.sharpen:g}: must be 0 to 2")
        _require(0 <= self.opacity <= 1, f"--opacity {self.opacity:g}: must be 0 to 1")
        _require(0.9 <= self.scale <= 1.1, f"--scale {self.scale:g}: must be 0.9 to 1.1")


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
        _require(given != bool(self.swap) and (given or none), "name who becomes whom: --from A --to B, or --swap A:B")
        for swap in self.swap:
            _require(swap.count(":") == 1, f"--swap {swap}: type two names with a colon between, as in trump:cage")
        from_people = [from_person for from_person, _ in self._pairs()]
        twice = next((person for person in from_people if from_people.count(person) > 1), None)
        _require(twice is None, f"--swap: {twice!r} cannot become two people")
        for from_person, to_person in self._pairs():
            for person in (from_person, to_person):
                checked_name(person, "person")
            _require(from_person != to_person, f"{from_person!r} would become {to_person!r}: nothing to swap")

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
        _require(not (self.side_by_side and self.only_mask), "--side-by-side and --only-mask: choose one")
        worst = 51 if self.codec in ("libx264", "libx265") else 63
        _require(0 <= self.crf <= worst, f"--crf {self.crf}: must be 0 to {worst} for {self.codec}")


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
        _require(1 <= self.frames <= 100, f"--frames {self.frames}: must be 1 to 100")


@dataclass(frozen=True, kw_only=True)
class ImportOptions(WorkspaceOptions):
    """Take over a model of the reference tool: encoder.pth and decoder<person>.pth."""

    folder: Annotated[Path, tyro.conf.arg(metavar="DIR"), tyro.conf.Positional]
    """Folder that holds encoder.pth and a decoder<person>.pth per person."""
    model_name: Annotated[str, Short(aliases=["-n"])] = "model"
    """Name the model gets under WORKSPACE/output."""

    def __post_init__(self) -> None:
        checked_name(self.model_name, "model")


TAKEN = {
    "list": (),
    "rename": ("OLD", "NEW"),
    "merge": ("WHO", "INTO"),
    "remove": ("WHO",),
    "discard": ("WHO", "--list FILE"),
}


@dataclass(frozen=True, kw_only=True)
class PeopleOptions(WorkspaceOptions):
    """List the people of the workspace, or: rename OLD NEW, merge WHO INTO, remove WHO, discard WHO --list FILE."""

    action: Annotated[Literal["list", "rename", "merge", "remove", "discard"], tyro.conf.Positional] = "list"
    """What to do."""
    names: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME"), tyro.conf.Positional] = ()
    """To whom."""
    list_file: Annotated[Path | None, tyro.conf.arg(name="list")] = None
    """File that names the crops to set aside, one a line, as the page of review saves it."""

    def __post_init__(self) -> None:
        taken = TAKEN[self.action]
        given = len(self.names) + (self.list_file is not None)
        fits = given == len(taken) and (self.list_file is not None) == (self.action == "discard")
        _require(fits, f"type: python cli.py people {' '.join((self.action, *taken))}")
        for name in self.names:
            checked_name(name, "person")
        _require(len(set(self.names)) == len(self.names), f"{' and '.join(self.names)}: nothing to {self.action}")


@dataclass(frozen=True, kw_only=True)
class ReviewOptions(WorkspaceOptions):
    """Show a person's crops on a page to sort and clean them by, and say what the set lacks."""

    person: Annotated[str, tyro.conf.arg(metavar="NAME"), tyro.conf.Positional]
    """Whose crops."""

    def __post_init__(self) -> None:
        checked_name(self.person, "person")


Options = (
    ExtractOptions | TrainOptions | PreviewOptions | ConvertOptions | ImportOptions | PeopleOptions | ReviewOptions
)
