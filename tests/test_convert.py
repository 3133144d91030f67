"""Stage 3 on small clips: only the face changes, all else is as it was, and failures leave nothing behind."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest

from cli import main
from demo.clips import HOPPER, make_clip
from models import checkpoint
from pipeline.arrays import Image
from pipeline.faces.store import FaceStore
from pipeline.media.reader import VideoReader
from tests.conftest import FRAMES, ROOT

SWAP = ["--from", "hopper", "--to", "collins", "--preset", "ultrafast", "--crf", "1"]


def run(workspace: Path, *arguments: str | Path) -> int:
    return main(["convert", *map(str, arguments), "--workspace", str(workspace)])


def frames_of(path: Path) -> tuple[list[Image], list[int]]:
    with VideoReader(path) as reader:
        frames = list(reader)
    return [frame.image for frame in frames], [frame.pts for frame in frames]


def audio_of(path: Path) -> list[tuple[int | None, bytes]]:
    with av.open(str(path)) as container:
        return [(packet.pts, bytes(packet)) for packet in container.demux(audio=0) if packet.size]


def test_face_changes_and_all_else_stays(trained: Path, clips: dict[str, Path]) -> None:
    assert run(trained, *SWAP) == 0
    result = trained / "converted" / "hopper_hopper_to_collins.mp4"
    before, before_pts = frames_of(clips["hopper"])
    after, after_pts = frames_of(result)
    assert after_pts == before_pts
    assert audio_of(result) == audio_of(clips["hopper"])
    with FaceStore(trained / "videos" / "hopper" / "faces.sqlite") as store:
        for stored in store.faces():
            change = np.abs(after[stored.frame].astype(int) - before[stored.frame]).mean(axis=2)
            left, top, right, bottom = stored.face.box.astype(int)
            assert change[(top + bottom) // 2 - 20 :, :][:40, (left + right) // 2 - 20 :][:, :40].mean() > 5
            outside = np.ones(change.shape, bool)
            outside[max(0, top - 30) : bottom + 30, max(0, left - 30) : right + 30] = False
            assert change[outside].mean() < 1.5, "the background must stay"
    assert not list(result.parent.glob(".*")), "no temporary file is left"


def test_it_plays_in_a_browser(trained: Path) -> None:
    assert run(trained, *SWAP) == 0
    result = trained / "converted" / "hopper_hopper_to_collins.mp4"
    content = result.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat"), "playing can start before the file is all there"
    with av.open(str(result)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")


def test_deleted_and_moved_crops_are_respected(trained: Path, clips: dict[str, Path]) -> None:
    data = trained / "data"
    (data / "hopper" / "hopper_000002_0.jpg").unlink()
    crop = data / "hopper" / "hopper_000005_0.jpg"
    crop.rename(data / "collins" / crop.name)
    assert run(trained, *SWAP, "-o", trained / "out.mp4") == 0
    before, after = frames_of(clips["hopper"])[0], frames_of(trained / "out.mp4")[0]
    changed = [float(np.abs(a.astype(int) - b)[150:250, 150:250].mean()) for a, b in zip(before, after, strict=True)]
    untouched = [i for i, change in enumerate(changed) if change < 2]
    assert untouched == [2, 5]


def test_a_video_not_extracted_is_extracted_first(trained: Path, tmp_path: Path) -> None:
    clip = tmp_path / "another.mp4"
    make_clip(HOPPER, clip, 5)
    assert run(trained, clip, *SWAP) == 0
    assert len(frames_of(trained / "converted" / "another_hopper_to_collins.mp4")[0]) == 5
    assert (trained / "data" / "hopper" / "another_000004_0.jpg").is_file()


def test_a_bad_video_does_not_stop_a_good_one(
    trained: Path, clips: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    assert run(trained, text, clips["hopper"], *SWAP) == 1
    words = capsys.readouterr()
    assert "text.mp4" in words.err
    assert f"swapped {FRAMES} faces in {FRAMES} frames" in words.out


def test_one_name_for_several_results_is_refused_before_anything_long_begins(trained: Path, tmp_path: Path) -> None:
    """Videos that are not extracted yet stay so."""
    videos = [tmp_path / "first.mp4", tmp_path / "second.mp4"]
    for video in videos:
        make_clip(HOPPER, video, 3)
    assert run(trained, *videos, *SWAP, "-o", tmp_path / "one.mp4") == 2
    assert not list((trained / "videos").glob("first*"))


def test_an_untrained_decoder_is_said(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = trained / "output" / "model"
    model = checkpoint.load(folder)
    model.add_person("cage")
    checkpoint.save(folder, model)
    assert run(trained, "--from", "hopper", "--to", "cage", "--preset", "ultrafast") == 0
    assert "'cage' is not trained yet" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--from", "hopper", "--to", "nobody"], 1, ["'nobody'", "collins, hopper"]),
        (["--from", "nobody", "--to", "collins"], 1, ["'nobody'", "python cli.py extract"]),
        (["--from", "hopper", "--to", "collins", "-n", "none"], 1, ["no model", "python cli.py train -n none"]),
        (["missing.mp4", "--from", "hopper", "--to", "collins"], 1, ["missing.mp4"]),
        (["{collins}", "--from", "hopper", "--to", "collins"], 1, ["'hopper' is not in 'collins'"]),
        (["{hopper}", "--from", "hopper", "--to", "collins", "-o", "{hopper}"], 2, ["is the original"]),
        (["{hopper}", "--from", "hopper", "--to", "collins", "--codec", "libnone"], 2, ["libnone"]),
        (["{hopper}", "{collins}", "--from", "hopper", "--to", "collins", "-o", "one.mp4"], 2, ["one.mp4"]),
        (["{hopper}", "--from", "hopper", "--to", "collins", "--preset", "none"], 2, ["--codec libx264", "none"]),
    ],
)
def test_bad_input(
    arguments: list[str],
    code: int,
    words: list[str],
    trained: Path,
    clips: dict[str, Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    original = clips["hopper"].read_bytes()
    assert run(trained, *(argument.format(**clips) for argument in arguments)) == code
    said = capsys.readouterr().err
    last = said.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert all(word in last for word in words), last
    assert "Traceback" not in said
    assert not list((trained / "converted").glob("*")), "nothing is left under a final name"
    assert clips["hopper"].read_bytes() == original


def test_a_video_that_moved_away_is_said(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with FaceStore(trained / "videos" / "hopper" / "faces.sqlite") as store:
        store.record_facts(source=str(trained / "gone.mp4"))
    assert run(trained, *SWAP) == 1
    assert "gone.mp4" in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_killed_it_leaves_no_result_and_runs_again(trained: Path, tmp_path: Path) -> None:
    clip = tmp_path / "long.mp4"
    make_clip(HOPPER, clip, 60)
    assert main(["extract", str(clip), "--person", "hopper", "--workspace", str(trained)]) == 0
    line = [sys.executable, "cli.py", "convert", str(clip), *SWAP, "--preset", "veryslow", "--workspace", str(trained)]
    process = subprocess.Popen(line, cwd=ROOT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while not list(trained.glob("converted/.*.segments/part_*")):
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.02)
    process.kill()
    process.wait()
    result = trained / "converted" / "long_hopper_to_collins.mp4"
    assert not result.exists()
    assert run(trained, clip, *SWAP) == 0
    assert len(frames_of(result)[0]) == 60
    assert [path.name for path in result.parent.iterdir()] == [result.name]


@pytest.mark.parametrize(
    "name",
    [
        "hard/03_rotation_metadata.mp4",
        "hard/04_vfr_irregular_drops.mp4",
        "hard/10_odd_size_641x479_yuv444p.mp4",
        "hard/15_hevc_vfr_face_then_noface.mov",
        "hard/16_full_range_hands_asl.mkv",
        "hard/19 name with spaces, ünï-ço∂é & 'quote' %03d #1.mp4",
    ],
)
def test_real_footage(name: str, real_data: Path, trained_once: Path, tmp_path: Path) -> None:
    """Timestamps are the source's, sizes are even and upright, sound is the same packets."""
    shutil.copytree(trained_once / "output", tmp_path / "output", copy_function=os.link)
    source, result = real_data / name, tmp_path / "result.mp4"
    swap: list[str | Path] = ["--from", "someone", "--to", "collins", "--preset", "ultrafast", "-o", result]
    assert run(tmp_path, source, *swap) == 0
    with VideoReader(source) as before, VideoReader(result) as after:
        moments = [frame.pts * before.info.time_base for frame in before]
        assert [frame.pts * after.info.time_base for frame in after] == moments
        width, height = before.info.width, before.info.height
        assert (after.info.width, after.info.height) == (width + width % 2, height + height % 2)
        assert after.info.upright_filters == ()
        assert after.info.sample_aspect_ratio == before.info.sample_aspect_ratio
        has_sound = bool(before.info.audio_codecs)
    if has_sound:
        assert [packet for _, packet in audio_of(result)] == [packet for _, packet in audio_of(source)]
