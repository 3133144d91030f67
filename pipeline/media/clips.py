"""Short films made from pictures, to look at how something went."""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from pipeline.arrays import Image
from pipeline.workspace import atomic_path


def write_clip(path: Path, images: Iterable[Image], rate: int) -> None:
    """Write pictures as an H.264 film; whole or not at all.

    Args:
        path: an .mp4.
        images: (H, W, 3) BGR; all are brought to the size of the first, made even.
        rate: pictures per second.
    """
    with atomic_path(path) as temporary, av.open(str(temporary), "w") as container:
        stream: VideoStream | None = None
        for place, image in enumerate(images):
            if stream is None:
                stream = container.add_stream("libx264", rate=rate)
                stream.height, stream.width = (side // 2 * 2 for side in image.shape[:2])
                stream.pix_fmt = "yuv420p"
            fitting = cv2.resize(image, (stream.width, stream.height), interpolation=cv2.INTER_AREA)
            frame = VideoFrame.from_ndarray(np.asarray(fitting, np.uint8), format="bgr24")
            frame.pts, frame.time_base = place, Fraction(1, rate)
            container.mux(stream.encode(frame))
        if stream is not None:
            container.mux(stream.encode(None))
