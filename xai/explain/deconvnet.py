"""The deconvolutional network."""

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
class Deconvnet(Parameters):
    """dy_c/dx with each rectifier's backward replaced by R = g 1[g > 0], whatever the forward signal was.

    Max-pooling sends the signal back through the switches of the forward pass; average pooling, normalisation and
    skips keep their gradient. extension: the same rule for activations that are no rectifiers, beyond the paper.
    """

    extension: bool = False

    def __call__(self, module: InputModel, x: Tensor, target: Tensor | None, run: Run) -> Explained:
        """x (N,3,H,W) in [0, 1] -> values (N,3,H,W), signed; facts: note where it equals the plain gradient."""
        return guided_gradient(module, x, target, run, "deconvnet", deconvnet=True, extension=self.extension)


METHODS.add(
    MethodSpec(
        name="deconvnet",
        title="Deconvnet",
        family="gradient",
        rank=34,
        source=Source(
            "Zeiler & Fergus, Visualizing and Understanding Convolutional Networks, ECCV 2014",
            "https://arxiv.org/abs/1311.2901",
        ),
        explainer=Deconvnet,
        summary="The class signal sent back through the network with only positive parts kept at each rectifier.",
        signed=True,
        coverage=guided_coverage,
        passes=three_passes,
        caution=(
            "Hardly depends on the class: what it draws is mostly decided by the max-pooling switches and the image "
            "(Adebayo et al., Sanity Checks for Saliency Maps, 2018; Nie et al., A Theoretical Explanation for "
            "Perplexing Behaviors of Backpropagation-based Visualizations, 2018)."
        ),
    )
)
