"""The pixels of a frame as the encoder gets them: as decoded, but for the parts that were drawn anew.

A changed part is given in BGR. Only where it differs are samples of the frame replaced, so the rest stays exactly as it
was decoded: no round trip through BGR, no colour drift.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import av
import cv2
import numpy as np
from av.video.frame import VideoFrame

from pipeline.arrays import Patch, Samples
from pipeline.media.probe import Colour, VideoInfo

BT709 = Colour(matrix=1, primaries=1, transfer=1, range=1)
SWSCALE_601 = 5  # swscale's number for BT.601, and what it takes where a file does not say
RGB_MATRIX, FULL_RANGE = 0, 2  # ITU-T H.273 code of RGB; ffmpeg's number for 0 … 255


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

    @property
    def sample_type(self) -> "np.dtype[Any]":
        """NumPy type of one sample."""
        return np.dtype(np.uint16 if self.name.endswith("le") else np.uint8)

    def convert(self, picture: VideoFrame) -> VideoFrame:
        """Change a picture's samples to this format, size as it is."""
        if picture.format.name in (self.name, self.name.replace("yuv", "yuvj")):
            return picture  # yuvj420p is yuv420p with a note that the range is full
        rgb = picture.format.is_rgb
        matrix = {1: 1, 2: SWSCALE_601, 5: SWSCALE_601, 6: SWSCALE_601}.get(self.colour.matrix, self.colour.matrix)
        drange = max(self.colour.range, 1)
        return picture.reformat(
            format=self.name,
            src_colorspace=matrix,
            dst_colorspace=matrix,
            src_color_range=FULL_RANGE if rgb else drange,
            dst_color_range=drange,
        )


def compose(frame: VideoFrame, patches: Sequence[Patch], target: PixelFormat) -> VideoFrame:
    """Make the frame for the encoder: the decoded one, padded to even size, with the patches drawn in.

    Args:
        frame: upright, as decoded; stays as it is.
        patches: drawn in order.
        target: format of the result.

    Returns:
        A new frame of the target's format and size.
    """
    made = VideoFrame(target.width, target.height, target.name)
    source = target.convert(frame)
    for place, plane in enumerate(_planes(made, target)):
        samples = _planes(source, target)[place]
        missing = (plane.shape[0] - samples.shape[0], plane.shape[1] - samples.shape[1])
        plane[:] = samples if missing == (0, 0) else np.pad(samples, [(0, n) for n in missing], mode="edge")
    for patch in patches:
        _draw(made, patch, target)
    return made


def _draw(frame: VideoFrame, patch: Patch, target: PixelFormat) -> None:
    height, width = patch.changed.shape
    even = [(0, height % 2), (0, width % 2)]
    image = np.pad(patch.image, [*even, (0, 0)], mode="edge")
    changed = np.pad(patch.changed, even, mode="edge")
    drawn = target.convert(VideoFrame.from_ndarray(image, format="bgr24"))
    quarters = cv2.resize(changed.astype(np.float32), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) > 0
    for place, (plane, new) in enumerate(zip(_planes(frame, target), _planes(drawn, target), strict=True)):
        where, scale = (changed, 1) if place == 0 else (quarters, 2)
        top, left = patch.top // scale, patch.left // scale
        region = plane[top : top + where.shape[0], left : left + where.shape[1]]
        np.copyto(region, new[: region.shape[0], : region.shape[1]], where=where[: region.shape[0], : region.shape[1]])


def _planes(frame: VideoFrame, target: PixelFormat) -> list[Samples]:
    """Views of a frame's sample planes, (H, W) each, without the padding of their lines."""
    kind = target.sample_type
    views = []
    for plane in frame.planes:
        lines = np.frombuffer(memoryview(plane), dtype=kind).reshape(-1, plane.line_size // kind.itemsize)
        views.append(lines[: plane.height, : plane.width])
    return views
