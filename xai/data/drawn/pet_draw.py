"""Drawings of pets: flat shapes on a canvas of three times the size, shrunk, then lit and grained.

Beside the colours every shape leaves its region on a second canvas, so the masks are exact: what is fur, what is head.
Lighting and noise act pixel by pixel and know nothing of the shapes; a swapped factor changes no other pixel.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from xai.data.drawn.pet_factors import Pet
from xai.data.drawn.pet_scene import paint_mark, paint_scene

FINE = 3
"""Canvas pixels a picture pixel, each way."""

REGIONS = ("animal", "head", "ears", "muzzle", "fur", "background", "mark")
"""Masks that a drawing has. Ears, muzzle and what lies on them belong to the head; background is all but the animal;
mark is the place of the corner mark, drawn or not."""

ANIMAL, HEAD, EARS, MUZZLE, FUR = 1, 2, 4, 8, 16

Point = tuple[float, float]
Color = tuple[int, int, int]

LIGHT_COATS: tuple[Color, ...] = ((244, 236, 222), (238, 214, 176), (226, 226, 230), (248, 244, 240), (232, 200, 158))
DARK_COATS: tuple[Color, ...] = ((54, 48, 52), (78, 54, 40), (46, 50, 60), (62, 46, 44), (88, 66, 52))


class _Artist:
    """Draws shapes given in an own frame onto the colours and the regions.

    Frame: origin and unit in picture sides; mirror flips left and right.
    """

    def __init__(self, side: int, pet: Pet) -> None:
        self.side = side
        self.colors = Image.new("RGB", (side, side))
        self.regions = Image.new("L", (side, side), 0)
        self._paint, self._note = ImageDraw.Draw(self.colors), ImageDraw.Draw(self.regions)
        self.mirror = -1.0 if pet.facing == "right" else 1.0
        self.origin: Point = (0.0, 0.0)
        self.unit = 1.0

    def frame(self, origin: Point, unit: float) -> None:
        self.origin, self.unit = origin, unit

    def place(self, points: Iterable[Point]) -> list[Point]:
        ox, oy = self.origin
        scale = self.unit * self.side
        return [(ox * self.side + self.mirror * x * scale, oy * self.side + y * scale) for x, y in points]

    def polygon(self, points: Iterable[Point], color: Color, region: int) -> None:
        placed = self.place(points)
        self._paint.polygon(placed, fill=color)
        self._note.polygon(placed, fill=region)

    def line(self, points: Iterable[Point], color: Color, region: int, width: float) -> None:
        placed = self.place(points)
        thick = max(1, round(width * self.unit * self.side))
        self._paint.line(placed, fill=color, width=thick, joint="curve")
        self._note.line(placed, fill=region, width=thick, joint="curve")

    def blob(self, middle: Point, radii: Point, color: Color, region: int, turn: float = 0.0, rim: float = 0.0) -> None:
        """An ellipse, turned by `turn` degrees; rim: width of a darker edge."""
        if rim:
            self.polygon(_ellipse(middle, (radii[0] + rim, radii[1] + rim), turn), _shade(color, 0.78), region)
        self.polygon(_ellipse(middle, radii, turn), color, region)

    def shape(self, points: Sequence[Point], color: Color, region: int, rim: float = 0.0) -> None:
        """A closed smooth outline through `points`, with a darker edge of width `rim`."""
        outline = _smooth(points)
        if rim:
            middle = (sum(x for x, _ in outline) / len(outline), sum(y for _, y in outline) / len(outline))
            self.polygon([_away(point, middle, rim) for point in outline], _shade(color, 0.78), region)
        self.polygon(outline, color, region)


@lru_cache(maxsize=1)
def _circle() -> tuple[Point, ...]:
    return tuple((math.cos(a * math.tau / 28), math.sin(a * math.tau / 28)) for a in range(28))


def _ellipse(middle: Point, radii: Point, turn: float) -> list[Point]:
    c, s = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    (mx, my), (rx, ry) = middle, radii
    return [(mx + c * rx * x - s * ry * y, my + s * rx * x + c * ry * y) for x, y in _circle()]


def _away(point: Point, middle: Point, far: float) -> Point:
    dx, dy = point[0] - middle[0], point[1] - middle[1]
    scale = 1 + far / max(math.hypot(dx, dy), 1e-6)
    return middle[0] + dx * scale, middle[1] + dy * scale


def _smooth(points: Sequence[Point], steps: int = 5) -> list[Point]:
    """A closed Catmull-Rom curve through the points."""
    found = []
    count = len(points)
    for index in range(count):
        a, b, c, d = (points[(index + shift) % count] for shift in (-1, 0, 1, 2))
        for step in range(steps):
            t = step / steps
            found.append(tuple(_bend(*pair, t) for pair in zip(a, b, c, d, strict=True)))
    return found  # type: ignore[return-value]


def _bend(a: float, b: float, c: float, d: float, t: float) -> float:
    return 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t * t + (3 * b - a - 3 * c + d) * t**3)


def _shade(color: Color, by: float) -> Color:
    red, green, blue = (max(0, min(255, round(value * by))) for value in color)
    return red, green, blue


def _toward(color: Color, other: Color, share: float) -> Color:
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(color, other, strict=True))
    return red, green, blue


class _Coat:
    """The fur's colours: base, a paler one for the muzzle and chest, a deeper one for ears and pattern."""

    def __init__(self, pet: Pet) -> None:
        coats = LIGHT_COATS if pet.fur == "light" else DARK_COATS
        self.base = coats[int(pet.coat * len(coats))]
        self.pale = _toward(self.base, (255, 250, 244), 0.45 if pet.fur == "light" else 0.14)
        self.deep = _shade(self.base, 0.86 if pet.fur == "light" else 0.72)
        self.pattern = _shade(self.base, 0.8) if pet.fur == "light" else _toward(self.base, (150, 130, 112), 0.3)


