import gc
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from pipeline.errors import MediaError, RecastError, UsageError
from pipeline.media.canvas import Canvas, PixelFormat
from pipeline.media.ffmpeg import NUT, FfmpegPipe
from pipeline.media.mux import Part, choose_streams
from pipeline.media.playback import check_result, decode_playback
from pipeline.media.probe import Colour, VideoInfo, probe
from pipeline.media.reader import Frame, VideoReader
from pipeline.media.writer import Encoding, SegmentWriter, build_encode_command, pixel_formats
from tests.clips import (
    FULL,
    LIMITED,
    RHYTHMS,
    SOUND_HZ,
    Sound,
    Turn,
    Video,
    ffmpeg,
    planes,
    rewrite,
    scene,
    sound_packets,
    write_video,
)

LOSSLESS = Encoding(crf=0, preset="ultrafast")  # 8 bit only
RECODED = "audio stream {} (pcm_s16le) re-encoded as aac: MP4 cannot hold it"
QUICK = Encoding(preset="ultrafast")


def convert(path: Path, output: Path, encoding: Encoding = QUICK) -> VideoInfo:
    """Write a video again, with nothing drawn into it, in segments of three frames."""
    return rewrite(path, output, encoding)


def writer_for(reader: VideoReader, output: Path, frames: int) -> SegmentWriter:
    pixels = PixelFormat.for_video(reader.info)
    return SegmentWriter(output, reader.info, pixels, QUICK, range(0, 512 * frames, 512))


def drawn(frame: Frame, info: VideoInfo) -> VideoFrame:
    return Canvas(frame.native, PixelFormat.for_video(info)).frame


def frames_of(path: Path) -> list[Frame]:
    with VideoReader(path) as reader:
        return list(reader)


def times_of(path: Path) -> list[Fraction]:
    with VideoReader(path) as reader:
        return [frame.pts * reader.info.time_base for frame in reader]


def box_names(path: Path) -> list[bytes]:
    """Names of an MP4's top boxes, in order."""
    content, names, start = path.read_bytes(), [], 0
    while start < len(content):
        names.append(content[start + 4 : start + 8])
        start += int.from_bytes(content[start : start + 4], "big")
    return names


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[subprocess.Popen[bytes]]]:
    """The processes that the test has started so far."""
    processes: list[subprocess.Popen[bytes]] = []

    class Noted(subprocess.Popen[bytes]):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            processes.append(self)

    monkeypatch.setattr(subprocess, "Popen", Noted)
    yield processes
    gc.collect()  # a file that was left open warns now, and not in some later test


@pytest.mark.parametrize("name", RHYTHMS)
@pytest.mark.parametrize("sounds", [(), (Sound(1.0),)], ids=["silent", "sound"])
def test_timestamps_survive_exactly(tmp_path: Path, name: str, sounds: tuple[Sound, ...]) -> None:
    kind, pts = RHYTHMS[name]
    path = write_video(tmp_path / name, [scene(i) for i in range(8)], replace(kind, sounds=sounds), pts)
    convert(path, tmp_path / "out.mp4", Encoding())
    assert len(times_of(path)) == 8
    assert times_of(tmp_path / "out.mp4") == times_of(path)


