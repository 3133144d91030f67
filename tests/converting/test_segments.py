"""Convert in segments: a stop costs little, and a result that was stopped is the result that was not."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from cli import main
from demo.clips import HOPPER, make_clip
from models import checkpoint
from pipeline.console import Bar, NullConsole
from pipeline.convert import convert
from pipeline.converting import segments
from pipeline.converting.segments import segments_folder
from pipeline.errors import WorkspaceError
from pipeline.faces.store import FaceStore
from pipeline.media.reader import VideoReader
from pipeline.options import ConvertOptions
from pipeline.types import Image
from tests.conftest import ROOT

SWAP = [
    "--from",
    "hopper",
    "--to",
    "collins",
    "--preset",
    "ultrafast",
    "--no-credentials",
]  # no two signatures are alike


def run(workspace: Path, *arguments: str | Path) -> int:
    return main(["convert", *map(str, arguments), "--workspace", str(workspace)])


def shown(path: Path) -> list[tuple[int, str]]:
    """Timestamp and hash of every frame."""
    with VideoReader(path) as reader:
        return [(frame.pts, hashlib.sha256(frame.native.to_ndarray().tobytes()).hexdigest()) for frame in reader]


def kept(final: Path) -> dict[str, float]:
    """The finished segments of a result, and when each was made."""
    return {path.name: path.stat().st_mtime for path in final.with_name(f".{final.name}.segments").glob("0*.nut")}


@pytest.fixture
def short_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments of four frames."""
    monkeypatch.setattr(segments, "MIN_SEGMENT", 4)
    monkeypatch.setattr(segments, "MAX_SEGMENT", 4)


class Stopped(NullConsole):
    """A console at which somebody types Ctrl-C after some frames."""

    def __init__(self, after: int) -> None:
        self.left, self.notes = after, list[str]()

    def note(self, line: str) -> None:
        self.notes.append(line)

    @contextmanager
    def bar(self, description: str, total: int | None, unit: str) -> Iterator[Bar]:
        yield self

    def advance(self, count: int = 1) -> None:
        self.left -= count
        if self.left < 0:
            raise KeyboardInterrupt


def stop(workspace: Path, after: int, crf: int = 18) -> None:
    options = ConvertOptions(
        from_person="hopper", to_person="collins", preset="ultrafast", crf=crf, workspace=workspace
    )
    with pytest.raises(KeyboardInterrupt):
        convert(options, lambda *_: pytest.fail("it is extracted"), Stopped(after))


