"""Ten cartoon characters of our own, drawn with flat colours and dark outlines: designs, poses and scenes.

A character is drawn on a canvas in units of the head's height: the head's middle is (0, 0), y goes down.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from xai.data.drawn.canvas import INK, Canvas, Colour, Point


@dataclass(frozen=True)
class Character:
    """head: outline's shape ("egg", "box", "pear", "round", "long"); wide: its half width. hair: a style."""

    name: str
    skin: Colour
    head: str
    wide: float
    hair: str
    hair_colour: Colour
    shirt: Colour
    legs: Colour
    outfit: str
    eyes: str = "round"
    nose: str = "knob"
    extra: str = ""
    stout: float = 1.0


CAST: tuple[Character, ...] = (
    Character("Alba", (246, 208, 180), "egg", 0.40, "tower", (226, 98, 56), (52, 92, 150), (52, 92, 150), "coat"),
    Character(
        "Bruno",
        (236, 164, 140),
        "pear",
        0.44,
        "cap",
        (40, 60, 120),
        (232, 232, 236),
        (44, 60, 110),
        "stripes",
        extra="beard",
        stout=1.4,
    ),
    Character(
        "Clio",
        (156, 190, 226),
        "round",
        0.40,
        "bob",
        (120, 50, 140),
        (240, 120, 150),
        (240, 120, 150),
        "dress",
        stout=0.8,
    ),
    Character(
        "Dario",
        (198, 140, 98),
        "box",
        0.38,
        "mohawk",
        (214, 40, 50),
        (40, 150, 140),
        (90, 70, 50),
        "hoodie",
        stout=0.85,
    ),
    Character(
        "Edda",
        (214, 150, 96),
        "long",
        0.34,
        "bun",
        (150, 150, 158),
        (96, 150, 96),
        (70, 100, 70),
        "coat",
        extra="glasses",
    ),
    Character(
        "Fosco",
        (150, 196, 120),
        "box",
        0.44,
        "flat",
        (96, 30, 40),
        (92, 70, 120),
        (50, 50, 56),
        "tie",
        eyes="sleepy",
        stout=1.15,
    ),
    Character(
        "Gina",
        (240, 176, 130),
        "round",
        0.44,
        "curls",
        (196, 70, 40),
        (250, 205, 60),
        (60, 130, 120),
        "overall",
        eyes="lashes",
    ),
    Character(
        "Hugo",
        (236, 188, 150),
        "long",
        0.33,
        "side",
        (120, 78, 40),
        (72, 150, 70),
        (90, 80, 60),
        "vest",
        nose="beak",
        extra="moustache",
    ),
    Character(
        "Iris",
        (170, 112, 76),
        "egg",
        0.39,
        "tails",
        (40, 30, 60),
        (110, 200, 215),
        (120, 70, 150),
        "hoodie",
        eyes="lashes",
        stout=0.9,
    ),
    Character(
        "Jago",
        (190, 170, 220),
        "pear",
        0.42,
        "spike",
        (30, 150, 140),
        (60, 60, 66),
        (120, 120, 130),
        "apron",
        eyes="one",
        nose="none",
        stout=1.1,
    ),
)

HEADS = ("egg", "box", "pear", "round", "long")


@dataclass(frozen=True)
class Pose:
    """look: where the pupils go; mouth: -1 sad to 1 glad; open_mouth; lids: 0 open to 1 shut; arms: angles."""

    look: Point
    mouth: float
    open_mouth: float
    lids: float
    brow: float
    arms: tuple[float, float]
    stride: float


def draw_pose(rng: np.random.Generator) -> Pose:
    """A pose and an expression, drawn at random."""
    return Pose(
        (float(rng.uniform(-0.6, 0.6)), float(rng.uniform(-0.5, 0.5))),
        float(rng.uniform(-1, 1)),
        float(max(0, rng.uniform(-0.6, 1))),
        float(rng.choice([0, 0, 0.25, 0.6])),
        float(rng.uniform(-1, 1)),
        (float(rng.uniform(-0.3, 2.4)), float(rng.uniform(-0.3, 2.4))),
        float(rng.uniform(0.02, 0.28)),
    )


