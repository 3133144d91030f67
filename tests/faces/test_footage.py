"""Videos and sets of pictures as frames."""

from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from pipeline.faces.footage import (
    PIXELS_IN_FLIGHT,
    InFlight,
    PictureFootage,
    Shown,
    VideoFootage,
    group_size,
    groups_at_once,
)
from pipeline.faces.store import FaceStore
from pipeline.media.pictures import write_picture
from pipeline.media.reader import VideoReader
from pipeline.runtime import prefetched
from tests.clips import scene, write_video


@pytest.mark.parametrize(
    ("size", "group"),
    [
        ((320, 240), 64),
        ((480, 480), 64),
        ((1280, 720), 16),
        ((1920, 1080), 8),
        ((3840, 2160), 4),
        ((7680, 4320), 4),
        ((8192, 8192), 2),
    ],
)
def test_groups_are_whole_eights_where_memory_allows(size: tuple[int, int], group: int) -> None:
    assert group_size(size[0] * size[1]) == group


@pytest.mark.parametrize(("size", "at_once"), [((1920, 1080), 2), ((3840, 2160), 2), ((8192, 8192), 1)])
def test_groups_of_huge_frames_are_looked_at_one_by_one(size: tuple[int, int], at_once: int) -> None:
    pixels = size[0] * size[1]
    assert groups_at_once(group_size(pixels), pixels) == at_once


def huge(number: int) -> Iterator[Shown]:
    image = np.broadcast_to(np.zeros(3, np.uint8), (8192, 8192, 3))  # takes no memory
    return (Shown(index, index, image, cut=False) for index in range(number))


def test_no_more_frames_are_read_than_memory_holds() -> None:
    in_flight = InFlight(needed=2)
    frames, most = [], 0
    with prefetched(in_flight.admit(huge(12)), depth=8) as admitted, closing(in_flight):
        for shown in admitted:
            most = max(most, in_flight.pixels)
            frames.append(shown)
            if len(frames) == 2:
                in_flight.release(frames)
                frames = []
    assert 2 * 8192**2 <= most <= PIXELS_IN_FLIGHT


def test_what_is_needed_is_let_in_however_large_and_closing_lets_all_go_on() -> None:
    in_flight = InFlight(needed=6)
    with prefetched(in_flight.admit(huge(12)), depth=20) as admitted, closing(in_flight):
        assert [shown.index for shown in islice(admitted, 6)] == list(range(6))


def test_a_video_goes_on_at_a_frame_and_knows_its_cuts(tmp_path: Path) -> None:
    pictures = [scene(i) for i in range(3)] + [255 - scene(i) for i in range(3)]
    clip = write_video(tmp_path / "clip.mp4", pictures)
    for first in range(6):
        with VideoReader(clip) as reader:
            frames = list(VideoFootage(reader).frames(first))
        assert [frame.index for frame in frames] == list(range(first, 6))
        assert [frame.index for frame in frames if frame.cut] == [i for i in (0, 3) if i >= first]


def test_pictures_are_shots_of_their_own_and_unreadable_ones_are_named(tmp_path: Path) -> None:
    for name in ("a.png", "c.jpg"):
        write_picture(tmp_path / name, scene(1, 80 if name == "a.png" else 60, 50))
    (tmp_path / "b.jpg").write_text("no picture")
    footage = PictureFootage(tmp_path, sorted(tmp_path.iterdir()))
    frames = list(footage.frames(0))
    assert [(frame.index, frame.pts, frame.cut, frame.image.shape) for frame in frames] == [
        (0, 0, True, (50, 80, 3)),
        (2, 2, True, (50, 60, 3)),
    ]
    assert footage.lost(2) == "1 of 3 could not be read: b.jpg"
    assert footage.facts()["pictures"] == ["a.png", "b.jpg", "c.jpg"]


def test_known_pictures_keep_their_frames_and_new_ones_come_behind(tmp_path: Path) -> None:
    folder = tmp_path / "album"
    folder.mkdir()
    for number, name in enumerate(("b.png", "d.png", "e.png")):
        write_picture(folder / name, scene(number))
    with FaceStore(tmp_path / "faces.sqlite", create=True) as store:
        store.record_facts(**PictureFootage(folder, sorted(folder.iterdir())).facts())
        (folder / "d.png").rename(folder / "z.png")
        (folder / "e.png").unlink()
        write_picture(folder / "a.png", scene(9))
        footage = PictureFootage(folder, sorted(folder.iterdir()))
        assert footage.resume(store)
        facts = footage.facts()
        assert facts["pictures"] == ["b.png", "d.png", "e.png", "a.png"]
        assert [frame.index for frame in footage.frames(0)] == [0, 1, 3]
        store.record_facts(**facts)
        again = PictureFootage(folder, sorted(folder.iterdir()))
        assert not again.resume(store)
        assert again.facts() == facts
