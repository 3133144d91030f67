"""Faces with things drawn in front of them, from which a network learns to find such things.

What is drawn: hands of tubes, smooth shapes, rods with a ball, cards and strands, with textures from other faces'
pictures, shaded, blurred, with a shadow. (Voo et al. 2022, arXiv:2205.06218, show that shapes drawn at random teach a
segmenter most of what real occlusions do.)

Convention: pictures are (128, 128, 3) BGR uint8, what a network sees of a crop; masks are (128, 128) float32 in [0, 1].
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from models.segmenter import OCCLUSION_PX
from pipeline.faces.alignment import CHIN_PX, CROP_PX, MIDDLE_X, SEEN_PX, TEMPLATE, TOP_PX, mean_outline
from pipeline.types import Image, Mask

PX = OCCLUSION_PX
Rng = np.random.Generator
Floats = npt.NDArray[Any]

UNCOVERED_SHARE = 0.2  # of the faces, so that nothing is found where nothing is
BARE_NECKS = 0.4  # of the faces get one: portraits show collars, and skin below the chin would look like a hand
GLASSES_SHARE, DARK_LENSES = 0.35, 0.2  # of the faces without glasses that get some; of these, sunglasses
MAX_COVER = 0.6  # of the picture; with more, there is no face to learn from
SKIN = ((104, 150), (150, 150), (128, 86))  # middles of cheeks and forehead, in px of a crop
SKIN_SHARE = 0.25  # of the textures of things that are no hands
OWN_SHARE = 0.4  # of the textures, from the face itself: its hands have its skin
Shape = Callable[[Rng], list[Mask]]


class Covered(NamedTuple):
    """A face with something in front: the picture, where things are, and where its glasses are."""

    picture: Image
    things: Mask
    glasses: Mask


def occlude(crop: Image, others: Sequence[Image], rng: Rng, *, has_glasses: bool = False) -> Covered:
    """Cut a face at a random place, size and light, and draw glasses and other things in front of it.

    Args:
        crop: (256, 256, 3).
        others: crops that give textures.
        rng: random numbers.
        has_glasses: whether the person wears real ones; then none are drawn.
    """
    crop = _bare_neck(crop, rng) if rng.random() < BARE_NECKS else crop
    glasses: Mask = np.zeros((CROP_PX, CROP_PX), np.float32)
    if not has_glasses and rng.random() < GLASSES_SHARE:
        crop, glasses = _put_on_glasses(crop, others[int(rng.integers(len(others)))], rng)
    picture, glasses = _cut(crop, glasses, rng)
    mask: Mask = np.zeros((PX, PX), np.float32)
    if rng.random() > UNCOVERED_SHARE:
        for _ in range(rng.choice([1, 1, 1, 2])):
            other = crop if rng.random() < OWN_SHARE else others[int(rng.integers(len(others)))]
            picture, covered = _cover(picture, other, rng)
            mask = np.maximum(mask, covered)
    return Covered(_degrade(picture, rng), mask, np.asarray(glasses * (1 - mask), np.float32))


def _cut(crop: Image, glasses: Mask, rng: Rng) -> tuple[Floats, Mask]:
    """Cut what a network sees, with more variation than alignment has, mirrored half of the times."""
    angle, scale = rng.normal(0, 6), np.exp(rng.normal(0, 0.07)) * PX / SEEN_PX
    shift = rng.normal(0, 4, 2)
    matrix: Floats = cv2.getRotationMatrix2D((MIDDLE_X + shift[0], MIDDLE_X + shift[1]), angle, scale)
    matrix[:, 2] += (PX - 1) / 2 - MIDDLE_X
    if rng.random() < 0.5:
        matrix = np.array([[-1, 0, PX - 1], [0, 1, 0]]) @ np.vstack([matrix, [0, 0, 1]])
    source = cv2.GaussianBlur(crop, (0, 0), 0.6)
    picture = cv2.warpAffine(source, matrix, (PX, PX), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    worn = cv2.warpAffine(cv2.GaussianBlur(glasses, (0, 0), 0.6), matrix, (PX, PX), flags=cv2.INTER_LINEAR)
    return _tint(picture.astype(np.float32), rng, rng.choice([0.06, 0.2], p=[0.8, 0.2])), np.asarray(worn, np.float32)


class _Glasses(NamedTuple):
    """Rims and lenses in px of a crop; where the lenses begin and end."""

    rims: Mask
    lenses: Mask
    top: float
    bottom: float


def _draw_glasses(rng: Rng) -> _Glasses:
    """Draw rims of any shape and thickness around both eyes, some half or without."""
    between = TEMPLATE[1, 0] - TEMPLATE[0, 0]
    half_width = between * rng.uniform(0.36, 0.49)
    half_height = half_width * rng.uniform(0.5, 1.05)
    outwards, down = between * rng.uniform(-0.02, 0.06), between * rng.uniform(-0.03, 0.22)
    thickness = rng.choice([rng.uniform(0.8, 1.8), rng.uniform(1.8, 3.5), rng.uniform(3.5, 7)])
    width, tilt, half_rim = max(round(2 * thickness), 1), rng.normal(0, 0.03), rng.uniform(-0.1, 0.5)
    has_rims, is_whole = rng.random() < 0.9, rng.random() < 0.8
    x, y = _superellipse(rng.choice([2.0, 2.5, 3.5, 6.0]), rng.uniform(-0.15, 0.25))
    center = TEMPLATE[:2].mean(axis=0)
    turn = np.array([[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]])
    rims, lenses = (np.zeros((2 * CROP_PX, 2 * CROP_PX), np.uint8) for _ in range(2))

    def enlarged(points: Floats) -> npt.NDArray[np.int32]:
        return np.asarray((2 * ((points - center) @ turn.T + center) + 0.5).round(), np.int32)

    def line(points: Floats, wide: int = width) -> None:
        cv2.polylines(rims, [enlarged(points)], False, 255, wide, cv2.LINE_AA)

    bridge = rng.uniform(-0.5, 0.1) * half_height
    inner = []
    for side, eye in zip((-1, 1), TEMPLATE[:2], strict=True):
        middle = np.add(eye, (side * outwards, down))
        lens = np.stack([middle[0] + side * x * half_width, middle[1] + y * half_height], axis=1)
        cv2.fillPoly(lenses, [enlarged(lens)], 255, cv2.LINE_AA)
        if has_rims:
            upper = lens[y < half_rim]
            line(np.vstack([lens, lens[:1]]) if is_whole else upper[np.argsort(upper[:, 0])])
        temple = np.add(middle, (side * half_width, -half_height * rng.uniform(0.1, 0.7)))
        end = np.add(temple, (side * rng.uniform(10, 34), rng.uniform(-4, 5)))
        line(np.array([temple, end]), max(round(width * rng.uniform(0.7, 1.5)), 1))
        inner.append(np.add(middle, (-side * half_width, bridge)))
    line(np.array([inner[0], np.mean(inner, axis=0) - (0, rng.uniform(0, 5)), inner[1]]))
    small = [cv2.resize(drawn, (CROP_PX, CROP_PX), interpolation=cv2.INTER_AREA) for drawn in (rims, lenses)]
    rim_mask, lens_mask = (_as_mask(np.asarray(drawn, np.uint8)) for drawn in small)
    middle_y = TEMPLATE[0, 1] + down
    return _Glasses(rim_mask, lens_mask, middle_y - half_height, middle_y + half_height)


def _superellipse(power: float, droop: float) -> tuple[Floats, Floats]:
    """Points of a lens of half width and height 1, narrower (or wider) below, as an aviator's."""
    angles = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    x, y = (np.sign(f(angles)) * np.abs(f(angles)) ** (2 / power) for f in (np.cos, np.sin))
    return x * (1 - 0.3 * droop * np.clip(y, 0, None)), y


