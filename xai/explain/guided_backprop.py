"""Guided backpropagation."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from xai.explain._gradient import three_passes
from xai.explain._guided import guided_coverage, guided_gradient
from xai.explain.spec import METHODS, MethodSpec
from xai.models.classifier import InputModel
from xai.params import Parameters
from xai.registry import Source
from xai.types import Explained, Run


@dataclass(frozen=True)
class GuidedBackprop(Parameters):
    """dy_c/dx with each rectifier's backward replaced by R = g 1[g > 0] 1[0 < x]  (ReLU6: 1[0 < x < 6]).

    Modules and functions alike are covered; what is covered is stated. extension: activations that are no rectifiers
    (Hardswish, SiLU, GELU, ...) get R = f'(x) g 1[g > 0] 1[x > 0] as well, which is beyond the paper.
    """

    extension: bool = False

    def __call__(self, module: InputModel, x: Tensor, target: Tensor | None, run: Run) -> Explained:
        """x (N,3,H,W) in [0, 1] -> values (N,3,H,W), signed; facts: note where it equals the plain gradient."""
        return guided_gradient(module, x, target, run, "guided backprop", extension=self.extension)


METHODS.add(
    MethodSpec(
        name="guided_backprop",
        title="Guided backprop",
        family="gradient",
        rank=32,
        source=Source(
            "Springenberg et al., Striving for Simplicity: The All Convolutional Net, ICLR workshop 2015",
            "https://arxiv.org/abs/1412.6806",
        ),
        explainer=GuidedBackprop,
        summary="Fine structure that excited the network: the gradient, with every negative signal stopped.",
        signed=True,
        coverage=guided_coverage,
        passes=three_passes,
        caution=(
            "Hardly depends on the class, and little on the weights: it comes close to recovering the image's edges "
            "(Adebayo et al., Sanity Checks for Saliency Maps, 2018; Nie et al., A Theoretical Explanation for "
            "Perplexing Behaviors of Backpropagation-based Visualizations, 2018)."
        ),
    )
)
