"""What kinds of files a result can be, and what of an original each can hold.

A finished video: segments joined, with sound, subtitles, chapters and metadata taken over from the original.
"""

import re
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Any

import av
import ffmpeg
from av.video.stream import VideoStream

from pipeline.errors import MediaError, UsageError
from pipeline.media.ffmpeg import MOV_PIECES, MP4_PIECES, NUT, FfmpegPipe, Form, VideoPacket, as_input, quiet
from pipeline.media.probe import OPENING, OtherStream, VideoInfo, early_s, open_container
from pipeline.media.writer import read_segment
from pipeline.provenance.credentials import comment_gif

TEXT_SUBTITLES = frozenset({"subrip", "srt", "ass", "ssa", "mov_text", "webvtt", "text"})
MOV_TEXT_BYTES = 65_000
CHAPTER_TITLES = "bin_data"  # how MP4 stores them besides; chapters are taken over by themselves


@dataclass(frozen=True)
class Streams:
    """What is taken over of the original's streams besides the video.

    Attributes:
        taken: a stream's number in the original, and ffmpeg's name of the codec it gets.
        notes: what changes or is lost, a line each.
    """

    taken: tuple[tuple[int, str], ...]
    notes: tuple[str, ...]


def choose_streams(like: VideoInfo, output: Path) -> Streams:
    """Choose what of the original's streams the output's container can hold, and how."""
    container = _CONTAINERS[output.suffix.lower()]
    holder = output.suffix.removeprefix(".").upper()
    taken: list[tuple[int, str]] = []
    notes: list[str] = []
    for stream in like.others:
        codec = _codec_for(stream, container)
        what = f"{stream.kind} stream {stream.index} ({stream.codec})"
        if codec is None and stream.codec == CHAPTER_TITLES:
            continue
        if codec is None:
            notes.append(f"{what} left out: {_why(stream.kind, holder)}")
            continue
        taken.append((stream.index, codec))
        if stream.kind == "audio" and codec != "copy":
            notes.append(f"{what} re-encoded as {codec}: {holder} cannot hold it")
    return Streams(tuple(taken), tuple(notes))


def _why(kind: str, holder: str) -> str:
    return {"video": "only the main one is converted", "data": "it may not fit the new frames"}.get(
        kind, f"{holder} cannot hold it"
    )


def _codec_for(stream: OtherStream, container: "_Container") -> str | None:
    """Name what ffmpeg is to make of a stream: ``copy``, an encoder, or None for leaving it out."""
    match stream.kind:
        case "audio":
            return "copy" if container.sound is None or stream.codec in container.sound else container.sound_encoder
        case "subtitle" if stream.codec in TEXT_SUBTITLES:
            return "copy" if stream.codec in container.text else container.text_encoder
    return "copy" if stream.kind in container.more else None


@dataclass(frozen=True)
class _Container:
    """What a kind of file holds.

    Attributes:
        encoders: those whose video it takes, as a regular expression that finds something in their names.
        sound: codecs it takes as they are; None for any.
        sound_encoder: what becomes of the others; None: they are left out.
        text: subtitle codecs it takes as they are.
        text_encoder: what becomes of other subtitles in words; None: they are left out.
        more: other kinds of streams that it takes; ``subtitle``: those that are pictures.
    """

    encoders: str
    sound: frozenset[str] | None
    sound_encoder: str | None
    text: frozenset[str]
    text_encoder: str | None
    more: frozenset[str]


