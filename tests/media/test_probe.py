import json
import os
from fractions import Fraction
from pathlib import Path

import pytest

from pipeline.errors import MediaError
from pipeline.media.pictures import write_picture
from pipeline.media.probe import Colour, probe
from tests.clips import FULL, IRREGULAR, LIMITED, Sound, Turn, Video, encode_colours, ffmpeg, scene, write_video

BROKEN = {
    "empty.mp4": b"",
    "text.mp4": b"this is a shopping list\n" * 50,
    "zeros.mkv": bytes(5000),
    "header_only.mp4": b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41" + b"\0\0\0\x08free",
}


def test_facts_of_a_plain_video(tmp_path: Path) -> None:
    sounds = (Sound(0.5), Sound(0.3, "ac3"))
    path = write_video(tmp_path / "a.mkv", [scene(i) for i in range(5)], Video(sounds=sounds))
    info = probe(path)
    assert (info.path, info.width, info.height) == (path, 96, 64)
    assert (info.pixel_format, info.bit_depth) == ("yuv420p", 8)
    assert info.audio_codecs == ("aac", "ac3")
    assert info.average_rate == 25
    assert info.sample_aspect_ratio == 1
    assert info.upright_filters == ()
    assert info.colour == Colour(2, 2, 2, 0)
    assert info.duration_s == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("time_base", [Fraction(1, 25), Fraction(1, 30000), Fraction(1, 90000)])
def test_time_base_is_exact(tmp_path: Path, time_base: Fraction) -> None:
    pts = [index * time_base.denominator // 25 for index in range(3)]
    path = write_video(tmp_path / "a.mp4", [scene(i) for i in range(3)], Video(time_base=time_base), pts)
    assert probe(path).time_base == time_base


def test_a_rate_that_is_no_whole_number_is_exact(tmp_path: Path) -> None:
    ntsc = Video("mpeg4", time_base=Fraction(1001, 30000))
    info = probe(write_video(tmp_path / "a.avi", [scene(i) for i in range(3)], ntsc))
    assert info.average_rate == Fraction(30000, 1001)
    assert info.time_base == Fraction(1001, 30000)


def test_frames_claimed(tmp_path: Path) -> None:
    frames = [scene(i) for i in range(8)]
    assert probe(write_video(tmp_path / "a.mp4", frames, pts=IRREGULAR)).frames_claimed == 8


@pytest.mark.parametrize("turn", [Turn(90), Turn(270, mirrored=True)])
def test_size_and_pixel_shape_of_a_turned_video_are_upright(tmp_path: Path, turn: Turn) -> None:
    info = probe(write_video(tmp_path / "a.mp4", [scene()], Video(aspect=Fraction(4, 3), turn=turn)))
    assert (info.width, info.height) == (64, 96)
    assert info.sample_aspect_ratio == Fraction(3, 4)


@pytest.mark.parametrize("turn", [None, Turn(180), Turn(0, mirrored=True)])
def test_half_turns_and_mirrors_keep_the_size(tmp_path: Path, turn: Turn | None) -> None:
    info = probe(write_video(tmp_path / "a.mp4", [scene()], Video(aspect=Fraction(4, 3), turn=turn)))
    assert (info.width, info.height) == (96, 64)
    assert info.sample_aspect_ratio == Fraction(4, 3)


@pytest.mark.parametrize("colour", [Colour(1, 1, 1, LIMITED), Colour(5, 6, 4, LIMITED), Colour(9, 9, 16, FULL)])
def test_colours(tmp_path: Path, colour: Colour) -> None:
    pix_fmt = "yuv420p" if colour.range == LIMITED else "yuvj420p"
    frame = encode_colours(scene(), colour.matrix, colour.range)
    info = probe(write_video(tmp_path / "a.mp4", [frame], Video(pix_fmt=pix_fmt, colour=colour)))
    assert (info.colour, info.pixel_format) == (colour, pix_fmt)


def test_bit_depth(tmp_path: Path) -> None:
    info = probe(write_video(tmp_path / "a.mkv", [scene()], Video("ffv1", "yuv422p10le")))
    assert (info.bit_depth, info.pixel_format) == (10, "yuv422p10le")


def test_a_cover_picture_is_not_the_video(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", [scene()], Video(sounds=(Sound(0.2),)))
    write_picture(tmp_path / "cover.png", scene(1, width=200, height=300))
    covered, only_sound = tmp_path / "covered.mp4", tmp_path / "only_sound.m4a"
    cover: list[str | Path] = [
        "-i",
        tmp_path / "cover.png",
        "-i",
        video,
        "-c",
        "copy",
        "-disposition:v:0",
        "attached_pic",
    ]
    ffmpeg(*cover, "-map", "0", "-map", "1", covered)
    ffmpeg(*cover, "-map", "0", "-map", "1:a", only_sound)
    assert (probe(covered).width, probe(covered).height) == (96, 64)
    with pytest.raises(MediaError, match=r"only_sound\.m4a has no video stream"):
        probe(only_sound)


def test_facts_are_plain_json(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", [scene()], Video(time_base=Fraction(1, 90000), turn=Turn(90)))
    facts = json.loads(json.dumps(probe(path).facts()))
    assert facts["time_base"] == "1/90000"
    assert facts["path"] == str(path)
    assert facts["colour"] == {"matrix": 2, "primaries": 2, "transfer": 2, "range": 0}


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
@pytest.mark.parametrize("name", ["ünïcode 影.mp4", "-i.mp4", "100%d.mp4", "a'b\"c.mp4", "http:x.mp4"])
def test_odd_file_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    write_video(Path("plain.mp4"), [scene()]).rename(name)
    assert probe(Path(name)).width == 96


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"no such file: .*nowhere\.mp4"):
        probe(tmp_path / "nowhere.mp4")


def test_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "folder.mp4"
    folder.mkdir()
    with pytest.raises(MediaError, match=r"folder\.mp4 is a folder"):
        probe(folder)


@pytest.mark.parametrize("name", BROKEN)
def test_files_that_are_no_video(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(BROKEN[name])
    with pytest.raises(MediaError, match=name):
        probe(path)


def test_a_file_with_sound_only(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", [scene()], Video(sounds=(Sound(0.2),)))
    ffmpeg("-i", video, "-map", "0:a", "-c", "copy", tmp_path / "sound.mp4")
    with pytest.raises(MediaError, match=r"sound\.mp4 has no video stream"):
        probe(tmp_path / "sound.mp4")


def test_a_video_of_which_no_frame_can_be_decoded(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "a.mp4", [scene()]).read_bytes()
    path = tmp_path / "dark.mp4"
    start = whole.index(b"mdat") + 4
    size = int.from_bytes(whole[start - 8 : start - 4], "big") - 8
    path.write_bytes(whole[:start] + bytes(size) + whole[start + size :])
    with pytest.raises(MediaError, match=r"dark\.mp4: not one frame"):
        probe(path)
