"""Short moving clips with sound, made from still portraits.

The portraits are in the public domain and come inside Python packages: Grace Hopper (US Navy) with matplotlib, Eileen
Collins (NASA) with scikit-image.
"""

from dataclasses import dataclass
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import cast

import av
import cv2
import numpy as np
import numpy.typing as npt

from demo.expressions import Puppet, expression_at
from pipeline.errors import MediaError
from pipeline.media.pictures import read_picture
from pipeline.types import Image

SIDE_PX = 400  # width and height of a clip
FPS = 25
SOUND_HZ = 44100


@dataclass(frozen=True)
class Portrait:
    """A still picture, and where the head is in it.

    Attributes:
        name: of the person, as a folder can have it.
        package: that carries the file.
        file: inside the package's folder.
        centre_xy: middle of the face, px.
        side_px: of the square around the head that fills the clip.
        tone_hz: of the clip's sound.
        phase: of the expressions, so that two people do not do the same.
    """

    name: str
    package: str
    file: str
    centre_xy: tuple[float, float]
    side_px: float
    tone_hz: float
    phase: float


HOPPER = Portrait("hopper", "matplotlib", "mpl-data/sample_data/grace_hopper.jpg", (256, 205), 300, 220.0, 0.0)
COLLINS = Portrait("collins", "skimage", "data/astronaut.png", (224, 128), 185, 330.0, 2.0)


def read_portrait(portrait: Portrait) -> Image:
    """Read a portrait as (H, W, 3) BGR.

    Raises:
        MediaError: its package is not installed.
    """
    spec = find_spec(portrait.package)
    if spec is None or spec.origin is None:
        raise MediaError(f"no package {portrait.package!r}; run: pip install -r requirements-demo.txt")
    return read_picture(Path(spec.origin).parent / portrait.file)


def move(picture: Image, portrait: Portrait, time_s: float) -> Image:
    """Show a portrait, (H, W, 3), at a time: panned, zoomed, tilted and lit; (400, 400, 3) BGR."""
    y, x = np.mgrid[0:SIDE_PX, 0:SIDE_PX].astype(np.float32) - (SIDE_PX - 1) / 2
    angle = np.deg2rad(5 * np.sin(1.1 * time_s))
    scale = portrait.side_px / SIDE_PX * (1 + 0.05 * np.sin(0.7 * time_s + 1))
    u, v = x + 0.04 * SIDE_PX * np.sin(0.9 * time_s), y + 0.03 * SIDE_PX * np.sin(1.3 * time_s + 2)
    map_x = scale * (np.cos(angle) * u - np.sin(angle) * v) + portrait.centre_xy[0]
    map_y = scale * (np.sin(angle) * u + np.cos(angle) * v) + portrait.centre_xy[1]
    maps = map_x.astype(np.float32), map_y.astype(np.float32)
    shown = cv2.remap(picture, *maps, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    light = 1 + 0.05 * np.sin(1.7 * time_s) + 0.3 * np.sin(0.8 * time_s) * x / SIDE_PX
    tint = np.array([1 + 0.03 * np.sin(time_s), 1.0, 1 - 0.03 * np.sin(time_s)])
    return cast(Image, np.clip(shown * light[..., None] * tint, 0, 255).round().astype(np.uint8))


def make_clip(portrait: Portrait, path: Path, frames: int) -> None:
    """Write a clip of a portrait as MP4 with sound, ``frames`` long at 25 frames per second."""
    puppet = Puppet(read_portrait(portrait))
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=FPS, options={"crf": "16", "preset": "veryfast"})
        video.width = video.height = SIDE_PX
        video.pix_fmt = "yuv420p"
        audio = container.add_stream("aac", rate=SOUND_HZ, layout="mono")
        for index in range(frames):
            time_s = index / FPS
            image = move(puppet.show(expression_at(time_s, portrait.phase)), portrait, time_s)
            container.mux(video.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        container.mux(video.encode(None))
        sound = av.AudioFrame.from_ndarray(_tone(portrait.tone_hz, frames / FPS), format="fltp", layout="mono")
        sound.sample_rate, sound.pts, sound.time_base = SOUND_HZ, 0, Fraction(1, SOUND_HZ)
        container.mux(audio.encode(sound))
        container.mux(audio.encode(None))


def _tone(pitch_hz: float, length_s: float) -> npt.NDArray[np.float32]:
    """A tone that swells once a second, (1, samples)."""
    time = np.arange(round(length_s * SOUND_HZ)) / SOUND_HZ
    swelling = 0.2 * np.sin(2 * np.pi * pitch_hz * time) * np.sin(np.pi * time) ** 2
    return cast("npt.NDArray[np.float32]", swelling.astype(np.float32)[None])
