"""What a player shows of a file, and lets hear: found out by decoding all of it, edit lists and all."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
from av.audio.frame import AudioFrame
from av.container import InputContainer
from av.stream import Stream
from av.video.frame import VideoFrame

from pipeline.errors import MediaError
from pipeline.media.mux import Part, choose_streams, is_gif
from pipeline.media.probe import VideoInfo, open_container, video_stream

SLACK_S = Fraction(3, 20)  # of a sound's length and beginning: decoders drop some packets at the ends, or do not
TICK_S = Fraction(1, 1_000_000)  # to which ffmpeg rounds times


@dataclass
class Sound:
    """What is heard of a stream.

    Attributes:
        length_s: of all samples that come out.
        begin_s: when the first of them is heard; None where nothing is, or the file does not say.
        longest_s: of what one packet holds.
    """

    length_s: Fraction = Fraction(0)
    begin_s: Fraction | None = None
    longest_s: Fraction = Fraction(0)

    def hear(self, frame: AudioFrame, part: Part | None) -> None:
        """Count decoded samples, as far as they lie in a part."""
        length = Fraction(frame.samples, frame.sample_rate or 1)
        begin = _moment(frame)
        self.longest_s = max(self.longest_s, length)
        if part is not None and begin is not None:
            end = min(begin + length, part.end_s)
            begin = max(begin, part.start_s)
            length = end - begin
        if length > 0:
            self.length_s += length
            self.begin_s = begin if self.begin_s is None else self.begin_s


@dataclass
class Played:
    """What a file shows and lets hear.

    Attributes:
        shown_s: when each frame is shown.
        tick_s: to which the file rounds these times.
        sounds: by number of the stream.
    """

    shown_s: list[Fraction] = field(default_factory=list)
    tick_s: Fraction = TICK_S
    sounds: dict[int, Sound] = field(default_factory=dict)


def play(path: Path) -> Played:
    """Decode a file's main video and all its sound.

    Raises:
        MediaError: it cannot be read.
    """
    with open_container(path) as container:
        video = video_stream(container, path)
        video.thread_type = "AUTO"
        video.codec_context.thread_count = 0
        video.codec_context.options = {"skip_loop_filter": "all"}  # how frames look does not matter here
        played = Played(tick_s=max(Fraction(video.time_base or TICK_S), TICK_S))
        _decode(container, [video, *container.streams.audio], played, None)
    return played


def hear(path: Path, indices: Sequence[int], part: Part | None = None, *, seeks: bool = True) -> dict[int, Sound]:
    """Decode sound, as far as it lies in a part.

    Args:
        path: of the file.
        indices: numbers of the streams.
        part: all where it is None.
        seeks: begin to read there, as far as the file lets find the place.

    Raises:
        MediaError: the file cannot be read.
    """
    played = Played()
    if not indices:
        return played.sounds
    with open_container(path) as container:
        if part is not None and seeks:
            try:
                container.seek(int(part.start_s * av.time_base))
            except av.error.FFmpegError:
                return hear(path, indices, part, seeks=False)
        _decode(container, [container.streams[index] for index in indices], played, part)
    return played.sounds


def _decode(container: InputContainer, streams: Sequence[Stream], played: Played, part: Part | None) -> None:
    played.sounds |= {stream.index: Sound() for stream in streams if stream.type == "audio"}
    streams = [stream for stream in streams if stream.codec_context is not None]  # nobody can hear those without
    over: set[int] = set()
    try:
        for packet in container.demux(list(streams)):
            index, moment = packet.stream.index, packet.pts if packet.pts is not None else packet.dts
            begin_s = None if moment is None or packet.time_base is None else moment * packet.time_base
            if part is not None and begin_s is not None and begin_s >= part.end_s:
                over.add(index)
                if len(over) == len(streams):
                    return
                continue
            try:
                frames = packet.decode()
            except av.error.FFmpegError:  # damaged, in the original as in what was made of it
                continue
            for frame in frames:
                if isinstance(frame, AudioFrame):
                    played.sounds[index].hear(frame, part)
                elif isinstance(frame, VideoFrame):
                    played.shown_s.append(_moment(frame) or (played.shown_s or [Fraction(0)])[-1])
    except av.error.FFmpegError:  # the file breaks off here
        return


def _moment(frame: AudioFrame | VideoFrame) -> Fraction | None:
    return None if frame.pts is None or frame.time_base is None else frame.pts * frame.time_base


def check_result(result: Path, like: VideoInfo, pts: Sequence[int], part: Part | None) -> None:
    """Make sure that a player gets all of a result: every frame at its time, and all of the original's sound.

    Args:
        result: the finished file.
        like: the original.
        pts: of the frames it is to show, in units of the original's time base.
        part: of the original that it is; None for all of it.

    Raises:
        MediaError: something is missing, or in the wrong place.
    """
    played = play(result)
    unit = like.time_base
    wanted = [(moment - pts[0]) * unit for moment in pts]
    if len(played.shown_s) != len(wanted):
        raise _fails(like, f"{len(played.shown_s)} of {len(wanted)} frames are shown")
    if not is_gif(result):  # players have ways of their own with frames that follow each other fast
        off = max(abs(shown - played.shown_s[0] - at) for shown, at in zip(played.shown_s, wanted, strict=True))
        if off > played.tick_s + TICK_S:
            raise _fails(like, f"a frame is shown {float(off):.3f} s too early or too late")
    sound = {stream.index for stream in like.others if stream.kind == "audio"}
    taken = [index for index, _ in choose_streams(like, result).taken if index in sound]
    wrong = None
    for seeks in (True, False) if part is not None else (False,):  # a place that was not found is no fault of ours
        wrong = _compare(hear(like.path, taken, part, seeks=seeks), played, pts[0] * unit)
        if wrong is None:
            return
    raise _fails(like, wrong or "")


def _compare(originals: dict[int, Sound], played: Played, first_s: Fraction) -> str | None:
    """Say what of the sound is not as in the original; None where all is."""
    made = list(played.sounds.values())
    if len(originals) != len(made):  # a track that is silent in this part may not be there
        originals = {index: sound for index, sound in originals.items() if sound.length_s > SLACK_S}
        made = [sound for sound in made if sound.length_s]
    if len(originals) != len(made):
        return f"{len(made)} of {len(originals)} sound tracks are heard"
    for (index, old), new in zip(originals.items(), made, strict=True):
        slack = SLACK_S + 2 * max(old.longest_s, new.longest_s)
        if abs(new.length_s - old.length_s) > slack:
            return f"{float(new.length_s):.2f} of {float(old.length_s):.2f} s of sound stream {index} are heard"
        if old.begin_s is not None and new.begin_s is not None:
            late = (new.begin_s - played.shown_s[0]) - (old.begin_s - first_s)
            if abs(late) > slack:
                return f"sound stream {index} is heard {float(late):.2f} s too late"
    return None


def _fails(like: VideoInfo, what: str) -> MediaError:
    return MediaError(f"what was made of {like.path} did not come out whole: {what}; another kind of file may (-o …)")
