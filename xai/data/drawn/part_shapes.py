"""The ten parts of a bench vise as solids, each with dimensions drawn anew; each lies on the bench when `posed`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from xai.data.drawn.solid import Solid, about
from xai.data.drawn.synthetic import Floats

Random = np.random.Generator


def _hexagon(angle: Floats) -> Floats:
    """Distance from the centre to the side of a regular hexagon whose sides are at distance 1."""
    sixth = np.pi / 3
    radius: Floats = 1 / np.cos((angle % sixth) - sixth / 2)
    return radius


def _hex_prism(
    solid: Solid, radius: float, low: float, high: float, hole: float, chamfer: float, paint: int = 0
) -> None:
    """Six sides and two faces with a hole; the faces' corners are turned down as on a real nut."""
    drop = chamfer * radius

    def height(r: Floats, top: float, sign: float) -> Floats:
        found: Floats = top - sign * np.maximum(0, r / radius - 0.98) * drop * 4
        return found

    def sides(u: Floats, v: Floats) -> tuple[Floats, Floats, Floats]:
        angle = 2 * np.pi * v
        r = radius * _hexagon(angle)
        bottom, top = height(r, low, -1), height(r, high, 1)
        return r * np.cos(angle) + 0 * u, r * np.sin(angle) + 0 * u, bottom + (top - bottom) * u

    solid.sheet(sides, high - low, 2 * np.pi * radius * 1.1, paint)
    for level, sign in ((low, -1.0), (high, 1.0)):

        def face(u: Floats, v: Floats, level: float = level, sign: float = sign) -> tuple[Floats, Floats, Floats]:
            angle = 2 * np.pi * v
            r = hole + (radius * _hexagon(angle) - hole) * u
            return r * np.cos(angle), r * np.sin(angle), height(r, level, sign)

        solid.sheet(face, radius * 1.15 - hole, 2 * np.pi * radius * 1.1, paint)


def nut(solid: Solid, rng: Random) -> None:
    """A hexagon nut: flat, or on one of its sides."""
    radius = rng.uniform(0.72, 0.85)
    high = radius * rng.uniform(0.65, 0.95)
    hole = radius * rng.uniform(0.54, 0.66)
    _hex_prism(solid, radius, 0, high, hole, rng.uniform(0.06, 0.2))
    solid.thread(hole + 0.02, 0, high, high / rng.uniform(5, 8), 0.05)
    if rng.random() < 0.2:
        solid.turned(0, about(0, rng.uniform(0.2, 0.42) * np.pi))


def bolt(solid: Solid, rng: Random) -> None:
    """A hexagon head on a shank with a thread; lying, or standing on its head."""
    length, shank = rng.uniform(1.5, 2.0), rng.uniform(0.17, 0.24)
    radius, head = shank * rng.uniform(1.6, 1.9), shank * rng.uniform(1.1, 1.5)
    plain = length * rng.uniform(0.15, 0.55)
    _hex_prism(solid, radius, 0, head, 0.0, 0.25)
    solid.lathe([(shank, head), (shank, head + plain)])
    solid.thread(shank, head + plain, head + length, rng.uniform(0.075, 0.11), shank * 0.24)
    solid.lathe([(shank * 0.8, head + length), (0.01, head + length)])
    _lay(solid, rng, (head + length) / 2, 0.08)


def washer(solid: Solid, rng: Random) -> None:
    """A flat ring; now and then it leans on something."""
    radius, high = rng.uniform(0.8, 0.95), rng.uniform(0.06, 0.14)
    hole = radius * rng.uniform(0.4, 0.62)
    edge = 0.03
    solid.lathe(
        [
            (hole, 0),
            (hole, high),
            (radius - edge, high),
            (radius, high - edge),
            (radius, 0),
            (hole, 0),
        ]
    )
    if rng.random() < 0.3:
        solid.turned(0, about(0, rng.uniform(0.2, 0.9)))


