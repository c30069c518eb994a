"""LayerCAM."""

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
    """sum_k ReLU(dy_c/dA_k,ij) A_k,ij: (N,C,h,w) x 2 -> (N,h,w)."""
    del score
    return (gradient.clamp(min=0) * activation).sum(1)


@dataclass(frozen=True)
class LayerCAM(Parameters):
    """L = ReLU(sum_k ReLU(g_k) A_k), a weight for every position; layer None is the network's default layer.

    Meant for early layers too, whose maps are finer. The paper's tanh(2 L / max L) for them is a display scaling and
    is not applied.
    """

    layer: str | None = None

    def __call__(self, module: InputModel, x: Tensor, target: Tensor | None, run: Run) -> Explained:
        """x (N,3,H,W) in [0, 1] -> values (N,h,w) at the layer's resolution, not negative."""
        return explain_at_layer(module, x, target, self.layer, combine, run)


METHODS.add(
    MethodSpec(
        name="layercam",
        title="LayerCAM",
        family="cam",
        rank=13,
        source=Source(
            "Jiang et al., LayerCAM, IEEE Transactions on Image Processing 2021",
            "https://doi.org/10.1109/TIP.2021.3089943",
        ),
        explainer=LayerCAM,
        unit=CELL,
        summary="Weights each position of the feature maps by its own positive gradient; early layers give fine maps.",
        coverage=cam_coverage,
    )
)
