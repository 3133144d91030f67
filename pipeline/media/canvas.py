"""Frames and pictures that faces are drawn into.

Parts are read and drawn in BGR. In a frame, only samples that a patch changes are replaced: all others stay exactly as
decoded, without a round trip through BGR.
"""

import threading
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self, cast

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from pipeline.media.probe import Colour, VideoInfo
from pipeline.types import Image, Patch, Rect, Samples

BT709 = Colour(matrix=1, primaries=1, transfer=1, range=1)
SWSCALE_601 = 5  # swscale's number for BT.601, its default for unknown matrices
RGB_MATRIX, FULL_RANGE = 0, 2  # ITU-T H.273 code of RGB; ffmpeg's number for 0 … 255


class _Converters(threading.local):
    """Pixel format converters, kept between frames: creating one takes longer than drawing a face."""

    def __init__(self) -> None:
        self.to_target, self.to_bgr = VideoReformatter(), VideoReformatter()


_converters = _Converters()


@dataclass(frozen=True)
class PixelFormat:
    """Format of the frames that the encoder gets.

    Attributes:
        name: ``yuv420p``, or ``yuv420p10le`` if the source has more than 8 bits.
        width, height: the frame's, rounded up to even numbers.
        colour: as in the source.
    """

    name: str
    width: int
    height: int
    colour: Colour

    @classmethod
    def for_video(cls, info: VideoInfo) -> "PixelFormat":
        """Choose a format that keeps the source's colours and depth and plays everywhere: 4:2:0 in even sizes."""
        name = "yuv420p10le" if info.bit_depth > 8 else "yuv420p"
        is_rgb = av.VideoFormat(info.pixel_format).is_rgb or info.pixel_format == "pal8"
        colour = BT709 if is_rgb or info.colour.matrix == RGB_MATRIX else info.colour
        if info.pixel_format.startswith("yuvj"):
            colour = Colour(colour.matrix, colour.primaries, colour.transfer, FULL_RANGE)
        return cls(name, info.width + info.width % 2, info.height + info.height % 2, colour)

    def black(self) -> VideoFrame:
        """Make a black frame."""
        return self.convert(VideoFrame.from_ndarray(np.zeros((self.height, self.width, 3), np.uint8), format="bgr24"))

    def changes(self, info: VideoInfo) -> list[str]:
        """Describe properties of a video's pixels that this format cannot keep, a line each."""
        source, lines = av.VideoFormat(info.pixel_format), []
        depth = av.VideoFormat(self.name).components[0].bits
        if info.bit_depth > depth:
            lines.append(f"{info.bit_depth} bits per colour stored as {depth}")
        if len(source.components) > 1 and source.chroma_width(64) * source.chroma_height(64) > 32 * 32:
            lines.append(f"full colour resolution ({info.pixel_format}) stored as 4:2:0, which plays everywhere")
        if (self.width, self.height) != (info.width, info.height):
            lines.append(f"{info.width}x{info.height} became {self.width}x{self.height}: encoders need even sizes")
        return lines

    def convert(self, picture: VideoFrame) -> VideoFrame:
        """Convert a picture of any size to this format."""
        if picture.format.name in (self.name, self.name.replace("yuv", "yuvj")):
            return picture  # yuvj420p is yuv420p with full range
        return _converters.to_target.reformat(
            picture,
            format=self.name,
            src_colorspace=self._matrix,
            dst_colorspace=self._matrix,
            src_color_range=FULL_RANGE if picture.format.is_rgb else self._range,
            dst_color_range=self._range,
        )

    def to_bgr(self, picture: VideoFrame) -> Image:
        """Convert a picture of this format to (H, W, 3) BGR."""
        converted = _converters.to_bgr.reformat(
            picture,
            format="bgr24",
            src_colorspace=self._matrix,
            dst_colorspace=self._matrix,
            src_color_range=self._range,
            dst_color_range=FULL_RANGE,
        )
        return cast(Image, converted.to_ndarray())

    @property
    def _matrix(self) -> int:
        """Swscale's number for the matrix; it uses one for both 601 systems."""
        return {2: SWSCALE_601, 6: SWSCALE_601}.get(self.colour.matrix, self.colour.matrix)

    @property
    def _range(self) -> int:
        return max(self.colour.range, 1)


