"""The pixels of a frame as the encoder gets them: as decoded, but for the parts that were drawn anew.

A part is seen, and given back changed, in BGR. Only where it differs are samples of the frame replaced, so the rest
stays exactly as it was decoded: no round trip through BGR, no colour drift.
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
SWSCALE_601 = 5  # swscale's number for BT.601, and what it takes where a file does not say
RGB_MATRIX, FULL_RANGE = 0, 2  # ITU-T H.273 code of RGB; ffmpeg's number for 0 … 255


class _Converters(threading.local):
    """What converts between pixel formats: preparing one takes longer than a face, so each is kept for the next."""

    def __init__(self) -> None:
        self.to_ours, self.to_bgr = VideoReformatter(), VideoReformatter()


_converters = _Converters()


@dataclass(frozen=True)
class PixelFormat:
    """What the encoder is fed.

    Attributes:
        name: ``yuv420p``, or ``yuv420p10le`` where the source has more than 8 bits.
        width, height: the frame's, rounded up to even numbers.
        colour: matrix, primaries, transfer and range, as in the source.
    """

    name: str
    width: int
    height: int
    colour: Colour

    @classmethod
    def for_video(cls, info: VideoInfo) -> "PixelFormat":
        """Choose what keeps the source's colours and depth and plays everywhere: 4:2:0 in even sizes."""
        name = "yuv420p10le" if info.bit_depth > 8 else "yuv420p"
        is_rgb = av.VideoFormat(info.pixel_format).is_rgb or info.pixel_format == "pal8"
        colour = BT709 if is_rgb or info.colour.matrix == RGB_MATRIX else info.colour
        if info.pixel_format.startswith("yuvj"):
            colour = Colour(colour.matrix, colour.primaries, colour.transfer, FULL_RANGE)
        return cls(name, info.width + info.width % 2, info.height + info.height % 2, colour)

    def black(self) -> VideoFrame:
        """Make a black frame."""
        nothing = np.zeros((self.height, self.width, 3), np.uint8)
        return self.convert(VideoFrame.from_ndarray(nothing, format="bgr24"))

    def beside(self, left: VideoFrame, right: VideoFrame) -> VideoFrame:
        """Put two frames of this format, but of half its width, next to each other."""
        made = VideoFrame(self.width, self.height, self.name)
        parts = zip(_planes(made, self), _planes(left, self), _planes(right, self), strict=True)
        for plane, *halves in parts:
            plane[:] = np.hstack(halves)
        return made

    def changes(self, info: VideoInfo) -> list[str]:
        """Say what of a video's pixels this format does not hold, a line each."""
        source, lines = av.VideoFormat(info.pixel_format), []
        depth = max(component.bits for component in av.VideoFormat(self.name).components)
        if info.bit_depth > depth:
            lines.append(f"{info.bit_depth} bits per colour stored as {depth}")
        if len(source.components) > 1 and source.chroma_width(64) * source.chroma_height(64) > 32 * 32:
            lines.append(f"full colour resolution ({info.pixel_format}) stored as 4:2:0, which plays everywhere")
        if (self.width, self.height) != (info.width, info.height):
            lines.append(f"{info.width}x{info.height} became {self.width}x{self.height}: encoders want even sizes")
        return lines

    @property
    def sample_type(self) -> "np.dtype[Any]":
        """NumPy type of one sample."""
        return np.dtype(np.uint16 if self.name.endswith("le") else np.uint8)

    def convert(self, picture: VideoFrame) -> VideoFrame:
        """Change a picture's samples to this format, size as it is."""
        if picture.format.name in (self.name, self.name.replace("yuv", "yuvj")):
            return picture  # yuvj420p is yuv420p with a note that the range is full
        return _converters.to_ours.reformat(
            picture,
            format=self.name,
            src_colorspace=self._matrix,
            dst_colorspace=self._matrix,
            src_color_range=FULL_RANGE if picture.format.is_rgb else self._range,
            dst_color_range=self._range,
        )

    def to_bgr(self, picture: VideoFrame) -> Image:
        """Show a picture of this format as (H, W, 3) BGR."""
        shown = _converters.to_bgr.reformat(
            picture,
            format="bgr24",
            src_colorspace=self._matrix,
            dst_colorspace=self._matrix,
            src_color_range=self._range,
            dst_color_range=FULL_RANGE,
        )
        return cast(Image, shown.to_ndarray())

    @property
    def _matrix(self) -> int:
        """Swscale's number for the matrix; it has one for both 601 systems."""
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
        """Show a part, left and top even, as it is now, as (height, width, 3) BGR."""

    def draw(self, patch: Patch) -> None:
        """Replace what a patch changes."""


class Canvas:
    """A frame for the encoder: the decoded one, padded to even size, to be drawn into.

    Args:
        frame: upright, as decoded; stays as it is.
        target: format and size of what is made.

    Attributes:
        frame: what is made.
    """

    def __init__(self, frame: VideoFrame, target: PixelFormat) -> None:
        self.frame = VideoFrame(target.width, target.height, target.name)
        self._target = target
        source = target.convert(frame)
        for place, plane in enumerate(_planes(self.frame, target)):
            samples = _planes(source, target)[place]
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
        return Canvas(wide.beside(self.frame, right.frame), wide)

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width, even."""
        return self._target.height, self._target.width

    def part(self, rect: Rect) -> Image:
        """Show a part of the frame, as it is now, as (height, width, 3) BGR.

        Args:
            rect: in the frame; left and top even.
        """
        cut = VideoFrame(rect.width + rect.width % 2, rect.height + rect.height % 2, self._target.name)
        for place, (plane, samples) in enumerate(
            zip(_planes(cut, self._target), _planes(self.frame, self._target), strict=True)
        ):
            scale = 1 if place == 0 else 2
            top, left = rect.top // scale, rect.left // scale
            plane[:] = samples[top : top + plane.shape[0], left : left + plane.shape[1]]
        return self._target.to_bgr(cut)[: rect.height, : rect.width]

    def draw(self, patch: Patch) -> None:
        """Replace the samples of the frame that a patch changes."""
        height, width = patch.changed.shape
        image, changed = patch.image, patch.changed
        if height % 2 or width % 2:
            even = [(0, height % 2), (0, width % 2)]
            image, changed = np.pad(image, [*even, (0, 0)], mode="edge"), np.pad(changed, even, mode="edge")
        drawn = self._target.convert(VideoFrame.from_ndarray(image, format="bgr24"))
        rows = changed[::2] | changed[1::2]
        quarters = rows[:, ::2] | rows[:, 1::2]  # where any of the four px of a chroma sample changed
        planes = zip(_planes(self.frame, self._target), _planes(drawn, self._target), strict=True)
        for place, (plane, new) in enumerate(planes):
            where, scale = (changed, 1) if place == 0 else (quarters, 2)
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


def _planes(frame: VideoFrame, target: PixelFormat) -> list[Samples]:
    """Views of a frame's sample planes, (H, W) each, without the padding of their lines."""
    kind = target.sample_type
    views = []
    for plane in frame.planes:
        lines = np.frombuffer(memoryview(plane), dtype=kind).reshape(-1, plane.line_size // kind.itemsize)
        views.append(lines[: plane.height, : plane.width])
    return views
