"""Pointing game: does the map's highest point lie on the object?"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch.nn.functional as F
from torch import Tensor

from xai.metrics._masks import checked_mask
from xai.metrics.engine import without_order
from xai.metrics.spec import METRICS, MetricSpec, always
from xai.params import Parameters
from xai.public import public
from xai.registry import Source
from xai.stats.similarity import TIE
from xai.types import Protocol, Scores

TOLERANCE = 15
"""Pixels, as in the paper."""


@dataclass(frozen=True)
class Pointing(Parameters):
    """tolerance: how many pixels beside the object still count as a hit (a square around each point)."""

    tolerance: int = field(default=TOLERANCE, metadata={"min": 0, "max": 4096})


@public
def pointing(maps: Tensor, mask: Tensor, tolerance: int = TOLERANCE) -> Scores:
    """1 where the map's maximum lies on the mask or within `tolerance` pixels of it, 0 where it does not.

    Several equal maxima count as the share of them that hit, not by luck; equal are those within 1e-5 of the map's
    range, which rounding may order either way. A constant map has no highest point: NaN.
    facts "chance": the share of the area that is a hit. maps (N,H,W); mask (N,H,W) or (H,W), above .5 inside. Raises
    `InputError`.
    Source: Zhang et al., Top-down neural attention by excitation backprop, IJCV 2018 (tolerance 15 px).
    """
    Pointing(tolerance)  # checks its bounds
    inside = checked_mask(maps, mask)
    near = inside[:, None].float()
    for axis, length in ((0, near.shape[-2]), (1, near.shape[-1])):  # along one side, then the other: a square
        reach = [min(tolerance, length) * (axis == each) for each in (0, 1)]
        near = F.max_pool2d(near, [2 * each + 1 for each in reach], stride=1, padding=reach)
    near = near[:, 0] > 0
    high, low = maps.amax((1, 2), keepdim=True), maps.amin((1, 2), keepdim=True)
    top = maps >= high - TIE * (high - low)
    values = (top & near).sum((1, 2)) / top.sum((1, 2))
    said = pointing_protocol(tolerance)
    values = without_order(maps, values)
    return Scores("pointing", values.cpu(), True, said, {"chance": near.float().mean((1, 2)).cpu()})


def pointing_protocol(tolerance: int = TOLERANCE) -> Protocol:
    """How the pointing game is played."""
    return Protocol(
        "pointing",
        {"metric": "pointing", "tolerance": tolerance, "ties": "share of the maxima", "higher_is_better": True},
        f"Share of images whose highest point lies within {tolerance} px of the object (equal maxima count "
        "by their share); higher is better. A constant map has no score.",
    )


METRICS.add(
    MetricSpec(
        name="pointing",
        title="Pointing game",
        kind="mask",
        rank=20,
        source=Source(
            "Zhang et al., Top-down Neural Attention by Excitation Backprop, IJCV 2018",
            "https://arxiv.org/abs/1608.00507",
        ),
        params=Pointing,
        better_up=always(True),
        bounds=(0.0, 1.0),
        reads="Share of images whose highest point lies on the object.",
        measure=lambda maps, mask, params: pointing(maps, mask, params.tolerance),
    )
)
