"""Random map: what an explanation has to beat."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from xai.explain._baseline import with_logits
from xai.explain.spec import METHODS, MethodSpec
from xai.models.classifier import InputModel
from xai.params import Parameters
from xai.registry import Source
from xai.types import Explained, Run, pixel_digest


@dataclass(frozen=True)
class RandomMap(Parameters):
    """Independent values, uniform on [0, 1), that depend on the seed and the image's 8-bit pixels alone.

    cells: values along each side, or none for one a pixel. A grid as coarse as a CAM's (7 for most networks) is the
    fairer rival where the size of the regions matters.
    """

    cells: int | None = field(default=None, metadata={"min": 1, "max": 1024})

    def __call__(self, module: InputModel, x: Tensor, target: Tensor | None, run: Run) -> Explained:
        """x (N,3,H,W) in [0, 1] -> values (N,H,W), or (N,cells,cells)."""
        size = tuple(x.shape[-2:]) if self.cells is None else (self.cells, self.cells)
        levels = (255 * x).round()  # the image as its file holds it: rounding behind that draws no other map
        maps = [torch.rand(size, generator=run.generator("random", pixel_digest(image))) for image in levels]
        return with_logits(torch.stack(maps).to(x), module, x, target, run)


METHODS.add(
    MethodSpec(
        name="random",
        title="Random",
        family="baseline",
        by_gradient=False,
        rank=90,
        source=Source(
            "Samek et al., Evaluating the Visualization of What a Deep Neural Network Has Learned, IEEE TNNLS 2017",
            "https://arxiv.org/abs/1509.06321",
        ),
        explainer=RandomMap,
        summary="Noise that knows neither the image nor the network: a method that is no better explains nothing.",
        per_class=False,
        caution="Not an explanation: a baseline for comparison.",
    )
)
