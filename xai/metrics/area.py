"""Area: what part of the image holds half of the map's energy?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from xai.devices import double
from xai.errors import InputError
from xai.metrics.spec import METRICS, MetricSpec, always
from xai.params import Parameters
from xai.public import public
from xai.registry import Source
from xai.types import Protocol, Scores

SHARE = 0.5


@dataclass(frozen=True)
class Area(Parameters):
    """share: of the positive mass that the area has to hold, between 0 and 1."""

    share: float = SHARE


@public
def area(maps: Tensor, share: float = SHARE) -> Scores:
    """The smallest share of pixels that holds `share` of the map's positive mass: maps (N,H,W) -> (N,) in (0, 1].

    A = min{k : sum of the k largest max(map, 0) >= share * sum max(map, 0)} / (H W). Smaller is narrower. NaN for
    a map without positive part. Raises `InputError` for other
    shapes and for a share outside 0 to 1. The measure of study 2's finding, that a network looks at smaller regions.
    """
    if maps.dim() != 3 or maps.numel() == 0:
        raise InputError(f"maps has shape {tuple(maps.shape)}; give (N, H, W).")
    if not 0 < share < 1:
        raise InputError(f"share is {share:g}; give a number between 0 and 1, such as 0.5.")
    v = double(maps.detach()).flatten(1).clamp(min=0)
    v = v.sort(1, descending=True).values
    running = v.cumsum(1)
    # a whole number of equal pixels must not cost one more for a rounding in the sum
    short = running < share * running[:, -1:] * (1 - 1e-12)
    values = torch.where(v[:, 0] > 0, double(short.sum(1) + 1) / v.shape[1], math.nan)
    said = Protocol(
        "area",
        {"metric": "area", "value": f"share of pixels with {share:g} of the positive mass", "higher_is_better": False},
        f"Smallest share of the image that holds {share:.0%} of the map's positive mass; lower is narrower, "
        "which need not be right. A map without positive part has no score.",
    )
    return Scores("area", values.float().cpu(), False, said)


METRICS.add(
    MetricSpec(
        name="area",
        title="Area of half the energy",
        kind="map",
        rank=31,
        source=Source(
            "Study 2's finding, measured; the mass of ranked pixels as in Wang et al., Score-CAM, CVPR workshops 2020",
            "https://arxiv.org/abs/1910.01279",
        ),
        params=Area,
        better_up=always(False),
        bounds=(0.0, 1.0),
        reads="What share of the image holds half of the map's positive mass.",
        measure=lambda maps, params: area(maps, params.share),
    )
)
