"""Grad-CAM++."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from xai.explain._cam import cam_coverage, explain_at_layer
from xai.explain.spec import METHODS, MethodSpec
from xai.models.classifier import InputModel
from xai.params import Parameters
from xai.registry import Source
from xai.types import Explained, Run


def combine(activation: Tensor, gradient: Tensor, score: Tensor) -> Tensor:
    """sum_k w_k A_k with w_k = sum_ij a_ij ReLU(g_ij), a_ij = g^2 / (2 g^2 + g^3 sum_ab A_ab), g = dy_c/dA_k.

    (N,C,h,w) x 2 -> (N,h,w). Where g > 0 the term is ReLU(g) / (2 + g sum A), which needs no small constant against a
    division of underflowing squares (peers add 1e-6 or 1e-8 to g^2 terms of that very size). The paper's derivatives
    are of exp(y_c), which only scales the map by exp(y_c) and is left out.
    """
    del score
    mass = activation.sum((2, 3), keepdim=True)  # (N,C,1,1)
    positive = gradient.clamp(min=0)
    below = 2 + positive * mass
    # Never zero where the maps are not negative; where they are, a pole of the formula gets no weight.
    terms = torch.where(below != 0, positive / below, torch.zeros_like(below))
    return (terms.sum((2, 3), keepdim=True) * activation).sum(1)


@dataclass(frozen=True)
class GradCAMPlusPlus(Parameters):
    """L = ReLU(sum_k w_k A_k); layer None is the network's default layer."""

    layer: str | None = None

    def __call__(self, module: InputModel, x: Tensor, target: Tensor | None, run: Run) -> Explained:
        """x (N,3,H,W) in [0, 1] -> values (N,h,w) at the layer's resolution, not negative."""
        return explain_at_layer(module, x, target, self.layer, combine, run)


METHODS.add(
    MethodSpec(
        name="gradcam++",
        title="Grad-CAM++",
        family="cam",
        rank=11,
        source=Source(
            "Chattopadhay et al., Grad-CAM++, WACV 2018",
            "https://arxiv.org/abs/1710.11063",
        ),
        explainer=GradCAMPlusPlus,
        summary="Like Grad-CAM, but maps count by their positive gradients, so that several objects of a class show.",
        coverage=cam_coverage,
        caution="Its weights assume maps without negative values: choose a layer after a ReLU.",
    )
)