_MOV_SOUND = frozenset({"aac", "mp3", "ac3", "eac3", "alac"})
_RAW_SOUND = frozenset(f"pcm_{kind}" for kind in ("s16le", "s16be", "s24le", "s24be", "s32le", "s32be", "f32le"))
_MP4 = _Container("", _MOV_SOUND | {"opus", "flac"}, "aac", frozenset({"mov_text"}), "mov_text", frozenset({"cover"}))
_WEBM_SOUND, _WEBM_TEXT = frozenset({"opus", "vorbis"}), frozenset({"webvtt"})
_CONTAINERS = {
    ".mp4": _MP4,
    ".m4v": _MP4,
    ".mov": replace(_MP4, sound=_MOV_SOUND | _RAW_SOUND),
    ".webm": _Container("vp[89x]|av1", _WEBM_SOUND, "libopus", _WEBM_TEXT, "webvtt", frozenset()),
    ".mkv": _Container(
        "", None, "copy", TEXT_SUBTITLES - {"mov_text"}, "subrip", frozenset({"subtitle", "attachment"})
    ),
    ".gif": _Container("", frozenset(), None, frozenset(), None, frozenset()),
}


def check_container(output: Path, codec: str) -> None:
    """Make sure that a result can be written into a file of this name.

    Raises:
        UsageError: there is no such container, or it does not hold what the encoder makes.
    """
    container = _CONTAINERS.get(output.suffix.lower())
    if container is None:
        ends = ", ".join(_CONTAINERS)
        raise UsageError(f"cannot write {output}: results end in {ends}; to name a folder, make it first")
    if not re.search(container.encoders, codec):
        raise UsageError(
            f"cannot write {output}: {output.suffix} files do not hold what {codec} makes; "
            "add --codec libvpx-vp9 or libsvtav1, or name an .mp4"
        )


def is_mp4(output: Path) -> bool:
    """Say whether a file's name asks for MP4 or its like."""
    return output.suffix.lower() in (".mp4", ".mov", ".m4v")


def is_gif(output: Path) -> bool:
    """Say whether a file's name asks for a GIF, which is made anew from what was encoded: 256 colours a frame."""
    return output.suffix.lower() == ".gif"


def form_for(output: Path, codec: str) -> Form:
    """Choose in what packets are sent, by what the output must know: MP4 when each is decoded, Matroska not."""
    if output.suffix.lower() == ".mov" or (codec == "prores" and not is_mp4(output)):  # NUT has no name for it
        return MOV_PIECES
    return MP4_PIECES if is_mp4(output) else NUT


def cut_comment(comment: str, output: Path) -> str:
    """Shorten a comment to what a kind of file holds: QuickTime counts a text's bytes in 16 bits."""
    if output.suffix.lower() != ".mov":
        return comment
    return comment.encode()[:MOV_TEXT_BYTES].decode(errors="ignore")


MOST_HELD_US = 1_000_000  # of packets that wait for a stream that is silent, as subtitles are; else memory would grow
COMMENT = "part_comment.txt"  # what a killed run leaves of it goes with its other parts
NO_STREAM = 9999  # a number that no file has
DROP_EARLY = "noise=amount=0:drop=lt(pts+{}*d\\,0)"  # a bitstream filter: no noise, no packets from before the start
LEADING = 2  # packets of sound from before it that a decoder needs, where the container can say that they are not heard


@dataclass(frozen=True)
class Segment:
    """A finished segment.

    Attributes:
        path: its file.
        pts: timestamps of its frames in the original.
        reordered: by how many frames, at most, a frame is shown later than it is decoded.
    """

    path: Path
    pts: Sequence[int]
    reordered: int


def inspect_segment(path: Path, pts: Sequence[int], time_base: Fraction) -> Segment | None:
    """Read a segment; None where the file does not hold exactly the frames with these timestamps."""
    packets = read_segment(path, pts, time_base)
    if packets is None:
        return None
    shown = {moment: place for place, moment in enumerate(pts)}
    return Segment(path, pts, max(place - shown[packet.pts or 0] for place, packet in enumerate(packets)))


@dataclass(frozen=True)
class Part:
    """A part of a video, in seconds of its timestamps; the result begins at 0."""

    start_s: Fraction
    end_s: Fraction


