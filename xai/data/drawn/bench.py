"""A photograph of a solid on a workbench: surface, clutter, light, reflections in metal, lens and sensor."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from xai.data.drawn.solid import Camera, Sight, Solid, about, look
from xai.data.drawn.synthetic import Bytes, Floats, clouds, smoothstep, to_bytes

TEXTURE = 160
"""Pixels of a bench texture's side."""
REACH = 3.2
"""Half the width of the bench that the texture covers."""
OVERSAMPLING = 2
FRACTION = 4
"""Bits of a drawn coordinate behind the point."""

METALS = {
    "steel": (0.80, 0.82, 0.84),
    "zinc": (0.86, 0.85, 0.80),
    "brass": (0.92, 0.74, 0.40),
    "oxide": (0.27, 0.28, 0.31),
    "bronze": (0.66, 0.50, 0.36),
}
PAINTS = ((0.10, 0.28, 0.55), (0.62, 0.12, 0.10), (0.13, 0.38, 0.22), (0.22, 0.24, 0.27), (0.85, 0.55, 0.10))

ROW = 30_000
"""Places looked up at once: OpenCV takes no row of 32,767 or more, which a large part has."""


@dataclass(frozen=True, eq=False)
class Finish:
    """What an object is made of: main and second colour (3,), gloss, and how far rust or grime has come."""

    main: Floats
    second: Floats
    second_is_paint: bool
    gloss: float
    grime: float
    rust: float


def finish(rng: np.random.Generator) -> Finish:
    """A metal, or a paint for parts that are painted, drawn at random."""
    kinds = list(METALS)
    metal = METALS[kinds[rng.choice(len(kinds), p=[0.46, 0.18, 0.1, 0.16, 0.1])]]
    painted = rng.random() < 0.55
    other = PAINTS[rng.integers(len(PAINTS))] if painted else metal
    tint = rng.normal(1, 0.03, 3)
    return Finish(
        np.array(metal * tint, np.float32),
        np.array(other * tint, np.float32),
        painted,
        float(rng.uniform(0.25, 1)),
        float(rng.uniform(0, 0.4)),
        float(max(0, rng.normal(-0.1, 0.35))),
    )


def photograph(rng: np.random.Generator, solid: Solid, size: int) -> tuple[Bytes, Bytes]:
    """The solid on a bench as (size,size,3) and its mask (size,size); pose, light, place and camera are drawn."""
    side = size * OVERSAMPLING
    _place(rng, solid)
    camera = Camera(float(rng.uniform(0.05, 0.8)), float(rng.uniform(3.5, 7)), float(rng.uniform(1.08, 1.5)))
    turn, height = rng.uniform(0, 2 * np.pi), rng.uniform(0.5, 1.3)
    light = np.array([np.cos(turn), np.sin(turn), height], np.float32)
    light /= np.linalg.norm(light)
    made_of = finish(rng)
    lamps = _lamps(rng, light)
    texture = bench(rng)
    grain = clouds(rng, 64, 8, 3)
    sight = look(solid, camera, light, side, float(rng.uniform(0.004, 0.02)))
    picture = _on_bench(texture, camera, side)
    picture *= (1 - sight.shadow * rng.uniform(0.55, 0.9))[..., None]
    picture.reshape(-1, 3)[sight.at] = _shaded(sight, made_of, light, lamps, grain, side, picture.mean((0, 1)))
    mask = np.zeros(side * side, np.uint8)
    mask[sight.at] = 255
    picture *= _falloff(rng, side)[..., None]
    return _developed(rng, picture, mask.reshape(side, side), size)


def _place(rng: np.random.Generator, solid: Solid) -> None:
    """Set the solid down on z = 0, turned about, near the middle."""
    lows, highs = zip(*(_ends(points) for points in solid.points), strict=True)
    low, high = np.min(lows, 0), np.max(highs, 0)
    middle = (low + high) / 2
    turn = about(2, rng.uniform(0, 2 * np.pi))
    shift = np.array([*rng.uniform(-0.18, 0.18, 2), 0.005], np.float32)
    base = turn @ np.array([middle[0], middle[1], low[2]], np.float32)
    solid.turned(0, turn, tuple((shift - base).tolist()))


