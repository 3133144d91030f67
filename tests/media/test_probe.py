"""Kinds and facts of files, told by their content; what is no file, names other files or is too large is refused."""

import http.server
import json
import os
import socket
import struct
import threading
import zlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pytest

from pipeline.errors import MediaError, UsageError
from pipeline.media.pictures import read_picture, write_picture
from pipeline.media.probe import Colour, is_file, is_picture, media_type, picture_suffix, probe, require_file
from pipeline.provenance.certificate import given_root
from tests.clips import FULL, IRREGULAR, LIMITED, Sound, Turn, Video, encode_colours, ffmpeg, scene, write_video
from tests.provenance.test_credentials import made

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


TYPES = {
    ".mp4": "video/mp4",
    ".mov": "video/mp4",
    ".mkv": "video/x-matroska",
    ".webm": "video/x-matroska",
    ".gif": "image/gif",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".webp": "image/webp",
    ".tif": "image/tiff",
    ".bmp": "image/bmp",
}
PICTURES = {".png", ".jpg", ".webp", ".tif", ".bmp"}


@pytest.mark.parametrize("suffix", TYPES)
@pytest.mark.parametrize("name", ["a.mp4", "a.png", "a.JPG", "a", "a.mkv"])
def test_the_name_does_not_count(tmp_path: Path, suffix: str, name: str) -> None:
    path = made(tmp_path / f"made{suffix}").rename(tmp_path / name)
    assert media_type(path) == TYPES[suffix]
    assert is_picture(path) == (suffix in PICTURES)


def test_what_cannot_be_told_goes_by_its_name(tmp_path: Path) -> None:
    for name, content in (("a.jpg", b"no picture"), ("b.mp4", b"no video"), ("c.png", b"")):
        (tmp_path / name).write_bytes(content)
        assert media_type(tmp_path / name) is None
        assert is_picture(tmp_path / name) == (name != "b.mp4")
    whole = made(tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "damaged.jpg").write_bytes(whole[:3] + bytes(40) + whole[43:])
    assert is_picture(tmp_path / "damaged.jpg"), "a damaged picture is no video"
    assert is_picture(tmp_path / "missing.png")
    assert not is_picture(tmp_path / "missing.mp4")


def test_results_of_pictures_are_named_like_them(tmp_path: Path) -> None:
    assert picture_suffix(made(tmp_path / "a.jpg").rename(tmp_path / "b.PNG")) == ".PNG"
    assert picture_suffix(made(tmp_path / "a.jpg").rename(tmp_path / "c")) == ".jpg"
    assert picture_suffix(made(tmp_path / "a.webp").rename(tmp_path / "c.mp4")) == ".webp"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names")
def test_what_is_no_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe.jpg")
    Path("folder.mp4").mkdir()
    Path("loop.png").symlink_to("loop.png")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket.mp4")
        for name, words in {
            "pipe.jpg": "is a pipe, a socket or a device",
            "socket.mp4": "is a pipe, a socket or a device",
            "/dev/null": "is a pipe, a socket or a device",
            "folder.mp4": "is a folder",
            "loop.png": "cannot read",
            "missing.mp4": "no such file",
            "made.mp4/x": "no such file",
            "n" * 300: "cannot read",
            "a\0b": "cannot read",
            "https://example.org/a.mp4": "is an address.*download it",
        }.items():
            assert not is_file(Path(name))
            with pytest.raises(MediaError, match=words):
                require_file(Path(name))


def test_what_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "long.png").open("wb") as file:
        file.truncate(2_000_000_000)
    require_file(tmp_path / "long.png")
    with pytest.raises(MediaError, match="2000 MB, and at most 1000 MB are read"):
        read_picture(tmp_path / "long.png")
    with pytest.raises(UsageError, match=r"--trust .*2000 MB, and at most 1 MB are read"):
        given_root(tmp_path / "long.png")


