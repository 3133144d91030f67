import random
import struct
import warnings
import zlib
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest
from PIL import ImageCms, ImageOps

from pipeline.errors import MediaError
from pipeline.media.pictures import read_picture, write_picture, write_picture_like
from pipeline.provenance.credentials import Disclosure
from pipeline.types import Image
from tests.clips import scene

ORIENTATION, MAKER, DESCRIPTION = 0x0112, 0x010F, 0x010E  # Exif tags
DISCLOSURE = Disclosure("portraits", {})
BROKEN = {
    "empty.png": b"",
    "text.png": b"a picture, honestly\n" * 20,
    "header.png": b"\x89PNG\r\n\x1a\n" + bytes(100),
    "header.jpg": b"\xff\xd8\xff\xe0" + bytes(100),
    "header.gif": b"GIF89a\x10\x00\x10\x00\x00\x00\x00",
}


def picture(mode: str = "RGB") -> PIL.Image.Image:
    return PIL.Image.fromarray(scene(1, width=50, height=34)[..., ::-1].copy()).convert(mode)


def as_pillow_sees(path: Path) -> Image:
    """Upright BGR, by another decoder."""
    with PIL.Image.open(path) as opened:
        return np.asarray(ImageOps.exif_transpose(opened).convert("RGB"))[..., ::-1]


def check(path: Path, tolerance: int = 0) -> None:
    image = read_picture(path)
    assert image.dtype == np.uint8
    np.testing.assert_allclose(image.astype(int), as_pillow_sees(path).astype(int), atol=tolerance)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".webp", ".tif", ".tiff", ".jpg", ".jpeg"])
