"""Centre map: how far one gets by pointing at the middle of the picture."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from xai.errors import InputError
from xai.explain._baseline import with_logits
from xai.explain.spec import METHODS, MethodSpec
from xai.models.classifier import InputModel
from xai.params import Parameters
from xai.registry import Source
from xai.types import Explained, Run


def bell(length: int, sigma: float, like: Tensor) -> Tensor:
    """exp(-d^2 / (2 s^2)) along a side, d the distance of a pixel's centre from the middle, s = sigma * length."""
    distance = torch.arange(length, dtype=like.dtype, device=like.device) - (length - 1) / 2
    return torch.exp(-0.5 * (distance / (sigma * length)) ** 2)


@dataclass(frozen=True)
class CenterMap(Parameters):
    """A Gaussian around the image's centre, the same for every image; sigma as a share of each side."""

    sigma: float = 0.25

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.sigma > 0:
            raise InputError(f"sigma is {self.sigma}; give a share of the side above 0.")

    def __call__(self, module: InputModel, x: Tensor, target: Tensor | None, run: Run) -> Explained:
        """x (N,3,H,W) in [0, 1] -> values (N,H,W) in (0, 1]."""
        height, width = x.shape[-2:]
        one = bell(height, self.sigma, x)[:, None] * bell(width, self.sigma, x)
        return with_logits(one.expand(len(x), -1, -1), module, x, target, run)


METHODS.add(
    MethodSpec(
        name="center",
        title="Centre",
        family="baseline",
        by_gradient=False,
        rank=91,
        source=Source(
            "Tatler, The central fixation bias in scene viewing, Journal of Vision 2007",
            "https://doi.org/10.1167/7.14.4",
        ),
        explainer=CenterMap,
        summary="A round spot in the middle, where photographers put things: a method should know more than that.",
        per_class=False,
        caution="Not an explanation: a baseline for comparison.",
    )
)
