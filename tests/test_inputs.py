"""Files that are not what they seem, and several of which some are bad: each is said, and the others are done."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import PIL.Image
import pytest

from cli import main
from demo.clips import HOPPER, make_clip, move, read_portrait
from pipeline.faces.footage import lock_video
from pipeline.faces.store import FaceStore
from pipeline.media.pictures import write_picture
from pipeline.workspace import Workspace
from tests.clips import ffmpeg
from tests.conftest import FRAMES, ROOT

SWAP = ["--from", "hopper", "--to", "collins", "--preset", "ultrafast"]
IN_TURN = """
import faulthandler, sys
from cli import main
for line in sys.stdin.read().splitlines():
    faulthandler.dump_traceback_later(120, exit=True)
    print(main(line.split(" ")), flush=True)
"""


def run(command: str, workspace: Path, *arguments: str | Path) -> int:
    return main([command, *map(str, arguments), "--workspace", str(workspace)])


def errors(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]


def test_a_video_whose_name_lies_is_converted_and_signed(
    trained: Path, clips: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ffmpeg("-i", clips["hopper"], "-c", "copy", tmp_path / "clip.mkv")
    named = (tmp_path / "clip.mkv").rename(tmp_path / "clip.mp4")
    assert run("convert", trained, named, *SWAP, "-o", tmp_path / "made.mp4") == 0
    assert main(["verify", str(tmp_path / "made.mp4")]) == 0
    assert "from: clip.mp4" in capsys.readouterr().out


def test_pictures_whose_names_lie_are_converted_and_signed(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a folder as one by one; what has no picture's name gets one."""
    folder = tmp_path / "album"
    folder.mkdir()
    portrait = PIL.Image.fromarray(read_portrait(HOPPER)[..., ::-1].copy())
    for name, kind in (("a.png", "JPEG"), ("b.jpg", "PNG"), ("c.webp", "TIFF")):
        portrait.save(folder / name, kind)
    assert run("convert", trained, folder, *SWAP[:4]) == 0
    assert "swapped 3 faces in 3 pictures" in capsys.readouterr().out
    made = trained / "converted" / "album_hopper_to_collins"
    for name, kind in (("a.png", "PNG"), ("b.jpg", "JPEG"), ("c.webp", "WEBP")):
        with PIL.Image.open(made / name) as opened:
            assert opened.format == kind, "a result is what its name says"
    assert main(["verify", *map(str, sorted(made.iterdir()))]) == 0
    portrait.save(tmp_path / "photo.mp4", "JPEG")
    assert run("convert", trained, tmp_path / "photo.mp4", *SWAP[:4]) == 0
    with PIL.Image.open(trained / "converted" / "photo_hopper_to_collins.jpg") as opened:
        assert opened.format == "JPEG"


