"""Places in a video as a person types them: a time, or the number of a frame.

How a new face is put into the picture: what a person may choose.

What the options of all commands share.

Options of extract.

Options of train and import.

Options of preview and convert.

Options of people and review.

Options of models.

Options of verify.

Options of doctor.

Options of check.
"""

import math
import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, fields
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Annotated, Literal

import tyro

from pipeline.errors import UsageError
from pipeline.workspace import PICTURE_SUFFIXES, checked_name

Timecode = int | Fraction
"""A frame's number, from 0, or seconds since the first frame."""


def parse_timecode(text: str, option: str) -> Timecode:
    """Read ``250f`` (a frame) or ``12.5``, ``1:30``, ``1:02:03.4`` (a time).

    Args:
        text: what was typed.
        option: what it was typed for.

    Raises:
        UsageError: it is neither.
    """
    if frame := re.fullmatch(r"(\d{1,12})f", text, re.ASCII):
        return int(frame[1])
    if time := re.fullmatch(r"(?:(?:(\d{1,4}):)?(\d{1,6}):)?(\d{1,9}(?:\.\d{1,9})?)s?", text, re.ASCII):
        hours, minutes, seconds = (Fraction(part or 0) for part in time.groups())
        return hours * 3600 + minutes * 60 + seconds
    raise UsageError(f"{option} {text}: type a time (12.5 or 1:30 or 1:02:03.4) or a frame (250f)")


def frame_at(moment: Timecode, pts: Sequence[int], time_base: Fraction) -> int:
    """Return the number of the first frame at or after a moment; that of none behind the last.

    Args:
        moment: where.
        pts: timestamps of all frames, rising.
        time_base: seconds per unit of them.
    """
    if isinstance(moment, int):
        return min(moment, len(pts))
    return bisect_left(pts, pts[0] + ceil(moment / time_base))


MaskShape = Literal["outline", "mesh", "ellipse", "box"]
ColorMatch = Literal["none", "mean", "reinhard", "lab-hist"]
Blend = Literal["feather", "poisson"]


@dataclass(frozen=True)
class Look:
    """Choices of how new faces look.

    Attributes:
        mask: shape of what shows of the new face: ``outline``, ``mesh``, ``ellipse`` or ``box``.
        erode: by how much it is smaller, in percent of the face's height.
        feather: width of its soft edge, in percent of the face's height.
        color: how the new face takes the colours of the old one: ``none``, ``mean``, ``reinhard`` or ``lab-hist``.
        sharpen: how much of its fine detail is added once more.
        match_grain: whether it gets as soft, and as noisy, as the picture it comes into.
        blend: ``feather`` fades the new face into the old, ``poisson`` also bends its brightness to fit at the edge.
        opacity: how much of the new face shows, 0 to 1.
        scale: how large the new face is, 1 for as large as the old.
    """

    mask: MaskShape = "outline"
    erode: float = 0.0
    feather: float = 14.0
    color: ColorMatch = "reinhard"
    sharpen: float = 0.0
    match_grain: bool = False
    blend: Blend = "feather"
    opacity: float = 1.0
    scale: float = 1.0


DEFAULT_LOOK = Look()
"""What nobody has chosen otherwise."""


@dataclass(frozen=True)
class ResultView:
    """What a result shows.

    Attributes:
        kind: ``result``, ``mask`` (where faces are new) or ``beside`` (original and result).
        label: a notice written into the result; empty where none is.
    """

    kind: Literal["result", "mask", "beside"] = "result"
    label: str = ""


PLAIN_VIEW = ResultView()


Short = tyro.conf.arg


def require(claim: bool, message: str) -> None:
    """Refuse options of which a claim does not hold.

    Raises:
        UsageError: it does not.
    """
    if not claim:
        raise UsageError(message)


@dataclass(frozen=True, kw_only=True)
class CommandOptions:
    """Shared by all commands."""

    verbose: bool = False
    """Show what the log gets too: versions, options, how long each part took."""
    quiet: bool = False
    """Show errors only."""
    json: bool = False
    """Print the report as JSON, for scripts."""

    def __post_init__(self) -> None:
        for option in fields(self):
            value = getattr(self, option.name)
            is_finite = not isinstance(value, float) or math.isfinite(value)
            require(is_finite, f"--{option.name.replace('_', '-')} {value}: must be a finite number")


@dataclass(frozen=True, kw_only=True)
class WorkspaceOptions(CommandOptions):
    """Shared by all commands that read or write a workspace."""

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


MOST = 1_000_000_000  # of anything that is counted; more overflows what is worked out from it


