"""A finished video: segments joined, with sound, subtitles, chapters and metadata taken over from the original."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Any

import av
import ffmpeg

from pipeline.errors import MediaError
from pipeline.media.pipe import FfmpegPipe, VideoPacket, as_input, quiet
from pipeline.media.probe import VideoInfo
from pipeline.media.writer import read_segment

TEXT_SUBTITLES = frozenset({"subrip", "srt", "ass", "ssa", "mov_text", "webvtt", "text"})
MP4_AUDIO = frozenset({"aac", "mp3", "opus", "flac", "ac3", "eac3", "alac"})  # what browsers play too
WEBM_AUDIO = frozenset({"opus", "vorbis"})
MOST_REORDERED = 16  # frames that H.264 and H.265 may send ahead of one that is shown before them
HEVC = frozenset({"hevc"})


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
    suffix = output.suffix.lower()
    holder = suffix.removeprefix(".").upper()
    taken: list[tuple[int, str]] = []
    notes: list[str] = []
    for stream in like.others:
        codec = _codec_for(stream.kind, stream.codec, suffix)
        what = f"{stream.kind} stream {stream.index} ({stream.codec})"
        if codec is None:
            notes.append(f"{what} left out: {_why(stream.kind, holder)}")
            continue
        taken.append((stream.index, codec))
        if stream.kind == "audio" and codec != "copy":
            notes.append(f"{what} re-encoded as {codec}: {holder} cannot hold it")
    return Streams(tuple(taken), tuple(notes))


def _why(kind: str, holder: str) -> str:
    return "only the main one is converted" if kind == "video" else f"{holder} cannot hold it"


def _codec_for(kind: str, codec: str, suffix: str) -> str | None:
    """Name what ffmpeg is to make of a stream: ``copy``, an encoder, or None for leaving it out."""
    mp4, webm, mkv = suffix in (".mp4", ".mov", ".m4v"), suffix == ".webm", suffix in (".mkv", ".mka")
    match kind:
        case "audio" if mp4:
            fits = codec in MP4_AUDIO or (suffix == ".mov" and codec.startswith("pcm_"))
            return "copy" if fits else "aac"
        case "audio" if webm:
            return "copy" if codec in WEBM_AUDIO else "libopus"
        case "audio":
            return "copy"
        case "subtitle" if mp4:
            return "mov_text" if codec in TEXT_SUBTITLES else None
        case "subtitle" if webm:
            return "webvtt" if codec in TEXT_SUBTITLES else None
        case "subtitle" if mkv:
            return "subrip" if codec == "mov_text" else "copy"
        case "cover":
            return "copy" if mp4 else None
        case "attachment":
            return "copy" if mkv else None
    return None


def build_join_command(output: Path, like: VideoInfo, delay_s: int, part: Part | None) -> list[str]:
    """Build the arguments of the ffmpeg process that puts the encoded video and the rest of the original together.

    Args:
        output: file to write; its suffix chooses the container.
        like: the original.
        delay_s: by how many seconds the timestamps that come through the pipe are late.
        part: which part of the original; None for all of it.
    """
    streams = choose_streams(like, output)
    cut = {} if part is None else _cut(part)
    video = ffmpeg.input("pipe:0", format="nut", itsoffset=-delay_s)
    original = ffmpeg.input(as_input(like.path), protocol_whitelist="file", **cut)
    options: dict[str, Any] = {
        "c:0": "copy",
        "map_metadata": 1,
        "map_chapters": 1,
        "map_metadata:s:0": f"1:s:{like.index}",
        "disposition:0": "default",
        "max_interleave_delta": 0,
    }
    covers = {stream.index for stream in like.others if stream.kind == "cover"}
    for place, (index, codec) in enumerate(streams.taken, start=1):
        options[f"c:{place}"] = codec
        options[f"map_metadata:s:{place}"] = f"1:s:{index}"
        if index in covers:
            options[f"disposition:{place}"] = "attached_pic"
    if output.suffix.lower() in (".mp4", ".mov", ".m4v"):
        options["movflags"] = "+faststart"
        if like.time_base.numerator == 1:
            options["video_track_timescale"] = like.time_base.denominator
    taken = [original[str(index)] for index, _ in streams.taken]
    command = ffmpeg.output(video["v:0"], *taken, as_input(output), **options)
    return quiet(command.get_args())


def _cut(part: Part) -> dict[str, str]:
    start = f"{float(part.start_s):.6f}"
    return {"ss": start, "t": f"{float(part.end_s - part.start_s):.6f}", "itsoffset": f"-{start}"}


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
    first = segments[0].pts[0]
    moved = -first if part else 0
    room = Fraction(max(0, -(first + moved)) + MOST_REORDERED) * like.time_base
    whole = like.time_base.numerator  # seconds that are whole units too
    delay_s = whole * ceil(room / whole)
    late = moved + int(delay_s / like.time_base)
    command = build_join_command(output, like, delay_s, part)
    with av.open(as_input(segments[0].path), format="nut") as template, FfmpegPipe(command, f"write {output}") as pipe:
        stream = pipe.container.add_stream_from_template(template.streams.video[0])
        stream.time_base = like.time_base
        for packet in _packets(segments, late, like.time_base):
            packet.stream = stream
            pipe.mux([packet])


def _packets(segments: Sequence[Segment], late: int, time_base: Fraction) -> Iterator[VideoPacket]:
    """Give all packets in order of decoding, with timestamps of decoding that go on over the joins.

    The n-th is decoded when the n-16th is shown: never after it is shown itself, whatever the order.
    """
    first = segments[0].pts[0] + late
    shown = deque(range(first - MOST_REORDERED, first))
    for segment in segments:
        packets = read_segment(segment.path, segment.pts, time_base)
        if packets is None:
            raise MediaError(f"{segment.path} is damaged: delete it and type the same command again")
        shown.extend(pts + late for pts in segment.pts)
        for packet in packets:
            assert packet.pts is not None
            packet.pts, packet.dts = packet.pts + late, shown.popleft()
            yield packet