def test_a_missing_file_does_not_keep_extract_from_the_next(
    clips: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = [tmp_path / "missing.jpg", tmp_path / "missing.mp4"]
    assert run("extract", tmp_path / "w", *missing, clips["hopper"], "--every", "6") == 1
    said = capsys.readouterr()
    assert f"extracted hopper: {FRAMES} faces" in said.out
    assert [f"no such file: {path}" in said.err for path in missing] == [True, True]


def test_a_busy_video_does_not_silence_the_others(
    extracted: Path, clips: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_clip(HOPPER, tmp_path / "another.mp4", 3)
    with lock_video(Workspace(extracted), "collins"):
        assert run("extract", extracted, clips["hopper"], clips["collins"], tmp_path / "another.mp4") == 1
    said = capsys.readouterr()
    assert "hopper: 12 faces" in said.out
    assert "another: 3 faces" in said.out
    assert "another run is extracting 'collins'" in said.err


def test_bad_ones_do_not_keep_convert_and_preview_from_the_others(
    trained: Path, clips: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    bad = [tmp_path / "missing.mp4", tmp_path / "missing.png", tmp_path / "empty"]
    for command, swap, words in (("convert", SWAP, "swapped 12 faces"), ("preview", SWAP[:4], "look at")):
        assert run(command, trained, *bad, clips["hopper"], *swap) == 1
        said = capsys.readouterr()
        assert words in said.out
        assert all(str(path) in said.err for path in bad)


def test_a_video_that_moved_does_not_keep_the_others_from_being_converted(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_clip(HOPPER, tmp_path / "another.mp4", 3)
    assert run("extract", trained, tmp_path / "another.mp4", "--person", "hopper") == 0
    with FaceStore(trained / "videos" / "hopper" / "faces.sqlite", write=True) as store:
        store.record_facts(source=str(trained / "gone.mp4"))
    capsys.readouterr()
    assert run("convert", trained, *SWAP) == 1
    said = capsys.readouterr()
    assert "swapped 3 faces in 3 frames" in said.out
    assert "gone.mp4" in said.err


def test_a_damaged_store_does_not_silence_the_list_of_people(
    extracted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (extracted / "videos" / "hopper" / "faces.sqlite").write_bytes(b"no store")
    assert run("people", extracted) == 1
    said = capsys.readouterr()
    assert "collins: 12 crops, in collins" in said.out
    assert "hopper/faces.sqlite" in said.err


def test_a_picture_that_cannot_be_read_is_a_failure_with_the_rest_done(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_picture(tmp_path / "album" / "a.png", move(read_portrait(HOPPER), HOPPER, 0.5))
    (tmp_path / "album" / "b.png").write_bytes(b"no picture")
    for command in ("extract", "extract", "preview", "convert"):
        assert run(command, trained, tmp_path / "album", *(SWAP[:4] if command != "extract" else ())) == 1
        said = capsys.readouterr()
        assert said.err.count("1 of 2 could not be read: b.png") == 1, command
        assert said.out.strip(), "the rest is done"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names")
def test_pipes_are_refused_and_never_opened(trained: Path, clips: dict[str, Path], tmp_path: Path) -> None:
    """Opening one would wait for ever: all commands that take files, in one process that is given up in the end."""
    for name in ("pipe.jpg", "pipe.mp4", "list.txt", "album/pipe.png", "model/encoder.pth", "model/decodera.pth"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        os.mkfifo(tmp_path / name)
    os.mkfifo(trained / "data" / "hopper" / "pipe.jpg")
    write_picture(tmp_path / "album" / "a.png", read_portrait(HOPPER))
    shutil.copy(clips["hopper"], tmp_path / "clip.mp4")
    at = f"--workspace {trained}"
    expected = {
        f"extract {tmp_path}/pipe.jpg {tmp_path}/pipe.mp4 {at}": 1,
        f"extract {clips['hopper']} --reference {tmp_path}/pipe.jpg {at}": 1,
        f"extract {tmp_path}/album {at}": 0,
        f"convert {tmp_path}/pipe.mp4 --from hopper --to collins {at}": 1,
        f"convert {tmp_path}/pipe.jpg --from hopper --to collins {at}": 1,
        f"convert {tmp_path}/album --from hopper --to collins {at}": 0,
        f"convert {clips['hopper']} --from hopper --to collins --cert {tmp_path}/pipe.mp4 --key /dev/null {at}": 2,
        f"preview {tmp_path}/pipe.mp4 --from hopper --to collins {at}": 1,
        f"verify {tmp_path}/pipe.mp4": 1,
        f"verify {tmp_path}/clip.mp4 --trust {tmp_path}/pipe.mp4": 2,
        f"people discard hopper --list {tmp_path}/list.txt {at}": 1,
        f"import {tmp_path}/model -n other {at}": 1,
        f"review hopper {at}": 0,
        f"people {at}": 0,
    }
    done = subprocess.run(
        [sys.executable, "-c", IN_TURN],
        cwd=ROOT,
        input="\n".join(expected),
        capture_output=True,
        text=True,
        check=False,
    )
    codes = [int(line) for line in done.stdout.splitlines() if line.isdecimal()]
    assert dict(zip(expected, codes, strict=False)) == expected, done.stderr


@pytest.mark.skipif(os.name == "nt", reason="names are Unicode there")
@pytest.mark.parametrize("suffix", [".mkv", ".gif"])
def test_names_that_are_no_text_are_read_and_written(
    suffix: str, trained: Path, clips: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A video's, and those of the result and of its folder; ``%41`` is no quoted letter."""
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("this file system has names in UTF-8 only")
    video = folder / os.fsdecode(b"clip\xff.mp4")
    shutil.copy(clips["hopper"], video)
    final = folder / os.fsdecode(b"made \xfe %41" + suffix.encode())
    assert run("convert", trained, video, *SWAP, "--end", "2f", "-o", final) == 0
    said = capsys.readouterr()
    assert "swapped 2 faces in 2 frames" in said.out
    assert "error" not in said.err
    beside = {f"{final.name}.c2pa"} if suffix == ".mkv" else set[str]()
    assert {path.name for path in folder.iterdir()} == {video.name, final.name} | beside
    assert main(["verify", str(final)]) == 0


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="there are no links")
def test_a_workspace_that_is_none_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for command in ("models", "people"):
        for workspace in (tmp_path / "loop", Path("a\0b"), tmp_path / ("n" * 300)):
            assert run(command, workspace) == 1
            (line,) = capsys.readouterr().err.splitlines()
            assert "mistake" not in line


def test_a_list_that_is_none_is_one_line(extracted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "list.txt").write_bytes(b"PATH=/bin\0HOME=/\0")
    assert run("people", extracted, "discard", "hopper", "--list", tmp_path / "list.txt") == 1
    assert "as a list of crops" in capsys.readouterr().err


def test_one_result_that_cannot_be_written_does_not_keep_the_others_of_a_folder(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its name is as long as names can be, and so too long while it is being written."""
    for name in (f"{'a' * 250}.png", "b.png"):
        (tmp_path / "album").mkdir(exist_ok=True)
        write_picture(tmp_path / "short.png", read_portrait(HOPPER))
        (tmp_path / "short.png").rename(tmp_path / "album" / name)
    assert run("convert", trained, tmp_path / "album", *SWAP[:4]) == 1
    said = capsys.readouterr()
    assert "swapped 1 face in 1 picture" in said.out
    assert "left out" in said.err
