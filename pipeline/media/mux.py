"""A finished video: segments joined, with sound, subtitles, chapters and metadata copied from the original.

Also which of these each container can hold.
"""

import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple

import av
import ffmpeg

from pipeline.errors import MediaError, UsageError
from pipeline.media.ffmpeg import (
    MOV_FRAGMENTS,
    MP4_FRAGMENTS,
    NUT,
    FfmpegPipe,
    PipeFormat,
    ffmpeg_command,
    local_file,
    quoted_file,
)
from pipeline.media.probe import OPEN_OPTIONS, OtherStream, VideoInfo, open_container, time_before_zero_s
from pipeline.media.writer import read_segment
from pipeline.provenance.credentials import comment_gif

MOV_TEXT_BYTES = 65_000  # QuickTime counts a text's bytes in 16 bits
MP4_CHAPTER_TITLES = "bin_data"  # a separate stream; the chapters themselves are copied anyway
MAX_INTERLEAVE_US = 1_000_000  # how long packets wait for sparse streams such as subtitles; limits memory
COMMENT_FILE = "part_comment.txt"  # if this run fails, the next one deletes it with the other parts
MISSING_STREAM = 9999  # a stream number that no file has
DROP_EARLY = "noise=amount=0:drop=lt(pts+{}*d\\,0)"  # bitstream filter: drop packets before the start, add no noise
SOUND_HZ = 48_000  # MP4 stores stream starts in units of the file: exact for frames, to a sample for sound
MIN_OFFSET_S = Fraction(1, 1_000_000)  # moves no packet; ffmpeg 5.1 changes offsets that exactly cancel a file's start
LEADING_PACKETS = 2  # of sound before the start, needed by decoders, if the container can mark them as silent


class _Container(NamedTuple):
    """What a container can hold.

    Attributes:
        encoders: regular expression that matches the names of its video encoders.
        sound: codecs that are copied; None for any.
        sound_encoder: for other codecs; None to leave them out.
        text: subtitle codecs that are copied.
        text_encoder: for other text subtitles; None to leave them out.
        more: other kinds of streams that are copied; ``subtitle`` means bitmap subtitles.
    """

    encoders: str
    sound: frozenset[str] | None
    sound_encoder: str | None
    text: frozenset[str]
    text_encoder: str | None
    more: frozenset[str]


TEXT_SUBTITLES = frozenset({"subrip", "srt", "ass", "ssa", "mov_text", "webvtt", "text"})
_MOV_SOUND = frozenset({"aac", "mp3", "ac3", "eac3", "alac"})
_RAW_SOUND = frozenset(f"pcm_{kind}" for kind in ("s16le", "s16be", "s24le", "s24be", "s32le", "s32be", "f32le"))
_MP4 = _Container("", _MOV_SOUND | {"opus", "flac"}, "aac", frozenset({"mov_text"}), "mov_text", frozenset({"cover"}))
_WEBM_SOUND, _WEBM_TEXT = frozenset({"opus", "vorbis"}), frozenset({"webvtt"})
_MKV_TEXT, _MKV_MORE = TEXT_SUBTITLES - {"mov_text"}, frozenset({"subtitle", "attachment"})
CONTAINERS = {
    ".mp4": _MP4,
    ".m4v": _MP4,
    ".mov": _MP4._replace(sound=_MOV_SOUND | _RAW_SOUND),
    ".webm": _Container("vp[89x]|av1", _WEBM_SOUND, "libopus", _WEBM_TEXT, "webvtt", frozenset()),
    ".mkv": _Container("", None, "copy", _MKV_TEXT, "subrip", _MKV_MORE),
    ".gif": _Container("", frozenset(), None, frozenset(), None, frozenset()),
}
"""By suffix of the output."""
MP4_FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov"}
"""Ffmpeg's muxer for MP4 and the like, by suffix."""


@dataclass(frozen=True)
class Segment:
    """A finished segment.

    Attributes:
        path: its file.
        pts: timestamps of its frames in the original.
        reordered: frames by which decoding must be ahead of display.
    """

    path: Path
    pts: Sequence[int]
    reordered: int


def inspect_segment(path: Path, pts: Sequence[int], time_base: Fraction) -> Segment | None:
    """Read a segment; None unless the file holds exactly the frames with these timestamps."""
    packets = read_segment(path, pts, time_base)
    if packets is None:
        return None
    shown = {time: index for index, time in enumerate(pts)}
    return Segment(path, pts, max(index - shown[packet.pts or 0] for index, packet in enumerate(packets)))


class Part(NamedTuple):
    """A part of a video, in seconds of its timestamps; the result begins at 0."""

    start_s: Fraction
    end_s: Fraction


class Streams(NamedTuple):
    """The original's streams that a result gets besides the video.

    Attributes:
        codecs: ffmpeg's encoder or "copy", by number of the stream in the original.
        notes: streams that are changed or left out, a line each.
    """

    codecs: dict[int, str]
    notes: tuple[str, ...]