@dataclass(frozen=True, kw_only=True)
class TrainOptions(WorkspaceOptions):
    """Train one shared encoder and one decoder per person."""

    data_dir: Annotated[Path | None, Short(aliases=["-d"])] = None
    """Folder of per-person folders of face pictures (default: WORKSPACE/data)."""
    model_name: Annotated[str, Short(aliases=["-n"])] = "model"
    """Name of the model: its folder under WORKSPACE/output."""
    people: str | None = None
    """Train these people only, as in trump,cage (default: all in the data folder); others keep their decoders."""
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
    interleave: bool = False
    """Faces of all people in every batch, instead of everyone in turn."""
    loss: Literal["l1", "l1+ssim"] = "l1"
    """What training makes small: how far colours are off, or also what structure is missing (sharper sooner)."""
    lr_schedule: Literal["constant", "cosine"] = "constant"
    """Keep the learning rate, or lower it to nothing by the end of this run (--max-minutes or --max-steps)."""
    max_minutes: float | None = None
    """Stop this run after so many minutes."""
    max_steps: int | None = None
    """Stop this run after so many batches."""

    def chosen(self) -> list[str]:
        """People named by --people."""
        return sorted({person.strip() for person in (self.people or "").split(",") if person.strip()})

    def __post_init__(self) -> None:
        super().__post_init__()
        checked_name(self.model_name, "model")
        require(self.people is None or len(self.chosen()) > 0, "--people: name some, with commas between")
        for person in self.chosen():
            checked_name(person, "person")
        for name in ("batch_size", "init_dim", "code_dim", "log_interval", "epochs", "inner_loop", "keep"):
            value = getattr(self, name)
            require(1 <= value <= MOST, f"--{name.replace('_', '-')} {value}: must be 1 to {MOST}")
        require(0 < self.lr < 1, f"--lr {self.lr}: must be above 0 and below 1")
        require(0 <= self.seed <= MOST, f"--seed {self.seed}: must be 0 to {MOST}")
        minutes, steps = self.max_minutes, self.max_steps
        require(minutes is None or 0 < minutes <= MOST, f"--max-minutes {minutes}: must be above 0, at most {MOST}")
        require(steps is None or 1 <= steps <= MOST, f"--max-steps {steps}: must be 1 to {MOST}")
        is_limited = self.max_minutes is not None or self.max_steps is not None
        require(self.lr_schedule == "constant" or is_limited, "--lr-schedule cosine needs --max-minutes or --max-steps")


@dataclass(frozen=True, kw_only=True)
class ImportOptions(WorkspaceOptions):
    """Take over a model of the reference tool: encoder.pth and decoder<person>.pth."""

    folder: Annotated[Path, tyro.conf.arg(metavar="DIR"), tyro.conf.Positional]
    """Folder that holds encoder.pth and a decoder<person>.pth per person."""
    model_name: Annotated[str, Short(aliases=["-n"])] = "model"
    """Name the model gets under WORKSPACE/output."""

    def __post_init__(self) -> None:
        super().__post_init__()
        checked_name(self.model_name, "model")


LABEL = "Faces generated by AI"
LONGEST_LABEL = 100
VIDEO_SUFFIXES = {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".gif", ".mpg", ".mpeg", ".ts", ".mts", ".wmv"}


def _is_media(word: str) -> bool:
    """Say whether a word is certainly meant as a file to convert."""
    path = Path(word)
    return path.suffix.lower() in PICTURE_SUFFIXES | VIDEO_SUFFIXES and path.is_file()


@dataclass(frozen=True, kw_only=True)
class LookOptions(WorkspaceOptions):
    """How new faces look."""

    mask: MaskShape = "outline"
    """What shows of the new face: the outline of a face, of this very face (README), an ellipse, a box."""
    erode: float = 0
    """Make the mask smaller all around, by percent of the face's height."""
    feather: float = 14
    """Width of the mask's soft edge, in percent of the face's height."""
    color: ColorMatch = "reinhard"
    """Colours the new face takes from the old: none, their mean, mean and contrast, all their shades."""
    sharpen: float = 0
    """Sharpen the new face, 0 to 2."""
    match_grain: bool = False
    """Give the new face the softness and the grain of the footage."""
    blend: Blend = "feather"
    """Fade the new face in; poisson also fits its brightness to the skin around it (slower)."""
    opacity: float = 1
    """How much of the new face shows, 0 to 1."""
    scale: float = 1
    """Size of the new face, 0.9 to 1.1."""

    def __post_init__(self) -> None:
        super().__post_init__()
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
    def swap_name(self) -> str:
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
    label: Annotated[tuple[str, ...] | None, tyro.conf.arg(metavar="[TEXT]")] = None
    """Write a small notice into every frame (without TEXT: "Faces generated by AI"); name the videos before it."""
    no_credentials: bool = False
    """Do not sign what is made (it is marked as synthetic by signed Content Credentials, README)."""
    credit_people: bool = False
    """Name in the marking whose face became whose."""
    cert: Path | None = None
    """Sign with this certificate (PEM, with its chain) instead of one's own, made at the first use."""
    key: Path | None = None
    """Its private key (PEM)."""
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
                parse_timecode(text, option)
        require(not (self.side_by_side and self.only_mask), "--side-by-side and --only-mask: choose one")
        require((self.cert is None) == (self.key is None), "--cert and --key: give both, or none")
        require(not (self.no_credentials and self.cert), "--no-credentials and --cert: choose one")
        require(self.label is None or not self.only_mask, "--label and --only-mask: choose one")
        require(len(self.label_text()) <= LONGEST_LABEL, f"--label: at most {LONGEST_LABEL} characters")
        is_empty = self.label is not None and len(self.label) > 0 and not "".join(self.label).strip()
        require(not is_empty, f"--label: the text is empty; leave it out for: {LABEL}")
        for word in self.label or ():
            require(not _is_media(word), f"--label takes {word!r} for its text: name videos before --label")
        worst = 51 if self.codec in ("libx264", "libx265") else 63
        require(0 <= self.crf <= worst, f"--crf {self.crf}: must be 0 to {worst} for {self.codec}")

    def label_text(self) -> str:
        """What is written into the frames; empty where nothing is."""
        return "" if self.label is None else " ".join(self.label) or LABEL


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


