"""What convert writes: whose face, which part, which container and encoder, and what it refuses."""

import json
import os
import shutil
import subprocess
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from cli import main
from demo.clips import COLLINS, HOPPER, make_clip
from pipeline.media.probe import probe
from pipeline.media.reader import VideoReader
from pipeline.types import Image
from tests.clips import ffmpeg

FRAME_S = Fraction(1, 25)
IS_FFMPEG_5 = b"version 5." in ffmpeg("-version")
SWAP = ["--from", "hopper", "--to", "collins", "--preset", "ultrafast"]


def run(workspace: Path, *arguments: str | Path) -> int:
    return main(["convert", *map(str, arguments), "--workspace", str(workspace)])


def last_line(capsys: pytest.CaptureFixture[str]) -> str:
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return said.strip().splitlines()[-1]


def images_of(path: Path) -> list[Image]:
    with VideoReader(path) as reader:
        return [frame.image for frame in reader]


def times_of(path: Path) -> list[Fraction]:
    with VideoReader(path) as reader:
        return [frame.pts * reader.info.time_base for frame in reader]


def check_times(out: Path, wanted: list[Fraction]) -> None:
    """The frames of a result are shown at these times; ffmpeg 5 shifts all of an MKV so that no sound is before 0."""
    times = times_of(out)
    late = times[0] - wanted[0] if IS_FFMPEG_5 and out.suffix in (".mkv", ".webm") else 0
    assert 0 <= late < FRAME_S, "by no more than what an encoder of sound begins with"
    assert times == [moment + late for moment in wanted]


def sound_of(path: Path, track: int = 0) -> list[tuple[Fraction, bytes]]:
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(audio=track) if packet.size]
        return [((packet.pts or 0) * (packet.time_base or Fraction(1)), bytes(packet)) for packet in packets]


# Whose face