TIMES_MS, MS = [40 * i + 7 * (i % 3) for i in range(50)], Fraction(1, 1000)
CLOCK_S = 2**33 / 90000  # when an MPEG-TS begins to count anew


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize("early_s", [0.8, 1.7, 5.0], ids=["all but a part", "the half", "all before 0"])
@pytest.mark.parametrize("sound_s", [0.0, -0.3, 0.4], ids=["together", "sound first", "picture first"])
def test_what_lies_before_time_0_is_played(tmp_path: Path, suffix: str, early_s: float, sound_s: float) -> None:
    """Of a stream whose clock begins anew, what was before has times below 0; MP4 would hide it."""
    kind = Video(options={"bf": "2"}, sounds=(Sound(3.0),))
    path = write_video(tmp_path / "a.mkv", [scene(i) for i in range(75)], kind, [40 * i for i in range(75)])
    wrapped, out = tmp_path / "a.ts", tmp_path / f"out{suffix}"
    both: list[str | Path] = [
        "-i",
        path,
        "-itsoffset",
        str(sound_s),
        "-i",
        path,
        "-map",
        "0:v",
        "-map",
        "1:a",
        "-c",
        "copy",
    ]
    ffmpeg(*both, "-muxdelay", "0", "-output_ts_offset", f"{CLOCK_S - early_s:.6f}", "-mpegts_copyts", "1", wrapped)
    before = decode_playback(wrapped)
    assert before.frame_times_s[0] < 0
    assert len(before.frame_times_s) == 75
    info = rewrite(wrapped, out, QUICK, 30)
    made = decode_playback(out)
    check_result(out, info, [round(moment / info.time_base) for moment in before.frame_times_s], None)
    assert [m - made.frame_times_s[0] for m in made.frame_times_s] == pytest.approx(
        [m - before.frame_times_s[0] for m in before.frame_times_s], abs=1e-3
    )
    (old,), (new,) = before.sounds.values(), made.sounds.values()
    assert new.length_s == old.length_s
    assert old.start_s is not None
    assert new.start_s is not None
    assert new.start_s - made.frame_times_s[0] == pytest.approx(float(old.start_s - before.frame_times_s[0]), abs=1e-3)
    assert 0 <= min(new.start_s, made.frame_times_s[0]) < 0.03, "it does not begin later than it has to"