def draw_character(canvas: Canvas, who: Character, pose: Pose) -> None:
    """The whole figure, from behind to the front."""
    _back_hair(canvas, who)
    _body(canvas, who, pose)
    _head(canvas, who)
    _front_hair(canvas, who)
    _face(canvas, who, pose)


def _darker(colour: Colour, share: float = 0.8) -> Colour:
    return int(colour[0] * share), int(colour[1] * share), int(colour[2] * share)


def _body(canvas: Canvas, who: Character, pose: Pose) -> None:
    wide = 0.3 * who.stout
    skirt = who.outfit in ("dress", "coat", "apron")
    foot = _darker(who.legs, 0.55)
    for side in (-1, 1):
        hip, ankle = (side * wide * 0.45, 1.35), (side * (wide * 0.45 + pose.stride), 1.95)
        bare = who.outfit in ("dress", "shorts")
        canvas.limb([hip, ankle], who.skin if bare else who.legs, 0.17)
        canvas.ring((ankle[0] + side * 0.08, ankle[1] + 0.03), (0.17, 0.075), foot)
    for side, angle in zip((-1, 1), pose.arms, strict=True):
        shoulder = (side * wide * 0.85, 0.68)
        elbow = (shoulder[0] + side * 0.3 * np.sin(angle * 0.6 + 0.3), shoulder[1] + 0.33 * np.cos(angle * 0.6 + 0.3))
        hand = (elbow[0] + side * 0.28 * np.sin(angle), elbow[1] + 0.3 * np.cos(angle))
        canvas.limb([shoulder, elbow], who.shirt, 0.15)
        canvas.limb([elbow, hand], who.skin if who.outfit not in ("coat", "hoodie") else who.shirt, 0.12)
        canvas.ring(hand, (0.09, 0.09), who.skin)
    canvas.limb([(0, 0.4), (0, 0.62)], who.skin, 0.2)
    hem = wide * (1.55 if skirt else 1.05)
    low = 1.55 if skirt else 1.32
    torso = [
        (-wide * 0.75, 0.52),
        (wide * 0.75, 0.52),
        (wide * 1.05, 0.9),
        (hem, low),
        (-hem, low),
        (-wide * 1.05, 0.9),
    ]
    canvas.smooth(torso, who.shirt)
    if not skirt:
        canvas.shape([(-wide, 1.2), (wide, 1.2), (wide * 1.02, 1.45), (0, 1.38), (-wide * 1.02, 1.45)], who.legs)
    _outfit(canvas, who, wide)


def _outfit(canvas: Canvas, who: Character, wide: float) -> None:
    if who.outfit == "tie":
        canvas.shape([(-0.05, 0.6), (0.05, 0.6), (0.09, 1.0), (0, 1.1), (-0.09, 1.0)], (170, 60, 60))
    elif who.outfit == "stripes":
        for level in (0.68, 0.86, 1.04):
            canvas.stroke([(-wide * 0.95, level), (wide * 0.95, level)], who.legs, 0.06)
    elif who.outfit == "overall":
        for side in (-1, 1):
            canvas.stroke([(side * wide * 0.5, 0.58), (side * wide * 0.5, 0.95)], who.legs, 0.08)
        canvas.shape([(-wide * 0.7, 0.9), (wide * 0.7, 0.9), (wide, 1.3), (-wide, 1.3)], who.legs)
    elif who.outfit == "vest":
        for side in (-1, 1):
            canvas.shape(
                [(side * 0.06, 0.56), (side * wide * 0.9, 0.6), (side * wide, 1.25), (side * 0.1, 1.25)], (130, 60, 50)
            )
    elif who.outfit == "hoodie":
        canvas.smooth([(-wide, 0.56), (0, 0.46), (wide, 0.56), (0, 0.78)], _darker(who.shirt))
        canvas.stroke([(-wide * 0.5, 1.08), (wide * 0.5, 1.08), (wide * 0.6, 1.24), (-wide * 0.6, 1.24)])
    elif who.outfit == "apron":
        canvas.shape([(-wide * 0.6, 0.75), (wide * 0.6, 0.75), (wide * 1.1, 1.5), (-wide * 1.1, 1.5)], (240, 236, 220))
    elif who.outfit == "coat":
        canvas.stroke([(0, 0.58), (0, 1.5)])
        for level in (0.75, 0.95, 1.15):
            canvas.ring((0.07, level), (0.025, 0.025), INK, outline=False)


