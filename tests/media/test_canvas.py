from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from av.video.frame import VideoFrame

from pipeline.media.canvas import Canvas, PictureCanvas, PixelFormat
from pipeline.media.probe import Colour, probe
from pipeline.media.reader import VideoReader
from pipeline.types import Image, Patch, Rect
from tests.clips import (
    FULL,
    LIMITED,
    Turn,
    Video,
    bgr_from_yuv,
    encode_colours,
    planes,
    scene,
    write_video,
)

UNTOLD = Colour(2, 2, 2, 0)


def compose(frame: VideoFrame, patches: Sequence[Patch], target: PixelFormat) -> VideoFrame:
    """The frame for the encoder with patches drawn in."""
    canvas = Canvas(frame, target)
    for patch in patches:
        canvas.draw(patch)
    return canvas.frame


def coloured(colour: Colour, name: str = "yuv420p", size_wh: tuple[int, int] = (96, 64)) -> PixelFormat:
    return PixelFormat(name, *size_wh, colour)


def random_frame(name: str, width: int, height: int) -> VideoFrame:
    """A frame of noise, so that every sample shows where it went."""
    frame, rng = VideoFrame(width, height, name), np.random.default_rng(7)
    for plane in frame.planes:
        if frame.format.components[0].bits > 8:
            noise = rng.integers(64, 940, plane.buffer_size // 2, dtype=np.uint16).tobytes()
        else:
            noise = rng.integers(16, 235, plane.buffer_size, dtype=np.uint8).tobytes()
        plane.update(noise)
    return frame


def blot(height: int, width: int) -> npt.NDArray[np.bool_]:
    """A shape with ragged edges, single px included."""
    return np.random.default_rng(3).random((height, width)) < 0.2


@pytest.mark.parametrize("name", ["yuv420p", "yuvj420p", "yuv420p10le"])
def test_without_patches_every_sample_stays(name: str) -> None:
    frame = random_frame(name, 96, 64)
    made = compose(frame, [], coloured(UNTOLD, name.replace("yuvj", "yuv")))
    assert (made.width, made.height, made.format.name) == (96, 64, name.replace("yuvj", "yuv"))
    for new, old in zip(planes(made), planes(frame), strict=True):
        np.testing.assert_array_equal(new, old)


@pytest.mark.parametrize(
    "kind",
    [
        Video(),
        Video(pix_fmt="yuv420p10le"),
        Video(pix_fmt="yuvj420p", colour=Colour(1, 1, 1, FULL)),
        *(Video(turn=Turn(degrees, mirrored)) for degrees in (0, 90, 180, 270) for mirrored in (False, True)),
    ],
    ids=lambda kind: f"{kind.pix_fmt} {kind.turn}",
)
def test_a_decoded_frame_stays_exactly_as_it_is(tmp_path: Path, kind: Video) -> None:
    path = write_video(tmp_path / "a.mp4", [scene(i) for i in range(3)], kind)
    with VideoReader(path) as reader:
        target = PixelFormat.for_video(reader.info)
        for frame in reader:
            for new, old in zip(planes(compose(frame.native, [], target)), planes(frame.native), strict=True):
                np.testing.assert_array_equal(new, old)


@pytest.mark.parametrize("name", ["yuv420p", "yuv420p10le"])
@pytest.mark.parametrize("size_wh", [(97, 64), (96, 63), (97, 63)])
def test_odd_sizes_repeat_their_edge(name: str, size_wh: tuple[int, int]) -> None:
    frame = random_frame(name, *size_wh)
    made = compose(frame, [], coloured(UNTOLD, name, (size_wh[0] + size_wh[0] % 2, size_wh[1] + size_wh[1] % 2)))
    luma, *chroma = planes(made)
    old_luma, *old_chroma = planes(frame)
    assert luma.shape == (64, size_wh[0] + size_wh[0] % 2)
    np.testing.assert_array_equal(luma[: size_wh[1], : size_wh[0]], old_luma)
    np.testing.assert_array_equal(luma[:, -1], luma[:, size_wh[0] - 1])
    np.testing.assert_array_equal(luma[-1], luma[size_wh[1] - 1])
    for new, old in zip(chroma, old_chroma, strict=True):
        np.testing.assert_array_equal(new, old)


@pytest.mark.parametrize("name", ["yuv422p", "yuv444p", "yuva420p", "nv12"])
def test_luma_of_other_layouts_stays(name: str) -> None:
    frame = encode_colours(scene(), 1, LIMITED).reformat(format=name)
    made = compose(frame, [], coloured(Colour(1, 1, 1, LIMITED)))
    np.testing.assert_array_equal(planes(made)[0], planes(frame)[0])


@pytest.mark.parametrize("name", ["bgr24", "gbrp", "rgba", "gray"])
def test_other_kinds_of_picture_keep_their_colours(name: str) -> None:
    stripes = np.repeat(np.array([(40, 90, 200), (200, 60, 30), (20, 170, 70)], np.uint8), 32, axis=0)
    image = stripes[None].repeat(64, axis=0)
    frame = VideoFrame.from_ndarray(image, format="bgr24").reformat(format=name)
    shown = frame.to_ndarray(format="bgr24")
    made = compose(frame, [], coloured(Colour(1, 1, 1, LIMITED)))
    np.testing.assert_allclose(colours_at(made, [(31, 16), (31, 48), (31, 80)], 1, LIMITED), shown[31, 16::32], atol=3)


def colours_at(
    frame: VideoFrame, places_yx: list[tuple[int, int]], matrix: int, value_range: int
) -> npt.NDArray[np.float64]:
    """BGR of a 4:2:0 frame at single px, by the formula."""
    luma, first, second = planes(frame)
    scale = 4 if frame.format.components[0].bits == 10 else 1
    yuv = [(luma[y, x] / scale, first[y // 2, x // 2] / scale, second[y // 2, x // 2] / scale) for y, x in places_yx]
    return bgr_from_yuv(yuv, matrix, value_range)


@pytest.mark.parametrize("name", ["yuv420p", "yuv420p10le"])
@pytest.mark.parametrize("size_wh", [(96, 64), (95, 63)])
def test_a_patch_changes_only_what_it_names(name: str, size_wh: tuple[int, int]) -> None:
    frame, (width, height) = random_frame(name, *size_wh), size_wh
    left, top = 38, 22
    changed = blot(height - top, width - left)  # up to the corner of the frame, odd or even
    black = np.zeros((*changed.shape, 3), np.uint8)  # noise has no sample as dark as this
    target = coloured(Colour(1, 1, 1, LIMITED), name, (96, 64))
    plain, drawn = compose(frame, [], target), compose(frame, [Patch(left, top, black, changed)], target)

    dark, neutral = (64, 512) if name.endswith("le") else (16, 128)
    luma, old_luma = planes(drawn)[0], planes(plain)[0]
    where = np.zeros((height, width), bool)
    where[top:, left:] = changed
    np.testing.assert_array_equal(luma[:height, :width], np.where(where, dark, old_luma[:height, :width]))

    even = np.pad(where, [(0, height % 2), (0, width % 2)])
    touched = even.reshape(32, 2, 48, 2).any(axis=(1, 3))
    assert 0.1 < touched.mean() < 0.9
    for new, old in zip(planes(drawn)[1:], planes(plain)[1:], strict=True):
        np.testing.assert_array_equal(new[~touched], old[~touched])
        np.testing.assert_array_equal(new[touched], neutral)


@pytest.mark.parametrize("name", ["yuv420p", "yuv420p10le"])
@pytest.mark.parametrize(
    ("colour", "matrix", "value_range"),
    [
        (Colour(5, 5, 6, LIMITED), 5, LIMITED),
        (Colour(6, 6, 6, LIMITED), 5, LIMITED),
        (Colour(1, 1, 1, LIMITED), 1, LIMITED),
        (Colour(1, 1, 1, 0), 1, LIMITED),
        (Colour(9, 9, 16, LIMITED), 9, LIMITED),
        (Colour(5, 2, 2, FULL), 5, FULL),
        (Colour(1, 1, 1, FULL), 1, FULL),
        (UNTOLD, 5, LIMITED),
    ],
    ids=str,
)
def test_drawn_colours_come_back(name: str, colour: Colour, matrix: int, value_range: int) -> None:
    wanted = [(35, 80, 225), (210, 40, 60), (90, 190, 25), (250, 250, 250), (3, 3, 3)]
    image = np.repeat(np.array(wanted, np.uint8), 8, axis=0)[None].repeat(20, axis=0)
    patch = Patch(30, 14, image, np.ones(image.shape[:2], bool))
    made = compose(random_frame(name, 96, 64), [patch], coloured(colour, name))
    places = [(24, 34 + 8 * index) for index in range(len(wanted))]
    np.testing.assert_allclose(colours_at(made, places, matrix, value_range), wanted, atol=3)


def test_what_is_drawn_is_what_was_seen(tmp_path: Path) -> None:
    """Drawing a frame's own picture over it changes next to nothing."""
    for matrix, value_range in ((1, LIMITED), (5, LIMITED), (1, FULL)):
        frame = encode_colours(scene(), matrix, value_range)
        kind = Video(pix_fmt=frame.format.name, colour=Colour(matrix, matrix, 1, value_range))
        path = write_video(tmp_path / f"{matrix}_{value_range}.mp4", [frame], kind)
        with VideoReader(path) as reader:
            target, decoded = PixelFormat.for_video(reader.info), next(iter(reader))
            whole = Patch(0, 0, decoded.image, np.ones((64, 96), bool))
            made = compose(decoded.native, [whole], target)
        for new, old in zip(planes(made), planes(decoded.native), strict=True):
            difference = np.abs(new.astype(int) - old)
            assert difference.mean() < 2


def test_later_patches_lie_over_earlier_ones() -> None:
    first, second = np.full((10, 20, 3), 255, np.uint8), np.zeros((6, 8, 3), np.uint8)
    patches = [
        Patch(left, top, image, np.ones(image.shape[:2], bool))
        for left, top, image in ((20, 10, first), (30, 12, second))
    ]
    luma = planes(compose(random_frame("yuv420p", 96, 64), patches, coloured(Colour(1, 1, 1, LIMITED))))[0]
    expected = np.full((10, 20), 235)
    expected[2:8, 10:18] = 16
    np.testing.assert_array_equal(luma[10:20, 20:40], expected)


def test_inputs_stay_as_they_were() -> None:
    frame, image, changed = random_frame("yuv420p", 96, 64), scene(2, width=30, height=20), blot(20, 30)
    before: tuple[list[Image], Image, npt.NDArray[np.bool_]] = (planes(frame), image.copy(), changed.copy())
    made = compose(frame, [Patch(4, 6, image, changed)], coloured(UNTOLD))
    assert (planes(made)[0] != before[0][0]).any()
    for new, old in zip(planes(frame), before[0], strict=True):
        np.testing.assert_array_equal(new, old)
    np.testing.assert_array_equal(image, before[1])
    np.testing.assert_array_equal(changed, before[2])


@pytest.mark.parametrize(
    ("suffix", "kind", "name", "colour"),
    [
        (".mp4", Video(), "yuv420p", UNTOLD),
        (".mp4", Video(colour=Colour(1, 1, 1, LIMITED)), "yuv420p", Colour(1, 1, 1, LIMITED)),
        (".mp4", Video(pix_fmt="yuvj420p", colour=Colour(1, 1, 1, FULL)), "yuv420p", Colour(1, 1, 1, FULL)),
        (".mp4", Video(pix_fmt="yuv420p10le", colour=Colour(9, 9, 16, LIMITED)), "yuv420p10le", Colour(9, 9, 16, 1)),
        (".mkv", Video("ffv1", "yuv422p10le"), "yuv420p10le", UNTOLD),
        (".mov", Video("png", "rgb24"), "yuv420p", Colour(1, 1, 1, LIMITED)),
    ],
)
def test_the_format_keeps_depth_and_colours(
    tmp_path: Path, suffix: str, kind: Video, name: str, colour: Colour
) -> None:
    info = probe(write_video(tmp_path / f"a{suffix}", [scene()], kind))
    assert PixelFormat.for_video(info) == PixelFormat(name, 96, 64, colour)


def test_the_format_has_even_sizes_and_is_upright(tmp_path: Path) -> None:
    odd = write_video(tmp_path / "a.mov", [scene(0, width=97, height=63)], Video("png", "rgb24", turn=Turn(90)))
    target = PixelFormat.for_video(probe(odd))
    assert (target.width, target.height) == (64, 98)


def test_a_grey_video_is_not_tagged_as_rgb(tmp_path: Path) -> None:
    """The matrix "RGB" says that green stands in the first plane: players would show 4:2:0 video in false colours."""
    info = probe(write_video(tmp_path / "a.mov", [scene()], Video("png", "gray", Fraction(1, 25))))
    assert info.pixel_format == "gray"
    assert PixelFormat.for_video(info).colour.matrix != 0


def test_a_canvas_of_a_picture() -> None:
    image = scene(2, 41, 31)
    canvas = PictureCanvas(image)
    part = canvas.part(Rect(4, 6, 37, 25))
    np.testing.assert_array_equal(part, image[6:31, 4:41])
    part[:] = 0
    np.testing.assert_array_equal(canvas.image, image)
    assert canvas.size_hw == (31, 41)