@pytest.fixture
def two(real_data: Path, trained_once: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A workspace that knows two people, and 16 frames with both, in the middle of which they change sides."""
    clip = real_data / "multi" / "made_two_in_frame_swap_sides.mp4"
    shutil.copytree(trained_once / "output", tmp_path / "output", copy_function=os.link)
    part = tmp_path / "part.mp4"
    chosen = "select=between(n\\,112\\,127)"
    ffmpeg("-i", clip, "-vf", chosen, "-fps_mode", "passthrough", "-an", "-crf", "12", part)
    assert main(["extract", str(part), "--person", "one", "--workspace", str(tmp_path)]) == 0
    (other,) = {folder.name for folder in (tmp_path / "data").iterdir()} - {"one"}
    assert main(["people", "rename", other, "two", "--workspace", str(tmp_path)]) == 0
    return tmp_path, part


def halves(path: Path) -> np.ndarray:
    """The left and the right of every frame."""
    frames = np.array(images_of(path), float)
    return np.stack(np.split(frames, 2, axis=2), axis=1)


def changed(path: Path, original: Path) -> list[list[bool]]:
    """Whether a face was drawn on the left, and on the right, of each frame."""
    return [
        [bool(side > 2) for side in frame] for frame in np.abs(halves(path) - halves(original)).mean(axis=(2, 3, 4))
    ]


LOSSLESS = ["--codec", "ffv1"]


def test_only_the_person_named_is_drawn_anew(two: tuple[Path, Path]) -> None:
    """He keeps to his own side of the picture, which they change at the eighth frame."""
    workspace, clip = two
    assert run(workspace, clip, "--swap", "one:collins", *LOSSLESS, "-o", workspace / "out.mkv") == 0
    sides = changed(workspace / "out.mkv", clip)
    assert sides == [sides[0]] * 8 + [sides[0][::-1]] * 8
    assert sorted(sides[0]) == [False, True]


def test_two_people_in_one_frame(two: tuple[Path, Path]) -> None:
    """Each becomes whom he would become alone, whichever side he is on."""
    workspace, clip = two
    outs = {name: workspace / f"{name}.mkv" for name in ("one", "two", "both")}
    swaps = {"one": ["--swap", "one:collins"], "two": ["--swap", "two:hopper"]}
    swaps["both"] = swaps["one"] + swaps["two"]
    for name, out in outs.items():
        assert run(workspace, clip, *swaps[name], *LOSSLESS, "-o", out) == 0
    assert changed(outs["both"], clip) == [[True, True]] * 16
    sides = changed(outs["one"], clip)
    both, one, other = (halves(outs[name]) for name in ("both", "one", "two"))
    for place, row in enumerate(sides):
        for side, is_one in enumerate(row):
            alone = one if is_one else other
            assert np.abs(both[place, side] - alone[place, side]).mean() < 0.05, "other faces reach over the middle"


def test_cuts_between_two_people(real_data: Path, trained_once: Path, tmp_path: Path) -> None:
    """In an interview that cuts from one to the other, frames of the other stay as they were."""
    clip = real_data / "multi" / "made_interview_cuts.mp4"
    truth = json.loads(clip.with_suffix(".truth.json").read_text(encoding="utf-8"))
    shutil.copytree(trained_once / "output", tmp_path / "output", copy_function=os.link)
    assert main(["extract", str(clip), "--person", "guest", "--workspace", str(tmp_path)]) == 0
    out = tmp_path / "out.mp4"
    assert run(tmp_path, clip, "--swap", "guest:collins", "--preset", "ultrafast", "--crf", "6", "-o", out) == 0
    shown = [
        shot["on_screen"][0] for shot in truth["timeline"] for _ in range(shot["last_frame"] - shot["first_frame"] + 1)
    ]
    with VideoReader(out) as new, VideoReader(clip) as old:
        changed = [bool(np.abs(a.image.astype(int) - b.image).mean() > 2) for a, b in zip(new, old, strict=True)]
    guest = max(set(shown), key=shown.count)
    assert changed == [who == guest for who in shown]


def test_both_directions_in_one_pass(trained: Path, clips: dict[str, Path]) -> None:
    """The same as one after the other, in every video that shows one of them."""
    both = ["--swap", "hopper:collins", "--swap", "collins:hopper", "--preset", "ultrafast"]
    assert run(trained, *both) == 0
    names = {path.name for path in (trained / "converted").iterdir()}
    assert names == {f"{name}_hopper_to_collins_collins_to_hopper.mp4" for name in clips}
    assert run(trained, *SWAP, "-o", trained / "one.mp4") == 0
    made = images_of(trained / "converted" / "hopper_hopper_to_collins_collins_to_hopper.mp4")
    np.testing.assert_array_equal(made, images_of(trained / "one.mp4"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--from", "a"], "--swap A:B"),
        ([], "--swap A:B"),
        (["--from", "a", "--to", "b", "--swap", "a:b"], "--swap A:B"),
        (["--swap", "a"], "--swap a: type two names"),
        (["--swap", "a:b:c"], "two names"),
        (["--swap", "a:b", "--swap", "a:c"], "'a' cannot become two people"),
        (["--swap", "a:a"], "nothing to swap"),
        (["--swap", "../a:b"], "cannot name a person"),
        (["--from", "a", "--to", "b", "--start", "x"], "--start x: type a time"),
    ],
)
def test_wrong_usage(arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, *arguments) == 2
    assert words in last_line(capsys)


# Which part


@pytest.mark.parametrize(
    ("arguments", "first", "end"),
    [
        (["--start", "3f", "--end", "9f"], 3, 9),
        (["--start", "0.12"], 3, 12),
        (["--end", "0:00.2"], 0, 5),
        (["--start", "0.1", "--end", "10:00"], 3, 12),
    ],
)
def test_a_part(arguments: list[str], first: int, end: int, trained: Path, clips: dict[str, Path]) -> None:
    """Frames and sound of the part alone, in time with each other, from 0 on."""
    assert run(trained, *SWAP, *arguments, "-o", trained / "part.mp4") == 0
    moments = times_of(clips["hopper"])[first:end]
    assert times_of(trained / "part.mp4") == [moment - moments[0] for moment in moments]
    lasts = Fraction(1, 25)
    original = {content: time for time, content in sound_of(clips["hopper"])}
    sound = sound_of(trained / "part.mp4")
    assert sound
    for time, content in sound:
        assert abs(time - (original[content] - moments[0])) < Fraction(1, 1000)
    assert sound[0][0] < Fraction(3, 100), "it begins with the picture"
    assert sound[-1][0] < moments[-1] + lasts - moments[0], "and ends with it"


@pytest.mark.parametrize("name", ["part.mp4", "part.mkv", "part.webm"])
def test_the_sound_of_a_part_is_that_of_its_frames(name: str, trained: Path, clips: dict[str, Path]) -> None:
    """None of what comes before is in the file, whether it is copied or encoded anew."""
    codec = ["--codec", "libvpx-vp9"] if name.endswith("webm") else []
    assert run(trained, *SWAP[:4], *codec, "--start", "5f", "--end", "10f", "-o", trained / name) == 0
    moments = times_of(clips["hopper"])
    check_times(trained / name, [moment - moments[5] for moment in moments[5:10]])
    sound = [time for time, _ in sound_of(trained / name)]
    assert -Fraction(1, 20) < sound[0] < Fraction(1, 40), "a decoder needs what comes right before"
    assert Fraction(15, 100) < sound[-1] < Fraction(21, 100)
    assert len(sound) > 6


def test_a_part_that_shows_nobody_is_said(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = chart(tmp_path, ["bt709", "tv", "bt709"])
    assert main(["extract", str(path), "--person", "hopper", "--workspace", str(trained)]) == 0
    assert run(trained, path, *SWAP, "--end", "4f", "-o", tmp_path / "out.mp4") == 0
    told = capsys.readouterr().out
    assert "swapped 0 faces in 4 frames" in told
    assert "nobody to swap is in this part" in told
    assert "synthetic" not in told
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert "Synthetic" not in str(container.metadata)
    assert main(["verify", str(tmp_path / "out.mp4")]) == 0
    assert "encoded again; no face was drawn" in capsys.readouterr().out


def test_parts_have_names_of_their_own(trained: Path) -> None:
    assert run(trained, *SWAP, "--start", "3f", "--end", "9f") == 0
    assert [path.name for path in (trained / "converted").iterdir()] == ["hopper_hopper_to_collins_3-8.mp4"]


def test_a_part_without_frames_is_said(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(trained, *SWAP, "--start", "1:00") == 2
    assert "it has 12 frames, the last at 0.44 s" in last_line(capsys)


def test_a_part_of_a_video_that_does_not_begin_at_0(trained: Path, clips: dict[str, Path], tmp_path: Path) -> None:
    late = tmp_path / "late.ts"
    ffmpeg("-i", clips["hopper"], "-c", "copy", "-muxdelay", "0", "-output_ts_offset", "7.5", late)
    assert run(trained, late, *SWAP, "--start", "0.2", "-o", tmp_path / "part.mp4") == 0
    moments = times_of(late)
    assert moments[0] > 7
    assert times_of(tmp_path / "part.mp4") == [moment - moments[5] for moment in moments[5:]]
    original = {content: time for time, content in sound_of(late)}
    sound = sound_of(tmp_path / "part.mp4")
    matched = [(time, original[content]) for time, content in sound if content in original]
    for time, before in matched:
        assert abs(time - (before - moments[5])) < Fraction(1, 1000)


@pytest.mark.parametrize("name", ["slow.mp4", "slow.mov", "slow.mkv"])
def test_a_film_of_few_frames_a_second(name: str, trained: Path, clips: dict[str, Path], tmp_path: Path) -> None:
    ffmpeg("-i", clips["hopper"], "-vf", "setpts=9*PTS", "-r", "3", "-an", tmp_path / "film.mkv")
    assert run(trained, tmp_path / "film.mkv", *SWAP, "-o", tmp_path / name) == 0
    assert len(times_of(tmp_path / name)) > 5
    assert times_of(tmp_path / name) == times_of(tmp_path / "film.mkv")


# Where no face is drawn


def chart(folder: Path, tags: list[str]) -> Path:
    """A colour chart of 24 frames, and behind it a face that makes it a video with somebody in it."""
    make_clip(HOPPER, folder / "hopper_alone.mp4", 3)
    size = probe(folder / "hopper_alone.mp4")
    made = folder / "chart.mp4"
    scaled = f"scale=out_color_matrix={tags[0]}:out_range={tags[1]},format=yuv420p"
    told = f"setparams=range={tags[1]}:colorspace={tags[2]}:color_primaries={tags[2]}:color_trc={tags[2]}"
    ffmpeg(
        "-f", "lavfi", "-i", f"smptehdbars=s={size.width}x{size.height}:r=25:d=0.96,format=rgb24",
        "-i", folder / "hopper_alone.mp4", "-filter_complex", f"[0]{scaled}[a];[1:v]{scaled}[b];[a][b]concat,{told}",
        "-crf", "5", made,
    )  # fmt: skip
    return made


@pytest.mark.parametrize(
    "tags", [["bt601", "tv", "smpte170m"], ["bt709", "tv", "bt709"], ["bt709", "pc", "bt709"]], ids=" ".join
)
def test_without_a_face_it_is_a_plain_transcode(tags: list[str], trained: Path, tmp_path: Path) -> None:
    path = chart(tmp_path, tags)
    assert main(["extract", str(path), "--person", "hopper", "--workspace", str(trained)]) == 0
    assert run(trained, path, *SWAP[:4], "--end", "24f", "-o", tmp_path / "out.mp4") == 0
    plain = tmp_path / "plain.mp4"
    ffmpeg("-i", path, "-frames:v", "24", "-c:v", "libx264", "-crf", "18", plain)
    assert probe(tmp_path / "out.mp4").colour == probe(path).colour
    made, expected, original = (np.array(images_of(file)[:24], float) for file in (tmp_path / "out.mp4", plain, path))
    error = np.square(made - expected).mean()
    assert error == 0 or 10 * np.log10(255**2 / error) >= 48
    assert np.abs((made - expected).mean(axis=(0, 1, 2))).max() < 0.3
    assert np.abs((made - original).mean(axis=(0, 1, 2))).max() < 0.3


# How it looks


@pytest.mark.parametrize(
    "look",
    [
        ["--mask", "box"],
        ["--mask", "ellipse"],
        ["--erode", "15"],
        ["--feather", "40"],
        ["--color", "none"],
        ["--color", "reinhard"],
        ["--sharpen", "2"],
        ["--match-grain"],
        ["--blend", "poisson"],
        ["--opacity", "0.5"],
        ["--scale", "1.1"],
    ],
    ids=" ".join,
)
def test_every_choice_of_look_shows(look: list[str], trained: Path, tmp_path: Path) -> None:
    outs = [tmp_path / "plain.mkv", tmp_path / "other.mkv"]
    part = ["--end", "2f", *LOSSLESS]
    assert run(trained, *SWAP[:4], *part, "-o", outs[0]) == 0
    assert run(trained, *SWAP[:4], *part, *look, "-o", outs[1]) == 0
    plain, other = (np.array(images_of(path), int) for path in outs)
    assert np.abs(plain - other).max() > 2


def test_side_by_side(trained: Path, clips: dict[str, Path]) -> None:
    """The original to the left, the result to the right, not a pixel otherwise than alone."""
    for name, shown in (("alone", []), ("both", ["--side-by-side"])):
        assert run(trained, *SWAP[:4], *LOSSLESS, *shown, "--end", "4f", "-o", trained / f"{name}.mkv") == 0
    both, alone = (np.array(images_of(trained / f"{name}.mkv")) for name in ("both", "alone"))
    left, right = np.split(both, 2, axis=2)
    assert np.abs(left.astype(int) - images_of(clips["hopper"])[:4]).max() <= 2
    np.testing.assert_array_equal(right[..., 2:-2, :], alone[..., 2:-2, :])
    assert times_of(trained / "both.mkv") == times_of(trained / "alone.mkv")
    assert run(trained, *SWAP, "--side-by-side") == 0
    assert (trained / "converted" / "hopper_hopper_to_collins_side_by_side.mp4").is_file()


def test_only_the_mask(trained: Path, clips: dict[str, Path]) -> None:
    """White where the result is new, black where it is the original, soft between."""
    assert run(trained, *SWAP[:4], *LOSSLESS, "-o", trained / "alone.mkv") == 0
    assert run(trained, *SWAP[:4], *LOSSLESS, "--only-mask", "-o", trained / "mask.mkv") == 0
    masks, made = (np.array(images_of(trained / f"{name}.mkv"), int) for name in ("mask", "alone"))
    assert np.ptp(masks, axis=3).max() <= 4, "grey"
    changed = np.abs(made - images_of(clips["hopper"])).max(axis=3)
    assert changed[masks.max(axis=3) <= 1].max() <= 16, "colours have half the resolution; 13 with ffmpeg 5.1"
    assert changed[masks.min(axis=3) > 245].mean() > 5
    assert 0.02 < (masks.min(axis=3) > 245).mean() < 0.3
    assert 0.005 < ((masks > 20) & (masks < 235)).mean() < 0.2


@pytest.mark.parametrize(
    ("look", "words"),
    [
        (["--mask", "star"], "outline"),
        (["--erode", "50"], "--erode 50: must be -20 to 40 percent"),
        (["--feather", "-1"], "--feather -1: must be 0 to 50 percent"),
        (["--sharpen", "3"], "--sharpen 3: must be 0 to 2"),
        (["--opacity", "1.5"], "--opacity 1.5: must be 0 to 1"),
        (["--scale", "2"], "--scale 2: must be 0.9 to 1.1"),
        (["--color", "nan"], "reinhard"),
        (["--side-by-side", "--only-mask"], "choose one"),
        (["--opacity", "nan"], "--opacity nan: must be 0 to 1"),
    ],
)
def test_looks_that_cannot_be(look: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code: object = run(tmp_path, *SWAP, *look)
    except SystemExit as wrong:  # the parser's own refusal
        code = wrong.code
    assert code == 2
    assert words in capsys.readouterr().err


# Depth and brightness


def deep(folder: Path, transfer: str) -> Path:
    make_clip(COLLINS, folder / "plain.mp4", 6)
    told = f"setparams=colorspace=bt2020nc:color_primaries=bt2020:color_trc={transfer}"
    ffmpeg("-i", folder / "plain.mp4", "-vf", f"format=yuv420p10le,{told}", "-crf", "8", folder / "deep.mp4")
    return folder / "deep.mp4"


@pytest.mark.parametrize("transfer", ["bt2020-10", "smpte2084", "arib-std-b67"])
def test_ten_bits_stay(transfer: str, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = deep(tmp_path, transfer)
    assert run(trained, path, "--from", "collins", "--to", "hopper", "-o", tmp_path / "out.mp4") == 0
    made, before = probe(tmp_path / "out.mp4"), probe(path)
    assert (made.pixel_format, made.colour) == ("yuv420p10le", before.colour)
    assert ("HDR kept" in capsys.readouterr().out) == (transfer != "bt2020-10")


@pytest.mark.parametrize("transfer", ["bt2020-10", "smpte2084"])
def test_an_encoder_of_eight_bits(
    transfer: str, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Refused where brightness would be washed out; said where only fineness is lost."""
    path = deep(tmp_path, transfer)
    swap: list[str | Path] = ["--from", "collins", "--to", "hopper", "--codec", "mpeg4", "-o", tmp_path / "out.mp4"]
    hdr = transfer == "smpte2084"
    assert run(trained, path, *swap) == hdr
    words = capsys.readouterr()
    assert ("is HDR, and mpeg4 would store 8 bits: choose --codec libx264" in words.err) == hdr
    assert ("10 bits per colour stored as 8" in words.out) == (not hdr)
    assert (tmp_path / "out.mp4").exists() == (not hdr)


# Containers and encoders


def rich(folder: Path, clip: Path, suffix: str) -> Path:
    """A video with two sound tracks in two languages, subtitles, chapters and a title."""
    (folder / "a.srt").write_text("1\n00:00:00,100 --> 00:00:00,300\nGood evening\n", encoding="utf-8")
    chapter = "[CHAPTER]\nTIMEBASE=1/1000\nSTART={}\nEND={}\ntitle={}\n"
    facts = f";FFMETADATA1\ntitle=Ünïcode\n{chapter.format(0, 200, 'One')}{chapter.format(200, 480, 'Two')}"
    (folder / "facts.txt").write_text(facts, encoding="utf-8")
    made = folder / f"rich{suffix}"
    ffmpeg(
        "-i", clip, "-i", folder / "a.srt", "-i", folder / "facts.txt", "-map", "0:v", "-map", "0:a", "-map", "0:a",
        "-map", "1", "-map_metadata", "2", "-map_chapters", "2", "-c", "copy",
        "-c:s", "mov_text" if suffix == ".mp4" else "copy", "-metadata:s:v:0", "language=ger",
        "-metadata:s:a:0", "language=ita", "-metadata:s:a:1", "language=jpn", "-metadata:s:s:0", "language=dan", made,
    )  # fmt: skip
    return made


@pytest.mark.parametrize("source", [".mp4", ".mkv"])
@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_everything_else_is_kept(
    source: str, suffix: str, trained: Path, clips: dict[str, Path], tmp_path: Path
) -> None:
    path, out = rich(tmp_path, clips["hopper"], source), tmp_path / f"out{suffix}"
    assert run(trained, path, *SWAP, "-o", out) == 0
    assert [content for _, content in sound_of(out, 1)] == [content for _, content in sound_of(path, 1)]
    check_times(out, times_of(path))
    late = times_of(out)[0] - times_of(path)[0]
    off = max(abs(a - b - late) for (a, _), (b, _) in zip(sound_of(out), sound_of(path), strict=True))
    assert off < Fraction(1, 1000)
    with av.open(str(out)) as container:
        told = [(stream.type, stream.language) for stream in container.streams if stream.type != "data"]
        assert told == [("video", "ger"), ("audio", "ita"), ("audio", "jpn"), ("subtitle", "dan")]
        assert container.metadata["title"] == "Ünïcode"
        assert [chapter["metadata"]["title"] for chapter in container.chapters()] == ["One", "Two"]


def test_webm(trained: Path, clips: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = rich(tmp_path, clips["hopper"], ".mkv"), tmp_path / "out.webm"
    swap: list[str | Path] = [*SWAP[:4], "--codec", "libvpx-vp9", "--crf", "40", "-o", out]
    assert run(trained, path, *swap) == 0
    assert "audio stream 1 (aac) re-encoded as libopus: WEBM cannot hold it" in capsys.readouterr().out
    check_times(out, times_of(path))
    with av.open(str(out)) as container:
        names = [stream.codec_context.name for stream in container.streams if stream.codec_context]
    assert names == ["vp9", "opus", "opus", "webvtt"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["-o", "out.webm"], 2, "add --codec libvpx-vp9"),
        (["-o", "out.avi"], 2, "results end in .mp4, .m4v, .mov, .webm, .mkv, .gif"),
        (["-o", "v1.2"], 2, "to name a folder, make it first"),
        (["-o", "out.mp4", "--codec", "prores_ks"], 1, ".mp4 files cannot hold prores video"),
        (["-o", "out.mp4", "--crf", "52"], 2, "must be 0 to 51 for libx264"),
    ],
)
def test_what_cannot_be_written_is_said_before_anything_is_made(
    arguments: list[str], code: int, words: str, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "results"
    folder.mkdir()
    told = [folder / word if place == 1 else word for place, word in enumerate(arguments)]
    assert run(trained, *SWAP[:4], *told) == code
    line = last_line(capsys)
    assert words in line
    assert "frame/s" not in line
    assert not list(folder.iterdir())


def test_a_folder_with_a_dot_in_its_name(trained: Path) -> None:
    (trained / "v1.2").mkdir()
    assert run(trained, *SWAP, "-o", trained / "v1.2") == 0
    assert [path.name for path in (trained / "v1.2").iterdir()] == ["hopper_hopper_to_collins.mp4"]


@pytest.mark.parametrize(
    ("codec", "name", "made", "notes"),
    [
        ("libsvtav1", "out.mp4", "av1", []),
        ("libsvtav1", "out.webm", "av1", []),
        ("prores_ks", "out.mov", "prores", ["prores_ks has no --crf", "has no --preset"]),
        ("prores_ks", "out.mkv", "prores", ["prores_ks has no --crf", "has no --preset"]),
        ("libx265", "out.m4v", "hevc", []),
    ],
)
def test_other_encoders(
    codec: str, name: str, made: str, notes: list[str],
    trained: Path, clips: dict[str, Path], capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    speed = {"libsvtav1": "10"}.get(codec, "ultrafast")
    out = trained / name
    assert run(trained, *SWAP[:4], "--codec", codec, "--preset", speed, "-o", out) == 0
    told = capsys.readouterr().out
    assert [note for note in notes if note not in told] == []
    assert ("has no --" in told) == bool(notes)
    check_times(out, times_of(clips["hopper"]))
    with av.open(str(out)) as container:
        assert container.streams.video[0].codec.canonical_name == made
    if not name.endswith("webm"):
        assert [content for _, content in sound_of(out)] == [content for _, content in sound_of(clips["hopper"])]


@pytest.mark.parametrize(("name", "made"), [("out.mov", "aac"), ("out.mp4", "opus"), ("out.m4v", "opus")])
def test_sound_that_only_some_containers_hold(
    name: str, made: str, trained: Path, clips: dict[str, Path], tmp_path: Path
) -> None:
    ffmpeg("-i", clips["hopper"], "-c:v", "copy", "-c:a", "libopus", tmp_path / "a.mp4")
    assert run(trained, tmp_path / "a.mp4", *SWAP, "-o", tmp_path / name) == 0
    assert probe(tmp_path / name).audio_codecs == (made,)


def test_a_failure_that_is_not_the_videos_leaves_the_others_their_results(
    trained: Path, clips: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second result would be put where a folder is."""
    folder = tmp_path / "results"
    second = tmp_path / "second.mp4"
    make_clip(HOPPER, second, 4)
    (folder / "second_hopper_to_collins.mp4").mkdir(parents=True)
    assert run(trained, second, clips["hopper"], *SWAP, "-o", folder) == 1
    said = capsys.readouterr()
    assert "cannot write" in said.err
    assert "hopper_hopper_to_collins.mp4" in said.out


def test_a_cover_and_a_second_video(trained: Path, clips: dict[str, Path], tmp_path: Path) -> None:
    picture, path = tmp_path / "cover.png", tmp_path / "covered.mp4"
    ffmpeg("-i", clips["collins"], "-frames:v", "1", picture)
    ffmpeg("-i", clips["hopper"], "-i", picture, "-map", "0:v", "-map", "0:a", "-map", "1", "-c", "copy",
           "-disposition:v:1", "attached_pic", path)  # fmt: skip
    assert run(trained, path, *SWAP, "-o", tmp_path / "out.mp4") == 0
    made = {stream.kind: stream.codec for stream in probe(tmp_path / "out.mp4").others}
    assert made == {"audio": "aac", "cover": "png"}


@pytest.mark.parametrize("codec", ["h264_nvenc", "hevc_videotoolbox", "libnone"])
def test_an_encoder_that_is_not_here_is_said(codec: str, trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No GPU where tests run: an encoder that is there cannot work, others are not in this ffmpeg at all."""
    assert run(trained, *SWAP[:4], "--codec", codec, "-o", trained / "out.mp4") == 2
    line = last_line(capsys)
    assert f"--codec {codec} does not work here" in line or f"this ffmpeg has no encoder {codec!r}" in line
    assert not list(trained.glob("*out.mp4*"))


# Failures


@pytest.fixture
def small_disk(tmp_path: Path) -> Path:
    """A folder on a disk of 300 KB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        done = False
    if not done:
        pytest.skip("only root on Linux can make a small disk to fill")
    return folder


def test_a_full_disk(trained: Path, small_disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        assert run(trained, *SWAP[:4], "--crf", "0", "-o", small_disk / "out.mp4") == 1
        assert "No space left on device" in last_line(capsys)
        assert not (small_disk / "out.mp4").exists()
    finally:
        subprocess.run(["umount", str(small_disk)], check=True)


def test_an_encoder_that_dies(
    trained: Path,
    clips: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """An ffmpeg that is killed in the second segment; the first is kept, and the next run goes on behind it."""
    monkeypatch.setattr("pipeline.converting.segments.MIN_SEGMENT", 4)
    monkeypatch.setattr("pipeline.converting.segments.MAX_SEGMENT", 4)
    original = clips["hopper"].read_bytes()
    encoders = 0

    class Mortal(subprocess.Popen[bytes]):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            nonlocal encoders
            super().__init__(*args, **kwargs)
            encoders += str(self.args).endswith(".nut']")
            if encoders == 3:  # one rehearsed, one made the first segment
                self.kill()

    with monkeypatch.context() as patched:
        patched.setattr(subprocess, "Popen", Mortal)
        assert run(trained, *SWAP, "-o", tmp_path / "out.mp4") == 1
    line = last_line(capsys)
    assert "ffmpeg could not encode" in line
    assert "code -9" in line
    assert not (tmp_path / "out.mp4").exists()
    assert clips["hopper"].read_bytes() == original
    assert run(trained, *SWAP, "-o", tmp_path / "out.mp4") == 0
    assert "continuing: 4 of 12" in capsys.readouterr().err