def _head(canvas: Canvas, who: Character) -> None:
    w = who.wide
    outlines: dict[str, list[Point]] = {
        "egg": [
            (-w * 0.8, -0.52),
            (w * 0.8, -0.52),
            (w * 1.15, 0.0),
            (w * 0.75, 0.5),
            (-w * 0.75, 0.5),
            (-w * 1.15, 0.0),
        ],
        "box": [(-w, -0.62), (w, -0.62), (w * 1.02, -0.1), (w * 0.95, 0.55), (-w * 0.95, 0.55), (-w * 1.02, -0.1)],
        "pear": [(-w * 0.6, -0.6), (w * 0.6, -0.6), (w * 0.95, 0.0), (w * 1.2, 0.5), (-w * 1.2, 0.5), (-w * 0.95, 0.0)],
        "round": [(-w, -0.5), (w, -0.5), (w * 1.25, 0.05), (w * 0.85, 0.52), (-w * 0.85, 0.52), (-w * 1.25, 0.05)],
        "long": [(-w, -0.72), (w, -0.72), (w * 1.1, 0.0), (w * 0.8, 0.68), (-w * 0.8, 0.68), (-w * 1.1, 0.0)],
    }
    for side in (-1, 1):
        canvas.ring((side * w * 1.0, 0.06), (0.08, 0.11), who.skin)
    canvas.smooth(outlines[who.head], who.skin)


def _back_hair(canvas: Canvas, who: Character) -> None:
    w = who.wide
    if who.hair == "tower":
        canvas.smooth(
            [(-w * 0.9, 0.1), (-w * 1.0, -0.7), (-w * 0.3, -1.45), (w * 0.3, -1.45), (w * 1.0, -0.7), (w * 0.9, 0.1)],
            who.hair_colour,
        )
    elif who.hair == "curls":
        for angle in np.linspace(-0.4, np.pi + 0.4, 9):
            canvas.ring(
                (float(1.12 * w * np.cos(angle)), float(-0.12 - 0.5 * np.sin(angle))), (0.2, 0.2), who.hair_colour
            )
    elif who.hair == "tails":
        for side in (-1, 1):
            canvas.smooth(
                [(side * w * 0.8, -0.35), (side * (w + 0.45), -0.5), (side * (w + 0.5), 0.35), (side * w * 1.0, 0.1)],
                who.hair_colour,
            )
    elif who.hair == "bob":
        canvas.smooth(
            [(-w * 1.2, 0.62), (-w * 1.7, 0.3), (-w * 1.35, -0.75), (w * 1.35, -0.75), (w * 1.7, 0.3), (w * 1.2, 0.62)],
            who.hair_colour,
        )
    elif who.hair == "bun":
        canvas.ring((0, -0.82), (0.2, 0.18), who.hair_colour)


def _front_hair(canvas: Canvas, who: Character) -> None:
    w, colour = who.wide, who.hair_colour
    if who.hair == "mohawk":
        canvas.smooth([(-0.1, -0.3), (-0.16, -0.75), (0.0, -1.05), (0.16, -0.75), (0.1, -0.3)], colour)
    elif who.hair == "cap":
        canvas.smooth([(-w * 1.1, -0.36), (-w * 0.95, -0.86), (w * 0.95, -0.86), (w * 1.1, -0.36)], colour)
        canvas.shape([(-w * 1.1, -0.4), (w * 1.1, -0.4), (w * 1.45, -0.3), (-w * 1.05, -0.3)], _darker(colour, 0.6))
    elif who.hair == "bob":
        canvas.smooth(
            [(-w * 1.25, 0.0), (-w, -0.66), (w, -0.66), (w * 1.25, 0.0), (w * 0.9, -0.3), (-w * 0.9, -0.3)], colour
        )
    elif who.hair == "flat":
        canvas.shape(
            [
                (-w * 1.04, -0.25),
                (-w * 1.1, -0.74),
                (w * 1.1, -0.74),
                (w * 1.04, -0.25),
                (w * 0.8, -0.42),
                (-w * 0.8, -0.42),
            ],
            colour,
        )
    elif who.hair == "side":
        canvas.smooth([(-w * 1.1, -0.3), (-w * 1.1, -0.8), (w * 0.6, -0.9), (w * 1.25, -0.62), (w * 0.4, -0.5)], colour)
    elif who.hair == "spike":
        canvas.shape([(-w * 0.5, -0.48), (-w * 0.2, -0.8), (0.02, -1.25), (w * 0.25, -0.8), (w * 0.5, -0.48)], colour)
    elif who.hair in ("tails", "bun", "tower"):
        canvas.smooth([(-w * 1.02, -0.1), (-w * 0.95, -0.62), (w * 0.95, -0.62), (w * 1.02, -0.1), (0, -0.42)], colour)
    elif who.hair == "curls":
        for place in (-0.3, 0.0, 0.3):
            canvas.ring((place, -0.5), (0.18, 0.14), colour)


