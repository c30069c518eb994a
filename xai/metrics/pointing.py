"""Pointing game: does the map's highest point lie on the object?"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from xai.errors import InputError
from xai.metrics._masks import checked_mask
from xai.metrics._spec import METRICS, MetricSpec, always
from xai.registry import Source
from xai.types import Protocol, Scores

TOLERANCE = 15
"""Pixels, as in the paper."""


@dataclass(frozen=True)
class Pointing:
    """tolerance: how many pixels beside the object still count as a hit (a square around each point)."""

    tolerance: int = TOLERANCE


def pointing(maps: Tensor, mask: Tensor, tolerance: int = TOLERANCE) -> Scores:
    """1 where the map's maximum lies on the mask or within `tolerance` pixels of it, 0 where it does not.

    Several equal maxima count as the share of them that hit, so a constant map scores the share of the area (facts
    "chance") and not by luck. maps (N,H,W); mask (N,H,W) or (H,W), above .5 inside. Raises `InputError`.
    Source: Zhang et al., Top-down neural attention by excitation backprop, IJCV 2018 (tolerance 15 px).
    """
    if tolerance < 0:
        raise InputError(f"tolerance is {tolerance}; give 0 or more pixels.")
    inside = checked_mask(maps, mask)
    near = F.max_pool2d(inside[:, None].float(), 2 * tolerance + 1, stride=1, padding=tolerance)[:, 0] > 0
    top = maps == maps.amax((1, 2), keepdim=True)
    values = (top & near).sum((1, 2)) / top.sum((1, 2))
    said = pointing_protocol(tolerance)
    return Scores("pointing", values.cpu(), True, said, {"chance": near.float().mean((1, 2)).cpu()})


def pointing_protocol(tolerance: int = TOLERANCE) -> Protocol:
    """How the pointing game is played."""
    return Protocol(
        "pointing",
        {"metric": "pointing", "tolerance": tolerance, "ties": "share of the maxima", "higher_is_better": True},
        f"Share of images whose highest point lies within {tolerance} px of the object; higher is better.",
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