@dataclass(frozen=True)
class Made:
    """What a result is.

    Attributes:
        part: of the original; None for all of it.
        comment: what its metadata says of it.
    """

    part: Part | None = None
    comment: str = ""


WHOLE = Made()


@dataclass(frozen=True)
class Inputs:
    """What is joined, besides the original.

    Attributes:
        comment: file that says what the result is, as ffmpeg's metadata; it may be too long for a command line.
        delay_s: by how much the timestamps that come through the pipe are late.
        later_s: by how much everything is to be later than in the original.
    """

    comment: Path
    delay_s: Fraction
    later_s: Fraction


def build_join_command(output: Path, like: VideoInfo, codec: str, inputs: Inputs, made: Made) -> list[str]:
    """Build the arguments of the ffmpeg process that puts the encoded video and the rest of the original together.

    Args:
        output: file to write; its suffix chooses the container.
        like: the original.
        codec: ffmpeg's name of what the video is encoded in.
        inputs: what comes in besides the original, and how timestamps change.
        made: what of the original is in it.
    """
    part = made.part
    streams = choose_streams(like, output)
    cut = {"itsoffset": _in_us(inputs.later_s)} if part is None else _cut(part)
    video = ffmpeg.input(
        "pipe:0", format=form_for(output, codec).name, itsoffset=_in_us(inputs.later_s - inputs.delay_s)
    )
    original = ffmpeg.input(as_input(like.path), **OPENING, **cut)
    comment = ffmpeg.input(as_input(inputs.comment), format="ffmetadata")
    options: dict[str, Any] = {
        "c:0": "copy",
        "map_metadata": 2,
        "map_metadata:g": 1,  # what the file says too, and is not said by the one before
        "map_chapters": 1,
        "map_metadata:s:0": f"1:s:{like.index}",
        "disposition:0": "default",
        "max_interleave_delta": MOST_HELD_US,
    }
    if part is not None:
        options["t"] = _in_us(part.end_s - part.start_s)
    covers = {stream.index for stream in like.others if stream.kind == "cover"}
    for place, (index, into) in enumerate(streams.taken, start=1):
        options[f"c:{place}"] = into
        options[f"map_metadata:s:{place}"] = f"1:s:{index}"
        if part is not None and index not in covers:
            early = DROP_EARLY.format(LEADING if is_mp4(output) else 0)
            options |= {f"bsf:{place}": early} if into == "copy" else {f"filter:{place}": "atrim=start=0"}
        if index in covers:
            options[f"disposition:{place}"] = "attached_pic"
    if is_mp4(output):
        options |= {"movflags": "+faststart", "format": "mov" if output.suffix.lower() == ".mov" else "mp4"}
        if codec == "hevc":
            options["tag:0"] = "hvc1"  # under its other name Apple's players do not play it
        if like.time_base.numerator == 1:
            options["video_track_timescale"] = like.time_base.denominator
    taken = [original[str(index)] for index, _ in streams.taken]
    taken += [of[f"{NO_STREAM}?"] for of in (original, comment)]  # an input of which nothing is taken would be dropped
    shown = video["v:0"]
    if is_gif(output):
        shown = _in_few_colours(shown)
        options |= {"c:0": "gif", "fps_mode": "passthrough"}
    command = ffmpeg.output(shown, *taken, as_input(output), **options)
    return quiet(command.get_args())


def _in_few_colours(video: Any) -> Any:
    """Choose 256 colours for each frame by itself, so that long films need no more memory than short ones."""
    copies = video.filter_multi_output("split")
    return ffmpeg.filter([copies[0], copies[1].filter("palettegen", stats_mode="single")], "paletteuse", new=1)


def _cut(part: Part) -> dict[str, str | None]:
    return {
        "noaccurate_seek": None,  # it would count the start twice; what comes before it is dropped later
        "seek_timestamp": "1",
        "ss": _in_us(part.start_s),
        "itsoffset": _in_us(-part.start_s),
    }


