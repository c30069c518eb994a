"""Explanation as detector: does a map reveal the shortcut to somebody who has no counterfactuals?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from xai.explain.spec import METHODS as EXPLAINERS
from xai.stats.intervals import Interval, rank_correlation

REGION = {"fur": "fur", "background": "background", "mark": "mark"}
"""The region that each cue lies in."""

METHODS = tuple(name for name in EXPLAINERS.names() if name != "rise")
"""Methods that are tried where they apply, baselines among them; RISE takes thousands of passes an image."""

CUTS = (0.5, 0.0)
"""An interval that lies above the first: can be trusted; above the second: says something."""

PROTOCOL = (
    "Spearman's rank correlation, over trained networks, of the mean share of the map's positive mass on the cue with "
    "the true reliance on the cue from its interventions; 95 % percentile bootstrap interval over networks (2000 "
    "resamples). 1: the more a network relies on the cue, the more of the map lies there. Trusted: the interval lies "
    "above 0.5; says something: above 0. RISE was left out for its cost."
)


@dataclass(frozen=True)
class Reading:
    """What one method showed of one network: mass on the cue, the region's area, and the true reliance."""

    network: str
    cue: str
    method: str
    mass: float
    area: float
    reliance: float


@dataclass(frozen=True)
class Detection:
    """How far a method's mass on a cue tells the reliance on it."""

    cue: str
    method: str
    correlation: Interval
    baseline: bool

    @property
    def word(self) -> str:
        """trusted, some, or none; reversed where less mass means more reliance."""
        if self.correlation.low > CUTS[0]:
            return "trusted"
        if self.correlation.low > CUTS[1]:
            return "some"
        return "reversed" if self.correlation.high < 0 else "none"


def detect(readings: Sequence[Reading], seed: int = 0) -> tuple[Detection, ...]:
    """For each cue and method with at least three networks, the correlation; the best first."""
    together: dict[tuple[str, str], list[Reading]] = {}
    for each in readings:
        together.setdefault((each.cue, each.method), []).append(each)
    found = []
    for (cue, method), own in together.items():
        if len(own) < 3:
            continue
        mass = torch.tensor([each.mass for each in own], dtype=torch.float64)
        truth = torch.tensor([each.reliance for each in own], dtype=torch.float64)
        found.append(Detection(cue, method, rank_correlation(mass, truth, seed), baseline(method)))
    return tuple(sorted(found, key=lambda each: (each.cue, -each.correlation.mean)))


def baseline(method: str) -> bool:
    """Whether a method knows nothing of the network."""
    return method in EXPLAINERS and EXPLAINERS.get(method).family == "baseline"


def plain(found: Sequence[Detection], readings: Sequence[Reading]) -> dict[str, Any]:
    """As a summary holds it."""
    rows: list[Mapping[str, Any]] = [{**asdict(each), "word": each.word} for each in found]
    return {"protocol": PROTOCOL, "rows": rows, "readings": [asdict(each) for each in readings]}