NAMING = {
    "list.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2.0,\n{other}\n#EXT-X-ENDLIST\n",
    "list.ffconcat": "ffconcat version 1.0\nfile {other}\n",
    "list.sdp": "v=0\no=- 0 0 IN IP4 {host}\ns=x\nc=IN IP4 {host}\nt=0 0\n"
    "m=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
    "list.mpd": '<MPD><Period><AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="9">'
    "<BaseURL>{other}</BaseURL></Representation></AdaptationSet></Period></MPD>",
}


@pytest.fixture
def asked() -> Iterator[tuple[str, list[str]]]:
    """The address of a server, and what was asked of it."""
    paths: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_error(404)

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", paths
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("name", NAMING)
@pytest.mark.parametrize("disguise", ["", ".mp4"])
@pytest.mark.parametrize("points_to", ["a file", "an address"])
def test_lists_of_files_and_addresses_open_nothing(
    tmp_path: Path, name: str, disguise: str, points_to: str, asked: tuple[str, list[str]]
) -> None:
    address, paths = asked
    other = "other.mkv" if points_to == "a file" else f"{address}/other.mkv"
    made(tmp_path / "other.mkv")
    naming = tmp_path / f"{name}{disguise}"
    naming.write_text(NAMING[name].format(other=other, host="127.0.0.1"))
    with pytest.raises(MediaError, match=naming.name):
        probe(naming)
    assert paths == []


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + kind + content


@pytest.mark.parametrize(
    "reference", [box(b"url ", b"\0\0\0\0file:other.mp4\0"), box(b"url ", b"\0\0\0\0http://{}/a\0")]
)
def test_an_mp4_whose_pictures_lie_elsewhere_opens_nothing(
    tmp_path: Path, reference: bytes, asked: tuple[str, list[str]]
) -> None:
    address, paths = asked
    whole = made(tmp_path / "other.mp4").read_bytes()
    own = box(b"dref", struct.pack(">II", 0, 1) + box(b"url ", b"\0\0\0\1"))
    reference = reference.replace(b"{}", address.removeprefix("http://").encode())
    elsewhere = box(b"dref", struct.pack(">II", 0, 1) + reference)
    grown = len(elsewhere) - len(own)
    start = whole.index(own)
    changed = bytearray(whole[:start] + elsewhere + whole[start + len(own) :])
    for parent in (b"dinf", b"minf", b"mdia", b"trak", b"moov"):
        place = changed.rindex(parent, 0, start) - 4
        changed[place : place + 4] = struct.pack(">I", struct.unpack(">I", changed[place : place + 4])[0] + grown)
    data = changed.index(b"mdat")
    length = struct.unpack(">I", changed[data - 4 : data])[0] - 8
    changed[data + 4 : data + 4 + length] = bytes(length)  # so that what comes out can only be the other's
    external = tmp_path / "external.mp4"
    external.write_bytes(changed)
    with pytest.raises(MediaError, match=r"external\.mp4"):
        probe(external)
    assert paths == []


def test_pictures_of_more_than_100_megapixels_are_refused_unread(tmp_path: Path) -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    for size, words in (((100_001, 1000), "100 megapixels"), ((2**31 - 1, 2**31 - 1), "100 megapixels")):
        header = struct.pack(">IIBBBBB", *size, 8, 2, 0, 0, 0)
        path = tmp_path / "huge.png"
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
        with pytest.raises(MediaError, match=words):
            read_picture(path)


@pytest.mark.parametrize(("width", "height"), [(20_000, 48), (48, 20_000)])
def test_videos_that_claim_to_be_huge_are_refused(tmp_path: Path, width: int, height: int) -> None:
    path = tmp_path / "huge.y4m"
    path.write_bytes(f"YUV4MPEG2 W{width} H{height} F10:1 Ip A1:1 Cmono\nFRAME\n".encode() + bytes(width * height))
    with pytest.raises(MediaError, match=f"claims to be {width}x{height}"):
        probe(path)


def test_a_video_as_large_as_they_may_be_is_read(tmp_path: Path) -> None:
    path = tmp_path / "large.y4m"
    path.write_bytes(b"YUV4MPEG2 W16384 H16 F10:1 Ip A1:1 Cmono\nFRAME\n" + bytes(16384 * 16))
    assert probe(path).width == 16384