def _ends(points: Floats) -> tuple[list[float], list[float]]:
    columns = [points[:, axis] for axis in range(3)]
    return [float(each.min()) for each in columns], [float(each.max()) for each in columns]


def _lamps(rng: np.random.Generator, light: Floats) -> list[tuple[Floats, float, float]]:
    """What bright things stand around: (direction, half width as a cosine, strength); the first is the main light."""
    lamps = [(light, float(rng.uniform(0.82, 0.93)), float(rng.uniform(1.0, 1.7)))]
    for _ in range(int(rng.integers(2, 5))):
        way = rng.normal(0, 1, 3).astype(np.float32)
        way[2] = abs(way[2]) * 0.6 + 0.1
        way /= np.linalg.norm(way)
        lamps.append((way, float(rng.uniform(0.75, 0.95)), float(rng.uniform(0.3, 0.9))))
    return lamps


def _shaded(
    sight: Sight,
    made_of: Finish,
    light: Floats,
    lamps: list[tuple[Floats, float, float]],
    grain: Floats,
    side: int,
    around: Floats,
) -> Floats:
    """Colours (K,3) of the object's pixels. around: the bench's mean colour, which metal reflects from below."""
    facing = (sight.normal * sight.view).sum(1, keepdims=True)
    mirror = 2 * facing * sight.normal - sight.view
    up = mirror[:, 2]
    sky = 0.16 + 0.34 * smoothstep(-0.1, 0.9, up)
    soft = 0.02 + 0.16 * (1 - made_of.gloss)
    for way, width, strength in lamps:
        sky = sky + strength * smoothstep(width - soft, width + soft * 0.5, mirror @ way)
    ground = smoothstep(-0.05, -0.5, up)[:, None]
    reflected = sky[:, None] * (1 - ground) + around * 0.8 * ground
    diffuse = np.maximum(0, sight.normal @ light)
    lit = 0.32 + 0.62 * diffuse + 0.12 * sight.normal[:, 2]
    noise = _sampled(grain, sight.place @ np.array([[17, 3], [2, 19], [13, 11]], np.float32))
    fine = _sampled(grain, sight.place @ np.array([[71, 19], [13, 83], [43, 59]], np.float32))
    metal = made_of.main * (0.28 * lit[:, None] + 0.85 * reflected)
    edge = (1 - np.clip(facing, 0, 1)) ** 4
    if made_of.second_is_paint:
        paint = made_of.second * lit[:, None] * 1.15 + (0.08 + 0.3 * edge) * reflected * made_of.gloss
    else:
        paint = made_of.second * (0.28 * lit[:, None] + 0.85 * reflected)
    colour = np.where(sight.paint[:, None] == 1, paint, metal)
    rusty = smoothstep(1.1 - made_of.rust, 1.9 - made_of.rust, noise + 0.5 * fine)[:, None] * (made_of.rust > 0)
    colour = colour * (1 - rusty) + np.array([0.42, 0.24, 0.13], np.float32) * lit[:, None] * rusty
    colour = colour * (1 - made_of.grime * 0.35 * np.abs(fine))[:, None]
    low = 0.55 + 0.45 * smoothstep(0, 0.3, sight.place[:, 2])
    shaded: Floats = (colour * (low * _open(sight, side))[:, None]).astype(np.float32)
    return shaded


def _sampled(grain: Floats, at: Floats) -> Floats:
    """The noise at places (K,2), repeated without end."""
    parts = [
        cv2.remap(grain, at[None, start : start + ROW], None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)[0]  # type: ignore[call-overload]
        for start in range(0, len(at), ROW)
    ]
    return np.concatenate(parts).astype(np.float32) if parts else np.empty(0, np.float32)


def _open(sight: Sight, side: int) -> Floats:
    """How open a pixel lies, in (0, 1]: less where its neighbours are nearer to the camera (grooves, holes, coils)."""
    depth, weight = np.zeros(side * side, np.float32), np.zeros(side * side, np.float32)
    depth[sight.at], weight[sight.at] = sight.depth, 1
    sigma = side * 0.025
    total, share = (
        np.asarray(cv2.GaussianBlur(each.reshape(side, side), (0, 0), sigma), np.float32).ravel()[sight.at]
        for each in (depth, weight)
    )
    near = total / share
    found: Floats = 1 - 0.65 * np.clip((sight.depth - near) * 9, 0, 1)
    return found


