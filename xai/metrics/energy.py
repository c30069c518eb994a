"""Energy inside a mask: how much of the map lies on the object?"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from xai.metrics._masks import checked_mask
from xai.metrics.engine import without_order
from xai.metrics.spec import METRICS, MetricSpec, always
from xai.params import Parameters
from xai.public import public
from xai.registry import Source
from xai.stats.similarity import energy_inside
from xai.types import Protocol, Scores

ENERGY_PROTOCOL = Protocol(
    "energy",
    {"metric": "energy", "value": "positive mass inside / positive mass", "higher_is_better": True},
    "Share of the map's positive mass that lies on the object; higher is better, chance is the object's area. A map "
    "whose positive part is empty or constant has no score.",
)


@dataclass(frozen=True)
class Energy(Parameters):
    """No parameters."""


@public
def energy(maps: Tensor, mask: Tensor) -> Scores:
    """Share of the map's positive mass inside the mask: sum(max(map, 0) mask) / sum(max(map, 0)), in [0, 1].

    facts "chance": the mask's share of the area. NaN for a map whose positive part is empty or the same everywhere: it
    points at no place. maps (N,H,W); mask (N,H,W) or (H,W), above .5 inside. Raises `InputError`.
    Source: Wang et al., Score-CAM, CVPR workshops 2020 (energy-based pointing game).
    """
    inside = checked_mask(maps, mask)
    chance = inside.float().mean((1, 2)).cpu()
    values = without_order(maps.clamp(min=0), energy_inside(maps, inside)).float().cpu()
    return Scores("energy", values, True, ENERGY_PROTOCOL, {"chance": chance})


METRICS.add(
    MetricSpec(
        name="energy",
        title="Energy inside",
        kind="mask",
        rank=21,
        source=Source("Wang et al., Score-CAM, CVPR workshops 2020", "https://arxiv.org/abs/1910.01279"),
        params=Energy,
        better_up=always(True),
        bounds=(0.0, 1.0),
        reads="Share of the map's positive mass that lies on the object.",
        measure=lambda maps, mask, params: energy(maps, mask),
    )
)