def _put_on_glasses(crop: Image, other: Image, rng: Rng) -> tuple[Image, Mask]:
    """Draw glasses with clear or dark lenses, reflections and a shadow; return where rims and dark lenses are, too."""
    rims, lenses, top, bottom = _draw_glasses(rng)
    picture, mask = crop.astype(np.float32), rims
    shadow = cv2.GaussianBlur(rims, (0, 0), rng.uniform(1, 3))
    shadow = cv2.warpAffine(shadow, np.array([[1, 0, rng.normal(0, 2)], [0, 1, rng.uniform(0, 5)]]), (CROP_PX, CROP_PX))
    picture *= 1 - rng.uniform(0, 0.5) * shadow[..., None]
    if rng.random() < DARK_LENSES:
        ends = rng.uniform(0.6, 0.98), rng.uniform(0.4, 0.98)
        alpha = lenses * np.interp(np.arange(CROP_PX), (top, bottom), ends)[:, None]
        picture += alpha[..., None] * (rng.uniform(5, 60, 3) - picture)
        mask = np.maximum(rims, lenses)
    if rng.random() < 0.4:
        shine = _reflection(rng) * lenses * rng.uniform(0.1, 0.6)
        picture += shine[..., None] * (rng.uniform(150, 255) - picture)
    colors = [rng.uniform(5, 60, 3), rng.uniform(20, 230, 3), np.full(3, rng.uniform(60, 220))]  # dark, any, metal
    gloss = cv2.resize(rng.normal(0, 1, (12, 12)).astype(np.float32), (CROP_PX, CROP_PX)) * rng.uniform(0, 40)
    surface = colors[rng.choice(3, p=[0.5, 0.25, 0.25])] + gloss[..., None]
    if rng.random() < 0.2:  # horn, or what is mirrored in it
        surface = 0.4 * surface + 0.6 * other
    picture += rims[..., None] * rng.uniform(0.75, 1) * (surface - picture)
    return np.clip(picture, 0, 255).astype(np.uint8), np.asarray(mask, np.float32)


