"""How far an explanation moved: two maps of one image, before and after something was done to it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from xai.errors import InputError
from xai.public import public
from xai.stats.similarity import centroid_drift, energy_inside, is_constant, spearman, ssim, top_members, topk_iou

TOP = 0.1
"""Share of the pixels that counts as a map's top region."""


@dataclass(frozen=True)
class ShiftFact:
    """What a number of `explanation_shift` is: title, bounds, and whether a high value means that the map stayed."""

    title: str
    low: float
    high: float
    high_is_same: bool
    sentence: str


SHIFTS: Mapping[str, ShiftFact] = {
    "spearman": ShiftFact("Rank correlation", -1, 1, True, "Spearman's rank correlation of all pixels."),
    "topk_iou": ShiftFact("Top-10 % overlap", 0, 1, True, "Intersection over union of the highest 10 % of the pixels."),
    "ssim": ShiftFact("SSIM", -1, 1, True, "Structural similarity, each map divided by its own largest magnitude."),
    "centroid_drift": ShiftFact(
        "Centroid drift", 0, 1, False, "Distance between centres of mass, as a share of the diagonal."
    ),
    "energy_kept": ShiftFact(
        "Energy in the old top region",
        0,
        1,
        True,
        "Share of the new map's positive mass inside the old map's top 10 % (tied pixels share the last places).",
    ),
}


@public
def explanation_shift(before: Tensor, after: Tensor) -> dict[str, Tensor]:
    """Five measures of how far each map moved: (N,H,W) x 2 -> name -> (N,) float32; see `SHIFTS` for each.

    All are NaN where either map is constant (blank): it points nowhere, so that nothing can be said to have moved.
    Centroid and energy are NaN also where either has no positive value.

    Raises `InputError` for shapes that differ and for maps smaller than the 11 x 11 window of SSIM.
    """
    if before.shape != after.shape or before.dim() != 3:
        raise InputError(f"maps have shapes {tuple(before.shape)} and {tuple(after.shape)}; give two of (N, H, W).")
    one, two = _unit(before), _unit(after)
    negative = torch.stack([before.amin((1, 2)), after.amin((1, 2))]).amin(0) < 0
    found = {
        "spearman": spearman(before, after),
        "topk_iou": topk_iou(before, after, TOP),
        "ssim": ssim(one, two, data_range=torch.where(negative, 2.0, 1.0)),
        "centroid_drift": centroid_drift(before, after),
        "energy_kept": energy_inside(after, top_members(before, TOP)),
    }
    flat = is_constant(before) | is_constant(after)
    return {name: torch.where(flat.to(value.device), math.nan, value).float() for name, value in found.items()}


def _unit(maps: Tensor) -> Tensor:
    largest = maps.abs().amax((1, 2), keepdim=True)
    return maps / torch.where(largest > 0, largest, 1)
