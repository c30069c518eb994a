"""Intervals for figures that were measured for every pair of a seed and an image.

A mean over a table (seeds, images) varies with both: another seed would train another network, another image would
be another question. Intervals from cells, or from images alone, would be too narrow; so would a bootstrap of three
seeds, whose resampled means never leave the range of the three.
"""

from __future__ import annotations

import math

import torch
from scipy.special import stdtrit
from torch import Tensor

from xai.errors import InputError
from xai.stats.intervals import LEVEL, Band, Interval


def crossed_mean(values: Tensor, level: float = LEVEL) -> Interval:
    """Mean of values (seeds, images) with its interval; see `crossed_band`."""
    if values.dim() != 2:
        raise InputError(f"values has shape {tuple(values.shape)}; give (seeds, images).")
    band = crossed_band(values[:, :, None], level)
    return Interval(float(band.mean), float(band.low), float(band.high), band.n, level)


def crossed_band(values: Tensor, level: float = LEVEL) -> Band:
    """Mean of values (seeds, images, positions) at each position, with Student's t interval over both.

    V = V_s + V_n, the variance of the S seeds' means over S and that of the N images' means over N; mean -+ t sqrt(V),
    with the degrees of freedom V^2 / (V_s^2 / (S - 1) + V_n^2 / (N - 1)) of Satterthwaite (1946): two where three
    seeds decide, many where the images do. What is the cells' own counts in both, so that the interval is rather too
    wide; V is at least what that alone gives, with (S - 1)(N - 1) degrees of freedom, where few seeds or images cancel
    out. With one seed or one image nothing can be said about others: low and high are NaN. n: images. Raises
    `InputError` for no or non-finite values.
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
    of_seeds, of_images = values.mean(1).var(0) / seeds, values.mean(0).var(0) / images
    both = of_seeds + of_images
    freedom = both.square() / (of_seeds.square() / (seeds - 1) + of_images.square() / (images - 1))
    own = values - values.mean(1, keepdim=True) - values.mean(0, keepdim=True) + mean
    cells = (seeds - 1) * (images - 1)
    least = own.square().sum((0, 1)) / (cells * seeds * images)
    both, freedom = torch.maximum(both, least), torch.where(least > both, float(cells), freedom)
    width = torch.from_numpy(stdtrit(freedom.numpy(), (1 + level) / 2)).nan_to_num(nan=0.0)  # where nothing varies
    half = width * both.sqrt()
    return Band(mean, mean - half, mean + half, images, level)