def _face(canvas: Canvas, who: Character, pose: Pose) -> None:
    if who.extra == "beard":
        beard = [(-0.46, 0.1), (-0.2, 0.22), (0.2, 0.22), (0.46, 0.1), (0.42, 0.6), (0.0, 0.82), (-0.42, 0.6)]
        canvas.smooth(beard, (150, 74, 44))
    spots = [(0.0, -0.08)] if who.eyes == "one" else [(-0.17, -0.06), (0.17, -0.06)]
    size = 0.24 if who.eyes == "one" else 0.155
    for x, y in spots:
        canvas.ring((x, y), (size, size), (252, 252, 250))
        pupil = (x + pose.look[0] * size * 0.6, y + pose.look[1] * size * 0.6)
        canvas.ring(pupil, (size * 0.24, size * 0.24), INK, outline=False)
        shut = max(pose.lids, 0.5 if who.eyes == "sleepy" else 0)
        if shut:
            around = np.linspace(np.pi, 2 * np.pi, 14)
            lid = np.stack([x + size * np.cos(around), y + size * np.sin(around)], 1)
            level = y - size + 2 * size * shut
            canvas.shape(np.minimum(lid, [9, level]), _darker(who.skin, 0.88))
        if who.eyes == "lashes":
            for k in (-0.5, 0.0, 0.5):
                canvas.stroke([(x + k * size, y - size), (x + k * size * 1.7, y - size * 1.45)])
        canvas.stroke(
            [(x - size, y - size * 1.6 - 0.03 * pose.brow), (x + size, y - size * 1.6 + 0.03 * pose.brow)], INK, 0.03
        )
    if who.extra == "glasses":
        for x, y in spots:
            around = np.linspace(0, 2 * np.pi, 30)
            canvas.stroke(
                [(float(x + 0.19 * np.cos(a)), float(y + 0.17 * np.sin(a))) for a in around], (150, 40, 60), 0.045
            )
        canvas.stroke([(-0.02, -0.06), (0.02, -0.06)], (150, 40, 60), 0.04)
    if who.nose == "knob":
        canvas.ring((0.02, 0.13), (0.09, 0.075), _darker(who.skin, 0.93))
    elif who.nose == "beak":
        canvas.shape([(-0.04, 0.0), (0.24, 0.2), (-0.04, 0.22)], _darker(who.skin, 0.92))
    if who.extra == "moustache":
        canvas.smooth([(-0.26, 0.34), (0, 0.22), (0.26, 0.34), (0.12, 0.36), (0, 0.31), (-0.12, 0.36)], who.hair_colour)
    level, bend = 0.37, 0.08 * pose.mouth
    if pose.open_mouth > 0.25:
        deep = 0.05 + 0.1 * pose.open_mouth
        canvas.smooth(
            [(-0.17, level - bend), (0.17, level - bend), (0.12, level + deep), (-0.12, level + deep)], (120, 30, 40)
        )
    else:
        canvas.stroke(
            [(-0.17, level - bend), (-0.06, level + bend * 0.6), (0.06, level + bend * 0.6), (0.17, level - bend)],
            INK,
            0.03,
        )
