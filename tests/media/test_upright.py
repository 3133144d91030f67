from pathlib import Path

import numpy as np
import pytest

from pipeline.media.probe import probe
from pipeline.media.reader import VideoReader
from tests.clips import ffmpeg, scene, write_video


def combed(image: np.ndarray) -> float:
    """How much each line differs from the mean of the two beside it; interlaced motion makes that large."""
    grey = image.mean(axis=2)
    return float(np.abs(grey[1:-1] - (grey[:-2] + grey[2:]) / 2).mean())


@pytest.fixture
def interlaced(tmp_path: Path) -> Path:
    """Six frames whose fields are from two moments of a moving picture."""
    moving = [np.roll(scene(0, 96, 64), 6 * step, axis=1) for step in range(12)]
    write_video(tmp_path / "fast.mkv", moving)
    made = tmp_path / "a.mkv"
    ffmpeg("-i", tmp_path / "fast.mkv", "-vf", "interlace=lowpass=off,setfield=tff", "-c:v", "mpeg2video", "-q:v", "1",
           "-flags", "+ilme+ildct", made)  # fmt: skip
    return made


def test_interlaced_frames_become_whole_ones(interlaced: Path) -> None:
    assert probe(interlaced).is_interlaced
    with VideoReader(interlaced) as reader:
        frames = list(reader)
        assert reader.deinterlaced == len(frames) == 6
    ffmpeg("-i", interlaced, "-vf", "setfield=prog", "-c:v", "ffv1", interlaced.with_name("raw.mkv"))
    with VideoReader(interlaced.with_name("raw.mkv")) as reader:
        raw = list(reader)
        assert reader.deinterlaced == 0
    assert [frame.pts for frame in frames] == [frame.pts for frame in raw]
    assert combed(frames[3].image) < 0.6 * combed(raw[3].image)


def test_the_frames_asked_for_come_though_it_cannot_be_sought(interlaced: Path) -> None:
    with VideoReader(interlaced) as reader:
        everything = list(reader)
        later = list(reader.frames(4, everything[4].pts))
    assert [frame.index for frame in later] == [4, 5]
    for frame, same in zip(later, everything[4:], strict=True):
        np.testing.assert_array_equal(frame.image, same.image)
