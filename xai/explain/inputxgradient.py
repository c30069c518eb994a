"""Input x gradient."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from xai.explain._gradient import input_gradient, three_passes
from xai.explain.spec import METHODS, PIXEL, MethodSpec
from xai.models.classifier import InputModel
from xai.params import Parameters
from xai.registry import Source
from xai.types import Explained, Run


@dataclass(frozen=True)
class InputXGradient(Parameters):
    """R = x * dy_c/dx with x the pixels in [0, 1].

    The zero is black: a black pixel gets no relevance, whatever its gradient, and the sum over all pixels is the first
    order estimate of y_c(x) - y_c(black). In normalised space the zero would be the data set's mean colour instead;
    where the choice of the zero matters, integrated gradients lets one choose.
    """

    def __call__(self, module: InputModel, x: Tensor, target: Tensor | None, run: Run) -> Explained:
        """x (N,3,H,W) in [0, 1] -> values (N,3,H,W), signed, in logits."""
        gradient, logits, chosen = input_gradient(module, x, target, run, "input x gradient")
        return Explained(x * gradient, logits, chosen, {"zero": "black"})


METHODS.add(
    MethodSpec(
        name="inputxgradient",
        title="Input x gradient",
        family="gradient",
        rank=31,
        source=Source(
            "Shrikumar et al., Not Just a Black Box: Learning Important Features Through Propagating Activation "
            "Differences, 2016",
            "https://arxiv.org/abs/1605.01713",
        ),
        explainer=InputXGradient,
        unit=PIXEL,
        summary="A linear estimate of what each pixel adds to the class score, compared with black.",
        signed=True,
        passes=three_passes,
        caution="Dark pixels get little relevance whatever they mean to the network: the comparison is with black.",
    )
)