def clamp(solid: Solid, rng: Random) -> None:
    """A C-shaped frame, painted, with a threaded spindle, a pad and a small sliding bar; lying on its side."""
    width, height, thick = rng.uniform(0.55, 0.75), rng.uniform(0.7, 0.9), rng.uniform(0.13, 0.18)
    deep = thick * rng.uniform(0.8, 1.2)
    for low, high in (
        ((-width, -height, 0), (-width + 1.3 * thick, height, deep)),
        ((-width, height - 1.2 * thick, 0), (width, height, deep)),
        ((-width, -height, 0), (width, -height + 1.2 * thick, deep)),
    ):
        solid.block(low, high, 1)
    first = len(solid.points)
    boss = thick * 1.1
    solid.lathe([(0, -0.12), (boss, -0.12), (boss, 0.2), (0, 0.2)], 1)  # where the spindle goes through
    reach = rng.uniform(0.5, 1.1)
    rod = thick * 0.55
    solid.thread(rod, -0.55, reach, 0.09, rod * 0.25)
    solid.lathe([(0.01, reach), (rod * 2, reach), (rod * 2, reach + 0.1), (0.01, reach + 0.1)])
    bar = rng.uniform(0.28, 0.4)
    shift = rng.uniform(-0.4, 0.4) * bar
    solid.tube(lambda t: np.stack([(t * 2 - 1) * bar + shift, 0 * t, 0 * t - 0.5], 1), 2 * bar, rod * 0.5)
    for end in (-bar, bar):
        before = len(solid.points)
        _ball(solid, rod * 0.8)
        solid.turned(before, np.eye(3, dtype=np.float32), (end + shift, 0, -0.5))
    solid.turned(first, about(0, -np.pi / 2) @ about(2, rng.uniform(-0.6, 0.6)), (width - thick, -height, deep / 2))
    solid.turned(0, np.eye(3, dtype=np.float32) * np.float32(0.86), (0, 0.1, 0.04))


def screw(solid: Solid, rng: Random) -> None:
    """A pointed wood screw with a slotted or crossed, countersunk or round head."""
    length, shank = rng.uniform(1.6, 2.0), rng.uniform(0.13, 0.18)
    radius = shank * rng.uniform(2.1, 2.6)
    slot, cross = radius * 0.17, rng.random() < 0.5
    depth = radius * 0.35

    def head(u: Floats, v: Floats) -> tuple[Floats, Floats, Floats]:
        angle, r = 2 * np.pi * v, radius * u
        x, y = r * np.cos(angle), r * np.sin(angle)
        cut = np.abs(x) < slot
        if cross:
            cut = (cut | (np.abs(y) < slot)) & (r < radius * 0.7)
        return x, y, np.where(cut, depth, -dome * (1 - u * u))

    dome = radius * (0.45 if rng.random() < 0.4 else 0.05)
    solid.sheet(head, radius, 2 * np.pi * radius)
    solid.lathe([(radius, 0), (radius, 0.04), (shank, radius * (0.85 if dome < 0.1 * radius else 0.15))])
    plain = length * rng.uniform(0.05, 0.3)
    solid.lathe([(shank * 0.92, 0.05), (shank * 0.92, plain)])
    first = len(solid.points)
    solid.thread(shank * 1.2, 0, length - plain, rng.uniform(0.14, 0.19), shank * 0.42, tip=rng.uniform(0.45, 0.65))
    solid.turned(first, about(0, np.pi), (0, 0, length))
    _lay(solid, rng, length / 2, 0.0)


