"""XGrad-CAM."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from xai.explain._cam import cam_coverage, explain_at_layer
from xai.explain.spec import CELL, METHODS, MethodSpec
from xai.models.classifier import InputModel
from xai.params import Parameters
from xai.registry import Source
from xai.types import Explained, Run


def combine(activation: Tensor, gradient: Tensor, score: Tensor) -> Tensor:
    """sum_k w_k A_k with w_k = sum_ij (A_ij / sum_ab A_ab) dy_c/dA_k,ij: (N,C,h,w) x 2 -> (N,h,w).

    The gradient is averaged where the map is active, instead of everywhere. A map that sums to exactly zero (a dead
    channel) gets no weight.
    """
    del score
    mass = activation.sum((2, 3), keepdim=True)  # (N,C,1,1)
    weighted = (gradient * activation).sum((2, 3), keepdim=True)
    weight = torch.where(mass != 0, weighted / mass, torch.zeros_like(mass))
    return (weight * activation).sum(1)


@dataclass(frozen=True)
class XGradCAM(Parameters):
    """L = ReLU(sum_k w_k A_k); layer None is the network's default layer."""

    layer: str | None = None

    def __call__(self, module: InputModel, x: Tensor, target: Tensor | None, run: Run) -> Explained:
        """x (N,3,H,W) in [0, 1] -> values (N,h,w) at the layer's resolution, not negative."""
        return explain_at_layer(module, x, target, self.layer, combine, run)


METHODS.add(
    MethodSpec(
        name="xgradcam",
        title="XGrad-CAM",
        family="cam",
        rank=12,
        source=Source(
            "Fu et al., Axiom-based Grad-CAM, BMVC 2020",
            "https://arxiv.org/abs/2008.02312",
        ),
        explainer=XGradCAM,
        unit=CELL,
        summary="Like Grad-CAM, with the gradient averaged where each feature map is active.",
        coverage=cam_coverage,
        caution="Maps whose positive and negative values cancel get huge weights: choose a layer after a ReLU.",
    )
)