TAKEN = {
    "list": (),
    "rename": ("OLD", "NEW"),
    "merge": ("WHO", "INTO"),
    "remove": ("WHO",),
    "discard": ("WHO", "--list FILE"),  # or --missing
}


@dataclass(frozen=True, kw_only=True)
class PeopleOptions(WorkspaceOptions):
    """List the people, or: rename OLD NEW, merge WHO INTO, remove WHO, discard WHO --list FILE or --missing."""

    action: Annotated[Literal["list", "rename", "merge", "remove", "discard"], tyro.conf.Positional] = "list"
    """What to do."""
    names: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME"), tyro.conf.Positional] = ()
    """To whom."""
    list_file: Annotated[Path | None, tyro.conf.arg(name="list")] = None
    """File that names the crops to set aside, one a line, as the page of review saves it."""

    missing: bool = False
    """With discard: set aside all crops that you deleted yourself, so that they are no longer reported as lost."""

    def __post_init__(self) -> None:
        super().__post_init__()
        taken = TAKEN[self.action]
        which = (self.list_file is not None) + self.missing
        fits = len(self.names) + which == len(taken) and (which == 1) == (self.action == "discard")
        require(fits, f"type: python cli.py people {' '.join((self.action, *taken))}")
        for name in self.names:
            checked_name(name, "person")
        require(len(set(self.names)) == len(self.names), f"{' and '.join(self.names)}: nothing to {self.action}")


@dataclass(frozen=True, kw_only=True)
class ReviewOptions(WorkspaceOptions):
    """Show a person's crops on a page to sort and clean them by, and say what the set lacks."""

    person: Annotated[str, tyro.conf.arg(metavar="NAME"), tyro.conf.Positional]
    """Whose crops."""

    def __post_init__(self) -> None:
        super().__post_init__()
        checked_name(self.person, "person")


MODELS_TAKEN = {"list": "", "export": " NAME"}


@dataclass(frozen=True, kw_only=True)
class ModelsOptions(WorkspaceOptions):
    """List the models of the workspace, or: export NAME, a slim copy to convert with and ONNX files."""

    action: Annotated[Literal["list", "export"], tyro.conf.Positional] = "list"
    """What to do."""
    name: Annotated[str | None, tyro.conf.arg(metavar="NAME"), tyro.conf.Positional] = None
    """With which model."""

    def __post_init__(self) -> None:
        super().__post_init__()
        fits = (self.name is not None) == (self.action == "export")
        require(fits, f"type: python cli.py models {self.action}{MODELS_TAKEN[self.action]}")
        if self.name is not None:
            checked_name(self.name, "model")


@dataclass(frozen=True, kw_only=True)
class VerifyOptions(CommandOptions):
    """Show what a video or picture says of how it was made, and whether that holds."""

    files: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="FILE"), tyro.conf.Positional]
    """Files to look at."""
    trust: tuple[Path, ...] = ()
    """Certificates (PEM) whose word is believed, besides one's own."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(len(self.files) > 0, "name a file: python cli.py verify FILE")


@dataclass(frozen=True, kw_only=True)
class DoctorOptions(WorkspaceOptions):
    """Look at everything Recast stands on, try each stage for a second, and say what to do where something is wrong."""


@dataclass(frozen=True, kw_only=True)
class CheckOptions(WorkspaceOptions):
    """Read a workspace and say what does not fit: stores, crops, models, results, what was left half-done."""

    repair: bool = False
    """Make lost crops again where their video is there, and delete part files left by killed runs."""


Options = (
    ExtractOptions
    | TrainOptions
    | PreviewOptions
    | ConvertOptions
    | ImportOptions
    | PeopleOptions
    | ReviewOptions
    | ModelsOptions
    | VerifyOptions
    | DoctorOptions
    | CheckOptions
)
