"""What a player shows and plays of a file, measured by decoding all of it, including edit lists."""

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
from pipeline.media.mux import Part, choose_streams
from pipeline.media.probe import VideoInfo, frame_time_s, open_container, video_stream

SOUND_TOLERANCE_S = Fraction(3, 20)  # of length and start: decoders drop different numbers of packets at the ends
TIME_STEP_S = Fraction(1, 1_000_000)  # to which ffmpeg rounds times


@dataclass
class Sound:
    """The decoded sound of a stream.

    Attributes:
        length_s: of all samples.
        start_s: time of the first sample; None if there is none, or the file does not say.
        longest_s: length of the longest frame.
    """

    length_s: Fraction = Fraction(0)
    start_s: Fraction | None = None
    longest_s: Fraction = Fraction(0)

    def add(self, frame: AudioFrame, part: Part | None) -> None:
        """Count the samples of a frame that lie in a part."""
        length_s, start_s = Fraction(frame.samples, frame.sample_rate or 1), frame_time_s(frame)
        self.longest_s = max(self.longest_s, length_s)
        if part is not None and start_s is not None:
            end_s = min(start_s + length_s, part.end_s)
            start_s = max(start_s, part.start_s)
            length_s = end_s - start_s
        if length_s > 0:
            self.length_s += length_s
            self.start_s = start_s if self.start_s is None else self.start_s


@dataclass
class Playback:
    """What a file shows and plays.

    Attributes:
        frame_times_s: presentation time of each frame.
        time_step_s: to which the file rounds these times.
        sounds: by number of the stream.
    """

    frame_times_s: list[Fraction] = field(default_factory=list)
    time_step_s: Fraction = TIME_STEP_S
    sounds: dict[int, Sound] = field(default_factory=dict)


def decode_playback(path: Path) -> Playback:
    """Decode a file's main video and all its sound."""
    with open_container(path) as container:
        video = video_stream(container, path)
        video.thread_type = "AUTO"
        video.codec_context.thread_count = 0
        video.codec_context.options = {"skip_loop_filter": "all"}  # faster; the pixels do not matter here
        playback = Playback(time_step_s=max(Fraction(video.time_base or TIME_STEP_S), TIME_STEP_S))
        _decode(container, [video, *container.streams.audio], playback, None)
    return playback


def decode_sound(
    path: Path, indices: Sequence[int], part: Part | None = None, *, seeks: bool = True
) -> dict[int, Sound]:
    """Decode sound streams within a part (None for all); ``seeks``: start at the part if the file can seek."""
    playback = Playback()
    if not indices:
        return playback.sounds
    with open_container(path) as container:
        if part is not None and seeks:
            try:
                container.seek(int(part.start_s * av.time_base))
            except av.error.FFmpegError:
                return decode_sound(path, indices, part, seeks=False)
        _decode(container, [container.streams[index] for index in indices], playback, part)
    return playback.sounds


def _decode(container: InputContainer, streams: Sequence[Stream], playback: Playback, part: Part | None) -> None:
    playback.sounds |= {stream.index: Sound() for stream in streams if stream.type == "audio"}
    streams = [stream for stream in streams if stream.codec_context is not None]  # others cannot be decoded
    finished: set[int] = set()
    try:
        for packet in container.demux(list(streams)):
            index, time = packet.stream.index, packet.dts if packet.pts is None else packet.pts
            start_s = None if time is None or packet.time_base is None else time * packet.time_base
            if part is not None and start_s is not None and start_s >= part.end_s:
                finished.add(index)
                if len(finished) == len(streams):
                    return
                continue
            try:
                frames = packet.decode()
            except av.error.FFmpegError:  # damaged, in the original as in the result
                continue
            for frame in frames:
                if isinstance(frame, AudioFrame):
                    playback.sounds[index].add(frame, part)
                elif isinstance(frame, VideoFrame):
                    time_s, times_s = frame_time_s(frame), playback.frame_times_s
                    times_s.append(time_s if time_s is not None else (times_s or [Fraction(0)])[-1])
    except av.error.FFmpegError:  # the file ends here
        return


def check_result(result: Path, like: VideoInfo, pts: Sequence[int], part: Part | None) -> None:
    """Raise MediaError unless a result plays completely: every frame at its time, and all of the original's sound.

    Args:
        result: the finished file.
        like: the original.
        pts: of the frames it must show, in units of the original's time base.
        part: of the original that was converted; None for all of it.
    """
    playback = decode_playback(result)
    problem = _compare_frames(playback, [(time - pts[0]) * like.time_base for time in pts], result)
    if problem is None:
        copied = choose_streams(like, result).codecs
        sounds = [stream.index for stream in like.others if stream.kind == "audio" and stream.index in copied]
        for seeks in (True, False) if part is not None else (False,):  # seeking may miss the start of the part
            problem = _compare_sounds(
                decode_sound(like.path, sounds, part, seeks=seeks), playback, pts[0] * like.time_base
            )
            if problem is None:
                return
    raise MediaError(f"the result of {like.path} is not complete: {problem}; try another kind of file (-o …)")


def _compare_frames(playback: Playback, expected_s: list[Fraction], result: Path) -> str | None:
    """Describe missing frames or wrong times; None if all are right."""
    shown_s = playback.frame_times_s
    if len(shown_s) != len(expected_s):
        return f"{len(shown_s)} of {len(expected_s)} frames are shown"
    if result.suffix.lower() == ".gif":  # players and decoders change the times of fast frames
        return None
    error_s = max(abs(shown - shown_s[0] - expected) for shown, expected in zip(shown_s, expected_s, strict=True))
    if error_s > playback.time_step_s + TIME_STEP_S:
        return f"a frame is shown {float(error_s):.3f} s too early or too late"
    return None


def _compare_sounds(originals: dict[int, Sound], playback: Playback, first_s: Fraction) -> str | None:
    """Describe differences from the original's sound; ``first_s``: the result's first frame in the original."""
    sounds = list(playback.sounds.values())
    if len(originals) != len(sounds):  # a track that is silent in this part may be missing
        originals = {index: sound for index, sound in originals.items() if sound.length_s > SOUND_TOLERANCE_S}
        sounds = [sound for sound in sounds if sound.length_s]
    if len(originals) != len(sounds):
        return f"{len(sounds)} of {len(originals)} sound tracks are heard"
    for (index, old), new in zip(originals.items(), sounds, strict=True):
        tolerance_s = SOUND_TOLERANCE_S + 2 * max(old.longest_s, new.longest_s)
        if abs(new.length_s - old.length_s) > tolerance_s:
            return f"{float(new.length_s):.2f} of {float(old.length_s):.2f} s of sound stream {index} are heard"
        if old.start_s is not None and new.start_s is not None:
            late_s = (new.start_s - playback.frame_times_s[0]) - (old.start_s - first_s)
            if abs(late_s) > tolerance_s:
                return f"sound stream {index} is heard {float(late_s):.2f} s too late"
    return None