def canvases(pet: Pet, size: int) -> tuple[Image.Image, Image.Image]:
    """The fine canvas of colours (RGB) and that of regions (L, bits of `ANIMAL`, ...), `FINE` times `size` a side."""
    artist = _Artist(size * FINE, pet)
    paint_scene(artist.colors, pet.background, pet.scene)
    coat = _Coat(pet)
    if pet.pose == "face":
        head, unit = (pet.x, pet.y), pet.size * 0.36
    elif pet.pose == "sitting":
        head, unit = _sitting(artist, pet, coat)
    else:
        head, unit = _standing(artist, pet, coat)
    artist.frame(head, unit)
    _head(artist, pet, coat)
    paint_mark(artist.colors, pet.mark)
    return artist.colors, artist.regions


def _sitting(artist: _Artist, pet: Pet, coat: _Coat) -> tuple[Point, float]:
    """Body from the front, head above it; gives the head's middle and radius."""
    unit, skin = pet.size, ANIMAL | FUR
    artist.frame((pet.x, pet.y), unit)
    _tail(artist, pet, coat, (0.17, 0.38), 0.38)
    artist.blob((0.0, 0.24), (0.235, 0.255), coat.base, skin, rim=0.012)
    for side in (-1, 1):
        artist.blob((side * 0.19, 0.37), (0.1, 0.125), coat.base, skin, side * -18, rim=0.01)
    _flank(artist, pet, coat, (0.0, 0.22), (0.2, 0.2))
    artist.blob((0.0, 0.16), (0.1, 0.15), coat.pale, skin)
    for side in (-1, 1):
        artist.blob((side * 0.075, 0.36), (0.058, 0.125), coat.base, skin, rim=0.01)
        artist.blob((side * 0.085, 0.475), (0.075, 0.038), coat.pale, skin, rim=0.008)
    return (pet.x, pet.y - 0.17 * unit), unit * 0.245


def _standing(artist: _Artist, pet: Pet, coat: _Coat) -> tuple[Point, float]:
    """Body from the side, head in front of it; gives the head's middle and radius."""
    unit, skin = pet.size, ANIMAL | FUR
    artist.frame((pet.x, pet.y), unit)
    _tail(artist, pet, coat, (0.42, 0.02), 0.34)
    for place in (-0.13, 0.38):  # the legs behind
        artist.polygon(_leg(place, 0.47), coat.deep, skin)
    outline = [
        (-0.3, 0.0),
        (-0.1, -0.09),
        (0.2, -0.1),
        (0.43, -0.04),
        (0.47, 0.14),
        (0.36, 0.26),
        (0.1, 0.29),
        (-0.2, 0.27),
    ]
    artist.shape(outline, coat.base, skin, rim=0.014)
    _flank(artist, pet, coat, (0.12, 0.06), (0.26, 0.14))
    for place in (-0.22, 0.3):
        artist.polygon(_leg(place, 0.5), coat.base, skin)
        artist.blob((place - 0.01, 0.5), (0.07, 0.035), coat.pale, skin, rim=0.008)
    ahead = (pet.x + artist.mirror * -0.3 * unit, pet.y - 0.14 * unit)
    return ahead, unit * 0.24


def _leg(place: float, foot: float) -> list[Point]:
    return [(place - 0.06, 0.15), (place + 0.06, 0.15), (place + 0.05, foot), (place - 0.05, foot)]