def _reflection(rng: Rng) -> Floats:
    """Light streaks, as a window makes them on glass."""
    streaks = np.zeros((CROP_PX, CROP_PX), np.float32)
    for _ in range(int(rng.integers(1, 4))):
        x, slope = rng.uniform(60, 200), rng.normal(0, 30)
        cv2.line(streaks, (round(x), 70), (round(x + slope), 160), 1.0, int(rng.integers(3, 22)), cv2.LINE_AA)
    return np.asarray(cv2.GaussianBlur(streaks, (0, 0), rng.uniform(1, 5)), np.float32)


def _bare_neck(crop: Image, rng: Rng) -> Image:
    """Paint a neck and shoulders of the face's own skin below its chin."""
    neck = np.zeros((CROP_PX, CROP_PX), np.uint8)
    middle, width = MIDDLE_X + rng.normal(0, 6), rng.uniform(35, 62)
    slope, end = rng.uniform(-0.1, 0.5), rng.uniform(190, 330)
    top, shoulders = 150, rng.uniform(215, 290)
    shape = [
        (middle - width, top),
        (middle + width, top),
        (middle + width + slope * 60, shoulders),
        (middle + 3 * width, end),
        (middle - 3 * width, end),
        (middle - width - slope * 60, shoulders),
    ]
    cv2.fillPoly(neck, [np.array(shape).round().astype(np.int32)], 255, cv2.LINE_AA)
    center = (MIDDLE_X, (TOP_PX + CHIN_PX) / 2)
    face = (mean_outline() - center) * rng.uniform(0.96, 1.06) + center
    cv2.fillPoly(neck, [face.round().astype(np.int32)], 0, cv2.LINE_AA)
    alpha = cv2.GaussianBlur(neck.astype(np.float32) / 255, (0, 0), rng.uniform(0.7, 3))[..., None]
    x, y = SKIN[rng.integers(2)]
    color = crop[y - 8 : y + 8, x - 8 : x + 8].mean(axis=(0, 1)) * rng.uniform(0.8, 1.1)
    rows, columns = np.mgrid[0:CROP_PX, 0:CROP_PX]
    light = 1 - rng.uniform(0, 0.3) * np.clip((235 - rows) / 40, 0, 1) + rng.normal(0, 0.1) * (columns / 128 - 1)
    folds = cv2.resize(rng.normal(0, 1, (int(rng.integers(3, 12)), 4)).astype(np.float32), (CROP_PX, CROP_PX))
    skin = color * (light + 0.04 * folds)[..., None]
    return np.asarray(np.clip(crop + alpha * (skin - crop), 0, 255), np.uint8)