@pytest.fixture(scope="module")
def early(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Matroska file that begins at -0.8 s; of reordered frames before time 0 ffmpeg gives no times."""
    folder, kind = tmp_path_factory.mktemp("early"), Video("libx264", "yuv420p", MS, {"bf": "2"}, sounds=(Sound(2.0),))
    path = write_video(folder / "a.mkv", [scene(i) for i in range(len(TIMES_MS))], kind, TIMES_MS)
    kept = ["-copyts", "-avoid_negative_ts", "disabled"]
    ffmpeg("-itsoffset", "-0.8", "-i", path, "-c", "copy", *kept, folder / "early.mkv")
    return folder / "early.mkv"


def test_times_before_0_are_read_from_a_matroska_file(early: Path) -> None:
    with VideoReader(early) as reader:
        assert [frame.pts + 800 for frame in reader] == TIMES_MS
        for first in (9, 30):
            assert next(reader.frames(first, TIMES_MS[first] - 800)).pts + 800 == TIMES_MS[first]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("first", [0, 5, 30], ids=["all of it", "from before 0 on", "from behind 0 on"])
def test_what_lies_before_time_0_of_a_matroska_file_is_played(
    suffix: str, first: int, early: Path, tmp_path: Path
) -> None:
    wanted = [moment - 800 for moment in TIMES_MS[first:]]
    part = Part(wanted[0] * MS, (wanted[-1] + 40) * MS) if first else None
    info = rewrite(early, tmp_path / f"out{suffix}", QUICK, 30, part)
    check_result(tmp_path / f"out{suffix}", info, wanted, part)
    made = decode_playback(tmp_path / f"out{suffix}")
    (sound,) = made.sounds.values()
    assert sound.length_s == pytest.approx(2 - TIMES_MS[first] / 1000, abs=0.06)
    assert sound.start_s == pytest.approx(float(made.frame_times_s[0]), abs=0.06), (
        "at the beginning, as in the original"
    )


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_frames_without_patches_survive_exactly(tmp_path: Path, suffix: str) -> None:
    path = write_video(tmp_path / "a.mp4", [scene(i) for i in range(5)])
    convert(path, tmp_path / f"out{suffix}", LOSSLESS)
    made = frames_of(tmp_path / f"out{suffix}")
    assert len(made) == 5
    for frame, original in zip(made, frames_of(path), strict=True):
        for new, old in zip(planes(frame.native), planes(original.native), strict=True):
            np.testing.assert_array_equal(new, old)


@pytest.mark.parametrize("turn", [Turn(90), Turn(180), Turn(180, mirrored=True), Turn(270, mirrored=True)], ids=str)
def test_a_turned_video_becomes_upright(tmp_path: Path, turn: Turn) -> None:
    path = write_video(tmp_path / "a.mp4", [scene(i) for i in range(3)], Video(turn=turn, aspect=Fraction(5, 3)))
    info = convert(path, tmp_path / "out.mp4", LOSSLESS)
    made = probe(tmp_path / "out.mp4")
    assert made.upright_filters == ()
    assert (made.width, made.height, made.sample_aspect_ratio) == (info.width, info.height, info.sample_aspect_ratio)
    for frame, original in zip(frames_of(tmp_path / "out.mp4"), frames_of(path), strict=True):
        np.testing.assert_array_equal(frame.image, original.image)


@pytest.mark.parametrize(
    "kind",
    [
        Video(),
        Video(colour=Colour(1, 1, 1, LIMITED), aspect=Fraction(4, 3)),
        Video(colour=Colour(5, 6, 4, LIMITED), aspect=Fraction(10, 11)),
        Video(pix_fmt="yuvj420p", colour=Colour(1, 1, 1, FULL)),
        Video(pix_fmt="yuv420p10le", colour=Colour(9, 9, 16, LIMITED)),
    ],
)
def test_colours_and_pixel_shape_survive(tmp_path: Path, kind: Video) -> None:
    info = convert(write_video(tmp_path / "a.mp4", [scene()], kind), tmp_path / "out.mp4")
    made = probe(tmp_path / "out.mp4")
    assert made.colour == info.colour == (kind.colour or Colour(2, 2, 2, 0))
    assert made.sample_aspect_ratio == info.sample_aspect_ratio == (kind.aspect or 1)
    assert (made.pixel_format, made.bit_depth) == (kind.pix_fmt, info.bit_depth)


def test_odd_sizes_become_even(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mov", [scene(0, width=97, height=63)], Video("png", "rgb24"))
    convert(path, tmp_path / "out.mp4", LOSSLESS)
    image = frames_of(tmp_path / "out.mp4")[0].image
    assert image.shape == (64, 98, 3)
    assert np.abs(image[:63, :97].astype(int) - scene(0, width=97, height=63)).mean() < 4


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_sound_is_copied_byte_by_byte(tmp_path: Path, name: str) -> None:
    kind = Video(time_base=Fraction(1, 1000), sounds=(Sound(0.5), Sound(0.9, "ac3")))
    path = write_video(tmp_path / name, [scene(i) for i in range(8)], kind, [40 * i for i in range(8)])
    info = convert(path, tmp_path / "out.mp4")
    assert choose_streams(info, tmp_path / "out.mp4").notes == ()
    assert probe(tmp_path / "out.mp4").audio_codecs == ("aac", "ac3")
    for track in (0, 1):
        original, made = sound_packets(path, track), sound_packets(tmp_path / "out.mp4", track)
        assert len(original) > 10
        assert [content for _, content in made] == [content for _, content in original]
        for (moment, _), (old_moment, _) in zip(made, original, strict=True):
            assert abs(moment - old_moment) <= Fraction(1, 1000)  # Matroska counts in ms


def test_sound_longer_than_the_video_is_kept_whole(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", [scene(i) for i in range(5)], Video(sounds=(Sound(3.0),)))
    convert(path, tmp_path / "out.mp4")
    assert sound_packets(tmp_path / "out.mp4") == sound_packets(path)
    assert sound_packets(path)[-1][0] > 2.9


def test_sound_that_begins_later_stays_in_time(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mkv", [scene(i) for i in range(8)], Video(sounds=(Sound(0.4),)))
    late = tmp_path / "late.mkv"
    ffmpeg("-i", video, "-itsoffset", "0.3", "-i", video, "-map", "0:v", "-map", "1:a", "-c", "copy", late)
    convert(late, tmp_path / "out.mp4")
    original, made = sound_packets(late), sound_packets(tmp_path / "out.mp4")
    assert original[0][0] > 0.25
    assert [content for _, content in made] == [content for _, content in original]
    assert max(abs(time - old) for (time, _), (old, _) in zip(made, original, strict=True)) <= Fraction(1, 1000)


@pytest.mark.parametrize(("name", "time_base"), [("a.mkv", 1000), ("a.mov", 25), ("a.avi", 25)])
def test_sound_that_mp4_cannot_hold_becomes_aac(tmp_path: Path, name: str, time_base: int) -> None:
    codec = "mpeg4" if name.endswith("avi") else "libx264"
    kind = Video(codec, time_base=Fraction(1, time_base), sounds=(Sound(2.0, "pcm_s16le"),))
    path = write_video(tmp_path / name, [scene(i) for i in range(8)], kind, [i * time_base // 25 for i in range(8)])
    info = convert(path, tmp_path / "out.mp4")
    assert choose_streams(info, tmp_path / "out.mp4").notes == (RECODED.format(1),)
    assert probe(tmp_path / "out.mp4").audio_codecs == ("aac",)
    times = [time for time, _ in sound_packets(tmp_path / "out.mp4")]
    assert {later - earlier for earlier, later in pairwise(times)} == {Fraction(1024, SOUND_HZ)}
    assert 2.0 <= times[-1] + Fraction(1024, SOUND_HZ) < 2.05


def test_only_the_track_that_needs_it_is_recoded(tmp_path: Path) -> None:
    kind = Video(sounds=(Sound(0.5), Sound(0.5, "pcm_s16le")))
    path = write_video(tmp_path / "a.mkv", [scene(i) for i in range(8)], kind, [40 * i for i in range(8)])
    info = convert(path, tmp_path / "out.mp4")
    assert choose_streams(info, tmp_path / "out.mp4").notes == (RECODED.format(2),)
    assert probe(tmp_path / "out.mp4").audio_codecs == ("aac", "aac")
    assert [content for _, content in sound_packets(tmp_path / "out.mp4")] == [
        content for _, content in sound_packets(path)
    ]


def test_matroska_holds_any_sound(tmp_path: Path) -> None:
    kind = Video(sounds=(Sound(0.5, "pcm_s16le"),))
    path = write_video(tmp_path / "a.mov", [scene(i) for i in range(8)], kind)
    info = convert(path, tmp_path / "out.mkv")
    assert choose_streams(info, tmp_path / "out.mkv").notes == ()
    assert b"".join(content for _, content in sound_packets(tmp_path / "out.mkv")) == b"".join(
        content for _, content in sound_packets(path)
    )


def test_metadata_and_chapters_are_kept(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", [scene(i) for i in range(25)])
    facts = tmp_path / "facts.txt"
    chapter = "[CHAPTER]\nTIMEBASE=1/1000\nSTART={}\nEND={}\ntitle={}\n"
    chapters = chapter.format(0, 400, "Début") + chapter.format(400, 1000, "End")
    facts.write_text(f";FFMETADATA1\ntitle=Ünïcode\n{chapters}", encoding="utf-8")
    path = tmp_path / "told.mp4"
    ffmpeg("-i", video, "-i", facts, "-map_metadata", "1", "-map_chapters", "1", "-c", "copy", path)
    convert(path, tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.metadata["title"] == "Ünïcode"
        found = [(part["start"] * (part["time_base"] or 0), part["metadata"]["title"]) for part in container.chapters()]
    assert found == [(0, "Début"), (Fraction(2, 5), "End")]


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_subtitles_are_kept(tmp_path: Path, suffix: str) -> None:
    video = write_video(tmp_path / "a.mkv", [scene(i) for i in range(25)])
    (tmp_path / "a.srt").write_text("1\n00:00:00,200 --> 00:00:00,700\nGood evening\n", encoding="utf-8")
    path = tmp_path / "told.mkv"
    ffmpeg("-i", video, "-i", tmp_path / "a.srt", "-map", "0", "-map", "1", "-c", "copy", path)
    convert(path, tmp_path / f"out{suffix}")
    with av.open(str(tmp_path / f"out{suffix}")) as container:
        assert isinstance(container, InputContainer)
        assert len(container.streams.subtitles) == 1
        assert any(b"Good evening" in bytes(packet) for packet in container.demux(subtitles=0))


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_a_player_can_begin_before_all_is_loaded(tmp_path: Path, suffix: str) -> None:
    path = write_video(tmp_path / "a.mkv", [scene(i) for i in range(8)], Video(sounds=(Sound(0.3),)))
    convert(path, tmp_path / f"out{suffix}")
    names = box_names(tmp_path / f"out{suffix}")
    assert names.index(b"moov") < names.index(b"mdat")


def test_another_encoder(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", [scene(i) for i in range(3)])
    convert(path, tmp_path / "out.mp4", Encoding("libx265", 28, "ultrafast"))
    with av.open(str(tmp_path / "out.mp4")) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.codec_tag) == ("hevc", "hvc1")
    assert len(frames_of(tmp_path / "out.mp4")) == 3


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
def test_a_name_that_looks_like_a_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_video(tmp_path / "plain.mp4", [scene()], Video(sounds=(Sound(0.1),))).rename(tmp_path / "-http:ü.mp4")
    monkeypatch.chdir(tmp_path)
    convert(Path("-http:ü.mp4"), Path("pipe:1.mp4"))
    assert sound_packets(tmp_path / "pipe:1.mp4") == sound_packets(tmp_path / "-http:ü.mp4")


@pytest.mark.parametrize(
    ("encoding", "notes"),
    [
        (Encoding("libx264", 18, "fast"), []),
        (Encoding("libwebp", 18, "photo"), ["--crf"]),
        (Encoding("mpeg4", 18, "fast"), ["--crf", "--preset"]),
    ],
)
def test_what_an_encoder_does_not_know_is_said(encoding: Encoding, notes: list[str]) -> None:
    said = encoding.notes()
    assert len(said) == len(notes)
    assert all(option in line for option, line in zip(notes, said, strict=True))


@pytest.mark.parametrize(("side", "ahead"), [(2000, None), (4000, None), (8192, "9")])
def test_of_large_frames_the_encoder_holds_few(tmp_path: Path, side: int, ahead: str | None) -> None:
    info = probe(write_video(tmp_path / "a.mp4", [scene()]))
    command = build_encode_command(
        tmp_path / "a.nut", info, replace(PixelFormat.for_video(info), width=side, height=side), QUICK
    )
    assert (command[command.index("-rc-lookahead") + 1] if "-rc-lookahead" in command else None) == ahead


def test_an_unknown_encoder_is_named() -> None:
    with pytest.raises(UsageError, match="'libx999'"):
        pixel_formats("libx999")


def test_what_the_encoder_refuses_is_named(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", [scene()])
    with pytest.raises(RecastError, match="sloow"):
        convert(path, tmp_path / "out.mp4", Encoding(preset="sloow"))


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", [scene()])
    with pytest.raises(MediaError, match=r"a\.mp4 with libx264: .*No such file or directory"):
        convert(path, tmp_path / "nowhere" / "out.mp4")


class UnexpectedError(Exception):
    pass


@pytest.mark.parametrize("error", [UnexpectedError, KeyboardInterrupt])
@pytest.mark.parametrize("written", [0, 3])
def test_an_error_in_the_block_ends_ffmpeg(
    tmp_path: Path, started: list[subprocess.Popen[bytes]], error: type[BaseException], written: int
) -> None:
    path = write_video(tmp_path / "a.mp4", [scene(i) for i in range(5)])
    with (
        pytest.raises(error),
        VideoReader(path) as reader,
        writer_for(reader, tmp_path / "o.nut", 5) as writer,
    ):
        for frame in reader:
            if frame.index == written:
                raise error
            writer.write(drawn(frame, reader.info))
    assert started
    assert all(process.poll() is not None for process in started)


@pytest.mark.parametrize("last", [3, 7], ids=["while writing", "after the last frame"])
def test_an_ffmpeg_that_dies_is_reported(tmp_path: Path, started: list[subprocess.Popen[bytes]], last: int) -> None:
    path = write_video(tmp_path / "a.mp4", [scene(i) for i in range(8)])
    with VideoReader(path) as reader, pytest.raises(MediaError, match=r"a\.mp4 with libx264: it ended with code"):  # noqa: SIM117
        with writer_for(reader, tmp_path / "out.nut", 8) as writer:
            for frame in reader:
                writer.write(drawn(frame, reader.info))
                if frame.index == last:
                    started[-1].kill()
                    started[-1].wait()


@pytest.mark.skipif(os.name == "nt", reason="Windows does not list a process's open files")
@pytest.mark.parametrize("fails", [False, True], ids=["closed", "abandoned"])
def test_no_file_stays_open(tmp_path: Path, fails: bool) -> None:
    path = write_video(tmp_path / "a.mp4", [scene(i) for i in range(3)])
    before = set(Path("/dev/fd").iterdir())
    with VideoReader(path) as reader:
        writer = writer_for(reader, tmp_path / "out.nut", 3)
        for frame in reader:
            writer.write(drawn(frame, reader.info))
        if fails:
            writer.abandon()
        else:
            writer.close()
    assert not [file for file in Path("/dev/fd").iterdir() if file not in before and file.exists()]


def test_a_pixel_shape_with_large_terms_is_kept(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", [scene(i) for i in range(3)], Video(aspect=Fraction(128, 117)))
    assert probe(path).sample_aspect_ratio == Fraction(128, 117)
    convert(path, tmp_path / "out.mp4")
    assert probe(tmp_path / "out.mp4").sample_aspect_ratio == Fraction(128, 117)


def feed(pipe: FfmpegPipe) -> None:
    """Send more than a pipe holds."""
    stream = pipe.container.add_stream("rawvideo", rate=25, width=640, height=480, pix_fmt="yuv420p")
    assert isinstance(stream, VideoStream)
    for number in range(40):
        frame = VideoFrame(640, 480, "yuv420p")
        frame.pts = number
        pipe.mux(stream.encode(frame))


READ_ALL = "import sys, time; sys.stdin.buffer.read();"


@pytest.mark.parametrize(
    "script", ["import time; time.sleep(3600)", f"{READ_ALL} time.sleep(3600)"], ids=["reading", "end"]
)
def test_an_ffmpeg_that_hangs_is_stopped(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    monkeypatch.setattr("pipeline.media.ffmpeg.STALLED_S", 1)
    monkeypatch.setattr("pipeline.media.ffmpeg.CHECK_INTERVAL_S", 0.1)
    refused = pytest.raises(MediaError, match="could not test: it did nothing for 1 s")
    with refused, FfmpegPipe([sys.executable, "-c", script], "test", NUT) as pipe:
        feed(pipe)


BUSY = "end = time.process_time() + 4\nwhile time.process_time() < end: pass"
WRITING = "file = open({!r}, 'wb', 0)\nfor _ in range(80): file.write(b'0'); time.sleep(0.05)"


@pytest.mark.parametrize("work", [BUSY, WRITING], ids=["computing", "writing"])
@pytest.mark.parametrize(
    "reads", ["import sys, time\n", f"{READ_ALL}\n"], ids=["before it reads", "after its last frame"]
)
def test_an_ffmpeg_that_works_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, work: str, reads: str
) -> None:
    """However long it takes."""
    monkeypatch.setattr("pipeline.media.ffmpeg.STALLED_S", 2)
    monkeypatch.setattr("pipeline.media.ffmpeg.CHECK_INTERVAL_S", 0.2)
    script = f"{reads}{work.format(str(tmp_path / 'file'))}\nsys.stdin.buffer.read()"
    with FfmpegPipe([sys.executable, "-c", script], "test", NUT) as pipe:
        feed(pipe)