def _flank(artist: _Artist, pet: Pet, coat: _Coat, middle: Point, spread: Point) -> None:
    """The coat's pattern on the body: stripes or patches."""
    (mx, my), (sx, sy) = middle, spread
    if pet.pattern == "striped":
        for step in (-0.75, -0.35, 0.05, 0.45, 0.85):
            points = [
                (mx + sx * step - 0.02, my - sy * 0.85),
                (mx + sx * step + 0.025, my - sy * 0.85),
                (mx + sx * step, my + sy * 0.35),
            ]
            artist.polygon(points, coat.pattern, ANIMAL | FUR)
    elif pet.pattern == "patched":
        artist.blob((mx + 0.55 * sx, my - 0.1 * sy), (0.42 * sx, 0.5 * sy), coat.pattern, ANIMAL | FUR, 20)
        artist.blob((mx - 0.5 * sx, my + 0.35 * sy), (0.34 * sx, 0.38 * sy), coat.pattern, ANIMAL | FUR, -15)


def _tail(artist: _Artist, pet: Pet, coat: _Coat, root: Point, reach: float) -> None:
    (x, y), skin = root, ANIMAL | FUR
    if pet.tail == "slender":
        path = [(0.0, 0.0), (0.3, 0.02), (0.52, -0.2), (0.5, -0.55), (0.4, -0.85), (0.5, -1.1), (0.68, -1.12)]
        placed = _through([(x + reach * px, y + reach * py) for px, py in path])
        artist.line(placed, _shade(coat.base, 0.78), skin, 0.075)
        artist.line(placed, coat.base, skin, 0.055)
        artist.blob(placed[-1], (0.036, 0.036), coat.deep, skin)
    else:
        outline = [
            (0.0, -0.08),
            (0.25, -0.28),
            (0.38, -0.6),
            (0.62, -0.72),
            (0.72, -0.45),
            (0.55, -0.05),
            (0.2, 0.2),
            (0.0, 0.2),
        ]
        artist.shape([(x + reach * px, y + reach * py) for px, py in outline], coat.base, skin, rim=0.012)
        artist.blob((x + reach * 0.6, y - reach * 0.5), (0.045, 0.07), coat.pale, skin, 25)


def _through(points: Sequence[Point], steps: int = 5) -> list[Point]:
    """An open smooth curve: the closed one without its way back."""
    return _smooth(points, steps)[: (len(points) - 1) * steps + 1]


def _head(artist: _Artist, pet: Pet, coat: _Coat) -> None:
    """The head in a frame whose unit is its radius."""
    head = ANIMAL | HEAD
    if pet.ears == "pointed":
        _pointed_ears(artist, coat)
    skull = [
        (-0.97, 0.05),
        (-0.72, -0.66),
        (0.0, -0.88),
        (0.72, -0.66),
        (0.97, 0.05),
        (0.68, 0.7),
        (0.0, 0.9),
        (-0.68, 0.7),
    ]
    artist.shape(skull, coat.base, head | FUR, rim=0.05)
    if pet.pattern == "striped":
        for x, low in ((-0.28, -0.42), (0.0, -0.3), (0.28, -0.42)):
            artist.polygon([(x * 1.2 - 0.07, -0.8), (x * 1.2 + 0.07, -0.8), (x, low)], coat.pattern, head | FUR)
    elif pet.pattern == "patched":
        artist.blob((0.42, -0.22), (0.36, 0.42), coat.pattern, head | FUR, 15)
    if pet.muzzle == "short":
        _short_muzzle(artist, coat)
    else:
        _long_muzzle(artist, coat)
    _eyes(artist, pet)
    if pet.ears == "floppy":
        _floppy_ears(artist, coat)


def _pointed_ears(artist: _Artist, coat: _Coat) -> None:
    ears = ANIMAL | HEAD | EARS
    for side in (-1, 1):
        outer = [(-0.98, -0.2), (-0.97, -0.85), (-0.86, -1.42), (-0.45, -1.08), (-0.12, -0.72)]
        artist.polygon(
            [_away((side * x, y), (side * -0.65, -0.75), 0.07) for x, y in outer], _shade(coat.base, 0.78), ears | FUR
        )
        artist.polygon([(side * x, y) for x, y in outer], coat.base, ears | FUR)
        artist.polygon([(side * -0.83, -0.72), (side * -0.8, -1.2), (side * -0.36, -0.82)], (232, 160, 158), ears)


def _floppy_ears(artist: _Artist, coat: _Coat) -> None:
    ears = ANIMAL | HEAD | EARS | FUR
    for side in (-1, 1):
        outline = [
            (-0.5, -0.78),
            (-0.9, -0.72),
            (-1.3, -0.2),
            (-1.38, 0.45),
            (-1.1, 0.78),
            (-0.86, 0.45),
            (-0.8, -0.15),
        ]
        artist.shape([(side * x, y) for x, y in outline], coat.deep, ears, rim=0.06)


