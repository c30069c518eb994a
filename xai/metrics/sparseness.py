"""Sparseness: is the relevance in few pixels (Gini index)?"""

from __future__ import annotations

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
class Sparseness(Parameters):
    """No parameters."""


@public
def sparseness(maps: Tensor) -> Scores:
    """Gini index of |map| (N,H,W) -> (N,): near 0 where all pixels weigh alike, 1 - 1/(H W) where one has all.

    G = 1 - 2 sum_k (v_k / sum v) (D - k + 1/2) / D with v ascending, k = 1..D. NaN where all weigh the same. Raises
    `InputError` for other shapes. Source: Hurley & Rickard, Comparing measures of sparsity, 2009; for attributions
    Chalasani et al., Concise explanations of neural networks using adversarial training, ICML 2020.
    """
    if maps.dim() != 3 or maps.numel() == 0:
        raise InputError(f"maps has shape {tuple(maps.shape)}; give (N, H, W).")
    sizes = double(maps.detach()).abs()
    v = sizes.flatten(1).sort(1).values
    size = v.shape[1]
    weight = (size - torch.arange(1, size + 1, device=v.device, dtype=torch.float64) + 0.5) / size
    total = v.sum(1)
    values = 1 - 2 * (v * weight).sum(1) / total
    values = without_order(sizes, values)
    said = Protocol(
        "sparseness",
        {"metric": "sparseness", "value": "Gini index of |map|", "higher_is_better": True},
        "Gini index of the map's absolute values: 0 evenly spread, 1 in one pixel. It does not say where. A map "
        "whose pixels all have the same absolute value has no score.",
    )
    return Scores("sparseness", values.float().cpu(), True, said)


METRICS.add(
    MetricSpec(
        name="sparseness",
        title="Sparseness (Gini)",
        kind="map",
        rank=30,
        source=Source(
            "Chalasani et al., Concise Explanations of Neural Networks using Adversarial Training, ICML 2020",
            "https://arxiv.org/abs/1810.06583",
        ),
        params=Sparseness,
        better_up=always(True),
        bounds=(0.0, 1.0),
        reads="How concentrated the map is, wherever it lies.",
        measure=lambda maps, params: sparseness(maps),
    )
)
