"""What kinds of files a result can be, and what of an original each can hold."""

import re
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.errors import UsageError
from pipeline.media.pipe import MOV_PIECES, MP4_PIECES, NUT, Form
from pipeline.media.probe import OtherStream, VideoInfo

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
