"""What is kept of how training went, and what it says."""

from pathlib import Path

import av
import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.record_writer import masked_crc32c

from pipeline.media.pictures import read_picture
from pipeline.training import monitor
from pipeline.training.evaluation import Evaluation
from pipeline.training.monitor import TrainingLog
from pipeline.types import Image


def sheet(level: int) -> Image:
    return np.full((64, 96, 3), level, np.uint8)


def judged(steps: int, value: float) -> Evaluation:
    return Evaluation(steps, 20.0, {"ann": value + 0.01, "ünü": 0.2}, {"ann": value})


def filled(folder: Path, *steps: int) -> TrainingLog:
    kept = TrainingLog(folder, 0)
    for number in steps:
        kept.add(judged(number, 1 / number), sheet(number))
    return kept


def test_it_is_read_again(tmp_path: Path) -> None:
    filled(tmp_path, 10, 20, 30)
    again = TrainingLog(tmp_path, 30)
    assert again.evaluations == [judged(10, 0.1), judged(20, 0.05), judged(30, 1 / 30)]
    assert read_picture(tmp_path / "loss.png").shape[2] == 3
    np.testing.assert_array_equal(read_picture(tmp_path / "swap.png"), sheet(30))


def test_what_was_undone_is_forgotten(tmp_path: Path) -> None:
    filled(tmp_path, 10, 20, 30)
    again = TrainingLog(tmp_path, 20)
    again.add(judged(25, 0.5), sheet(25))
    assert [one.steps for one in TrainingLog(tmp_path, 99).evaluations] == [10, 20, 25]
    assert sorted(path.stem for path in (tmp_path / "timelapse").iterdir()) == ["000000010", "000000020", "000000025"]


def test_a_damaged_history_stops_nothing(tmp_path: Path) -> None:
    filled(tmp_path, 10, 20)
    path = tmp_path / "history.jsonl"
    path.write_bytes(b"\xff\x00{\n" + path.read_bytes()[:-9])
    assert [one.steps for one in TrainingLog(tmp_path, 20).evaluations] == [10]


def test_the_film_shows_the_sheets_in_order(tmp_path: Path) -> None:
    kept = filled(tmp_path, 40, 60, 90, 200)
    (tmp_path / "timelapse" / "000000060.jpg").write_bytes(b"cut off")
    kept.write_timelapse()
    with av.open(str(tmp_path / "timelapse.mp4")) as container:
        levels = [frame.to_ndarray(format="bgr24").mean() for frame in container.decode(video=0)]
    np.testing.assert_allclose(levels, [40, 90, 200], atol=4)


def test_one_sheet_is_no_film(tmp_path: Path) -> None:
    filled(tmp_path, 40).write_timelapse()
    assert not (tmp_path / "timelapse.mp4").exists()


def test_what_a_killed_run_was_writing_goes(tmp_path: Path) -> None:
    filled(tmp_path, 3)
    half = tmp_path / "timelapse" / ".000000004.part.jpg"
    half.write_bytes(b"half a pict")
    TrainingLog(tmp_path, 3)
    assert not half.exists()


def test_sheets_of_long_trainings_are_thinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor, "MAX_TIMELAPSE_FRAMES", 6)
    filled(tmp_path, *range(1, 30))
    left = sorted(int(path.stem) for path in (tmp_path / "timelapse").iterdir())
    assert 3 <= len(left) <= 6
    assert left[0] == 1


def test_tensorboard_reads_it(tmp_path: Path) -> None:
    """Its own format, read by the book: length, checksum, event, checksum."""
    filled(tmp_path, 10, 20)
    values: dict[tuple[str, int], float] = {}
    images = 0
    for path in (tmp_path / "events").iterdir():
        content = path.read_bytes()
        while content:
            length = int.from_bytes(content[:8], "little")
            assert int.from_bytes(content[8:12], "little") == masked_crc32c(content[:8])
            event = Event.FromString(content[12 : 12 + length])
            for value in event.summary.value:
                values[value.tag, event.step] = value.simple_value
                images += value.HasField("image")
            content = content[16 + length :]
    assert values["validation/ann", 20] == pytest.approx(0.05)
    assert values["loss/ünü", 10] == pytest.approx(0.2)
    assert values["samples_per_second", 10] == 20
    assert images == 2
