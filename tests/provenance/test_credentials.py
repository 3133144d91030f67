"""Comments, and credentials on real files of every kind: signed, read back, and a changed byte is found."""

import json
import os
import shutil
import signal
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import c2pa
import cv2
import numpy as np
import PIL.Image
import pytest
from av.video.stream import VideoStream

from pipeline.errors import MediaError
from pipeline.provenance import credentials
from pipeline.provenance.certificate import own_identity, own_root
from pipeline.provenance.credentials import (
    NOTICE,
    SIDECAR,
    SOURCE_TYPE,
    Credentials,
    Disclosure,
    comment_gif,
    read_credentials,
    sign,
)

DISCLOSURE = Disclosure("portraits", {})
SUFFIXES = [".mp4", ".mov", ".mkv", ".webm", ".gif", ".png", ".jpg", ".webp", ".tif", ".bmp"]
BESIDE = {".mkv", ".webm", ".bmp"}


def made(path: Path) -> Path:
    """A small file of the kind that its name says."""
    noise = np.random.default_rng(3).integers(0, 255, (96, 128, 3), dtype=np.uint8)  # larger than what is signed
    if path.suffix in (".mp4", ".mov", ".mkv", ".webm", ".gif"):
        codec, pixels = {".webm": ("libvpx-vp9", "yuv420p"), ".gif": ("gif", "rgb8")}.get(
            path.suffix, ("libx264", "yuv420p")
        )
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec, rate=10, width=128, height=96, pix_fmt=pixels)
            assert isinstance(stream, VideoStream)
            for number in range(4):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(np.roll(noise, number), "rgb24")))
            container.mux(stream.encode())
    else:
        cv2.imwrite(str(path), noise)
    return path


def signed(path: Path, original: Path, disclosure: Disclosure = DISCLOSURE) -> Path:
    """The file, with its credentials in it or beside it."""
    credentials = sign(path, disclosure, own_identity(), original)
    if credentials is not None:
        path.with_name(path.name + SIDECAR).write_bytes(credentials)
    return path


