"""Ten drawn cartoon characters, folder a class: the shape of study 3's data."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from xai.data._canvas import INK, Canvas, Colour
from xai.data._cartoon import CAST, draw_character, draw_pose
from xai.data._spec import SAMPLES, DataSet, SampleSpec
from xai.data._synthetic import LARGEST, MOST, SMALLEST, Bytes, generated
from xai.registry import Source

VERSION = 1
OVERSAMPLING = 2

SOURCE = Source(
    "Drawn by Olhar, ten characters of its own; used as The Simpsons Characters Dataset (Kaggle) is",
    "https://www.kaggle.com/datasets/alexattia/the-simpsons-characters-dataset",
)


@dataclass(frozen=True)
class CharactersParams:
    """seed: draws everything. count: pictures a character. size: pixels of a side."""

    seed: int = 0
    count: int = field(default=80, metadata={"min": 1, "max": MOST})
    size: int = field(default=160, metadata={"min": SMALLEST, "max": LARGEST})


def draw_picture(rng: np.random.Generator, label: int, size: int) -> tuple[Bytes, Bytes]:
    """One character in a scene: picture (size,size,3), mask (size,size)."""
    side = size * OVERSAMPLING
    picture = draw_scene(rng, side)
    close = rng.uniform() < 0.5
    unit = side * (rng.uniform(0.42, 0.75) if close else rng.uniform(0.26, 0.4))
    x = side * rng.uniform(0.32, 0.68)
    y = side * rng.uniform(0.38, 0.6) if close else side * rng.uniform(0.22, 0.42)
    lean, mirror = float(rng.normal(0, 0.12)), bool(rng.random() < 0.5)
    canvas = Canvas(picture, (float(x), float(y)), float(unit), lean, mirror)
    draw_character(canvas, CAST[label], draw_pose(rng))
    small = cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA).astype(np.float32)
    light = rng.normal(1, 0.06) * rng.normal(1, 0.03, 3)
    small = small * light.astype(np.float32) + rng.uniform(0.5, 5) * rng.standard_normal(small.shape, np.float32)
    mask = cv2.resize(canvas.mask, (size, size), interpolation=cv2.INTER_AREA)
    return np.clip(np.rint(small), 0, 255).astype(np.uint8), np.where(mask > 127, 255, 0).astype(np.uint8)


def draw_scene(rng: np.random.Generator, side: int) -> Bytes:
    """A flat-coloured place: a room, a street, a field or an evening."""
    kind = rng.integers(4)
    skies = ((236, 214, 168), (168, 214, 240), (140, 200, 250), (70, 60, 120))
    floors = ((150, 110, 90), (130, 130, 136), (126, 186, 96), (60, 70, 90))
    tint = rng.integers(-22, 23, 3)

    def near(colour: Colour) -> Colour:
        changed = np.clip(np.array(colour) + tint, 0, 255)
        return int(changed[0]), int(changed[1]), int(changed[2])

    picture = np.full((side, side, 3), near(skies[kind]), np.uint8)
    ground = int(side * rng.uniform(0.55, 0.85))
    picture[ground:] = near(floors[kind])
    for _ in range(int(rng.integers(2, 6))):
        colour = near((int(rng.integers(50, 240)), int(rng.integers(50, 240)), int(rng.integers(50, 240))))
        x, wide, tall = rng.uniform(0, side), rng.uniform(0.08, 0.3) * side, rng.uniform(0.1, 0.5) * side
        if kind in (0, 1, 3):
            corner = (int(x), int(ground - tall)), (int(x + wide), ground if kind else int(ground - tall * 0.3))
            cv2.rectangle(picture, *corner, colour, -1)
            cv2.rectangle(picture, *corner, INK, max(1, side // 110))
        else:
            cv2.circle(
                picture, (int(x), int(ground - tall * 0.3)), int(wide * 0.7), near((70, 140, 70)), -1, cv2.LINE_AA
            )
    return picture


def characters(params: CharactersParams | None = None) -> DataSet:
    """The ten characters, `count` pictures each."""
    chosen = params or CharactersParams()
    names = tuple(each.name for each in CAST)
    return generated("characters", VERSION, chosen, names, (chosen.count,) * len(names), draw_picture, SOURCE)


SAMPLES.add(
    SampleSpec(
        name="characters",
        title="Cartoon characters (synthetic)",
        rank=20,
        source=SOURCE,
        summary="Ten cartoon characters in varied poses and scenes, 80 pictures each, drawn.",
        open=characters,
        synthetic=True,
        facts=(
            "drawn when opened, by seed; masks of the characters are known",
            "pose, expression, scale and scene vary; hair, head and outfit tell who it is",
        ),
        params=CharactersParams,
    )
)