@pytest.mark.usefixtures("short_segments")
def test_a_stopped_run_goes_on_and_the_result_is_the_same(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole, final = trained / "whole.mp4", trained / "converted" / "hopper_hopper_to_collins.mp4"
    assert run(trained, *SWAP, "-o", whole) == 0
    stop(trained, 9)
    assert not final.exists()
    before = kept(final)
    assert 1 <= len(before) <= 2
    capsys.readouterr()
    assert run(trained, *SWAP) == 0
    said = capsys.readouterr()
    assert f"continuing: {4 * len(before)} of 12 frames were done before" in said.err
    assert f"{4 * len(before)} of its frames were done in an earlier run" in said.out
    assert final.read_bytes() == whole.read_bytes()
    assert not list(final.parent.glob(".*"))


@pytest.mark.usefixtures("short_segments")
def test_only_segments_that_would_be_the_same_are_used(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A crop deleted meanwhile makes its segment again, and damaged ones are not used."""
    final = trained / "converted" / "hopper_hopper_to_collins.mp4"
    stop(trained, 11)
    first = min(kept(final))
    (trained / "data" / "hopper" / "hopper_000005_0.jpg").unlink()
    assert main(["people", "discard", "hopper", "--missing", "--workspace", str(trained)]) == 0
    folder = final.with_name(f".{final.name}.segments")
    os.truncate(folder / first, (folder / first).stat().st_size // 2)
    (folder / "part_0.nut").write_bytes(b"half a segment")
    assert run(trained, *SWAP, "-o", trained / "whole.mp4") == 0
    capsys.readouterr()
    assert run(trained, *SWAP) == 0
    assert "continuing" not in capsys.readouterr().err
    assert final.read_bytes() == (trained / "whole.mp4").read_bytes()


@pytest.mark.usefixtures("short_segments")
def test_other_options_neither_use_nor_cost_what_is_there(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    final = trained / "converted" / "hopper_hopper_to_collins.mp4"
    stop(trained, 11)
    before = kept(final)
    assert len(before) == 2
    assert run(trained, *SWAP[:4], "--preset", "none") == 2
    stop(trained, 5, crf=30)
    assert before.items() < kept(final).items()
    capsys.readouterr()
    assert run(trained, *SWAP) == 0
    assert "continuing: 8 of 12" in capsys.readouterr().err


@pytest.mark.usefixtures("short_segments")
def test_another_state_of_the_model_makes_all_anew(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stop(trained, 11)
    model = checkpoint.load(trained / "output" / "model")
    with torch.no_grad():
        next(model.decoders["collins"].parameters()).add_(0.1)
    checkpoint.save(trained / "output" / "model", model)
    assert run(trained, *SWAP) == 0
    assert "continuing" not in capsys.readouterr().err


@pytest.mark.usefixtures("short_segments")
def test_paths_may_be_typed_otherwise(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stop(trained, 11)
    monkeypatch.chdir(trained)
    assert run(Path(), *SWAP) == 0
    assert "continuing: 8 of 12" in capsys.readouterr().err


@pytest.mark.usefixtures("short_segments")
def test_segments_between_others_are_made_again(trained: Path) -> None:
    final = trained / "converted" / "hopper_hopper_to_collins.mp4"
    stop(trained, 11)
    folder = final.with_name(f".{final.name}.segments")
    first = min(kept(final))
    (folder / first).unlink()
    assert run(trained, *SWAP, "-o", trained / "whole.mp4") == 0
    assert run(trained, *SWAP) == 0
    assert final.read_bytes() == (trained / "whole.mp4").read_bytes()


@pytest.mark.usefixtures("short_segments")
def test_joins_are_invisible(trained: Path, clips: dict[str, Path]) -> None:
    """Timestamps of showing are the original's, those of decoding rise, and each segment begins with a key frame."""
    assert run(trained, *SWAP, "-o", trained / "out.mp4", "--preset", "medium") == 0
    with av.open(str(trained / "out.mp4")) as made, av.open(str(clips["hopper"])) as original:
        packets = [packet for packet in made.demux(video=0) if packet.size]
        old = sorted(packet.pts or 0 for packet in original.demux(video=0) if packet.size)
        assert made.duration == original.duration
    assert sorted(packet.pts or 0 for packet in packets) == old
    decoded = [packet.dts or 0 for packet in packets]
    assert decoded == sorted(set(decoded))
    assert all((packet.dts or 0) <= (packet.pts or 0) for packet in packets)
    assert [place for place, packet in enumerate(packets) if packet.is_keyframe] == [0, 4, 8]


def test_a_second_run_into_the_same_file_is_refused(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with segments_folder(trained / "out.mp4"):
        assert run(trained, *SWAP, "-o", trained / "out.mp4") == 1
    assert "another run is converting into" in capsys.readouterr().err


def test_a_video_that_is_not_what_was_extracted_is_refused(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with FaceStore(trained / "videos" / "hopper" / "faces.sqlite", write=True) as store, store._transaction() as db:
        db.execute("UPDATE frames SET pts = pts + 1 WHERE frame = 7")
    assert run(trained, *SWAP) == 1
    assert "does not show what was extracted from it; run: python cli.py extract --again" in capsys.readouterr().err
    assert not list((trained / "converted").glob("*.mp4"))


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(WorkspaceError, match="cannot write"), segments_folder(tmp_path / "file" / "out.mp4"):
        pass


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_a_run_that_is_killed_again_and_again_gets_on(trained: Path, tmp_path: Path) -> None:
    """Each time after its first new segment, which is there long before 250 frames are done."""
    clip, final = tmp_path / "long.mp4", trained / "made.mp4"
    make_clip(HOPPER, clip, 90)
    assert main(["extract", str(clip), "--person", "hopper", "--every", "8", "--workspace", str(trained)]) == 0
    line = [sys.executable, "cli.py", "convert", str(clip), *SWAP, "-o", str(final), "--workspace", str(trained)]
    for _ in range(2):
        before = frames_kept(final)
        process = subprocess.Popen(line, cwd=ROOT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        while frames_kept(final) <= before:
            assert process.poll() is None, "it got to its end without a segment on the way"
            time.sleep(0.02)
        process.kill()
        process.wait()
        assert not final.exists()
        assert frames_kept(final) > before
    there = frames_kept(final)
    done = subprocess.run(line, cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"continuing: {there} of 90 frames were done before" in done.stderr
    assert len(shown(final)) == 90


def frames_kept(final: Path) -> int:
    """How many frames the finished segments of a result have."""
    return sum(int(name.partition("_")[0].partition("-")[2]) for name in kept(final))


@pytest.mark.usefixtures("short_segments")
def test_segments_of_other_lengths_are_used(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two of four frames are there; what is between them and behind comes in other lengths."""
    final = trained / "converted" / "hopper_hopper_to_collins.mp4"
    stop(trained, 11)
    first, _ = sorted(kept(final))
    (final.with_name(f".{final.name}.segments") / first).unlink()
    monkeypatch.setattr(segments, "MIN_SEGMENT", 3)
    monkeypatch.setattr(segments, "MAX_SEGMENT", 3)
    capsys.readouterr()
    assert run(trained, *SWAP, "--codec", "libx264") == 0
    assert "continuing: 4 of 12" in capsys.readouterr().err
    with av.open(str(final)) as made:
        keys = [place for place, packet in enumerate(made.demux(video=0)) if packet.is_keyframe]
    assert keys == [0, 4, 8]


def test_borders_of_segments_do_not_show(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames are drawn alike, however they are cut into segments."""
    lossless = [*SWAP[:4], "--no-credentials", "--codec", "ffv1"]
    assert run(trained, *lossless, "-o", trained / "whole.mkv") == 0
    monkeypatch.setattr(segments, "MIN_SEGMENT", 3)
    monkeypatch.setattr(segments, "MAX_SEGMENT", 3)
    assert run(trained, *lossless, "-o", trained / "cut.mkv") == 0
    for one, other in zip(*(images(trained / f"{name}.mkv") for name in ("whole", "cut")), strict=True):
        apart = np.abs(one.astype(int) - other.astype(int))
        assert apart.max() <= 4  # batches differ, and so do sums in their last digits
        assert apart.mean() < 0.02


def images(path: Path) -> list[Image]:
    with VideoReader(path) as reader:
        return [frame.image for frame in reader]


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_twenty_kills_and_the_result_shows_the_same(trained: Path, tmp_path: Path) -> None:
    """Killed twenty times over when a random number of new files was there, some by Ctrl-C; each run goes on."""
    clip, said = tmp_path / "long.mp4", tmp_path / "said.txt"
    make_clip(HOPPER, clip, 300)
    assert main(["extract", str(clip), "--person", "hopper", "--workspace", str(trained)]) == 0
    line = [sys.executable, "cli.py", "convert", str(clip), *SWAP[:6], "--crf", "0", "--workspace", str(trained)]
    subprocess.run([*line, "-o", str(tmp_path / "whole.mp4")], cwd=ROOT, check=True, capture_output=True)
    rng, final = random.Random(5), trained / "converted" / "long_hopper_to_collins.mp4"
    kills = 0
    for number in range(20):
        before, seen, wanted = names_below(final.parent), set[str](), rng.randint(1, 12)
        with said.open("w") as words:
            process = subprocess.Popen(line, cwd=ROOT, start_new_session=True, stderr=words)
        while process.poll() is None and len(seen) < wanted:
            time.sleep(0.001)
            seen |= names_below(final.parent) - before
        is_asked = number % 4 == 3
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT if is_asked else signal.SIGKILL)
            kills += 1
        assert process.wait() in (0, 130 if is_asked else -signal.SIGKILL)
        assert "Traceback" not in said.read_text()
        if final.exists():
            assert_same(final, tmp_path / "whole.mp4")
            final.unlink()
    done = subprocess.run(line, cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert kills > 10
    assert_same(final, tmp_path / "whole.mp4")
    assert [path.name for path in final.parent.iterdir()] == [final.name]


def names_below(folder: Path) -> set[str]:
    """Names of all files and folders below one; what goes meanwhile may be among them or not."""
    return {name for _, folders, files in os.walk(folder) for name in (*folders, *files)}


def assert_same(made: Path, whole: Path) -> None:
    """Compare without what an encoder loses, for that depends on where key frames lie."""
    with VideoReader(made) as one, VideoReader(whole) as other:
        for new, old in zip(one, other, strict=True):
            assert new.pts == old.pts
            assert np.abs(new.image.astype(int) - old.image.astype(int)).mean() < 0.05  # of sums in other batches


@pytest.mark.parametrize(("first", "end", "drawn"), [(4, 9, 12), (4, 10, 6)])
def test_a_face_that_the_detector_missed_for_a_moment_is_drawn(
    first: int, end: int, drawn: int, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Five frames are bridged, six not."""
    with FaceStore(trained / "videos" / "hopper" / "faces.sqlite", write=True) as store, store._transaction() as db:
        db.execute("DELETE FROM faces WHERE frame >= ? AND frame < ?", (first, end))
    assert run(trained, *SWAP) == 0
    assert f"swapped {drawn} faces in 12 frames" in capsys.readouterr().out


# The folder of segments: nobody else's files are touched, and two runs never share it

RESULT, FINISHED = "made.mp4", "00000000-4_0123456789abcdef.nut"


@pytest.fixture
def final(tmp_path: Path) -> Path:
    (tmp_path / "made").mkdir()
    return tmp_path / "made" / RESULT


@pytest.fixture
def folder(final: Path) -> Path:
    return final.with_name(f".{RESULT}.segments")


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A folder with files of somebody's own."""
    (tmp_path / "own").mkdir()
    for name in ("part_1.nut", "rehearsal.txt", "00000000_a.nut"):
        (tmp_path / "own" / name).write_text("mine")
    return tmp_path / "own"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_it_goes_when_all_is_done(final: Path, folder: Path) -> None:
    with segments_folder(final) as kept:
        assert kept == folder
        (kept / FINISHED).touch()
    assert names(final.parent) == []


def test_what_is_finished_outlives_an_interrupt_and_what_is_not_does_not(final: Path, folder: Path) -> None:
    with pytest.raises(KeyboardInterrupt), segments_folder(final) as kept:
        (kept / "part_1.nut").touch()
        raise KeyboardInterrupt
    assert names(final.parent) == []
    with pytest.raises(KeyboardInterrupt), segments_folder(final) as kept:
        (kept / FINISHED).touch()
        (kept / "part_1.nut").touch()
        raise KeyboardInterrupt
    assert names(final.parent) == [folder.name]
    with segments_folder(final) as kept:
        assert names(kept) == [FINISHED], "what was not finished is gone"


def test_a_folder_that_is_a_link_is_refused(final: Path, folder: Path, elsewhere: Path) -> None:
    before = names(elsewhere)
    folder.symlink_to(elsewhere, target_is_directory=True)
    with pytest.raises(WorkspaceError, match=r"segments is a link.*move it away"), segments_folder(final):
        pytest.fail("it was entered")
    assert names(elsewhere) == before
    assert folder.is_symlink()


def test_a_link_in_the_folder_is_refused(final: Path, folder: Path, elsewhere: Path) -> None:
    folder.mkdir()
    before = names(elsewhere)
    (folder / "part_more").symlink_to(elsewhere, target_is_directory=True)
    with pytest.raises(WorkspaceError, match="part_more is a link"), segments_folder(final):
        pytest.fail("it was entered")
    assert names(elsewhere) == before
    assert names(folder) == ["part_more"]


def test_a_link_that_leads_nowhere_is_refused(final: Path, folder: Path, tmp_path: Path) -> None:
    folder.symlink_to(tmp_path / "nowhere")
    with pytest.raises(WorkspaceError, match="is a link"), segments_folder(final):
        pytest.fail("it was entered")
    assert not (tmp_path / "nowhere").exists()


def test_the_lock_is_held_until_the_folder_is_gone(final: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another run that begins while the folder is being deleted would lose what it makes there."""
    script = (
        "import sys, pathlib; from pipeline.converting.segments import segments_folder\n"
        "with segments_folder(pathlib.Path(sys.argv[1])): pass"
    )
    said, rmdir = list[str](), Path.rmdir

    def delete(path: Path) -> None:
        command = [sys.executable, "-c", script, str(final)]
        said.append(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stderr)
        rmdir(path)

    with monkeypatch.context() as patch, segments_folder(final):
        patch.setattr(Path, "rmdir", delete)
    assert "another run is converting into" in said[0]
    assert names(final.parent) == []
