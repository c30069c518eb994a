"""Brain-slice phantoms with and without a tumour: the shape of study 4's data, drawn."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from xai.data.drawn.slice import scan
from xai.data.drawn.synthetic import LARGEST, MOST, SEED, SMALLEST, Bytes, generated
from xai.data.spec import SAMPLES, DataSet, SampleSpec
from xai.params import Parameters
from xai.registry import Source

VERSION = 1

CLASSES = ("no", "yes")

SOURCE = Source(
    "Drawn by Olhar; classes, number and look after Brain MRI Images for Brain Tumor Detection (Kaggle)",
    "https://www.kaggle.com/datasets/navoneel/brain-mri-images-for-brain-tumor-detection",
)


@dataclass(frozen=True)
class BrainParams(Parameters):
    """seed: draws everything. yes, no: slices with and without a tumour. size: pixels of a middling shorter side."""

    seed: int = field(default=0, metadata=SEED)
    yes: int = field(default=155, metadata={"min": 1, "max": MOST})
    no: int = field(default=98, metadata={"min": 1, "max": MOST})
    size: int = field(default=224, metadata={"min": SMALLEST, "max": LARGEST})


def draw_slice(rng: np.random.Generator, label: int, size: int) -> tuple[Bytes, Bytes]:
    """A slice (H,W,3), grey, and the tumour's mask (H,W); the shorter side is 0.7 to 1.4 of `size`."""
    short = max(SMALLEST, round(size * float(rng.choice([0.7, 0.85, 1, 1, 1.15, 1.4]))))
    long = round(short * float(rng.choice([1, 1.08, 1.18, 1.26])))
    return scan(rng, (long, short), tumour_there=CLASSES[label] == "yes")


def brain(params: BrainParams | None = None) -> DataSet:
    """Slices in two classes, `no` and `yes`."""
    chosen = params or BrainParams()
    return generated("brain", VERSION, chosen, CLASSES, (chosen.no, chosen.yes), draw_slice, SOURCE)


SAMPLES.add(
    SampleSpec(
        name="brain",
        title="Brain slices (synthetic)",
        rank=10,
        source=SOURCE,
        summary="253 axial slices of drawn heads, 155 with a tumour (yes) and 98 without (no). Not for diagnosis.",
        open=brain,
        synthetic=True,
        facts=(
            "drawn when opened, by seed; masks of the tumours are known",
            "contrasts like T1, T1 with contrast medium, T2 and FLAIR; mixed sizes; grey",
            "rings, solid, diffuse and cystic tumours, with and without oedema; one in eight is faint",
            "bright vessels, old lesions and uneven ventricles are in both classes",
        ),
        params=BrainParams,
    )
)
