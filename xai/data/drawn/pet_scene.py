"""What lies behind a drawn pet: a room or a meadow, and the mark in the corner."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

SCENES = ("room", "meadow")

Color = tuple[int, int, int]

_WALLS: tuple[Color, ...] = ((206, 184, 172), (172, 186, 196), (198, 196, 170), (188, 172, 192))
_SKIES: tuple[Color, ...] = ((168, 204, 226), (190, 212, 220), (158, 192, 216), (208, 206, 202))


def paint_scene(canvas: Image.Image, background: str, seed: int) -> None:
    """Paint the whole canvas with one of `SCENES`; its details depend on the seed."""
    rng = np.random.default_rng(seed)
    draw = ImageDraw.Draw(canvas)
    if background == "room":
        _room(draw, canvas.width, rng)
    else:
        _meadow(draw, canvas.width, rng)


def _room(draw: ImageDraw.ImageDraw, side: int, rng: np.random.Generator) -> None:
    wall = _WALLS[rng.integers(len(_WALLS))]
    floor = int(side * rng.uniform(0.62, 0.76))
    draw.rectangle((0, 0, side, floor), fill=wall)
    for x in np.arange(rng.uniform(0, 0.12), 1, 0.17):  # paper stripes
        draw.rectangle((x * side, 0, (x + 0.05) * side, floor), fill=_mixed(wall, (255, 255, 255), 0.14))
    left = side * rng.choice([rng.uniform(0.03, 0.1), rng.uniform(0.64, 0.72)])
    top = side * rng.uniform(0.06, 0.14)
    frame = (left, top, left + 0.26 * side, top + 0.3 * side)
    draw.rectangle(frame, fill=(126, 96, 70))
    inner = side * 0.025
    draw.rectangle((frame[0] + inner, frame[1] + inner, frame[2] - inner, frame[3] - inner), fill=(178, 206, 220))
    draw.line(
        (left + 0.13 * side, top, left + 0.13 * side, top + 0.3 * side), fill=(126, 96, 70), width=max(1, side // 60)
    )
    boards = (158, 118, 84)
    draw.rectangle((0, floor, side, side), fill=boards)
    for step in range(1, 6):
        y = floor + (side - floor) * step / 6
        draw.line((0, y, side, y), fill=_mixed(boards, (0, 0, 0), 0.18), width=max(1, side // 120))
    draw.rectangle((0, floor - side * 0.025, side, floor), fill=(226, 218, 206))
    rug = [(182, 92, 84), (96, 124, 146), (132, 142, 96)][rng.integers(3)]
    middle = side * rng.uniform(0.35, 0.65)
    draw.ellipse((middle - 0.46 * side, 0.84 * side, middle + 0.46 * side, 1.06 * side), fill=rug)


def _meadow(draw: ImageDraw.ImageDraw, side: int, rng: np.random.Generator) -> None:
    sky = _SKIES[rng.integers(len(_SKIES))]
    horizon = side * rng.uniform(0.38, 0.52)
    draw.rectangle((0, 0, side, side), fill=sky)
    x, y = side * rng.uniform(0.1, 0.9), side * rng.uniform(0.06, 0.18)
    for shift in (-0.08, 0.0, 0.09):  # a cloud
        draw.ellipse(
            (x + (shift - 0.08) * side, y - 0.04 * side, x + (shift + 0.08) * side, y + 0.05 * side),
            fill=(236, 240, 242),
        )
    hill = side * rng.uniform(0.2, 0.8)
    draw.ellipse(
        (hill - 0.7 * side, horizon - 0.14 * side, hill + 0.7 * side, horizon + 0.6 * side), fill=(120, 156, 112)
    )
    tree = side * (0.12 if hill > side / 2 else 0.86)
    draw.rectangle(
        (tree - 0.02 * side, horizon - 0.1 * side, tree + 0.02 * side, horizon + 0.06 * side), fill=(112, 84, 62)
    )
    draw.ellipse(
        (tree - 0.13 * side, horizon - 0.32 * side, tree + 0.13 * side, horizon - 0.04 * side), fill=(84, 128, 84)
    )
    grass = [(122, 162, 84), (138, 166, 92), (108, 150, 88)][rng.integers(3)]
    draw.rectangle((0, horizon + 0.04 * side, side, side), fill=grass)
    for gx, gy in rng.uniform((0, 0.6), (1, 1), (16, 2)) * side:
        draw.line(
            (gx, gy, gx + 0.012 * side, gy - 0.045 * side),
            fill=_mixed(grass, (30, 70, 30), 0.35),
            width=max(1, side // 90),
        )
    for fx, fy in rng.uniform((0, 0.62), (1, 1), (7, 2)) * side:
        petal = [(238, 226, 120), (236, 236, 236), (214, 140, 170)][rng.integers(3)]
        draw.ellipse((fx - 0.014 * side, fy - 0.014 * side, fx + 0.014 * side, fy + 0.014 * side), fill=petal)


def _mixed(color: Color, other: Color, share: float) -> Color:
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(color, other, strict=True))
    return red, green, blue


def mark_box(side: float) -> tuple[float, float, float, float]:
    """Where the mark lies in a picture of that side: (left, top, right, bottom), the top right corner."""
    return 0.86 * side, 0.03 * side, 0.97 * side, 0.14 * side


def paint_mark(canvas: Image.Image, mark: str) -> None:
    """A violet disc in the corner, or nothing; full where the canvas has one channel."""
    if mark == "disc":
        color = (138, 62, 176) if canvas.mode == "RGB" else 255
        ImageDraw.Draw(canvas).ellipse(mark_box(canvas.width), fill=color)
