"""What the perturbation methods share: the colours of what is removed, and images blended with them."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from xai.errors import InputError
from xai.models.classifier import InputModel

Fill = Literal["mean", "black", "grey", "white"]
"""Colours that pixels are replaced with."""


def check_fill(fill: str) -> None:
    """Raise `InputError` for a colour that is none of `Fill`."""
    if fill not in get_args(Fill):
        raise InputError(f"fill {fill!r} is not known; use {', '.join(get_args(Fill))}.")


def colour_of(module: InputModel, like: Tensor, fill: Fill = "mean") -> Tensor:
    """The colour, (1,3,1,1) in [0, 1]. "mean" is what normalisation maps to zero: "removed" in most papers' code."""
    if fill == "mean":
        return module.mean.to(device=like.device, dtype=like.dtype)
    return like.new_full((1, 3, 1, 1), {"black": 0.0, "grey": 0.5, "white": 1.0}[fill])


def blend(x: Tensor, mask: Tensor, colour: Tensor) -> Tensor:
    """mask * x + (1 - mask) * colour, in [0, 1]: x (1 or B,3,H,W), mask (B,1,H,W), colour (1,3,1,1) -> (B,3,H,W).

    With the mean colour this is the same network input as the normalised image times the mask.
    """
    return torch.lerp(colour, x, mask)