def bench(rng: np.random.Generator) -> Floats:
    """A bench's surface (TEXTURE,TEXTURE,3) with what lies about on it."""
    side = TEXTURE
    kind = rng.integers(6)
    rows = np.arange(side, dtype=np.float32)[:, None]
    if kind == 0:  # boards
        streaks = clouds(rng, side, 2, 4, 12)
        plank = int(rng.integers(24, 60))
        tone = rng.uniform(-0.12, 0.12, side // plank + 2).astype(np.float32)[(rows[:, 0] // plank).astype(int)]
        base = np.array([0.56, 0.40, 0.25], np.float32) * rng.uniform(0.6, 1.25)
        level = 1 + 0.13 * streaks + tone[:, None] - 0.5 * ((rows % plank) < 1)
    elif kind == 1:  # a steel plate with scratches
        base = np.array([0.47, 0.49, 0.52], np.float32) * rng.uniform(0.6, 1.3)
        level = 1 + 0.05 * clouds(rng, side, 4, 3) + 0.05 * clouds(rng, side, 3, 2, 30)
    elif kind == 2:  # concrete
        base = np.array([0.55, 0.54, 0.51], np.float32) * rng.uniform(0.6, 1.2)
        level = 1 + 0.1 * clouds(rng, side, 5, 5) + 0.05 * rng.standard_normal((side, side), np.float32)
    elif kind == 3:  # a cutting mat with a grid
        base = np.array([[0.08, 0.33, 0.26], [0.14, 0.2, 0.38], [0.2, 0.2, 0.21]][rng.integers(3)], np.float32)
        pitch = int(rng.integers(10, 26))
        lines = ((rows % pitch) < 1) | ((rows.T % pitch) < 1)
        level = 1 + 0.06 * clouds(rng, side, 4, 4) + 0.7 * lines
    elif kind == 4:  # paper or cloth
        base = np.array([0.80, 0.79, 0.75], np.float32) * rng.uniform(0.75, 1.05)
        level = 1 + 0.05 * clouds(rng, side, 3, 5)
    else:  # dark rubber
        base = np.array([0.17, 0.17, 0.18], np.float32) * rng.uniform(0.7, 1.6)
        level = 1 + 0.12 * clouds(rng, side, 8, 4)
    stain = smoothstep(0.6, 1.4, clouds(rng, side, 3, 3)) * rng.uniform(0, 0.5)
    # In bytes: only those are drawn on with smooth edges. Half the scale, because level goes above 1.
    texture = to_bytes(np.asarray(base * (level * (1 - stain))[..., None] / 2, np.float32))
    _clutter(rng, texture)
    return np.asarray(texture, np.float32) * np.float32(2 / 255)


def _clutter(rng: np.random.Generator, texture: Bytes) -> None:
    """Scratches, shavings, rings left by tins, scraps of paper and tape, drawn into the texture."""
    side = TEXTURE

    def grey(tone: float, spread: float) -> tuple[int, ...]:
        return tuple(int(v) for v in np.clip(127 * tone * rng.normal(1, spread, 3), 0, 255))

    for _ in range(int(rng.integers(0, 14))):
        start, step = rng.uniform(0, side, 2), rng.normal(0, 14, 2)
        _line(texture, start, start + step, grey(rng.uniform(0.1, 0.9), 0))
    for _ in range(int(rng.integers(0, 5))):
        middle, axes = rng.uniform(0, side, 2), rng.uniform(3, 14, 2)
        angle, arc = float(rng.uniform(0, 360)), float(rng.uniform(90, 360))
        thick = -1 if rng.random() < 0.3 else int(rng.integers(1, 4))
        for shift, colour in ((1.0, grey(0.1, 0)), (0.0, grey(rng.uniform(0.15, 0.95), 0.08))):
            place, size = _fixed(middle + shift), _fixed(axes)
            cv2.ellipse(texture, place, size, angle, 0, arc, colour, thick, cv2.LINE_AA, FRACTION)
    for _ in range(int(rng.integers(0, 3))):
        middle, sides = rng.uniform(0, side, 2), rng.uniform(6, 45, 2)
        corners = cv2.boxPoints((_pair(middle), _pair(sides), float(rng.uniform(0, 180))))
        for shift, colour in ((1.5, grey(0.08, 0)), (0.0, grey(rng.uniform(0.1, 0.85), 0.12))):
            cv2.fillConvexPoly(texture, np.rint((corners + shift) * 16).astype(np.int32), colour, cv2.LINE_AA, FRACTION)


def _line(texture: Bytes, start: NDArray[np.float64], end: NDArray[np.float64], colour: tuple[int, ...]) -> None:
    cv2.line(texture, _fixed(start), _fixed(end), colour, 1, cv2.LINE_AA, FRACTION)


def _pair(point: NDArray[np.float64]) -> tuple[float, float]:
    return float(point[0]), float(point[1])


def _fixed(point: NDArray[np.float64]) -> tuple[int, int]:
    """A point in sixteenths of a pixel, as OpenCV draws with shift=4."""
    return round(float(point[0]) * 16), round(float(point[1]) * 16)


def _on_bench(texture: Floats, camera: Camera, side: int) -> Floats:
    """The bench as the camera sees it (side,side,3)."""
    across = (np.arange(side, dtype=np.float32) + 0.5 - side / 2) * (2 * camera.reach / side / camera.distance)
    c, s = math.cos(camera.tilt), math.sin(camera.tilt)
    x, y = across[None, :], -across[:, None]
    # A ray (x, y, -1) of the camera's frame, turned into the bench's, from the eye at (0, -s d, c d) to z = 0.
    down = c - s * y
    far = camera.distance * c / np.maximum(down, 0.05)
    place_x = far * x + 0 * y
    place_y = -s * camera.distance + far * (c * y + s) + 0 * x
    scale = TEXTURE / 2 / REACH
    return np.asarray(
        cv2.remap(
            texture,
            place_x * scale + TEXTURE / 2,
            TEXTURE / 2 - place_y * scale,
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REFLECT,
        ),
        np.float32,
    )


def _falloff(rng: np.random.Generator, side: int) -> Floats:
    """Light that falls off over the picture, and the lens's dark corners."""
    at = np.linspace(-1, 1, side, dtype=np.float32)
    slope_x, slope_y = rng.uniform(-0.3, 0.3, 2)
    fall: Floats = 1 + slope_x * at[None, :] + slope_y * at[:, None]
    corners = rng.uniform(0, 0.22) * (at[None, :] ** 2 + at[:, None] ** 2)
    return np.asarray(fall - corners, np.float32)


def _developed(rng: np.random.Generator, picture: Floats, mask: Bytes, size: int) -> tuple[Bytes, Bytes]:
    """Lens blur, exposure, white balance, the sensor's noise; smaller by the oversampling."""
    blur = rng.uniform(0.001, 0.006) * picture.shape[0]
    exposure = np.exp(rng.normal(0.18, 0.16))
    white = rng.normal(1, 0.035, 3).astype(np.float32)
    gamma, noise = rng.uniform(0.8, 1.05), rng.uniform(0.008, 0.035)
    soft = cv2.GaussianBlur(picture, (0, 0), blur) if blur > 0.4 else picture
    small = cv2.resize(soft, (size, size), interpolation=cv2.INTER_AREA) * (white * np.float32(exposure))
    developed = np.clip(small, 0, None) ** np.float32(gamma)
    developed = developed / (1 + np.maximum(developed - 0.75, 0) * 0.6)  # highlights burn out slowly
    developed += noise * rng.standard_normal(developed.shape, np.float32) * (0.6 + 0.4 * developed)
    seen = cv2.resize(mask, (size, size), interpolation=cv2.INTER_AREA)
    return to_bytes(np.asarray(developed, np.float32)), np.where(seen > 127, 255, 0).astype(np.uint8)