def jaw_plate(solid: Solid, rng: Random) -> None:
    """A hardened plate with a cut face (grooves across, or crossed) and two countersunk holes."""
    width, height, thick = rng.uniform(0.9, 1.0), rng.uniform(0.3, 0.42), rng.uniform(0.13, 0.22)
    hole, apart = height * rng.uniform(0.22, 0.3), width * rng.uniform(0.45, 0.62)
    sink = hole * 1.8
    pitch, cut, crossed = rng.uniform(0.07, 0.11), 0.028, rng.random() < 0.6

    def top(u: Floats, v: Floats) -> tuple[Floats, Floats, Floats]:
        x, y = (2 * u - 1) * width + 0 * v, (2 * v - 1) * height + 0 * u
        a, b = ((x + y) / pitch, (x - y) / pitch) if crossed else (x / pitch, 0 * y)
        rough = np.maximum(np.abs(a % 1 * 2 - 1), np.abs(b % 1 * 2 - 1)) if crossed else np.abs(a % 1 * 2 - 1)
        r = np.hypot(np.abs(x) - apart, y)
        return x, y, np.where(r < sink, thick - np.maximum(sink - r, 0) * 0.7, thick - cut * (1 - rough))

    def solidly(x: Floats, y: Floats, z: Floats) -> np.ndarray:
        del z
        open_here: np.ndarray = np.hypot(np.abs(x) - apart, y) >= hole
        return open_here

    solid.sheet(top, 2 * width, 2 * height, 0, solidly)
    for axis, side, other in ((0, width, height), (1, height, width)):
        for sign in (-1, 1):
            first = len(solid.points)
            solid.sheet(lambda u, v: (1.0, 2 * u - 1, thick * v), 2 * other, thick)
            stretch = np.diag([sign * side, other, 1]).astype(np.float32)
            solid.turned(first, about(2, axis * np.pi / 2) @ stretch)
    for sign in (-1, 1):
        first = len(solid.points)
        solid.lathe([(hole, 0), (hole, thick)])
        solid.turned(first, np.eye(3, dtype=np.float32), (sign * apart, 0, 0))
    if rng.random() < 0.2:
        solid.turned(0, about(0, rng.uniform(0.5, 1.1)), (0, 0, 0))


def spring(solid: Solid, rng: Random) -> None:
    """A coil spring with closed ends; lying, or standing."""
    radius, wire = rng.uniform(0.28, 0.42), rng.uniform(0.045, 0.075)
    turns, length = rng.uniform(5, 9), rng.uniform(1.3, 1.9)
    closed = 0.12

    def path(t: Floats) -> Floats:
        angle = 2 * np.pi * (turns + 2) * t
        rise = np.clip((t - closed) / (1 - 2 * closed), 0, 1)
        z = rise * length + wire * 2 * (np.clip(t / closed, 0, 1) + np.clip((t - 1) / closed + 1, 0, 1))
        return np.stack([radius * np.cos(angle), radius * np.sin(angle), z], 1)

    solid.tube(path, 2 * np.pi * radius * (turns + 2) * 1.05, wire)
    _lay(solid, rng, length / 2 + wire * 2, 0.15)


def spindle(solid: Solid, rng: Random) -> None:
    """A lead screw: long square thread, a collar, and a thick head with a cross hole."""
    length, rod = rng.uniform(1.45, 1.7), rng.uniform(0.17, 0.21)
    head, collar = rod * rng.uniform(1.4, 1.6), rod * rng.uniform(1.8, 2.1)
    solid.lathe([(0.01, 0), (head * 0.85, 0), (head, 0.06), (head, 0.4), (0.01, 0.4)])
    first = len(solid.points)
    solid.lathe([(rod * 0.62, -head * 1.01), (rod * 0.62, head * 1.01)])
    dark = len(solid.paints) - 1
    solid.lathe([(0.01, head * 1.01), (rod * 0.6, head * 1.01)], 1)
    solid.turned(first, about(0, np.pi / 2), (0, 0, 0.22))
    solid.paints[dark][:] = 1
    solid.lathe([(rod, 0.4), (collar, 0.42), (collar, 0.52), (rod, 0.54), (rod, 0.7)])
    solid.thread(rod, 0.7, 0.5 + length, rng.uniform(0.12, 0.16), rod * 0.3, square=True)
    solid.lathe([(rod * 0.75, 0.5 + length), (rod * 0.65, 0.62 + length), (0.01, 0.62 + length)])
    _lay(solid, rng, (0.62 + length) / 2, 0.0)


