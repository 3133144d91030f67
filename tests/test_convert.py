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
from demo.clips import HOPPER, make_clip, read_portrait
from models import checkpoint
from pipeline.faces.store import FaceStore
from pipeline.media.pictures import write_picture
from pipeline.media.reader import VideoReader
from pipeline.types import Image
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
    assert main(["people", "discard", "hopper", "--missing", "--workspace", str(trained)]) == 0
    crop = data / "hopper" / "hopper_000005_0.jpg"
    crop.rename(data / "collins" / crop.name)
    assert run(trained, *SWAP, "-o", trained / "out.mp4") == 0
    before, after = frames_of(clips["hopper"])[0], frames_of(trained / "out.mp4")[0]
    changed = [float(np.abs(a.astype(int) - b)[150:250, 150:250].mean()) for a, b in zip(before, after, strict=True)]
    untouched = [i for i, change in enumerate(changed) if change < 2]
    assert untouched == [2, 5]


def test_a_misspelt_name_does_not_become_a_person(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_clip(HOPPER, tmp_path / "again.mp4", 3)
    assert run(trained, tmp_path / "again.mp4", "--from", "hoper", "--to", "collins") == 1
    error = capsys.readouterr().err
    assert "nobody is called 'hoper'; perhaps 'hopper'?" in error
    assert f"extract {tmp_path / 'again.mp4'} --person hoper" in error
    assert not (trained / "data" / "hoper").exists()


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
        (["--from", "hopper", "--to", "collins", "--mask", "learned"], 2, ["hd network", "'model'", "another --mask"]),
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
    with FaceStore(trained / "videos" / "hopper" / "faces.sqlite", write=True) as store:
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
        "hard/08_10bit_h264.mp4",
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


def verified(path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert main(["verify", str(path)]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".gif"])
def test_results_are_marked(trained: Path, capsys: pytest.CaptureFixture[str], suffix: str) -> None:
    result = trained / f"made{suffix}"
    assert run(trained, *SWAP, "-o", result) == 0
    beside = trained / f"made{suffix}.c2pa"
    assert (beside.name in capsys.readouterr().out) == beside.exists() == (suffix == ".mkv")
    shown = verified(result, capsys)
    assert "from: hopper.mp4" in shown
    assert "trusted" in shown
    with av.open(str(result)) as container:
        comment = {key.lower(): value for key, value in container.metadata.items()}["comment"]
    assert "Synthetic media" in comment
    assert "collins" not in comment + shown, "people are named only with --credit-people"


def test_people_are_credited_where_they_are_to_be(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(trained, *SWAP, "--credit-people", "-o", trained / "made.mp4") == 0
    assert "hopper to collins" in verified(trained / "made.mp4", capsys)


def test_the_report_says_which_mask_and_what_was_replaced(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(trained, *SWAP, "--end", "3f", "-o", trained / "made.mp4") == 0
    out = capsys.readouterr().out
    assert "mask: outline; things in front of faces: kept\n" in out
    assert "replaced" not in out
    assert run(trained, *SWAP, "--end", "3f", "--mask", "box", "--paint-over", "-o", trained / "made.mp4") == 0
    out = capsys.readouterr().out
    assert "mask: box; things in front of faces: painted over\n" in out
    assert "replaced an earlier result" in out


def test_marking_can_be_switched_off_and_the_report_says_so(
    trained: Path, capsys: pytest.CaptureFixture[str], own_settings: Path
) -> None:
    assert run(trained, *SWAP, "-o", trained / "made.mkv") == 0
    assert run(trained, *SWAP, "--no-credentials", "-o", trained / "made.mkv") == 0
    assert "not signed (--no-credentials)" in capsys.readouterr().out
    assert not (trained / "made.mkv.c2pa").exists(), "those of the earlier result do not fit"
    assert main(["verify", str(trained / "made.mkv")]) == 1
    with av.open(str(trained / "made.mkv")) as container:
        assert "Synthetic media" in container.metadata["COMMENT"]


LONG = "a long story, " * 20_000  # longer than a command line may be


@pytest.mark.parametrize(
    ("comment", "suffix"),
    [
        ("a day at the lake", ".mp4"),
        ("two\nlines; a=b # c \\ d, 'ü' [x]", ".mp4"),
        (LONG, ".mp4"),
        (LONG, ".mkv"),
        (LONG, ".mov"),
    ],
    ids=["short", "odd", "long", "long in Matroska", "long in QuickTime"],
)
def test_the_originals_comment_is_kept(
    trained: Path,
    tmp_path: Path,
    clips: dict[str, Path],
    comment: str,
    suffix: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    commented = tmp_path / "commented.mp4"
    with av.open(str(clips["hopper"])) as source, av.open(str(commented), "w") as made:
        made.metadata.update(comment=comment, title="Summer")
        streams = {stream.index: made.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                made.mux(packet)
    assert run(trained, commented, *SWAP, "-o", trained / f"made{suffix}") == 0
    with av.open(str(trained / f"made{suffix}")) as container:
        told = {key.lower(): value for key, value in container.metadata.items()}
    assert told["comment"].startswith("Synthetic media")
    if suffix == ".mov":
        assert "comment is cut" in capsys.readouterr().out
        comment = comment[: len(told["comment"].partition(" | ")[2])]
        assert len(comment) > 60_000
    assert told["comment"].endswith(f" | {comment}")
    assert told["title"] == "Summer"


def test_a_label_is_burnt_in(trained: Path, clips: dict[str, Path]) -> None:
    assert run(trained, *SWAP, "-o", trained / "plain.mp4") == 0
    assert run(trained, *SWAP, "-o", trained / "made.mp4", "--label", "Not", "real") == 0
    plain, labelled = (np.stack(frames_of(trained / f"{name}.mp4")[0]).astype(int) for name in ("plain", "made"))
    differs = np.abs(plain - labelled).max(axis=(0, 3)) > 60
    rows, columns = np.flatnonzero(differs.any(axis=1)), np.flatnonzero(differs.any(axis=0))
    height, width = differs.shape
    assert rows[0] > 0.8 * height
    assert columns[-1] < 0.5 * width
    assert all((np.abs(a - b).max(axis=2) > 60).sum() > 50 for a, b in zip(plain, labelled, strict=True))


def test_pictures_are_marked_too(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for suffix in (".png", ".bmp"):
        write_picture(folder / f"hopper{suffix}", read_portrait(HOPPER))
    assert run(trained, folder, *SWAP, "-o", tmp_path / "made") == 0
    shown = capsys.readouterr().out
    assert shown.count("marked as synthetic") == 2
    assert sorted(path.name for path in (tmp_path / "made").iterdir()) == [
        "hopper.bmp",
        "hopper.bmp.c2pa",
        "hopper.png",
    ]
    for name in ("hopper.png", "hopper.bmp"):
        assert f"from: {name}" in verified(tmp_path / "made" / name, capsys)


def test_a_picture_that_is_only_copied_loses_what_marked_an_earlier_result(trained: Path, tmp_path: Path) -> None:
    folder, made = tmp_path / "photos", tmp_path / "made"
    folder.mkdir()
    for name in ("hopper.png", "blank.bmp"):
        write_picture(folder / name, read_portrait(HOPPER) if name == "hopper.png" else np.zeros((90, 80, 3), np.uint8))
    made.mkdir()
    (made / "blank.bmp.c2pa").write_bytes(b"of an earlier one")
    assert run(trained, folder, *SWAP, "-o", made) == 0
    assert sorted(path.name for path in made.iterdir()) == ["blank.bmp", "hopper.png"]
    assert (made / "blank.bmp").read_bytes() == (folder / "blank.bmp").read_bytes()


def test_a_picture_is_written_whole_or_not_at_all(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_picture(tmp_path / "photo.png", read_portrait(HOPPER))
    in_the_way = tmp_path / "made" / "photo_hopper_to_collins.png"
    in_the_way.mkdir(parents=True)
    (in_the_way / "kept").touch()
    assert run(trained, tmp_path / "photo.png", *SWAP, "-o", tmp_path / "made") == 1
    assert in_the_way.name in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "made").rglob("*")] == [in_the_way.name, "kept"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--cert", "a.pem"], "--key"),
        (["--no-credentials", "--cert", "a.pem", "--key", "b.pem"], "choose one"),
        (["--label", "x" * 101], "100"),
        (["--label", "--only-mask"], "choose one"),
        (["--label", ""], "the text is empty"),
        (["--label", "合"], "合"),
        (["--cert", "none.pem", "--key", "none.pem"], "none.pem"),
    ],
)
def test_marking_that_cannot_be_is_refused_before_work(
    trained: Path, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(trained, *SWAP, *arguments) == 2
    assert words in capsys.readouterr().err
    assert not (trained / "converted").exists()


def test_a_label_does_not_swallow_videos(
    trained: Path, clips: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(trained, *SWAP, "--label", clips["hopper"]) == 2
    assert "name videos before --label" in capsys.readouterr().err


def test_a_label_may_be_what_a_file_is_called(
    trained: Path, clips: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").touch()
    (tmp_path / "AI").mkdir()
    assert run(trained, clips["hopper"], *SWAP, "--end", "2f", "--label", "AI", "demo") == 0