def _in_us(seconds: Fraction) -> str:
    """Write a time as ffmpeg keeps it, rounded to µs; all usual units of time are longer, so none is changed by it."""
    return f"{round(seconds * 1_000_000)}us"


def join(segments: Sequence[Segment], output: Path, like: VideoInfo, made: Made = WHOLE) -> None:
    """Join segments, and take over from the original what else it has.

    Args:
        segments: in order.
        output: file to write; give a temporary name and rename it when this has returned.
        like: the original.
        made: which part of the original the segments show, and what is said of the result.

    Raises:
        MediaError: a segment is damaged, or ffmpeg fails; the message has its last words.
    """
    ahead = max(segment.reordered for segment in segments)
    first, *more = segments[0].pts
    step = more[0] - first if more else max(1, round(1 / ((like.average_rate or 25) * like.time_base)))
    late = ahead * step - first  # so that decoding begins at 0, below which containers do not count
    delay_s = (late + (first if made.part else 0)) * like.time_base
    later_s = Fraction(0) if made.part else _later_s(first, like, output)
    with (
        _written(made.comment, segments[0].path.with_name(COMMENT)) as told,
        av.open(as_input(segments[0].path), format="nut") as container,
    ):
        template = container.streams.video[0]
        codec = template.codec_context.name
        inputs = Inputs(told, delay_s, later_s)
        command = build_join_command(output, like, codec, inputs, made)
        kind = output.suffix.removeprefix(".").upper()
        doing = f"write {like.path} as {kind} into {output.parent}"
        with FfmpegPipe(command, doing, form_for(output, codec)) as pipe:
            stream = _add_stream(pipe, template, output)
            stream.time_base = like.time_base
            decoded = deque(range(0, ahead * step, step))
            for segment in segments:
                decoded.extend(pts + late for pts in segment.pts)
                for packet in _packets(segment, like.time_base):
                    packet.stream, packet.pts, packet.dts = stream, (packet.pts or 0) + late, decoded.popleft()
                    packet.duration = (decoded[0] if decoded else packet.dts + step) - packet.dts
                    pipe.mux([packet])
    if is_gif(output) and made.comment:  # an empty one would hide the frames behind it from ffmpeg
        comment_gif(output, made.comment)


@contextmanager
def _written(comment: str, path: Path) -> Iterator[Path]:
    """Write a comment as ffmpeg's metadata, and delete it behind the block."""
    escaped = re.sub(r"([=;#\\\n])", r"\\\1", comment)
    try:
        path.write_text(f";FFMETADATA1\n{f'comment={escaped}' if comment else ''}\n", encoding="utf-8", newline="\n")
        yield path
    finally:
        path.unlink(missing_ok=True)


def _later_s(first: int, like: VideoInfo, output: Path) -> Fraction:
    """Say by how much all is to be later, a multiple of the unit of time: MP4 shows nothing from before time 0."""
    taken = {index for index, _ in choose_streams(like, output).taken}
    early_by = max(early_s(like.path, taken), -first * like.time_base)
    return ceil(early_by / like.time_base) * like.time_base


def comment_of(path: Path) -> str:
    """Read a video's comment; empty where it has none."""
    with open_container(path) as container:
        return container.metadata.get("comment") or container.metadata.get("COMMENT") or ""


def _add_stream(pipe: FfmpegPipe, template: VideoStream, output: Path) -> VideoStream:
    try:
        return pipe.container.add_stream_from_template(template, opaque=True)  # for AV1 it has no decoder by our name
    except ValueError as error:
        what = f"{output.suffix} files cannot hold {template.codec_context.name} video"
        raise MediaError(f"{what}: name a .mov or .mkv") from error


def _packets(segment: Segment, time_base: Fraction) -> list[VideoPacket]:
    packets = read_segment(segment.path, segment.pts, time_base)
    if packets is None:
        raise MediaError(f"{segment.path} is damaged: delete it and type the same command again")
    return packets
