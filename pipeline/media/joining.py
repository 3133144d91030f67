"""A finished video: segments joined, with sound, subtitles, chapters and metadata taken over from the original."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import ffmpeg

from pipeline.errors import MediaError
from pipeline.media.pipe import MP4_PIECES, NUT, FfmpegPipe, Form, VideoPacket, as_input, quiet
from pipeline.media.probe import OtherStream, VideoInfo
from pipeline.media.writer import read_segment

TEXT_SUBTITLES = frozenset({"subrip", "srt", "ass", "ssa", "mov_text", "webvtt", "text"})
CHAPTER_TITLES = "bin_data"  # how MP4 stores them besides; chapters are taken over by themselves
MOST_HELD_US = 1_000_000  # of packets that wait for a stream that is silent, as subtitles are; else memory would grow
NO_STREAM = 9999  # a number that no file has


@dataclass(frozen=True)
class Segment:
    """A finished segment: its file, and the timestamps of its frames in the original."""

    path: Path
    pts: Sequence[int]


@dataclass(frozen=True)
class Part:
    """A part of a video, in seconds of its timestamps; the result begins at 0."""

    start_s: Fraction
    end_s: Fraction


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
    container = _CONTAINERS.get(output.suffix.lower(), _ANY)
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
        sound: codecs it takes as they are; None for any.
        sound_encoder: what becomes of the others.
        text: subtitle codecs it takes as they are.
        text_encoder: what becomes of other subtitles in words; None: they are left out.
        more: other kinds of streams that it takes; ``subtitle``: those that are pictures.
    """

    sound: frozenset[str] | None
    sound_encoder: str
    text: frozenset[str]
    text_encoder: str | None
    more: frozenset[str]


_BROWSER_SOUND = frozenset({"aac", "mp3", "opus", "flac", "ac3", "eac3", "alac"})
_RAW_SOUND = frozenset(f"pcm_{kind}" for kind in ("s16le", "s16be", "s24le", "s24be", "s32le", "s32be", "f32le"))
_MP4 = _Container(_BROWSER_SOUND, "aac", frozenset({"mov_text"}), "mov_text", frozenset({"cover"}))
_ANY = _Container(None, "copy", frozenset(), None, frozenset())
_CONTAINERS = {
    ".mp4": _MP4,
    ".m4v": _MP4,
    ".mov": replace(_MP4, sound=_BROWSER_SOUND | _RAW_SOUND),
    ".webm": _Container(frozenset({"opus", "vorbis"}), "libopus", frozenset({"webvtt"}), "webvtt", frozenset()),
    ".mkv": _Container(None, "copy", TEXT_SUBTITLES - {"mov_text"}, "subrip", frozenset({"subtitle", "attachment"})),
}


def build_join_command(output: Path, like: VideoInfo, codec: str, delay_s: Fraction, part: Part | None) -> list[str]:
    """Build the arguments of the ffmpeg process that puts the encoded video and the rest of the original together.

    Args:
        output: file to write; its suffix chooses the container.
        like: the original.
        codec: ffmpeg's name of what the video is encoded in.
        delay_s: by how many seconds the timestamps that come through the pipe are late.
        part: which part of the original; None for all of it.
    """
    streams = choose_streams(like, output)
    cut = {} if part is None else _cut(part)
    video = ffmpeg.input("pipe:0", format=form_for(output).name, itsoffset=_in_us(-delay_s))
    original = ffmpeg.input(as_input(like.path), protocol_whitelist="file", **cut)
    options: dict[str, Any] = {
        "c:0": "copy",
        "map_metadata": 1,
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
        if index in covers:
            options[f"disposition:{place}"] = "attached_pic"
    if is_mp4(output):
        options["movflags"] = "+faststart"
        if codec == "hevc":
            options["tag:0"] = "hvc1"  # under its other name Apple's players do not play it
        if like.time_base.numerator == 1:
            options["video_track_timescale"] = like.time_base.denominator
    taken = [original[str(index)] for index, _ in streams.taken]
    taken.append(original[f"{NO_STREAM}?"])  # ffmpeg-python drops an input of which nothing is taken
    command = ffmpeg.output(video["v:0"], *taken, as_input(output), **options)
    return quiet(command.get_args())


def is_mp4(output: Path) -> bool:
    """Say whether a file's name asks for MP4 or its like."""
    return output.suffix.lower() in (".mp4", ".mov", ".m4v")


def _cut(part: Part) -> dict[str, str]:
    return {
        "seek_timestamp": "1",
        "ss": _in_us(part.start_s),
        "itsoffset": _in_us(-part.start_s),
    }


def _in_us(seconds: Fraction) -> str:
    """Write a time as ffmpeg keeps it, rounded to µs; all usual units of time are longer, so none is changed by it."""
    return f"{round(seconds * 1_000_000)}us"


def form_for(output: Path) -> Form:
    """Choose in what packets are sent, by what the output must know: MP4 when each is decoded, Matroska not."""
    return MP4_PIECES if is_mp4(output) else NUT


def join(segments: Sequence[Segment], output: Path, like: VideoInfo, part: Part | None = None) -> None:
    """Join segments, and take over from the original what else it has.

    Args:
        segments: in order.
        output: file to write; give a temporary name and rename it when this has returned.
        like: the original.
        part: which part of the original the segments show; None for all of it.

    Raises:
        MediaError: a segment is damaged, or ffmpeg fails; the message has its last words.
    """
    ahead = max(_reordered(segment, like.time_base) for segment in segments)
    first, *more = segments[0].pts
    step = more[0] - first if more else max(1, round(1 / ((like.average_rate or 25) * like.time_base)))
    late = ahead * step - first  # so that decoding begins at 0, below which containers do not count
    delay_s = (late + (first if part else 0)) * like.time_base
    with av.open(as_input(segments[0].path), format="nut") as container:
        template = container.streams.video[0]
        command = build_join_command(output, like, template.codec_context.name, delay_s, part)
        with FfmpegPipe(command, f"write {output}", form_for(output)) as pipe:
            stream = pipe.container.add_stream_from_template(template)
            stream.time_base = like.time_base
            decoded = deque(range(0, ahead * step, step))
            for segment in segments:
                decoded.extend(pts + late for pts in segment.pts)
                for packet in _packets(segment, like.time_base):
                    packet.stream, packet.pts, packet.dts = stream, (packet.pts or 0) + late, decoded.popleft()
                    packet.duration = (decoded[0] if decoded else packet.dts + step) - packet.dts
                    pipe.mux([packet])
    if _count_frames(output) != sum(len(segment.pts) for segment in segments):
        raise MediaError(f"{output} did not come out whole: type the same command again")


def _count_frames(path: Path) -> int:
    with av.open(as_input(path)) as container:
        return sum(1 for packet in container.demux(video=0) if packet.size)


def _packets(segment: Segment, time_base: Fraction) -> list[VideoPacket]:
    packets = read_segment(segment.path, segment.pts, time_base)
    if packets is None:
        raise MediaError(f"{segment.path} is damaged: delete it and type the same command again")
    return packets


def _reordered(segment: Segment, time_base: Fraction) -> int:
    """Say by how many frames, at most, a frame is shown later than it is decoded; the least that decoding must lead."""
    shown = {pts: place for place, pts in enumerate(segment.pts)}
    return max(place - shown[packet.pts or 0] for place, packet in enumerate(_packets(segment, time_base)))
