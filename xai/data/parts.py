"""Pictures like photographs of the ten parts of a bench vise, drawn: the data of the augmentation study."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from xai.data.drawn.bench import OVERSAMPLING, photograph
from xai.data.drawn.part_shapes import PARTS
from xai.data.drawn.solid import SPACING, Solid
from xai.data.drawn.synthetic import LARGEST, MOST, SEED, SMALLEST, Bytes, generated
from xai.data.spec import SAMPLES, DataSet, SampleSpec
from xai.params import Parameters
from xai.registry import Source

VERSION = 1

VISIBLE = 1.1
"""Half the width of the bench in the closest picture: sets how dense a solid's points must lie."""

SOURCE = Source(
    "Drawn by Olhar; ten vise parts, 300 a class, as in the augmentation study; parts as named in Bench vise",
    "https://en.wikipedia.org/wiki/Vise",
)


@dataclass(frozen=True)
class PartsParams(Parameters):
    """seed: draws everything. count: images a class. size: pixels of a side."""

    seed: int = field(default=0, metadata=SEED)
    count: int = field(default=300, metadata={"min": 1, "max": MOST})
    size: int = field(default=128, metadata={"min": SMALLEST, "max": LARGEST})


def draw_part(rng: np.random.Generator, label: int, size: int) -> tuple[Bytes, Bytes]:
    """One part on a bench: picture (size,size,3), mask (size,size)."""
    solid = Solid(size * OVERSAMPLING / (2 * VISIBLE) / SPACING)
    list(PARTS.values())[label](solid, rng)
    return photograph(rng, solid, size)


def parts(params: PartsParams | None = None) -> DataSet:
    """The ten parts, `count` pictures each."""
    chosen = params or PartsParams()
    return generated("parts", VERSION, chosen, tuple(PARTS), (chosen.count,) * len(PARTS), draw_part, SOURCE)


SAMPLES.add(
    SampleSpec(
        name="parts",
        title="Vise parts (synthetic)",
        rank=40,
        source=SOURCE,
        summary="Ten parts of a bench vise on a workbench, 300 pictures a class, drawn in three dimensions.",
        open=parts,
        synthetic=True,
        facts=(
            "drawn when opened, by seed; masks of the part are known",
            "pose, dimensions, metal, light, bench, clutter, lens and noise vary",
        ),
        params=PartsParams,
    )
)