def test_formats(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    picture().save(path)
    check(path, tolerance=2)
    assert np.abs(read_picture(path).astype(int) - scene(1, width=50, height=34)).mean() < 12  # what JPEG loses


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientations_are_upright(tmp_path: Path, orientation: int, suffix: str) -> None:
    path, exif = tmp_path / f"a{suffix}", PIL.Image.Exif()
    exif[ORIENTATION] = orientation
    picture().save(path, exif=exif)
    assert read_picture(path).shape == ((50, 34, 3) if orientation > 4 else (34, 50, 3))
    check(path, tolerance=2)


def test_the_eight_orientations_differ(tmp_path: Path) -> None:
    """Or else the test above would prove nothing."""
    seen = set()
    for orientation in range(1, 9):
        exif = PIL.Image.Exif()
        exif[ORIENTATION] = orientation
        picture().save(tmp_path / "a.png", exif=exif)
        seen.add(read_picture(tmp_path / "a.png").tobytes())
    assert len(seen) == 8


@pytest.mark.parametrize("mode", ["L", "LA", "1", "P", "RGBA"])
def test_kinds_of_png(tmp_path: Path, mode: str) -> None:
    picture(mode).save(tmp_path / "a.png")
    check(tmp_path / "a.png")


def test_what_is_transparent_keeps_its_colour(tmp_path: Path) -> None:
    see_through = picture()
    see_through.putalpha(PIL.Image.linear_gradient("L").resize(see_through.size))
    see_through.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png"), scene(1, width=50, height=34))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bits_become_8(tmp_path: Path, suffix: str) -> None:
    deep = scene(1, width=50, height=34).astype(np.uint16) * 257
    (tmp_path / f"colour{suffix}").write_bytes(cv2.imencode(suffix, deep)[1].tobytes())
    (tmp_path / f"grey{suffix}").write_bytes(cv2.imencode(suffix, deep[..., 2])[1].tobytes())
    colour, grey = read_picture(tmp_path / f"colour{suffix}"), read_picture(tmp_path / f"grey{suffix}")
    assert colour.dtype == grey.dtype == np.uint8
    np.testing.assert_allclose(colour, scene(1, width=50, height=34), atol=1)
    np.testing.assert_allclose(grey, np.repeat(scene(1, width=50, height=34)[..., 2:], 3, axis=2), atol=1)


def test_cmyk(tmp_path: Path) -> None:
    picture("CMYK").save(tmp_path / "a.jpg", quality=95)
    check(tmp_path / "a.jpg", tolerance=3)
    assert np.abs(read_picture(tmp_path / "a.jpg").astype(int) - scene(1, width=50, height=34)).mean() < 12


@pytest.mark.parametrize("name", ["ünïcode 影.png", "emoji 🎭.jpg", "100%.png", "-a.png", "UPPER.PNG"])
def test_file_names(tmp_path: Path, name: str) -> None:
    image = scene(1, width=50, height=34)
    write_picture(tmp_path / "Ordner ß" / name, image)
    made = read_picture(tmp_path / "Ordner ß" / name)
    assert np.abs(made.astype(int) - image).mean() < (12 if name.endswith("jpg") else 0.01)


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_picture_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(BROKEN[name])
    with pytest.raises(MediaError, match=name):
        read_picture(tmp_path / name)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_picture_cut_off_is_named(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"half{suffix}"
    picture().save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(MediaError, match="half"):
        read_picture(path)


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"no such file: .*nowhere\.png"):
        read_picture(tmp_path / "nowhere.png")


def test_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(MediaError, match=r"folder\.png"):
        read_picture(tmp_path / "folder.png")


def test_png_and_back_is_exact(tmp_path: Path) -> None:
    image = np.random.default_rng(5).integers(0, 256, (31, 47, 3), dtype=np.uint8)
    before = image.copy()
    write_picture(tmp_path / "new folder" / "a.png", image)
    np.testing.assert_array_equal(read_picture(tmp_path / "new folder" / "a.png"), image)
    np.testing.assert_array_equal(image, before)
    assert [path.name for path in (tmp_path / "new folder").iterdir()] == ["a.png"]


def test_the_format_is_that_of_the_name(tmp_path: Path) -> None:
    for name, kind in (("a.png", "PNG"), ("a.jpg", "JPEG"), ("a.webp", "WEBP")):
        write_picture(tmp_path / name, scene())
        with PIL.Image.open(tmp_path / name) as opened:
            assert opened.format == kind


def tagged(path: Path, mode: str = "RGB", orientation: int = 1) -> Path:
    """A picture with a maker, a colour profile, and a way it is to be turned."""
    exif = PIL.Image.Exif()
    exif[ORIENTATION], exif[MAKER], exif[DESCRIPTION] = orientation, "Leica", "a day at the lake"
    made = picture(mode)
    if mode == "RGBA":
        made.putalpha(PIL.Image.linear_gradient("L").resize(made.size))
    made.save(path, exif=exif, icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    return path


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_what_else_a_file_holds_is_kept(tmp_path: Path, suffix: str, orientation: int) -> None:
    original = tagged(tmp_path / f"a{suffix}", orientation=orientation)
    image = read_picture(original)
    image[:10] = 90
    made = tmp_path / f"b{suffix}"
    assert write_picture_like(made, image, original, DISCLOSURE) == []
    assert np.abs(read_picture(made).astype(int) - image).mean() < (0.01 if suffix in (".png", ".tif") else 6)
    with PIL.Image.open(made) as opened:
        assert opened.getexif()[MAKER] == "Leica"
        assert opened.getexif().get(ORIENTATION, 1) == 1
        assert opened.getexif()[DESCRIPTION] == DISCLOSURE.comment("a day at the lake")
        assert "icc_profile" in opened.info


@pytest.mark.parametrize("wider", [1, 2])
def test_transparency_is_kept(tmp_path: Path, wider: int) -> None:
    original = tagged(tmp_path / "a.png", "RGBA")
    tiled = np.tile(read_picture(original), (1, wider, 1))
    assert write_picture_like(tmp_path / "b.png", tiled, original, DISCLOSURE) == []
    with PIL.Image.open(original) as before, PIL.Image.open(tmp_path / "b.png") as after:
        np.testing.assert_array_equal(after.getchannel("A"), np.tile(np.asarray(before.getchannel("A")), (1, wider)))


def test_what_is_not_kept_is_said(tmp_path: Path) -> None:
    deep = scene(1, width=50, height=34).astype(np.uint16) * 257
    (tmp_path / "deep.png").write_bytes(cv2.imencode(".png", deep)[1].tobytes())
    picture("CMYK").save(tmp_path / "ink.jpg")
    for name in ("deep.png", "ink.jpg"):
        image = read_picture(tmp_path / name)
        (note,) = write_picture_like(tmp_path / f"made_{name}", image, tmp_path / name, DISCLOSURE)
        assert name in note
        assert "8 bits" in note


SUB_EXIF, GPS = 0x8769, 0x8825


def photographed(path: Path) -> Path:
    """A picture as cameras write them: with lists of tags inside the list of tags, and a colour profile."""
    exif = PIL.Image.Exif()
    exif[MAKER], exif[DESCRIPTION] = "Leica", "a day at the lake"
    exif[SUB_EXIF] = {36867: "2020:01:01 10:00:00", 33434: 0.01, 34855: 200, 37510: b"ASCII\0\0\0hello"}
    exif[GPS] = {1: "N", 2: (48.0, 7.0, 3.5), 29: "2020:01:01"}
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture().save(path, exif=exif.tobytes(), icc_profile=profile)
    return path


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_lists_inside_the_exif_are_kept(tmp_path: Path, suffix: str) -> None:
    original = photographed(tmp_path / f"a{suffix}")
    made = tmp_path / f"b{suffix}"
    assert write_picture_like(made, read_picture(original), original, DISCLOSURE) == []
    with PIL.Image.open(original) as before, PIL.Image.open(made) as after:
        for tag in (SUB_EXIF, GPS):
            assert after.getexif().get_ifd(tag) == before.getexif().get_ifd(tag) != {}
        assert after.getexif()[MAKER] == "Leica"


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_a_tag_of_a_wrong_type_costs_itself_alone(tmp_path: Path, suffix: str) -> None:
    original = photographed(tmp_path / "a.jpg")
    content = original.read_bytes()
    maker = content.index(struct.pack(">HH", MAKER, 2))
    original.write_bytes(content[: maker + 2] + struct.pack(">H", 12) + content[maker + 4 :])  # text as fractions
    made = tmp_path / f"b{suffix}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write_picture_like(made, read_picture(original), original, DISCLOSURE)
        with PIL.Image.open(made) as opened:
            exif = opened.getexif()
            assert exif[DESCRIPTION] == DISCLOSURE.comment("a day at the lake")
            assert exif.get_ifd(GPS)[1] == "N"


def test_more_exif_than_a_kind_takes_is_said(tmp_path: Path) -> None:
    exif = PIL.Image.Exif()
    exif[DESCRIPTION] = "long " * 20_000
    picture().save(tmp_path / "a.png", exif=exif)
    notes = write_picture_like(tmp_path / "b.jpg", read_picture(tmp_path / "a.png"), tmp_path / "a.png", DISCLOSURE)
    assert notes == ["JPG cannot take the Exif of the original"]
    with PIL.Image.open(tmp_path / "b.jpg") as opened:
        assert opened.getexif()[DESCRIPTION].startswith(DISCLOSURE.comment())


def mutated(content: bytes, where: range, rng: random.Random) -> bytes:
    """Change some bytes, cut some out, or put some in."""
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4, 8))):
        place = rng.choice(where)
        kind = rng.randrange(4)
        if kind == 0:
            changed[place] = rng.randrange(256)
        elif kind == 1:
            changed[place] ^= 1 << rng.randrange(8)
        elif kind == 2:
            changed[place : place + 2] = struct.pack(
                rng.choice("<>") + "H", rng.choice((0, 1, 2, 5, 7, 9, 10, 12, 13, 255, 65535))
            )
        else:
            changed[place : place + 4] = struct.pack(
                rng.choice("<>") + "I", rng.choice((0, 1, 8, 2**31, 2**32 - 1, rng.randrange(400)))
            )
    return bytes(changed)


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
def test_nothing_in_its_metadata_ends_what_is_made_of_a_picture(tmp_path: Path, suffix: str) -> None:
    """Bytes of the Exif changed at random; a PNG's chunks with fitting checksums, or nothing of them would be read."""
    rng = random.Random(7)
    photo = photographed(tmp_path / f"a{suffix}")
    image, content = read_picture(photo), photo.read_bytes()
    with PIL.Image.open(photo) as opened:
        exif = opened.info["exif"] if suffix != ".tif" else b""
    begins = content.index(exif.removeprefix(b"Exif\0\0")) if exif else content.index(b"Leica") - 250
    length = len(exif) if exif else 400
    for number in range(150):
        changed = mutated(content, range(max(begins, 8), min(begins + length, len(content)) - 8), rng)
        if suffix == ".png":
            part = changed[begins : begins + length]
            changed = content[:33] + chunk(b"eXIf", part) + chunk(b"tEXt", part[:60]) + content[33:]
            changed = changed.replace(b"iCCP", rng.choice((b"iCCP", b"iCCQ")))
        (tmp_path / f"m{suffix}").write_bytes(changed)
        made = tmp_path / f"made{rng.choice(('.jpg', '.png', '.tif', '.webp', '.bmp'))}"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            write_picture_like(made, image, tmp_path / f"m{suffix}", DISCLOSURE)
            again = read_picture(made)
            with PIL.Image.open(made) as opened:
                said = opened.getexif().get(DESCRIPTION, "") if made.suffix != ".bmp" else DISCLOSURE.comment()
        assert again.shape == image.shape, number
        assert said.startswith(DISCLOSURE.comment()), number