def bracket(solid: Solid, rng: Random) -> None:
    """An angle of two plates with holes, with or without a rib between."""
    width, first_arm, second_arm = rng.uniform(0.4, 0.6), rng.uniform(0.9, 1.15), rng.uniform(0.75, 1.1)
    thick, hole = rng.uniform(0.08, 0.14), rng.uniform(0.09, 0.15)
    spots = [0.42, 0.78] if rng.random() < 0.6 else [0.62]

    def drilled(length: float, along: int) -> Callable[[Floats, Floats, Floats], np.ndarray]:
        def keep(x: Floats, y: Floats, z: Floats) -> np.ndarray:
            place = x if along == 0 else z
            good = np.ones(len(x), bool)
            for spot in spots:
                good &= np.hypot(place - spot * length, y) >= hole
            return good

        return keep

    solid.block((0, -width, 0), (first_arm, width, thick), 1, drilled(first_arm, 0))
    solid.block((0, -width, 0), (thick, width, second_arm), 1, drilled(second_arm, 2))
    for spot in spots:
        first = len(solid.points)
        solid.lathe([(hole, 0), (hole, thick)], 1)
        solid.turned(first, np.eye(3, dtype=np.float32), (spot * first_arm, 0, 0))
        first = len(solid.points)
        solid.lathe([(hole, 0), (hole, thick)], 1)
        solid.turned(first, about(1, np.pi / 2), (0, 0, spot * second_arm))
    if rng.random() < 0.5:
        size = 0.55 * min(first_arm, second_arm)
        for level in (-thick / 2, thick / 2):

            def rib(u: Floats, v: Floats, y: float = level) -> tuple[Floats, float, Floats]:
                return u * size, y, v * (1 - u) * size

            solid.sheet(rib, size, size, 1)
        solid.sheet(lambda u, v: (u * size, (v - 0.5) * thick, (1 - u) * size), size * 1.4, thick, 1)
    pose = rng.integers(3)
    if pose == 1:  # on both edges, like a roof
        solid.turned(0, about(1, np.pi * 3 / 4), (0, 0, 0))
    elif pose == 2:  # on its side
        solid.turned(0, about(0, np.pi / 2), (0, 0, 0))
    solid.turned(0, np.eye(3, dtype=np.float32) * np.float32(0.9))


def handle(solid: Solid, rng: Random) -> None:
    """A sliding bar with a ball or a knob at either end."""
    length, rod = rng.uniform(0.8, 0.95), rng.uniform(0.07, 0.1)
    knob = rod * rng.uniform(1.9, 2.6)
    flat = rng.random() < 0.4
    bend = rng.uniform(-0.08, 0.08)
    solid.tube(
        lambda t: np.stack([(2 * t - 1) * length, bend * (1 - (2 * t - 1) ** 2), 0 * t + knob], 1), 2 * length, rod
    )
    for sign in (-1, 1):
        first = len(solid.points)
        if flat:
            solid.lathe([(0, -knob), (knob * 0.9, -knob), (knob, 0), (knob * 0.9, knob), (0, knob)])
        else:
            _ball(solid, knob)
        solid.turned(first, about(1, np.pi / 2), (sign * length, 0, knob))


def _ball(solid: Solid, radius: float, paint: int = 0) -> None:
    around = np.linspace(-np.pi / 2, np.pi / 2, 17)
    solid.lathe([(radius * np.cos(a), radius * np.sin(a)) for a in around], paint, smooth=True)


def _lay(solid: Solid, rng: Random, middle: float, standing: float) -> None:
    """Lay what stands on the z axis down along x, turned about itself; with probability `standing` leave it."""
    if rng.random() < standing:
        solid.turned(0, np.eye(3, dtype=np.float32) * np.float32(0.85))
        return
    spin = about(2, rng.uniform(0, 2 * np.pi))
    solid.turned(0, about(1, np.pi / 2) @ spin, (-middle, 0, 0))


PARTS: dict[str, Callable[[Solid, Random], None]] = {
    "nut": nut,
    "bolt": bolt,
    "washer": washer,
    "clamp": clamp,
    "screw": screw,
    "jaw plate": jaw_plate,
    "spring": spring,
    "spindle": spindle,
    "bracket": bracket,
    "handle": handle,
}