class Surface(Protocol):
    """What faces are drawn into: a frame of a video, or a still picture."""

    def copy(self) -> Self:
        """Make an independent copy."""

    def black(self) -> Self:
        """Make a black one of the same size."""

    def beside(self, right: Self) -> Self:
        """Make one that shows this and, to the right of it, another of the same size."""

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width."""

    def part(self, rect: Rect) -> Image:
        """Copy a part as it is now, (height, width, 3) BGR; left and top are even."""

    def draw(self, patch: Patch) -> None:
        """Replace the pixels that a patch changes."""


class Canvas:
    """A frame for the encoder to draw into, padded to even size.

    Args:
        frame: upright, as decoded; it is not changed.
        target: format and size of the result.

    Attributes:
        frame: the result.
    """

    def __init__(self, frame: VideoFrame, target: PixelFormat) -> None:
        self.frame = VideoFrame(target.width, target.height, target.name)
        self._target = target
        for plane, samples in zip(_planes(self.frame), _planes(target.convert(frame)), strict=False):  # without alpha
            missing = (plane.shape[0] - samples.shape[0], plane.shape[1] - samples.shape[1])
            plane[:] = samples if missing == (0, 0) else np.pad(samples, [(0, n) for n in missing], mode="edge")

    def copy(self) -> "Canvas":
        """Make an independent copy."""
        return Canvas(self.frame, self._target)

    def black(self) -> "Canvas":
        """Make a black one of the same size."""
        return Canvas(self._target.black(), self._target)

    def beside(self, right: "Canvas") -> "Canvas":
        """Make one that shows this and, to the right of it, another of the same size."""
        wide = replace(self._target, width=2 * self._target.width)
        joined = VideoFrame(wide.width, wide.height, wide.name)
        for plane, *halves in zip(_planes(joined), _planes(self.frame), _planes(right.frame), strict=True):
            plane[:] = np.hstack(halves)
        return Canvas(joined, wide)

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width, even."""
        return self._target.height, self._target.width

    def part(self, rect: Rect) -> Image:
        """Copy a part of the frame as it is now, (height, width, 3) BGR; left and top are even."""
        cut = VideoFrame(rect.width + rect.width % 2, rect.height + rect.height % 2, self._target.name)
        for index, (plane, samples) in enumerate(zip(_planes(cut), _planes(self.frame), strict=True)):
            scale = 1 if index == 0 else 2
            top, left = rect.top // scale, rect.left // scale
            plane[:] = samples[top : top + plane.shape[0], left : left + plane.shape[1]]
        return self._target.to_bgr(cut)[: rect.height, : rect.width]

    def draw(self, patch: Patch) -> None:
        """Replace the samples of the frame that a patch changes."""
        image, changed = patch.image, patch.changed
        height, width = changed.shape
        if height % 2 or width % 2:
            padding = [(0, height % 2), (0, width % 2)]
            image, changed = np.pad(image, [*padding, (0, 0)], mode="edge"), np.pad(changed, padding, mode="edge")
        drawn = self._target.convert(VideoFrame.from_ndarray(image, format="bgr24"))
        rows = changed[::2] | changed[1::2]
        changed_chroma = rows[:, ::2] | rows[:, 1::2]  # where any of the four px of a chroma sample changed
        for index, (plane, new) in enumerate(zip(_planes(self.frame), _planes(drawn), strict=True)):
            where, scale = (changed, 1) if index == 0 else (changed_chroma, 2)
            top, left = patch.top // scale, patch.left // scale
            part = plane[top : top + where.shape[0], left : left + where.shape[1]]
            inside = np.s_[: part.shape[0], : part.shape[1]]
            np.copyto(part, new[inside], where=where[inside])


class PictureCanvas:
    """A still picture to draw into.

    Attributes:
        image: (H, W, 3) BGR, a copy of what was given.
    """

    def __init__(self, image: Image) -> None:
        self.image = image.copy()

    def copy(self) -> "PictureCanvas":
        """Make an independent copy."""
        return PictureCanvas(self.image)

    def black(self) -> "PictureCanvas":
        """Make a black one of the same size."""
        return PictureCanvas(np.zeros_like(self.image))

    def beside(self, right: "PictureCanvas") -> "PictureCanvas":
        """Make one that shows this and, to the right of it, another of the same size."""
        return PictureCanvas(np.hstack([self.image, right.image]))

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width."""
        return self.image.shape[0], self.image.shape[1]

    def part(self, rect: Rect) -> Image:
        """Copy a part of the picture as it is now, (height, width, 3) BGR."""
        return self.image[rect.top : rect.top + rect.height, rect.left : rect.left + rect.width].copy()

    def draw(self, patch: Patch) -> None:
        """Replace the pixels that a patch changes."""
        height, width = patch.changed.shape
        part = self.image[patch.top : patch.top + height, patch.left : patch.left + width]
        np.copyto(part, patch.image, where=patch.changed[..., None])


def _planes(frame: VideoFrame) -> list[Samples]:
    """Views of a frame's sample planes, (H, W) each, without the padding of their lines."""
    dtype: np.dtype[Any] = np.dtype(np.uint16 if frame.format.components[0].bits > 8 else np.uint8)
    views = []
    for plane in frame.planes:
        lines = np.frombuffer(memoryview(plane), dtype=dtype).reshape(-1, plane.line_size // dtype.itemsize)
        views.append(lines[: plane.height, : plane.width])
    return views