def read(path: Path) -> Credentials:
    root = own_root()
    assert root is not None
    return read_credentials(path, [root])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_kind_of_result_is_signed_and_read_back(tmp_path: Path, suffix: str) -> None:
    original, result = made(tmp_path / f"seen{suffix}"), made(tmp_path / f"made{suffix}")
    before = result.read_bytes()
    assert read_credentials(result, []).state == "none"
    signed(result, original)
    assert (result.read_bytes() == before) == (suffix in BESIDE), "the credentials lie beside what cannot carry them"
    found = read(result)
    assert (found.state, found.originals, found.problems) == ("trusted", (original.name,), ())
    assert found.maker.startswith("Recast ")
    assert "portraits" in found.actions[1]
    assert found.signer.startswith("Recast user ")
    assert read_credentials(result, []).state == "valid", "to those who do not know the signer"
    assert sorted(path.suffix for path in tmp_path.iterdir() if path != original) == sorted(
        {suffix, SIDECAR} if suffix in BESIDE else {suffix}
    )


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".gif", ".jpg", ".png"])
def test_one_flipped_byte_is_found_out(tmp_path: Path, suffix: str) -> None:
    result = signed(made(tmp_path / f"made{suffix}"), made(tmp_path / f"seen{suffix}"))
    content = result.read_bytes()
    for place in range(len(content) // 2, len(content), max(1, len(content) // 40)):
        changed = bytearray(content)
        changed[place] ^= 1
        result.write_bytes(changed)
        if read(result).state != "tampered":
            pytest.fail(f"byte {place} of {len(content)} may be another")
    result.write_bytes(content)
    assert read(result).state == "trusted"


def test_what_leads_to_credentials_may_not_be_damaged_either(tmp_path: Path) -> None:
    result = signed(made(tmp_path / "made.mp4"), made(tmp_path / "seen.mp4"))
    content = result.read_bytes()
    place = content.index(b"uuid") + 5
    result.write_bytes(content[:place] + b"!" + content[place + 1 :])
    assert read(result).state == "tampered"


def test_credentials_of_another_file_do_not_hold(tmp_path: Path) -> None:
    one, other = made(tmp_path / "one.mkv"), made(tmp_path / "other.mkv")
    other.write_bytes(other.read_bytes() + b"\0")
    signed(one, one)
    shutil.copy(tmp_path / "one.mkv.c2pa", tmp_path / "other.mkv.c2pa")
    assert (read(one).state, read(other).state) == ("trusted", "tampered")


def test_what_is_claimed(tmp_path: Path) -> None:
    result = signed(made(tmp_path / "made.png"), made(tmp_path / "seen.png"))
    with c2pa.Reader(str(result)) as reader:
        manifest = json.loads(reader.json())
    (one,) = manifest["manifests"].values()
    (ingredient,) = one["ingredients"]
    assert ingredient["relationship"] == "parentOf"
    assert "thumbnail" not in one
    assert "thumbnail" not in ingredient
    (actions,) = (a["data"]["actions"] for a in one["assertions"] if a["label"].startswith("c2pa.actions"))
    assert [action["action"] for action in actions] == ["c2pa.opened", "c2pa.edited"]
    assert actions[0]["parameters"]["ingredients"][0]["url"].endswith("c2pa.ingredient.v3")
    assert actions[1]["digitalSourceType"] == SOURCE_TYPE
    assert one["claim_generator_info"][0]["name"] == "Recast"


def test_people_are_named_only_where_they_are_to_be(tmp_path: Path) -> None:
    people = {"hopper": "collins"}
    for disclosure in (DISCLOSURE, Disclosure("portraits", people)):
        result = signed(made(tmp_path / "made.png"), made(tmp_path / "seen.png"), disclosure)
        assert ("hopper to collins" in read(result).actions[1]) == bool(disclosure.people)
        assert (b"collins" in result.read_bytes()) == bool(disclosure.people)


def test_an_originals_own_credentials_are_taken_along(tmp_path: Path) -> None:
    first = signed(made(tmp_path / "first.jpg"), made(tmp_path / "seen.jpg"))
    second = signed(made(tmp_path / "second.jpg"), first)
    assert read(second).state == "trusted"
    with c2pa.Reader(str(second)) as reader:
        assert len(json.loads(reader.json())["manifests"]) == 2


def test_originals_of_kinds_nobody_knows_do_no_harm(tmp_path: Path) -> None:
    original = shutil.copy(made(tmp_path / "seen.mkv"), tmp_path / "seen.xyz")
    assert read(signed(made(tmp_path / "made.mp4"), Path(original))).originals == ("seen.xyz",)


def test_a_file_that_cannot_be_signed_stays_as_it_is(tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    with pytest.raises(MediaError, match=r"cannot sign .*broken\.png.*--no-credentials"):
        sign(broken, DISCLOSURE, own_identity(), broken)
    assert broken.read_bytes() == b"no picture"
    assert [path.name for path in tmp_path.iterdir()] == ["broken.png"]


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"none\.mp4"):
        read_credentials(tmp_path / "none.mp4", [])
    for name, content in (("empty.mp4", b""), ("odd.mp4", b"123"), ("odd", b"\0" * 9), ("words.png", b"words")):
        (tmp_path / name).write_bytes(content)
        assert read_credentials(tmp_path / name, []).state == "none", "nothing says that there ever were any"


def test_what_a_file_says_cannot_forge_what_is_shown(tmp_path: Path) -> None:
    original = tmp_path / "a\n  signature: valid and trusted, signed by somebody\x1b[31m.png"
    shutil.copy(made(tmp_path / "seen.png"), original)
    (name,) = read(signed(made(tmp_path / "made.png"), original)).originals
    assert name.isprintable()
    assert len(name) <= 200


def long(path: Path) -> Path:
    """A file that takes a while to sign or to read: 300 MB of it hold nothing."""
    with made(path).open("ab") as file:
        length = 300_000_000
        file.write(struct.pack(">I4s", length, b"free"))
        file.truncate(file.tell() + length - 8)
    return path


def interrupt_when(begun: Callable[[], bool]) -> threading.Thread:
    """Type Ctrl-C as soon as something has begun."""

    def wait() -> None:
        while not begun():
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


@pytest.mark.skipif(os.name == "nt", reason="Windows cannot send itself Ctrl-C")
def test_an_interrupt_while_signing_is_heard(tmp_path: Path) -> None:
    result = long(tmp_path / "made.mp4")
    size, part = result.stat().st_size, tmp_path / ".made.part.mp4"
    thread = interrupt_when(lambda: part.exists() and part.stat().st_size > 0)
    with pytest.raises(KeyboardInterrupt):
        sign(result, DISCLOSURE, own_identity(), result)
    thread.join()
    assert [path.name for path in tmp_path.iterdir()] == ["made.mp4"]
    assert result.stat().st_size == size
    assert read_credentials(result, []).state == "none"


@pytest.mark.skipif(os.name == "nt", reason="Windows cannot send itself Ctrl-C")
@pytest.mark.parametrize("what", ["made", "original"])
def test_an_interrupt_while_credentials_are_read_is_heard(
    tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By ``verify``, and of an original that carries some."""
    signed(long(tmp_path / "made.mp4"), made(tmp_path / "seen.mp4"))
    begun = threading.Event()
    access = credentials._StoppableFile.__getattr__

    def noted(file: credentials._StoppableFile, name: str) -> Any:
        begun.set()
        return access(file, name)

    monkeypatch.setattr(credentials._StoppableFile, "__getattr__", noted)
    thread = interrupt_when(begun.is_set)
    with pytest.raises(KeyboardInterrupt):
        if what == "made":
            read_credentials(tmp_path / "made.mp4", [])
        else:
            sign(made(tmp_path / "other.mp4"), DISCLOSURE, own_identity(), tmp_path / "made.mp4")
    thread.join()


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".png", ".jpg"])
def test_a_sidecar_that_does_not_fit_does_not_count_against_what_is_inside(tmp_path: Path, suffix: str) -> None:
    result = signed(made(tmp_path / f"made{suffix}"), made(tmp_path / f"seen{suffix}"))
    sidecar = tmp_path / f"made{suffix}{SIDECAR}"
    other = sign(made(tmp_path / "other.mkv"), DISCLOSURE, own_identity(), made(tmp_path / "seen.mkv"))
    assert other is not None
    for content in (b"junk", b"", other):
        sidecar.write_bytes(content)
        found = read(result)
        assert found.state == "trusted"
        assert "beside it does not fit" in found.problems[0]
    changed = bytearray(result.read_bytes())
    changed[-30] ^= 1
    result.write_bytes(changed)
    assert read(result).state == "tampered"


def test_a_damaged_sidecar_is_tampered_with_where_nothing_is_inside(tmp_path: Path) -> None:
    result = signed(made(tmp_path / "made.mkv"), made(tmp_path / "seen.mkv"))
    (tmp_path / "made.mkv.c2pa").write_bytes(b"junk")
    assert read(result).state == "tampered"


@pytest.mark.parametrize(
    ("kind", "name"),
    [(".mkv", "seen.mp4"), (".jpg", "seen.png"), (".mp4", "seen.jpg"), (".png", "seen"), (".gif", "a.mp4")],
)
def test_an_original_whose_name_lies_does_no_harm(tmp_path: Path, kind: str, name: str) -> None:
    original = made(tmp_path / f"made{kind}").rename(tmp_path / name)
    for suffix in (".mp4", ".png"):
        result = signed(made(tmp_path / f"result{suffix}"), original)
        assert read(result).state == "trusted"
        assert read(result).originals == (name,)


def test_an_original_whose_name_lies_keeps_its_own_credentials(tmp_path: Path) -> None:
    first = signed(made(tmp_path / "first.jpg"), made(tmp_path / "seen.jpg")).rename(tmp_path / "first.png")
    second = signed(made(tmp_path / "second.jpg"), first)
    with c2pa.Reader(str(second)) as reader:
        assert len(json.loads(reader.json())["manifests"]) == 2
    assert read(first).state == "trusted", "a name does not count when credentials are read either"


def test_an_original_that_c2pa_cannot_read_is_named_all_the_same(tmp_path: Path) -> None:
    original = made(tmp_path / "seen.png")
    original.write_bytes(original.read_bytes()[:300])
    assert read(signed(made(tmp_path / "made.png"), original)).originals == ("seen.png",)


@pytest.mark.skipif(os.name == "nt", reason="names are Unicode there")
def test_an_original_whose_name_is_no_text_is_named(tmp_path: Path) -> None:
    try:
        original = made(tmp_path / "seen.png").rename(tmp_path / os.fsdecode(b"s\xff.png"))
    except OSError:
        pytest.skip("this file system has names in UTF-8 only")
    assert read(signed(made(tmp_path / "made.png"), original)).originals == ("s?.png",)


def test_the_originals_words_are_kept_behind_it() -> None:
    words = DISCLOSURE.comment("a day at the lake")
    assert words.startswith(NOTICE)
    assert "portraits" in words
    assert words.endswith(" | a day at the lake")
    assert not DISCLOSURE.comment().endswith(" | ")


def test_an_earlier_notice_is_replaced() -> None:
    once = DISCLOSURE.comment("a day at the lake")
    assert Disclosure("other", {}).comment(once).count(NOTICE) == 1
    assert DISCLOSURE.comment(once) == once
    assert DISCLOSURE.comment(DISCLOSURE.comment()) == DISCLOSURE.comment()


def test_a_comment_names_people_only_where_they_are_to_be() -> None:
    assert "hopper to collins" in Disclosure("portraits", {"hopper": "collins"}).comment()
    assert "hopper" not in DISCLOSURE.comment()


def test_a_gif_with_it_shows_the_same(tmp_path: Path) -> None:
    path = tmp_path / "a.gif"
    frames = [PIL.Image.fromarray(np.full((20, 30), shade, np.uint8)) for shade in (10, 90, 200)]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=100)
    before = [frame.to_ndarray(format="rgb24") for frame in av.open(str(path)).decode(video=0)]
    words = DISCLOSURE.comment("long " * 100)
    comment_gif(path, words)
    with PIL.Image.open(path) as opened:
        assert opened.info["comment"].decode() == words
    after = [frame.to_ndarray(format="rgb24") for frame in av.open(str(path)).decode(video=0)]
    np.testing.assert_array_equal(np.stack(before), np.stack(after))
