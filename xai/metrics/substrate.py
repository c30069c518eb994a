"""What stands for missing pixels: a blurred copy, the mean colour, black, or a chosen colour. Pixels in [0, 1]."""

from __future__ import annotations

import re
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from xai.errors import InputError

SUBSTRATES = ("blur", "mean", "black")
"""Names; a chosen colour is written "#rrggbb"."""

SIZE, SIGMA, TRUNCATE = 11, 5.0, 4.0

_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")


@cache
def rise_weights() -> Tensor:
    """One axis of RISE's blur kernel, (11,) float64; the kernel is its outer product with itself.

    RISE blurs a single bright pixel in an 11 x 11 field with a Gaussian of sigma 5 whose far ends (cut at 4 sigma, 20
    pixels) fold back at the field's edges. So each weight sums the Gaussian over all mirror images of the centre:
    heavier at the edges than a Gaussian cut at 11 x 11 (centre of the kernel 0.00883 instead of 0.01196).
    """
    radius = int(TRUNCATE * SIGMA + 0.5)
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float64)
    gauss = torch.exp(-0.5 * (offsets / SIGMA) ** 2)
    gauss /= gauss.sum()
    place = torch.arange(SIZE)[:, None] + offsets.long()[None]  # where each tap of each output reads
    folded = place % (2 * SIZE)
    folded = torch.where(folded < SIZE, folded, 2 * SIZE - 1 - folded)
    return torch.where(folded == SIZE // 2, gauss, 0.0).sum(1)


def rise_kernel() -> Tensor:
    """RISE's blur kernel, (11,11) float64, sum 1: centre 0.00883, corners 0.00774."""
    weights = rise_weights()
    return torch.outer(weights, weights)


def blur(x: Tensor, mean: Tensor) -> Tensor:
    """RISE's blur of x (N,3,H,W) in [0, 1]: outside the picture lies the mean colour (1,3,1,1).

    RISE pads with zeros in normalised space, where zero is the mean colour; here that is done on pixels.
    """
    weights = rise_weights().to(x)
    channels = x.shape[1]
    row = weights.view(1, 1, 1, SIZE).expand(channels, 1, 1, SIZE)
    column = weights.view(1, 1, SIZE, 1).expand(channels, 1, SIZE, 1)
    smooth = F.conv2d(x - mean, row, padding=(0, SIZE // 2), groups=channels)
    return F.conv2d(smooth, column, padding=(SIZE // 2, 0), groups=channels) + mean


def check_substrate(name: str) -> str:
    """`name` itself; raises `InputError` for one that there is not."""
    if name not in SUBSTRATES and not _COLOUR.fullmatch(name):
        raise InputError(f"substrate {name!r} is not known; use {', '.join(SUBSTRATES)}, or a colour such as #808080.")
    return name


def substrate(name: str, x: Tensor, mean: Tensor) -> Tensor:
    """The picture (N,3,H,W) that missing pixels of x come from; mean (1,3,1,1) is the normalisation's mean colour."""
    check_substrate(name)
    if name == "blur":
        return blur(x, mean)
    if name == "mean":
        return mean.to(x).expand_as(x)
    if name == "black":
        return torch.zeros_like(x)
    levels = [int(name[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    return torch.tensor(levels, dtype=x.dtype, device=x.device).view(1, 3, 1, 1).expand_as(x)
