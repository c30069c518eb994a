"""Saliency: the gradient's size."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from xai.explain._gradient import input_gradient, three_passes
from xai.explain.spec import METHODS, MethodSpec
from xai.models.classifier import InputModel
from xai.params import Parameters
from xai.registry import Source
from xai.types import Explained, Run


@dataclass(frozen=True)
class Saliency(Parameters):
    """M = max over colours of |dy_c/dx|, y_c the logit of the class and x the pixels in [0, 1]."""

    def __call__(self, module: InputModel, x: Tensor, target: Tensor | None, run: Run) -> Explained:
        """x (N,3,H,W) in [0, 1] -> values (N,H,W), not negative: logits a unit of pixel value."""
        gradient, logits, chosen = input_gradient(module, x, target, run, "saliency")
        return Explained(gradient.abs().amax(1), logits, chosen)


METHODS.add(
    MethodSpec(
        name="saliency",
        title="Saliency",
        family="gradient",
        rank=30,
        source=Source(
            "Simonyan et al., Deep Inside Convolutional Networks, ICLR workshop 2014", "https://arxiv.org/abs/1312.6034"
        ),
        explainer=Saliency,
        summary="Pixels whose smallest change moves the class score most, whether up or down.",
        passes=three_passes,
    )
)
