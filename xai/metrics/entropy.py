"""Entropy: how evenly is the map's energy spread over the image?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from xai.devices import double
from xai.errors import InputError
from xai.metrics.engine import without_order
from xai.metrics.spec import METRICS, MetricSpec, always
from xai.params import Parameters
from xai.public import public
from xai.registry import Source
from xai.types import Protocol, Scores


@dataclass(frozen=True)
class Entropy(Parameters):
    """No parameters."""


@public
def entropy(maps: Tensor) -> Scores:
    """Shannon entropy of the map's positive mass over log(H W): maps (N,H,W) -> (N,) in [0, 1].

    H = -sum_i p_i log p_i / log(H W), p = max(map, 0) / sum max(map, 0): 0 where one pixel has all, near 1 where all
    have nearly the same. NaN for a map that is constant or has no positive part. Raises `InputError` for other shapes.
    Source: Shannon 1948.
    """
    if maps.dim() != 3 or maps.numel() == 0:
        raise InputError(f"maps has shape {tuple(maps.shape)}; give (N, H, W).")
    mass = double(maps.detach()).clamp(min=0)
    v = mass.flatten(1)
    p = v / v.sum(1, keepdim=True)  # 0 / 0 where nothing is positive
    values = torch.special.entr(p).sum(1) / max(math.log(p.shape[1]), torch.finfo(torch.float64).tiny)
    values = without_order(mass, values)
    said = Protocol(
        "entropy",
        {"metric": "entropy", "value": "entropy of the positive mass / log(pixels)", "higher_is_better": False},
        "Entropy of the map's positive mass, 0 in one pixel to 1 evenly spread; lower is narrower, which need not be "
        "right. A map that is constant or has no positive part has no score.",
    )
    return Scores("entropy", values.clamp(0, 1).float().cpu(), False, said)


METRICS.add(
    MetricSpec(
        name="entropy",
        title="Entropy of the energy",
        kind="map",
        rank=32,
        source=Source(
            "Shannon, A Mathematical Theory of Communication, 1948",
            "https://doi.org/10.1002/j.1538-7305.1948.tb01338.x",
        ),
        params=Entropy,
        better_up=always(False),
        bounds=(0.0, 1.0),
        reads="How evenly the map's positive mass is spread over the image.",
        measure=lambda maps, params: entropy(maps),
    )
)
