"""HiResCAM."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from xai.explain._cam import cam_coverage, explain_at_layer
from xai.explain.spec import CELL, METHODS, MethodSpec
from xai.models.classifier import InputModel
from xai.params import Parameters
from xai.registry import Source
from xai.types import Explained, Run


def combine(activation: Tensor, gradient: Tensor, score: Tensor) -> Tensor:
    """sum_k dy_c/dA_k,ij A_k,ij: (N,C,h,w) x 2 -> (N,h,w).

    Above the last convolution of a network that ends in one linear layer, this signed map sums to the logit less its
    bias.
    """
    del score
    return (gradient * activation).sum(1)


@dataclass(frozen=True)
class HiResCAM(Parameters):
    """L = ReLU(sum_k g_k A_k), position by position; layer None is the network's default layer.

    Shows only what the score uses; equal to Grad-CAM where a global average pool and one linear layer follow.
    """

    layer: str | None = None

    def __call__(self, module: InputModel, x: Tensor, target: Tensor | None, run: Run) -> Explained:
        """x (N,3,H,W) in [0, 1] -> values (N,h,w) at the layer's resolution, not negative."""
        return explain_at_layer(module, x, target, self.layer, combine, run)


METHODS.add(
    MethodSpec(
        name="hirescam",
        title="HiResCAM",
        family="cam",
        rank=14,
        source=Source(
            "Draelos & Carin, Use HiResCAM instead of Grad-CAM, 2020",
            "https://arxiv.org/abs/2011.08891",
        ),
        explainer=HiResCAM,
        unit=CELL,
        summary="Multiplies feature maps by gradients position by position, so that only places the score uses show.",
        coverage=cam_coverage,
    )
)
