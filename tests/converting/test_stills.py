"""Still pictures and GIFs converted: only faces change, files keep their kind, and what cannot be done is said."""

from pathlib import Path

import av
import numpy as np
import PIL.Image
import pytest

from cli import main
from demo.clips import COLLINS, HOPPER, read_portrait
from pipeline.media.pictures import read_picture, write_picture
from pipeline.media.reader import VideoReader
from pipeline.types import Image
from tests.clips import ffmpeg, scene
from tests.conftest import FRAMES

SWAP = ["--from", "hopper", "--to", "collins"]


def run(workspace: Path, *arguments: str | Path) -> int:
    return main(["convert", *map(str, arguments), *SWAP, "--workspace", str(workspace)])


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two of the person, one of another, one of nobody and one that is none."""
    folder = tmp_path / "album"
    hopper = read_portrait(HOPPER)
    write_picture(folder / "a.png", hopper)
    PIL.Image.fromarray(hopper[..., ::-1].copy()).save(folder / "b.jpg", quality=92)
    write_picture(folder / "c.png", read_portrait(COLLINS))
    write_picture(folder / "d.png", scene(1, 200, 160))
    (folder / "e.png").write_bytes(b"no picture")
    return folder


def changed(before: Image, after: Image) -> float:
    """Share of the pixels that differ clearly."""
    return float((np.abs(before.astype(int) - after).max(axis=2) > 12).mean())


def test_a_folder_of_pictures(trained: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(trained, photos) == 1
    made = trained / "converted" / "album_hopper_to_collins"
    said = capsys.readouterr()
    assert "swapped 2 faces in 2 pictures" in said.out
    assert "copied as they are" in said.out
    assert said.err.splitlines()[-1] == f"error: {photos}: 1 of 5 could not be read: e.png"
    assert said.err.count("error:") == 1
    assert sorted(path.name for path in made.iterdir()) == ["a.png", "b.jpg", "c.png", "d.png", "e.png"]
    for name in ("a.png", "b.jpg"):
        before, after = read_picture(photos / name), read_picture(made / name)
        assert 0.01 < changed(before, after) < 0.2
        assert changed(before[:60], after[:60]) == 0
    for name in ("c.png", "d.png", "e.png"):
        assert (made / name).read_bytes() == (photos / name).read_bytes()


def test_pictures_are_recognised_where_others_come_before_them(
    trained: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["extract", str(photos), "--workspace", str(trained)]) == 1, "one cannot be read"
    write_picture(photos / "0.png", scene(2, 200, 160))
    (photos / "a.png").rename(photos / "z.png")
    assert run(trained, photos) == 1
    made = trained / "converted" / "album_hopper_to_collins"
    assert "swapped 2 faces in 2 pictures" in capsys.readouterr().out
    changes = {path.name: path.read_bytes() != (photos / path.name).read_bytes() for path in made.iterdir()}
    assert changes == {"0.png": False, "b.jpg": True, "c.png": False, "d.png": False, "e.png": False, "z.png": True}
    assert run(trained, photos / "z.png") == 0
    assert (trained / "converted" / "z_hopper_to_collins.png").is_file(), "its own name, not the folder's"


@pytest.mark.parametrize("name", ["a.png", "b.jpg"])
def test_one_picture_keeps_its_kind(name: str, trained: Path, photos: Path) -> None:
    assert run(trained, photos / name) == 0
    stem, suffix = name.split(".")
    (made,) = (trained / "converted").iterdir()
    assert made.name == f"{stem}_hopper_to_collins.{suffix}"
    assert changed(read_picture(photos / name), read_picture(made)) > 0.01


def test_outside_the_face_nothing_changes(trained: Path, photos: Path, tmp_path: Path) -> None:
    assert run(trained, photos / "a.png", "-o", tmp_path / "result.png") == 0
    assert run(trained, photos / "a.png", "--only-mask", "-o", tmp_path / "mask.png") == 0
    before, after = read_picture(photos / "a.png"), read_picture(tmp_path / "result.png")
    new = read_picture(tmp_path / "mask.png").max(axis=2) > 0
    assert 0.02 < new.mean() < 0.25
    np.testing.assert_array_equal(after[~new], before[~new])
    assert changed(before, after) > 0.01


def test_pictures_of_nobody_have_black_masks(trained: Path, photos: Path) -> None:
    assert run(trained, photos, "--only-mask") == 1
    made = trained / "converted" / "album_hopper_to_collins_mask"
    assert sorted(path.name for path in made.iterdir()) == ["a.png", "b.jpg", "c.png", "d.png"]
    assert [read_picture(made / name).max() > 0 for name in ("a.png", "c.png", "d.png")] == [True, False, False]


def test_side_by_side(trained: Path, photos: Path, tmp_path: Path) -> None:
    for name, more in (("result.png", []), ("both.png", ["--side-by-side"])):
        assert run(trained, photos / "a.png", *more, "-o", tmp_path / name) == 0
    expected = np.hstack([read_picture(photos / "a.png"), read_picture(tmp_path / "result.png")])
    np.testing.assert_array_equal(read_picture(tmp_path / "both.png"), expected)


def test_several_pictures_are_several_results(trained: Path, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert run(trained, photos / "a.png", photos / "b.jpg", "-o", tmp_path / "out") == 0
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["a_hopper_to_collins.png", "b_hopper_to_collins.jpg"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["a.png", "--start", "1"], 2, "--start and --end are for videos"),
        (["a.png", "-o", "{}/a.mp4"], 2, "give a name that ends in"),
        (["a.png", "-o", "a.png"], 2, "a.png is the original"),
        ([".", "-o", "."], 2, "is the original"),
        ([".", "-o", "{}/a.png"], 2, "give a folder"),
        (["e.png"], 1, "nothing in e.png can be read"),
        (["c.png"], 1, "'hopper' is not in"),
        (["f.png"], 1, "no such file: f.png"),
    ],
)
def test_what_cannot_be_done_is_said(
    arguments: list[str],
    code: int,
    words: str,
    trained: Path,
    photos: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(photos)
    before = {path: path.read_bytes() for path in photos.iterdir()}
    assert run(trained, *(text.format(trained) for text in arguments)) == code
    assert words in capsys.readouterr().err
    assert {path: path.read_bytes() for path in photos.iterdir()} == before
    assert not (trained / "converted").exists()


def test_a_preview_of_pictures(trained: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["preview", str(photos), *SWAP, "--workspace", str(trained)]) == 1
    assert "1 of 5 could not be read: e.png" in capsys.readouterr().err
    assert read_picture(trained / "preview" / "album_hopper_to_collins.png").shape == (24 + 2 * 256, 4 * 256, 3)


def test_a_gif_in_and_out(trained: Path, clips: dict[str, Path], tmp_path: Path) -> None:
    """Its frames and their times stay; only the face changes, but for the few colours a GIF has."""
    colours = "fps=10,scale=300:-1,split[a][b];[b]palettegen[p];[a][p]paletteuse"
    ffmpeg("-i", clips["hopper"], "-vf", colours, tmp_path / "moving.gif")
    assert run(trained, tmp_path / "moving.gif", "-o", tmp_path / "result.gif") == 0
    frames = []
    for name in ("moving.gif", "result.gif"):
        with VideoReader(tmp_path / name) as reader:
            frames.append(list(reader))
    before, after = frames
    assert [frame.pts for frame in after] == [frame.pts for frame in before]
    for old, new in zip(before, after, strict=True):
        assert np.abs(old.image[:40].astype(int) - new.image[:40]).mean() < 6
        assert changed(old.image, new.image) > 0.01


def test_a_video_becomes_a_gif_without_its_sound(
    trained: Path, clips: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(trained, clips["hopper"], "-o", tmp_path / "result.gif") == 0
    assert "left out: GIF cannot hold it" in capsys.readouterr().out
    with av.open(str(tmp_path / "result.gif")) as container:
        assert container.format.name == "gif"
        assert sum(1 for packet in container.demux(video=0) if packet.size) == FRAMES
