"""Kinds of files, told by what is in them; and what is no file, never opened."""

import os
import socket
from pathlib import Path

import pytest

from pipeline.errors import MediaError, UsageError
from pipeline.media.pictures import read_picture
from pipeline.media.probe import is_file, is_picture, media_type, picture_suffix, require_file
from pipeline.provenance.certificate import given_root
from tests.provenance.test_credentials import made

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
