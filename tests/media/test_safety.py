"""Files that name other files or addresses, and files that are too large, are refused unread."""

import http.server
import struct
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.errors import MediaError
from pipeline.media.pictures import read_picture
from pipeline.media.probe import probe
from tests.provenance.test_credentials import made

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
