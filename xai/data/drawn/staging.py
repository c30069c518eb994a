"""What changes from one picture of a character to the next: clothes, place, passers-by, and what stands in front.

The ten stay who they are by head, hair, face and build; colours of clothes and light, which a small network would
otherwise learn instead, are drawn anew for every picture.
"""

from __future__ import annotations

import colorsys
import dataclasses

import cv2
import numpy as np

from xai.data.drawn.canvas import INK, Canvas, Colour
from xai.data.drawn.cartoon import CAST, HEADS, Character, draw_character, draw_pose
from xai.data.drawn.synthetic import Bytes

OUTFITS = ("coat", "stripes", "dress", "hoodie", "tie", "overall", "vest", "apron", "plain")

OWN_OUTFIT = 0.35
"""Share of the pictures in which a character wears the outfit, in its own colours, that it is known by."""

TURN, PALE = 0.09, 0.25
"""Largest turn of a hue (of 1), and of saturation and value, of hair and skin."""

CROWDED, HIDDEN, FILM = 0.4, 0.55, 0.12
"""Shares of the pictures with a passer-by, with something in front, and without colour."""

SKIES = ((236, 214, 168), (168, 214, 240), (140, 200, 250), (70, 60, 120))
FLOORS = ((150, 110, 90), (130, 130, 136), (126, 186, 96), (60, 70, 90))
ROOM, STREET, FIELD, EVENING = range(4)


def dressed(rng: np.random.Generator, who: Character) -> Character:
    """The character as it is today: mostly in other clothes, hair and skin of a slightly other hue."""
    own = rng.random() < OWN_OUTFIT
    outfit, shirt, legs = str(rng.choice(OUTFITS)), draw_colour(rng), draw_colour(rng)
    hair, skin = turned(rng, who.hair_colour), turned(rng, who.skin)
    stout = who.stout * float(rng.uniform(0.88, 1.12))
    today = dataclasses.replace(who, hair_colour=hair, skin=skin, stout=stout)
    return today if own else dataclasses.replace(today, outfit=outfit, shirt=shirt, legs=legs)


def passer_by(rng: np.random.Generator) -> Character:
    """Nobody in particular: bald, which none of the ten is."""
    skin = turned(rng, CAST[int(rng.integers(len(CAST)))].skin)
    return Character(
        "",
        skin,
        str(rng.choice(HEADS)),
        float(rng.uniform(0.33, 0.44)),
        "none",
        skin,
        draw_colour(rng),
        draw_colour(rng),
        str(rng.choice(OUTFITS)),
        stout=float(rng.uniform(0.8, 1.3)),
    )


def draw_colour(rng: np.random.Generator) -> Colour:
    """A colour of cloth: any hue, neither black nor white."""
    return _colour(float(rng.random()), float(rng.uniform(0.15, 0.8)), float(rng.uniform(0.3, 0.95)))


def turned(rng: np.random.Generator, colour: Colour) -> Colour:
    """A colour near another: its hue turned, its saturation and value changed."""
    hue, saturation, value = colorsys.rgb_to_hsv(*(each / 255 for each in colour))
    changed = hue + rng.uniform(-TURN, TURN), saturation * (1 + rng.uniform(-PALE, PALE))
    return _colour(float(changed[0] % 1), float(min(changed[1], 1)), float(min(value * rng.uniform(1 - PALE, 1.15), 1)))


def _colour(hue: float, saturation: float, value: float) -> Colour:
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def draw_scene(rng: np.random.Generator, side: int) -> Bytes:
    """A flat-coloured place: a room, a street, a field or an evening, sometimes with somebody passing."""
    kind = int(rng.integers(4))
    tint = rng.integers(-40, 41, 3)

    def near(colour: Colour) -> Colour:
        changed = np.clip(np.array(colour) + tint, 0, 255)
        return int(changed[0]), int(changed[1]), int(changed[2])

    picture = np.full((side, side, 3), near(SKIES[kind]), np.uint8)
    ground = int(side * rng.uniform(0.55, 0.85))
    picture[ground:] = near(FLOORS[kind])
    for _ in range(int(rng.integers(3, 9))):
        colour = near(draw_colour(rng))
        x, wide, tall = rng.uniform(0, side), rng.uniform(0.08, 0.3) * side, rng.uniform(0.1, 0.5) * side
        if kind != FIELD:
            low = int(ground - tall * 0.3) if kind == ROOM else ground  # pictures hang, houses stand
            _box(picture, (int(x), int(ground - tall)), (int(x + wide), low), colour)
        else:
            leaves = near((70, 140, 70))
            cv2.circle(picture, (int(x), int(ground - tall * 0.3)), int(wide * 0.7), leaves, -1, cv2.LINE_AA)
    if rng.random() < CROWDED:
        place = (float(side * rng.choice([rng.uniform(0.05, 0.25), rng.uniform(0.75, 0.95)])), float(side * 0.42))
        canvas = Canvas(picture, place, float(side * rng.uniform(0.18, 0.26)), float(rng.normal(0, 0.1)), False)
        draw_character(canvas, passer_by(rng), draw_pose(rng))
    return picture


def draw_front(rng: np.random.Generator, canvas: Canvas) -> None:
    """Sometimes something in front of the character, beside or below its face; the mask is then without it."""
    if rng.random() >= HIDDEN:
        return
    picture, side, unit = canvas.picture, len(canvas.picture), canvas.unit
    x, y = canvas.middle
    before, colour, kind = picture.copy(), draw_colour(rng), int(rng.integers(3))
    if kind == 0:  # a post
        left = int(x + unit * rng.uniform(-0.5, 0.4))
        _box(picture, (left, 0), (left + max(2, int(unit * rng.uniform(0.1, 0.22))), side), colour)
    elif kind == 1:  # a counter, from the shoulders or the chin down
        _box(picture, (0, int(y + unit * rng.uniform(0.45, 1.1))), (side, side), colour)
    else:  # balls, leaves or clouds
        for _ in range(int(rng.integers(2, 5))):
            middle = int(x + unit * rng.uniform(-0.8, 0.8)), int(y + unit * rng.uniform(-1.0, 1.4))
            radius = max(2, int(unit * rng.uniform(0.12, 0.3)))
            cv2.circle(picture, middle, radius, colour, -1, cv2.LINE_AA)
            cv2.circle(picture, middle, radius, INK, canvas.line, cv2.LINE_AA)
    canvas.mask[(picture != before).any(2)] = 0


def _box(picture: Bytes, upper: tuple[int, int], lower: tuple[int, int], colour: Colour) -> None:
    cv2.rectangle(picture, upper, lower, colour, -1)
    cv2.rectangle(picture, upper, lower, INK, max(1, len(picture) // 110))
