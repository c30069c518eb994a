"""Ten drawn cartoon characters, folder a class: the shape of study 3's data."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from xai.data.drawn.canvas import Canvas
from xai.data.drawn.cartoon import CAST, draw_character, draw_pose
from xai.data.drawn.staging import FILM, draw_front, draw_scene, dressed
from xai.data.drawn.synthetic import LARGEST, MOST, SEED, SMALLEST, Bytes, generated
from xai.data.spec import SAMPLES, DataSet, SampleSpec
from xai.params import Parameters
from xai.registry import Source

VERSION = 2
OVERSAMPLING = 2

SOURCE = Source(
    "Drawn by Olhar, ten characters of its own; used as The Simpsons Characters Dataset (Kaggle) is",
    "https://www.kaggle.com/datasets/alexattia/the-simpsons-characters-dataset",
)


@dataclass(frozen=True)
class CharactersParams(Parameters):
    """seed: draws everything. count: pictures a character. size: pixels of a side."""

    seed: int = field(default=0, metadata=SEED)
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
    lean, mirror = float(rng.normal(0, 0.2)), bool(rng.random() < 0.5)
    canvas = Canvas(picture, (float(x), float(y)), float(unit), lean, mirror)
    draw_character(canvas, dressed(rng, CAST[label]), draw_pose(rng))
    draw_front(rng, canvas)
    if rng.random() < FILM:
        picture[:] = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., None]
    small = cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA).astype(np.float32)
    light = rng.normal(1, 0.1) * rng.normal(1, 0.08, 3)
    small = small * light.astype(np.float32) + rng.uniform(0.5, 5) * rng.standard_normal(small.shape, np.float32)
    mask = cv2.resize(canvas.mask, (size, size), interpolation=cv2.INTER_AREA)
    return np.clip(np.rint(small), 0, 255).astype(np.uint8), np.where(mask > 127, 255, 0).astype(np.uint8)


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
            "clothes, pose, light, scale and place vary; passers-by, things in front, frames without colour",
            "head, hair, face and build tell who it is",
        ),
        params=CharactersParams,
    )
)
