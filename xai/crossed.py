"""Intervals for figures that were measured for every pair of a seed and an image.

A mean over a table (seeds, images) varies with both: another seed would train another network, another image would
be another question. Resampling cells, or images alone, would give intervals that are too narrow.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from xai.errors import InputError
from xai.statistics import LEVEL, RESAMPLES, Band, Interval
from xai.types import Run


def crossed_mean(values: Tensor, seed: int = 0, resamples: int = RESAMPLES, level: float = LEVEL) -> Interval:
    """Mean of values (seeds, images) with its interval; see `crossed_band`."""
    if values.dim() != 2:
        raise InputError(f"values has shape {tuple(values.shape)}; give (seeds, images).")
    band = crossed_band(values[:, :, None], seed, resamples, level)
    return Interval(float(band.mean), float(band.low), float(band.high), band.n, level)


def crossed_band(values: Tensor, seed: int = 0, resamples: int = RESAMPLES, level: float = LEVEL) -> Band:
    """Mean of values (seeds, images, positions) at each position, with a percentile interval over both.

    Seeds and images are drawn with replacement, each by itself, and a cell weighs the product of its draws (Owen 2007,
    The pigeonhole bootstrap, Annals of Applied Statistics 1(2)). The seeds' effects are scaled by sqrt(S / (S - 1))
    first, because resampling S of them shows only (S - 1) / S of their variance, a third too little with three. With
    one seed or one image nothing can be said about others: low and high are NaN. n: images. Raises `InputError` for no
    or non-finite values.
    """
    values = torch.as_tensor(values).detach().cpu().double()
    if values.dim() != 3 or values.numel() == 0:
        raise InputError(
            f"values has shape {tuple(values.shape)}; give (seeds, images, positions), one of each or more."
        )
    if not bool(torch.isfinite(values).all()):
        raise InputError("values holds numbers that are not finite; leave those images out and say how many.")
    seeds, images, _ = values.shape
    mean = values.mean((0, 1))
    if seeds == 1 or images == 1:
        nothing = torch.full_like(mean, math.nan)
        return Band(mean, nothing, nothing, images, level)
    of_seed = values.mean(1, keepdim=True) - mean
    spread = values - mean + of_seed * (math.sqrt(seeds / (seeds - 1)) - 1)
    generator = Run(seed=seed).generator("crossed", seeds, images, resamples)
    rows = _weights(seeds, resamples, generator)
    columns = _weights(images, resamples, generator)
    by_seed = torch.einsum("rn,snp->rsp", columns, spread)
    means = torch.einsum("rs,rsp->rp", rows, by_seed)
    tail = (1 - level) / 2
    low, high = torch.quantile(means, torch.tensor([tail, 1 - tail], dtype=torch.float64), dim=0)
    return Band(mean, mean + low, mean + high, images, level)


def _weights(count: int, resamples: int, generator: torch.Generator) -> Tensor:
    """(resamples, count): how often each is drawn, over count."""
    drawn = torch.randint(count, (resamples, count), generator=generator)
    weights = torch.zeros(resamples, count, dtype=torch.float64)
    return weights.scatter_add_(1, drawn, torch.ones(resamples, count, dtype=torch.float64)) / count
