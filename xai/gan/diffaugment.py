"""DiffAugment: the same kind of random change to real and generated images, with gradients through it.

Zhao et al., Differentiable Augmentation for Data-Efficient GAN Training, NeurIPS 2020,
https://arxiv.org/abs/2006.10738. Every image of a batch has a draw of its own; the draws come from a CPU generator, so
that they are the same on every device.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from xai.errors import InputError

POLICIES = ("color", "translation", "cutout")

SHIFT = 1 / 8
"""Largest translation, as a share of the side."""

HOLE = 1 / 2
"""Side of the hole that cutout makes, as a share of the side."""


def parse_policy(text: str) -> tuple[str, ...]:
    """ "color,translation" as a tuple; "none" or "" as (). Raises `InputError` for a name that there is not."""
    names = tuple(part.strip() for part in text.split(",") if part.strip() and part.strip() != "none")
    for name in names:
        if name not in POLICIES:
            raise InputError(f"augmentation {name!r} is not known; use {', '.join(POLICIES)} or none.")
    return names


def augment(x: Tensor, policy: Sequence[str], generator: torch.Generator) -> Tensor:
    """x (N,3,H,W) in [-1, 1] with the changes in `policy`, one draw an image; differentiable with respect to x.

    color: brightness + U(-.5, .5), saturation x U(0, 2), contrast x U(.5, 1.5). translation: whole pixels up to 1/8 of
    the side, zeros move in. cutout: a square hole of half the side, zeros. Zero is mid-grey.
    """
    if "color" in policy:
        x = _color(x, generator)
    if "translation" in policy:
        x = _translation(x, generator)
    if "cutout" in policy:
        x = _cutout(x, generator)
    return x


def _drawn(x: Tensor, generator: torch.Generator) -> Tensor:
    """(N,1,1,1) in [0, 1)."""
    return torch.rand(len(x), 1, 1, 1, generator=generator).to(x)


def _color(x: Tensor, generator: torch.Generator) -> Tensor:
    x = x + (_drawn(x, generator) - 0.5)
    grey = x.mean(1, keepdim=True)
    x = (x - grey) * (2 * _drawn(x, generator)) + grey
    middle = x.mean((1, 2, 3), keepdim=True)
    return (x - middle) * (0.5 + _drawn(x, generator)) + middle


def _translation(x: Tensor, generator: torch.Generator) -> Tensor:
    height, width = x.shape[-2:]
    rows = _moved(height, len(x), generator).to(x.device)
    columns = _moved(width, len(x), generator).to(x.device)
    padded = torch.nn.functional.pad(x, (1, 1, 1, 1))  # index 0 and the last one are the zeros that move in
    image = torch.arange(len(x), device=x.device)[:, None, None]
    # (N,H,W,3): advanced indices around the slice put the channels last
    return padded[image, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _moved(side: int, count: int, generator: torch.Generator) -> Tensor:
    """(count, side): which row of the image, padded by one, comes to each place."""
    most = int(side * SHIFT + 0.5)
    shift = torch.randint(-most, most + 1, (count, 1), generator=generator)
    return (torch.arange(side)[None] + shift + 1).clamp(0, side + 1)


def _cutout(x: Tensor, generator: torch.Generator) -> Tensor:
    height, width = x.shape[-2:]
    hidden = [_hole(side, len(x), generator).to(x.device) for side in (height, width)]
    hole = hidden[0][:, None, :, None] & hidden[1][:, None, None, :]
    return x * (~hole).to(x.dtype)


def _hole(side: int, count: int, generator: torch.Generator) -> Tensor:
    """(count, side) bool: places under a hole whose middle is anywhere in the image."""
    half = int(side * HOLE / 2 + 0.5)
    middle = torch.randint(0, side + 1, (count, 1), generator=generator)
    places = torch.arange(side)[None]
    return (places >= middle - half) & (places < middle + half)