def _tint(picture: Floats, rng: Rng, strength: float) -> Floats:
    """Change brightness, contrast and white balance at random."""
    gains = np.exp(rng.normal(0, strength, 3) + rng.normal(0, 2 * strength))
    contrast = np.exp(rng.normal(0, 2 * strength))
    mean = picture.mean()
    tinted: Floats = np.clip((picture - mean) * contrast * gains + mean * gains, 0, 255).astype(np.float32)
    return tinted


def _degrade(picture: Floats, rng: Rng) -> Image:
    """Blur, noise, compression and grey pictures, as footage has them."""
    if rng.random() < 0.4:  # small faces of a crowd too
        size = round(PX * np.exp(-rng.uniform(0, 1.9)))
        small = cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA)
        picture = cv2.resize(small, (PX, PX), interpolation=cv2.INTER_LINEAR)
    if rng.random() < 0.3:
        picture = picture + rng.normal(0, rng.uniform(1, 8), picture.shape)
    if rng.random() < 0.05:
        picture = np.repeat(picture.mean(axis=2, keepdims=True), 3, axis=2)
    image = np.clip(picture, 0, 255).astype(np.uint8)
    if rng.random() < 0.3:
        encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(30, 90))])[1]
        image = np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), np.uint8)
    return image


def _cover(picture: Floats, other: Image, rng: Rng) -> tuple[Floats, Mask]:
    """Draw one thing in front of a picture; return that, and where it is."""
    shape = SHAPES[rng.choice(len(SHAPES), p=SHARES)]
    parts = shape(rng)
    if not 0.005 < max(float(part.mean()) for part in parts) < MAX_COVER:
        return picture, np.zeros((PX, PX), np.float32)
    texture = _skin(other, rng) if shape is _hand or rng.random() < SKIN_SHARE else _texture(other, rng)
    layer, mask = texture.copy(), np.zeros((PX, PX), np.float32)
    depth, light = rng.uniform(0.1, 0.6), rng.uniform(-0.3, 0.3, 2)
    for part in parts:
        shaded = texture * _shade(part, depth, light)[..., None]
        layer += part[..., None] * (shaded - layer)
        mask = np.maximum(mask, part)
    if rng.random() < 0.3:
        layer, mask = _move(layer, mask, rng)
    mask = np.asarray(cv2.GaussianBlur(mask, (0, 0), rng.uniform(0.4, 1.6)), np.float32)
    if rng.random() < 0.5:
        distance = rng.normal(0, 5, 2)
        shadow = cv2.warpAffine(mask, np.array([[1, 0, distance[0]], [0, 1, distance[1]]]), (PX, PX))
        shadow = cv2.GaussianBlur(shadow, (0, 0), rng.uniform(2, 6))
        picture = picture * (1 - rng.uniform(0.1, 0.5) * shadow[..., None])
    return (picture + mask[..., None] * (layer - picture)).astype(np.float32), mask


def _shade(part: Mask, depth: float, light: Floats) -> Floats:
    """Brightness of a round body: darker to its edges, and away from the light."""
    inside = cv2.distanceTransform((part > 0.5).astype(np.uint8), cv2.DIST_L2, 3)
    roundness = np.sqrt(inside / max(float(inside.max()), 1))
    y, x = np.mgrid[0:PX, 0:PX] / PX - 0.5
    return np.asarray((1 - depth) + depth * roundness + light[0] * x + light[1] * y, np.float32)


