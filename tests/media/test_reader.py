"""Frames in order, whole and upright, with exact timestamps."""

import zlib
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
import numpy.typing as npt
import pytest
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from pipeline.errors import MediaError
from pipeline.media.probe import Colour, probe
from pipeline.media.reader import VideoReader
from pipeline.types import Image
from tests.clips import (
    FULL,
    IRREGULAR,
    LIMITED,
    RHYTHMS,
    Sound,
    Turn,
    Video,
    damage,
    encode_colours,
    ffmpeg,
    planes,
    scene,
    write_video,
)

EVERY_TURN = [Turn(degrees, mirrored) for degrees in (0, 90, 180, 270) for mirrored in (False, True)]
LOSSLESS = {"qp": "0", "preset": "ultrafast"}


def images_of(path: Path) -> list[Image]:
    with VideoReader(path) as reader:
        return [frame.image for frame in reader]


def as_ffmpeg_shows(path: Path, pix_fmt: str) -> npt.NDArray[np.uint8]:
    """Every byte of what ffmpeg decodes, turned upright by itself."""
    return np.frombuffer(
        ffmpeg("-i", path, "-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", pix_fmt, "-"), np.uint8
    )


def test_pictures_come_in_order(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mov", [scene(i) for i in range(4)], Video("png", "rgb24"))
    with VideoReader(path) as reader:
        frames = list(reader)
    assert [frame.index for frame in frames] == [0, 1, 2, 3]
    for frame in frames:
        np.testing.assert_array_equal(frame.image, scene(frame.index))


@pytest.mark.parametrize("name", RHYTHMS)
def test_timestamps_are_exact(tmp_path: Path, name: str) -> None:
    kind, pts = RHYTHMS[name]
    path = write_video(tmp_path / name, [scene(i) for i in range(8)], kind, pts)
    with VideoReader(path) as reader:
        found = [frame.pts for frame in reader]
        assert reader.info.time_base == kind.time_base
    assert [moment - found[0] for moment in found] == [moment - pts[0] for moment in pts]
    if path.suffix != ".ts":  # its muxer adds a delay of its own
        assert found[0] == pts[0]


def test_timestamps_rise_where_the_file_repeats_one(tmp_path: Path) -> None:
    """No container takes two frames of one moment."""
    kind = Video("ffv1", time_base=Fraction(1, 1000), options={"g": "1"})
    path = write_video(tmp_path / "a.mkv", [scene(i) for i in range(5)], kind, [0, 40, 40, 80, 120])
    with VideoReader(path) as reader:
        times = [frame.pts for frame in reader]
    assert len(times) == 5
    assert all(earlier < later for earlier, later in pairwise(times))
    assert (times[:2], times[3:]) == ([0, 40], [80, 120])


def test_timestamps_rise_where_recordings_were_joined(tmp_path: Path) -> None:
    part = write_video(tmp_path / "part.ts", [scene(i) for i in range(5)], Video(time_base=Fraction(1, 25)))
    (tmp_path / "joined.ts").write_bytes(part.read_bytes() * 2)
    with VideoReader(tmp_path / "joined.ts") as reader:
        times = [frame.pts for frame in reader]
    assert len(times) == 10
    assert all(earlier < later for earlier, later in pairwise(times))


@pytest.mark.parametrize("turn", EVERY_TURN, ids=str)
def test_every_orientation_is_as_ffmpeg_shows_it(tmp_path: Path, turn: Turn) -> None:
    path = write_video(
        tmp_path / "a.mov", [scene(i) for i in range(3)], Video("png", "rgb24", turn=turn), IRREGULAR[1:4]
    )
    with VideoReader(path) as reader:
        frames = list(reader)
        size_hw = (reader.info.height, reader.info.width)
    assert [frame.pts for frame in frames] == list(IRREGULAR[1:4])
    assert size_hw == ((96, 64) if turn.degrees % 180 else (64, 96))
    shown = as_ffmpeg_shows(path, "bgr24").reshape(3, *size_hw, 3)
    np.testing.assert_array_equal([frame.image for frame in frames], shown)


def test_the_eight_orientations_differ(tmp_path: Path) -> None:
    """Or else the test above would prove nothing."""
    pictures = {
        images_of(write_video(tmp_path / "a.mov", [scene()], Video("png", "rgb24", turn=turn)))[0].tobytes()
        for turn in EVERY_TURN
    }
    assert len(pictures) == 8


@pytest.mark.parametrize("turn", [Turn(90), Turn(180, mirrored=True)], ids=str)
def test_turned_samples_are_as_ffmpeg_shows_them(tmp_path: Path, turn: Turn) -> None:
    path = write_video(tmp_path / "a.mp4", [scene(i) for i in range(2)], Video(turn=turn))
    with VideoReader(path) as reader:
        samples = [plane.ravel() for frame in reader for plane in planes(frame.native)]
    np.testing.assert_array_equal(np.concatenate(samples), as_ffmpeg_shows(path, "yuv420p"))


@pytest.mark.parametrize("turn", [None, Turn(90)], ids=str)
@pytest.mark.parametrize(("matrix", "value_range"), [(1, LIMITED), (5, LIMITED), (9, LIMITED), (1, FULL), (5, FULL)])
def test_colours_are_as_tagged(tmp_path: Path, matrix: int, value_range: int, turn: Turn | None) -> None:
    colours = [(40, 90, 200), (200, 60, 30), (20, 170, 70)]
    stripes = np.repeat(np.array(colours, dtype=np.uint8), 32, axis=0)[None].repeat(64, axis=0)
    frame = encode_colours(stripes, matrix, value_range)
    tags = Colour(matrix, matrix, 1, value_range)
    kind = Video(pix_fmt=frame.format.name, options=LOSSLESS, colour=tags, turn=turn)
    image = images_of(write_video(tmp_path / "a.mp4", [frame], kind))[0]
    upright = image if turn is None else np.rot90(image, -1)
    np.testing.assert_allclose(upright[31, 16::32], colours, atol=3)


def test_colours_without_a_tag_are_those_of_bt601(tmp_path: Path) -> None:
    stripes = np.repeat(np.array([(40, 90, 200), (200, 60, 30)], dtype=np.uint8), 32, axis=0)[None].repeat(64, axis=0)
    path = write_video(tmp_path / "a.mp4", [encode_colours(stripes, 5, LIMITED)], Video(options=LOSSLESS))
    np.testing.assert_allclose(images_of(path)[0][31, 16::32], [(40, 90, 200), (200, 60, 30)], atol=3)


def test_odd_sizes(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mov", [scene(0, width=97, height=63)], Video("png", "rgb24"))
    np.testing.assert_array_equal(images_of(path)[0], scene(0, width=97, height=63))


@pytest.mark.parametrize("turn", [None, Turn(90)], ids=str)
def test_frames_of_another_size_are_brought_to_that_of_the_first(tmp_path: Path, turn: Turn | None) -> None:
    pictures = [cv2.resize(scene(), size_wh) for size_wh in ((96, 64), (48, 32), (192, 128), (96, 64))]
    path = tmp_path / "a.mov"
    with av.open(str(path), "w", options={"video_track_timescale": "25"}) as container:
        stream = container.add_stream("mjpeg", rate=25)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuvj420p"
        if turn is not None:
            stream.set_display_rotation(turn.degrees)
        container.start_encoding()
        for index, picture in enumerate(pictures):
            packet = av.Packet(cv2.imencode(".jpg", picture)[1].tobytes())
            packet.stream, packet.time_base, packet.is_keyframe = stream, Fraction(1, 25), True
            packet.pts = packet.dts = index
            container.mux(packet)
    with VideoReader(path) as reader:
        frames = list(reader)
    assert [frame.pts for frame in frames] == [0, 1, 2, 3]
    for frame in frames:
        upright = frame.image if turn is None else np.rot90(frame.image, -1)
        assert upright.shape == (64, 96, 3)
        assert np.abs(upright.astype(int) - scene()).mean() < 8


def test_damage_in_the_middle_does_not_end_the_reading(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mov", [scene(i % 10) for i in range(30)], Video("png", "rgb24"))
    damage(path, [4, 5, 9])
    with VideoReader(path) as reader:
        frames = list(reader)
    left = [index for index in range(30) if index not in (4, 5, 9)]
    assert [frame.pts for frame in frames] == left
    assert [frame.index for frame in frames] == list(range(27))
    assert reader.damaged == 3
    for frame in frames:
        np.testing.assert_array_equal(frame.image, scene(frame.pts % 10))


def test_damage_near_the_end_costs_only_the_damaged_frame(tmp_path: Path) -> None:
    """A decoder with threads hands out the last frames only when the file has ended."""
    path = write_video(tmp_path / "a.mp4", [scene(i % 10) for i in range(30)], Video(options={"g": "1"}))
    damage(path, [28])
    with VideoReader(path) as reader:
        assert [frame.pts for frame in reader] == [*range(28), 29]
        assert reader.damaged == 1


def test_damage_in_the_last_frame_is_counted(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", [scene(i % 10) for i in range(30)], Video(options={"g": "1"}))
    damage(path, [29])
    with VideoReader(path) as reader:
        assert [frame.pts for frame in reader] == list(range(29))
        assert reader.damaged == 1


def test_a_damaged_first_frame_is_left_out(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mov", [scene(i % 10) for i in range(20)], Video("png", "rgb24"))
    damage(path, [0])
    with VideoReader(path) as reader:
        frames = list(reader)
    assert [(frame.index, frame.pts) for frame in frames] == [(index, index + 1) for index in range(19)]
    np.testing.assert_array_equal(frames[0].image, scene(1))


def test_a_file_cut_off_gives_the_frames_that_are_there(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", [scene(i % 10) for i in range(20)], Video("ffv1", options={"g": "1"}))
    whole, content = images_of(path), path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    left = images_of(path)
    assert 5 <= len(left) < 15
    np.testing.assert_array_equal(left, whole[: len(left)])


def test_reading_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", [scene(i) for i in range(3)])
    before = path.read_bytes()
    assert len(images_of(path)) == 3
    assert path.read_bytes() == before


def test_the_end_of_the_block_closes_the_file(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", [scene(i) for i in range(20)])
    with VideoReader(path) as reader:
        frames = iter(reader)
        next(frames)
    with pytest.raises(ValueError, match="was closed"):
        next(frames)


def test_sound_alone_cannot_be_read(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", [scene()], Video(sounds=(Sound(0.2),)))
    ffmpeg("-i", video, "-map", "0:a", "-c", "copy", tmp_path / "sound.mp4")
    with pytest.raises(MediaError, match=r"sound\.mp4 has no video stream"):
        VideoReader(tmp_path / "sound.mp4")


def test_a_missing_file_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"no such file: .*nowhere\.mp4"):
        VideoReader(tmp_path / "nowhere.mp4")


@pytest.mark.parametrize("name", RHYTHMS)
@pytest.mark.parametrize("first", [1, 5, 7])
def test_frames_from_one_on_are_those_of_the_whole(tmp_path: Path, name: str, first: int) -> None:
    kind, pts = RHYTHMS[name]
    kind = replace(kind, options={**(kind.options or {}), "g": "3"})
    path = write_video(tmp_path / name, [scene(i) for i in range(8)], kind, pts)
    with VideoReader(path) as reader:
        everything = list(reader)
        for asked in (everything[first].pts, None):
            later = list(reader.frames(first, asked))
            assert [(frame.index, frame.pts) for frame in later] == [(i, everything[i].pts) for i in range(first, 8)]
            for frame, same in zip(later, everything[first:], strict=True):
                np.testing.assert_array_equal(frame.image, same.image)


def test_seeking_does_not_decode_what_lies_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "a.mp4", [scene(i) for i in range(40)], Video(options={"g": "10"}))
    with VideoReader(path) as reader:
        pts = [frame.pts for frame in reader]
        decoded: list[int | None] = []
        same_size = reader._same_size

        def noted(frame: VideoFrame) -> VideoFrame:
            decoded.append(frame.pts)
            return same_size(frame)

        monkeypatch.setattr(reader, "_same_size", noted)
        assert next(reader.frames(35, pts[35])).pts == pts[35]
    assert min(filter(None, decoded)) >= pts[20]


def test_what_damage_leaves_is_concealed_whoever_holds_the_frames(real_data: Path) -> None:
    """The same pictures whether they are looked at one by one or kept, and none of them the green of empty memory."""
    path = real_data / "hard" / "23_bit_errors_midstream.mp4"
    with VideoReader(path) as reader:
        one_by_one = [zlib.crc32(frame.image.tobytes()) for frame in reader.frames()]
        kept = [frame.native for frame in reader.frames()]
        assert reader.damaged > 0
    assert [zlib.crc32(native.to_ndarray(format="bgr24").tobytes()) for native in kept] == one_by_one
    means = [native.to_ndarray(format="bgr24").mean(axis=(0, 1)) for native in kept]
    assert max(green - red for _, green, red in means) < 20


def test_a_video_without_whole_frames_but_the_first_is_read_from_there(tmp_path: Path) -> None:
    """Its pictures are refreshed strip by strip, and what is marked as a key frame is none."""
    kind = Video(options={"x264-params": "intra-refresh=1:keyint=10:bframes=0"})
    path = write_video(tmp_path / "a.mp4", [scene(i) for i in range(40)], kind)
    with VideoReader(path) as reader:
        everything = list(reader)
        later = next(reader.frames(25, everything[25].pts))
    np.testing.assert_array_equal(later.image, everything[25].image)


def test_a_timestamp_that_no_frame_has_is_found_by_counting(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", [scene(i) for i in range(8)])
    with VideoReader(path) as reader:
        assert next(reader.frames(5, 5 * 512 + 1)).index == 5


def combed(image: np.ndarray) -> float:
    """How much each line differs from the mean of the two beside it; interlaced motion makes that large."""
    grey = image.mean(axis=2)
    return float(np.abs(grey[1:-1] - (grey[:-2] + grey[2:]) / 2).mean())


@pytest.fixture
def interlaced(tmp_path: Path) -> Path:
    """Six frames whose fields are from two moments of a moving picture."""
    moving = [np.roll(scene(0, 96, 64), 6 * step, axis=1) for step in range(12)]
    write_video(tmp_path / "fast.mkv", moving)
    made = tmp_path / "a.mkv"
    ffmpeg("-i", tmp_path / "fast.mkv", "-vf", "interlace=lowpass=off,setfield=tff", "-c:v", "mpeg2video", "-q:v", "1",
           "-flags", "+ilme+ildct", made)  # fmt: skip
    return made


def test_interlaced_frames_become_whole_ones(interlaced: Path) -> None:
    assert probe(interlaced).is_interlaced
    with VideoReader(interlaced) as reader:
        frames = list(reader)
        assert reader.deinterlaced == len(frames) == 6
    ffmpeg("-i", interlaced, "-vf", "setfield=prog", "-c:v", "ffv1", interlaced.with_name("raw.mkv"))
    with VideoReader(interlaced.with_name("raw.mkv")) as reader:
        raw = list(reader)
        assert reader.deinterlaced == 0
    assert [frame.pts for frame in frames] == [frame.pts for frame in raw]
    assert combed(frames[3].image) < 0.6 * combed(raw[3].image)


def test_the_frames_asked_for_come_though_it_cannot_be_sought(interlaced: Path) -> None:
    with VideoReader(interlaced) as reader:
        everything = list(reader)
        later = list(reader.frames(4, everything[4].pts))
    assert [frame.index for frame in later] == [4, 5]
    for frame, same in zip(later, everything[4:], strict=True):
        np.testing.assert_array_equal(frame.image, same.image)
