"""The read-back: what a player does not get of a result is found out, whatever the container says."""

from fractions import Fraction
from pathlib import Path

import pytest

from pipeline.errors import MediaError
from pipeline.media.mux import Part
from pipeline.media.playback import check_result, decode_playback, decode_sound
from pipeline.media.probe import probe
from pipeline.media.writer import Encoding
from tests.clips import Sound, Video, ffmpeg, rewrite, scene, write_video

FRAMES = 50
KINDS = {
    ".mp4": "aac",
    ".mov": "pcm_s16le",
    ".mkv": "pcm_s16le",
    ".webm": "libopus",
}


def original(folder: Path, suffix: str = ".mp4") -> Path:
    """Two seconds, with as much sound."""
    codec = "libvpx-vp9" if suffix == ".webm" else "libx264"
    kind = Video(codec, options={"g": "10"}, sounds=(Sound(2.0, KINDS[suffix]),))
    unit = 40 if suffix in (".mkv", ".webm") else 1
    pts = [unit * number for number in range(FRAMES)]
    return write_video(folder / f"original{suffix}", [scene(number) for number in range(FRAMES)], kind, pts)


def check(result: Path, path: Path, part: Part | None = None, frames: slice = slice(None)) -> None:
    info = probe(path)
    moments = [round(moment / info.time_base) for moment in decode_playback(path).frame_times_s]
    check_result(result, info, moments[frames], part)


@pytest.mark.parametrize("suffix", KINDS)
def test_a_whole_copy_is_whole(tmp_path: Path, suffix: str) -> None:
    path = original(tmp_path, suffix)
    copy = tmp_path / f"copy{suffix}"
    ffmpeg("-i", path, "-map", "0", "-c", "copy", copy)
    check(copy, path)


@pytest.mark.parametrize("suffix", KINDS)
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-map", "0", "-t", "1.2"], "of 50 frames are shown"),
        (["-map", "0:v"], "0 of 1 sound tracks are heard"),
    ],
)
def test_what_is_missing_is_said(tmp_path: Path, suffix: str, arguments: list[str], words: str) -> None:
    path = original(tmp_path, suffix)
    cut = tmp_path / f"cut{suffix}"
    ffmpeg("-i", path, *arguments, "-c", "copy", cut)
    with pytest.raises(MediaError, match=words):
        check(cut, path)


def test_sound_that_ends_early_or_begins_late_is_said(tmp_path: Path) -> None:
    path = original(tmp_path)
    for options, words in ((["-t", "1"], "of 2.0. s of sound"), (["-itsoffset", "0.5"], r"0\.(48|50) s too late")):
        cut = tmp_path / "cut.mp4"
        ffmpeg("-i", path, *options, "-i", path, "-map", "0:v", "-map", "1:a", "-c", "copy", cut)
        with pytest.raises(MediaError, match=words):
            check(cut, path)


def test_what_an_edit_list_hides_does_not_count(tmp_path: Path) -> None:
    """All packets are in the file; a player shows the last second only."""
    path = original(tmp_path)
    hidden = tmp_path / "hidden.mp4"
    ffmpeg("-ss", "1.0", "-noaccurate_seek", "-i", path, "-map", "0", "-c", "copy", "-copyts", hidden)
    before = tmp_path / "before.mp4"
    ffmpeg("-itsoffset", "-1", "-i", path, "-map", "0", "-c", "copy", "-copyts", before)
    assert len(decode_playback(before).frame_times_s) < FRAMES
    with pytest.raises(MediaError, match="frames are shown"):
        check(before, path)


def test_a_frame_at_another_time_is_said(tmp_path: Path) -> None:
    path = original(tmp_path)
    late = tmp_path / "late.mp4"
    shift = "setts=pts=if(gte(N\\,40)\\,PTS+1\\,PTS):dts=if(gte(N\\,40)\\,DTS+1\\,DTS)"
    ffmpeg("-i", path, "-map", "0", "-c", "copy", "-bsf:v", shift, late)
    with pytest.raises(MediaError, match=r"0\.040 s too early or too late"):
        check(late, path)


def test_the_sound_of_a_part_is_counted_within_it(tmp_path: Path) -> None:
    path, made = original(tmp_path), tmp_path / "part.mp4"
    ffmpeg("-ss", "0.8", "-i", path, "-t", "0.8", "-map", "0", "-c:v", "libx264", "-c:a", "copy", made)
    part = Part(Fraction(4, 5), Fraction(8, 5))
    check(made, path, part, slice(20, 40))
    for seeks in (True, False):
        (heard,) = decode_sound(path, [1], part, seeks=seeks).values()
        assert heard.length_s == Fraction(4, 5)
    with pytest.raises(MediaError, match="of sound"):
        check(made, path, Part(Fraction(4, 5), Fraction(2)), slice(20, 40))


def test_a_gif_without_a_comment_shows_all_frames(tmp_path: Path) -> None:
    """Frames that are alike too."""
    path = write_video(tmp_path / "black.mp4", [scene()] * 5)
    rewrite(path, tmp_path / "black.gif", Encoding(preset="ultrafast"), 5)
    assert len(decode_playback(tmp_path / "black.gif").frame_times_s) == 5
