"""Grad-CAM."""

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
    """sum_k alpha_k A_k with alpha_k = mean over (i,j) of dy_c/dA_k,ij: (N,C,h,w) x 2 -> (N,h,w)."""
    del score
    alpha = gradient.mean((2, 3), keepdim=True)
    return (alpha * activation).sum(1)


@dataclass(frozen=True)
class GradCAM(Parameters):
    """L = ReLU(sum_k alpha_k A_k), y_c the logit of the class; layer None is the network's default layer."""

    layer: str | None = None

    def __call__(self, module: InputModel, x: Tensor, target: Tensor | None, run: Run) -> Explained:
        """x (N,3,H,W) in [0, 1] -> values (N,h,w) at the layer's resolution, not negative."""
        return explain_at_layer(module, x, target, self.layer, combine, run)


METHODS.add(
    MethodSpec(
        name="gradcam",
        title="Grad-CAM",
        family="cam",
        rank=10,
        source=Source("Selvaraju et al., Grad-CAM, ICCV 2017", "https://arxiv.org/abs/1610.02391"),
        explainer=GradCAM,
        unit=CELL,
        summary="Where the last feature maps speak for the class, weighted by the class score's mean gradient.",
        coverage=cam_coverage,
    )
)