def _move(layer: Floats, mask: Mask, rng: Rng) -> tuple[Floats, Mask]:
    """Blur by motion."""
    length, angle = int(rng.integers(3, 13)), rng.uniform(0, 180)
    kernel: Floats = np.zeros((length, length), np.float32)
    kernel[length // 2] = 1
    kernel = np.asarray(
        cv2.warpAffine(kernel, cv2.getRotationMatrix2D(((length - 1) / 2,) * 2, angle, 1), (length, length))
    )
    kernel = kernel / kernel.sum()
    return cv2.filter2D(layer, -1, kernel), np.asarray(cv2.filter2D(mask, -1, kernel), np.float32)


def _texture(other: Image, rng: Rng) -> Floats:
    """Anything from another crop: hair, cloth, background, faces, at any size."""
    scale, angle = np.exp(rng.uniform(-0.7, 1.2)), rng.uniform(0, 360)
    corner = rng.choice([30, 128, 226], 2) + rng.normal(0, 15, 2)
    matrix: Floats = cv2.getRotationMatrix2D((float(corner[0]), float(corner[1])), angle, scale)
    matrix[:, 2] += PX / 2 - corner
    patch = cv2.warpAffine(other, matrix, (PX, PX), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return _tint(patch.astype(np.float32), rng, 0.2)


def _skin(other: Image, rng: Rng) -> Floats:
    """Skin of another person, smooth, with creases."""
    x, y = SKIN[rng.integers(len(SKIN))]
    side = int(rng.integers(8, 18))
    patch = cv2.resize(other[y - side : y + side, x - side : x + side], (PX, PX), interpolation=cv2.INTER_CUBIC)
    noise = cv2.resize(rng.normal(0, 1, (int(rng.integers(6, 40)),) * 2).astype(np.float32), (PX, PX))
    creased = patch.astype(np.float32) * (1 + rng.uniform(0, 0.08) * noise[..., None])
    return _tint(creased, rng, 0.1)


def _hand(rng: Rng) -> list[Mask]:
    """A palm and fingers, each a part of its own, so that each is shaded."""
    size = rng.uniform(0.7, 1.5)
    middle = np.array([PX / 2, PX / 2]) + rng.normal(0, 35, 2)
    towards = rng.uniform(0, 2 * np.pi)
    spread, width = rng.uniform(0.04, 0.35), rng.uniform(8, 12) * size
    parts = []
    if rng.random() < 0.8:
        palm = np.zeros((PX, PX), np.uint8)
        across = rng.uniform(0.7, 1.1) * 2.2 * width
        angle = np.degrees(towards)
        cv2.ellipse(palm, _point(middle), (round(2.4 * width), round(across)), angle, 0, 360, 255, -1, cv2.LINE_AA)
        parts.append(palm)
        arm = np.zeros((PX, PX), np.uint8)
        away = middle - 200 * _direction(towards)
        cv2.line(arm, _point(middle), _point(away), 255, max(round(1.6 * across), 1), cv2.LINE_AA)
        if rng.random() < 0.7:
            parts.insert(0, arm)
    count = int(rng.integers(1, 6))
    for number in range(count):
        offset = number - (count - 1) / 2
        angle = towards + offset * spread + rng.normal(0, 0.05)
        start = middle + offset * width * 0.95 * _direction(towards + np.pi / 2) + 1.5 * width * _direction(towards)
        finger = np.zeros((PX, PX), np.uint8)
        bend, length = rng.normal(0, 0.35), rng.uniform(1.5, 2.8) * width
        knuckle = start + length * _direction(angle)
        tip = knuckle + rng.uniform(0.6, 1) * length * _direction(angle + bend)
        thickness = max(round(width * rng.uniform(0.8, 1.1)), 1)
        cv2.line(finger, _point(start), _point(knuckle), 255, thickness, cv2.LINE_AA)
        cv2.line(finger, _point(knuckle), _point(tip), 255, max(round(0.9 * thickness), 1), cv2.LINE_AA)
        parts.append(finger)
    return [_as_mask(part) for part in parts]


def _blob(rng: Rng) -> list[Mask]:
    """A smooth shape: noise above a threshold, near a random place."""
    coarse = rng.normal(0, 1, (int(rng.integers(4, 10)),) * 2).astype(np.float32)
    noise = cv2.resize(coarse, (PX, PX), interpolation=cv2.INTER_CUBIC)
    y, x = np.mgrid[0:PX, 0:PX]
    distance = np.hypot(x - rng.uniform(0, PX), y - rng.uniform(0, PX)) / rng.uniform(20, 50)
    inside = (noise * 0.5 + 1 - distance > 0).astype(np.float32)
    return [np.asarray(cv2.GaussianBlur(inside, (0, 0), 1.0), np.float32)]


def _rod(rng: Rng) -> list[Mask]:
    """A rod or a microphone, from an edge of the picture."""
    start, towards = rng.uniform(0, PX, 2), rng.uniform(0, 2 * np.pi)
    width = rng.uniform(2, 16)
    rod, parts = np.zeros((PX, PX), np.uint8), []
    end = start + 200 * _direction(towards)
    cv2.line(rod, _point(start), _point(end), 255, max(round(width), 1), cv2.LINE_AA)
    parts.append(_as_mask(rod))
    if rng.random() < 0.6:
        ball = np.zeros((PX, PX), np.uint8)
        axes = (round(width * rng.uniform(0.8, 1.8)) + 1, round(width * rng.uniform(0.7, 1.2)) + 1)
        cv2.ellipse(ball, _point(start), axes, np.degrees(towards), 0, 360, 255, -1, cv2.LINE_AA)
        parts.append(_as_mask(ball))
    return parts


def _card(rng: Rng) -> list[Mask]:
    """A card, a telephone, a cup: a box with round corners, turned."""
    middle = rng.uniform(-10, PX + 10, 2)
    size, angle = rng.uniform(20, 90, 2), rng.uniform(0, 180)
    corners = cv2.boxPoints(((float(middle[0]), float(middle[1])), (float(size[0]), float(size[1])), angle))
    card = np.zeros((PX, PX), np.uint8)
    cv2.fillConvexPoly(card, corners.round().astype(np.int32), 255, cv2.LINE_AA)
    rounded = cv2.GaussianBlur(card.astype(np.float32) / 255, (0, 0), rng.uniform(1, 6))
    return [np.asarray(np.clip((rounded - 0.5) * 4 + 0.5, 0, 1), np.float32)]


def _strands(rng: Rng) -> list[Mask]:
    """Locks of hair: curved strands side by side, hanging from an edge."""
    strands = np.zeros((PX, PX), np.uint8)
    start, towards = rng.uniform(-10, PX + 10, 2), rng.uniform(0, 2 * np.pi)
    bend, width = rng.normal(0, 0.012), rng.uniform(1, 4)
    for _ in range(int(rng.integers(2, 14))):
        point, angle = start + rng.normal(0, 8, 2), towards + rng.normal(0, 0.15)
        points = [point]
        for _ in range(16):
            point = point + 6 * _direction(angle)
            angle += 6 * (bend + rng.normal(0, 0.006))
            points.append(point)
        line = np.array(points).round().astype(np.int32)
        cv2.polylines(strands, [line], False, 255, max(round(width * rng.uniform(0.5, 1.5)), 1), cv2.LINE_AA)
    return [_as_mask(strands)]


SHAPES: tuple[Shape, ...] = (_hand, _blob, _rod, _card, _strands)
SHARES = (0.4, 0.25, 0.15, 0.1, 0.1)


def _as_mask(drawn: npt.NDArray[np.uint8]) -> Mask:
    return drawn.astype(np.float32) / np.float32(255)


def _point(xy: npt.NDArray[np.float64]) -> tuple[int, int]:
    return round(float(xy[0])), round(float(xy[1]))


def _direction(angle: float) -> npt.NDArray[np.float64]:
    return np.array([np.cos(angle), np.sin(angle)])