def choose_streams(like: VideoInfo, output: Path) -> Streams:
    """Choose which of the original's streams the output's container can hold, and how."""
    container, name = CONTAINERS[output.suffix.lower()], output.suffix.removeprefix(".").upper()
    codecs: dict[int, str] = {}
    notes: list[str] = []
    for stream in like.others:
        codec, label = _choose_codec(stream, container), f"{stream.kind} stream {stream.index} ({stream.codec})"
        if codec is not None:
            codecs[stream.index] = codec
            if stream.kind == "audio" and codec != "copy":
                notes.append(f"{label} re-encoded as {codec}: {name} cannot hold it")
        elif stream.codec != MP4_CHAPTER_TITLES:
            reasons = {"video": "only the main one is converted", "data": "it may not fit the new frames"}
            notes.append(f"{label} left out: {reasons.get(stream.kind, f'{name} cannot hold it')}")
    return Streams(codecs, tuple(notes))


def _choose_codec(stream: OtherStream, container: _Container) -> str | None:
    """Return ``copy``, an encoder, or None to leave the stream out."""
    match stream.kind:
        case "audio":
            return "copy" if container.sound is None or stream.codec in container.sound else container.sound_encoder
        case "subtitle" if stream.codec in TEXT_SUBTITLES:
            return "copy" if stream.codec in container.text else container.text_encoder
    return "copy" if stream.kind in container.more else None


def check_container(output: Path, codec: str) -> None:
    """Raise UsageError unless the output's suffix names a container for this encoder's video."""
    container = CONTAINERS.get(output.suffix.lower())
    if container is None:
        suffixes = ", ".join(CONTAINERS)
        raise UsageError(f"cannot write {output}: results end in {suffixes}; to name a folder, make it first")
    if not re.search(container.encoders, codec):
        raise UsageError(
            f"cannot write {output}: {output.suffix} files do not hold video of {codec}; "
            "add --codec libvpx-vp9 or libsvtav1, or name an .mp4"
        )


def cut_comment(comment: str, output: Path) -> str:
    """Shorten a comment to what the output's container can hold."""
    if output.suffix.lower() != ".mov":
        return comment
    return comment.encode()[:MOV_TEXT_BYTES].decode(errors="ignore")


def comment_of(path: Path) -> str:
    """Read a video's comment; empty if it has none."""
    with open_container(path) as container:
        return container.metadata.get("comment") or container.metadata.get("COMMENT") or ""


def join(
    segments: Sequence[Segment], output: Path, like: VideoInfo, part: Part | None = None, comment: str = ""
) -> None:
    """Join segments, and copy the original's other streams and metadata.

    Args:
        segments: in order.
        output: file to write; give a temporary name and rename it afterwards.
        like: the original.
        part: of the original that the segments show; None for all of it.
        comment: for the result's metadata.
    """
    depth = max(segment.reordered for segment in segments)
    first, *more = segments[0].pts
    step = more[0] - first if more else max(1, round(1 / ((like.average_rate or 25) * like.time_base)))
    delay = depth * step - first  # decoding must start at 0 or later
    shift_s, early_s = Fraction(0), time_before_zero_s(like.path, choose_streams(like, output).codecs)
    if part is None:  # players show nothing before time 0 of an MP4
        shift_s = ceil(max(early_s, -first * like.time_base) / like.time_base) * like.time_base
    video_shift_s = shift_s - (delay if part is None else delay + first) * like.time_base
    comment_file = segments[0].path.with_name(COMMENT_FILE)
    # In ffmpeg's metadata format: a comment may be too long for a command line.
    escaped = re.sub(r"([=;#\\\n])", r"\\\1", comment)
    metadata = f";FFMETADATA1\n{f'comment={escaped}' if comment else ''}\n"
    comment_file.write_text(metadata, encoding="utf-8", newline="\n")
    with av.open(local_file(segments[0].path), format="nut") as container:
        template = container.streams.video[0]
        codec = template.codec_context.name
        pipe_format = _pipe_format(output, codec)
        inputs = (
            ffmpeg.input("pipe:0", format=pipe_format.name, itsoffset=_us(video_shift_s))["v:0"],
            ffmpeg.input(quoted_file(like.path), **OPEN_OPTIONS, **_timing(part, shift_s, seeks=early_s <= 0)),
            ffmpeg.input(quoted_file(comment_file), format="ffmetadata"),
        )
        task = f"write {like.path} as {output.suffix.removeprefix('.').upper()} into {output.parent}"
        with FfmpegPipe(_join_command(inputs, output, like, codec, part), task, pipe_format) as pipe:
            try:  # without opaque, PyAV looks for a decoder by the encoder's name, and AV1 has none
                stream = pipe.container.add_stream_from_template(template, opaque=True)
            except ValueError as error:
                raise MediaError(f"{output.suffix} files cannot hold {codec} video: name a .mov or .mkv") from error
            stream.time_base = like.time_base
            dts = deque(range(0, depth * step, step))
            for segment in segments:
                packets = read_segment(segment.path, segment.pts, like.time_base)
                if packets is None:
                    raise MediaError(f"{segment.path} is damaged: delete it and type the same command again")
                dts.extend(pts + delay for pts in segment.pts)
                for packet in packets:
                    packet.stream, packet.pts, packet.dts = stream, (packet.pts or 0) + delay, dts.popleft()
                    packet.duration = (dts[0] if dts else packet.dts + step) - packet.dts
                    pipe.mux([packet])
    comment_file.unlink()
    if _is_gif(output) and comment:  # ffmpeg shows no frames after an empty comment
        comment_gif(output, comment)