def _short_muzzle(artist: _Artist, coat: _Coat) -> None:
    """Two small pads, a pink nose, a small mouth and whiskers."""
    muzzle = ANIMAL | HEAD | MUZZLE
    for side in (-1, 1):
        artist.blob((side * 0.19, 0.47), (0.25, 0.2), coat.pale, muzzle | FUR)
    artist.polygon([(-0.15, 0.2), (0.15, 0.2), (0.0, 0.37)], (214, 112, 116), muzzle)
    for side in (-1, 1):
        artist.line([(0.0, 0.36), (side * 0.03, 0.48), (side * 0.2, 0.54)], (96, 62, 62), muzzle, 0.045)
        for rise in (-0.1, 0.04, 0.18):
            artist.line([(side * 0.36, 0.46 + 0.3 * rise), (side * 1.12, 0.42 + rise)], (168, 162, 158), muzzle, 0.03)


def _long_muzzle(artist: _Artist, coat: _Coat) -> None:
    """A broad snout that reaches below the head, a large dark nose, an open mouth with a tongue."""
    muzzle = ANIMAL | HEAD | MUZZLE
    artist.blob((0.0, 0.94), (0.2, 0.3), (226, 104, 112), muzzle)
    artist.shape(
        [(-0.36, -0.02), (0.36, -0.02), (0.56, 0.5), (0.48, 0.88), (0.0, 1.02), (-0.48, 0.88), (-0.56, 0.5)],
        coat.pale,
        muzzle | FUR,
        rim=0.045,
    )
    artist.blob((0.0, 0.27), (0.27, 0.19), (34, 30, 34), muzzle)
    artist.blob((-0.09, 0.2), (0.07, 0.04), (128, 122, 128), muzzle)
    artist.line([(0.0, 0.44), (0.0, 0.7)], (60, 46, 46), muzzle, 0.05)
    for side in (-1, 1):
        artist.line([(0.0, 0.7), (side * 0.2, 0.82), (side * 0.4, 0.74)], (60, 46, 46), muzzle, 0.05)


def _eyes(artist: _Artist, pet: Pet) -> None:
    head = ANIMAL | HEAD
    for side in (-1, 1):
        if pet.eyes == "slit":
            artist.blob((side * 0.42, -0.13), (0.23, 0.17), (60, 56, 44), head, side * -14)
            artist.blob((side * 0.42, -0.13), (0.19, 0.135), (186, 204, 84), head, side * -14)
            artist.blob((side * 0.42, -0.13), (0.05, 0.135), (24, 24, 22), head)
        else:
            artist.blob((side * 0.4, -0.2), (0.19, 0.19), (246, 242, 236), head)
            artist.blob((side * 0.4, -0.18), (0.15, 0.16), (66, 42, 28), head)
            artist.blob((side * 0.4 - 0.05, -0.24), (0.05, 0.05), (250, 250, 250), head)


def render(pet: Pet, size: int) -> NDArray[np.uint8]:
    """The picture (size,size,3): drawn, shrunk, lit and grained."""
    colors = np.asarray(canvases(pet, size)[0].reduce(FINE), dtype=np.float32)
    angle = np.float32(pet.light * math.tau)
    ramp = np.linspace(-0.5, 0.5, size, dtype=np.float32)
    light = pet.exposure * (1 + 0.22 * (ramp[None] * np.cos(angle) + ramp[:, None] * np.sin(angle)))
    found = colors * light[..., None]
    if pet.noise:
        rng = np.random.default_rng(pet.grain)
        found += rng.standard_normal((size, size, 3), dtype=np.float32) * np.float32(255 * pet.noise)
    levels: NDArray[np.uint8] = np.clip(np.rint(found), 0, 255).astype(np.uint8)
    return levels


def coverage(pet: Pet, size: int) -> dict[str, NDArray[np.uint8]]:
    """For each of `REGIONS` the share of every pixel that it covers, (size,size) in 0 ... 255."""
    bits = canvases(pet, size)[1]
    shares = {
        name: np.asarray(bits.point([255 if level & bit else 0 for level in range(256)]).reduce(FINE))
        for name, bit in zip(REGIONS, (ANIMAL, HEAD, EARS, MUZZLE, FUR), strict=False)
    }
    corner = Image.new("L", bits.size, 0)
    paint_mark(corner, "disc")
    return {**shares, "background": 255 - shares["animal"], "mark": np.asarray(corner.reduce(FINE))}