def _timing(part: Part | None, shift_s: Fraction, *, seeks: bool) -> dict[str, str | None]:
    """Ffmpeg's input options: start of the part, and seconds to add to timestamps.

    A file that starts before time 0 is read from its start even for a part: ffmpeg cannot seek there.
    """
    if part is None:
        return {"itsoffset": _us(shift_s + MIN_OFFSET_S)}
    if not seeks:
        return {"itsoffset": _us(-part.start_s + MIN_OFFSET_S)}
    # Accurate seeking would count the start twice; _join_command drops packets before it.
    start = {"ss": _us(part.start_s), "itsoffset": _us(-part.start_s + MIN_OFFSET_S)}
    return {"noaccurate_seek": None, "seek_timestamp": "1", **start}


def _join_command(
    inputs: tuple[Any, Any, Any], output: Path, like: VideoInfo, codec: str, part: Part | None
) -> list[str]:
    """Build the command that muxes three inputs: the encoded video, the original, and the result's metadata."""
    video, original, metadata = inputs
    options: dict[str, Any] = {
        "c:0": "copy",
        "map_metadata": 2,
        "map_metadata:g": 1,  # adds metadata of the original that the comment file lacks
        "map_chapters": 1,
        "map_metadata:s:0": f"1:s:{like.index}",
        "disposition:0": "default",
        "max_interleave_delta": MAX_INTERLEAVE_US,
    }
    if part is not None:
        options["t"] = _us(part.end_s - part.start_s)
    if (mp4_format := MP4_FORMATS.get(output.suffix.lower())) is not None:
        options |= {"movflags": "+faststart", "format": mp4_format}
        if codec == "hevc":
            options["tag:0"] = "hvc1"  # Apple's players do not play the default tag
        if like.time_base.numerator == 1:
            units = like.time_base.denominator
            options["video_track_timescale"] = units
            options["movie_timescale"] = units * ceil(SOUND_HZ / units)
    covers = {stream.index for stream in like.others if stream.kind == "cover"}
    codecs = choose_streams(like, output).codecs
    for number, (index, stream_codec) in enumerate(codecs.items(), start=1):
        options |= {f"c:{number}": stream_codec, f"map_metadata:s:{number}": f"1:s:{index}"}
        if index in covers:
            options[f"disposition:{number}"] = "attached_pic"
        elif part is not None and stream_codec == "copy":
            options[f"bsf:{number}"] = DROP_EARLY.format(LEADING_PACKETS if mp4_format else 0)
        elif part is not None:
            options[f"filter:{number}"] = "atrim=start=0"
    if _is_gif(output):  # a palette per frame, so that memory does not grow with the length
        copies = video.filter_multi_output("split")
        palette = copies[1].filter("palettegen", stats_mode="single")
        video = ffmpeg.filter([copies[0], palette], "paletteuse", new=1)
        options |= {"c:0": "gif", "fps_mode": "passthrough"}
    streams = [original[str(index)] for index in codecs]
    streams += [used[f"{MISSING_STREAM}?"] for used in (original, metadata)]  # else ffmpeg-python drops unused inputs
    return ffmpeg_command(ffmpeg.output(video, *streams, quoted_file(output), **options).get_args())


def _is_gif(output: Path) -> bool:
    return output.suffix.lower() == ".gif"


def _pipe_format(output: Path, codec: str) -> PipeFormat:
    """Choose the pipe's container: MP4 outputs need decoding times, others do not."""
    is_mp4 = output.suffix.lower() in MP4_FORMATS
    if output.suffix.lower() == ".mov" or (codec == "prores" and not is_mp4):  # NUT has no name for ProRes
        return MOV_FRAGMENTS
    return MP4_FRAGMENTS if is_mp4 else NUT


def _us(seconds: Fraction) -> str:
    """Format a time in µs, ffmpeg's unit; common time bases are coarser, so none of their times changes."""
    return f"{round(seconds * 1_000_000)}us"
