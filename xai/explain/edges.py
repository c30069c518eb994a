"""Edges: what a picture shows without any network."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from xai.explain._baseline import with_logits
from xai.explain.spec import METHODS, MethodSpec
from xai.models.classifier import InputModel
from xai.params import Parameters
from xai.registry import Source
from xai.types import Explained, Run, rounding

LUMA = (0.2125, 0.7154, 0.0721)
"""Weights of red, green and blue in the grey value (ITU-R BT.709, as scikit-image takes them)."""


def sobel(x: Tensor) -> Tensor:
    """Edge magnitude sqrt((gx^2 + gy^2) / 2) of the grey value: (N,3,H,W) in [0, 1] -> (N,H,W) in [0, 1].

    gx and gy are Sobel's 3 x 3 kernels divided by 4: 1 at a full step from black to white. The border repeats.
    """
    grey = (x * x.new_tensor(LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)
    smooth = x.new_tensor([1.0, 2.0, 1.0]) / 4
    slope = x.new_tensor([-1.0, 0.0, 1.0])
    kernels = torch.stack([smooth[:, None] * slope, slope[:, None] * smooth])[:, None]  # (2,1,3,3)
    both = F.conv2d(F.pad(grey, (1, 1, 1, 1), mode="replicate"), kernels)  # (N,2,H,W)
    return (both.square().sum(1) / 2).sqrt()


@dataclass(frozen=True)
class Edges(Parameters):
    """Sobel's edge magnitude of the image; the network has no part in it."""

    def __call__(self, module: InputModel, x: Tensor, target: Tensor | None, run: Run) -> Explained:
        """x (N,3,H,W) in [0, 1] -> values (N,H,W) in [0, 1]."""
        found = with_logits(sobel(x), module, x, target, run)
        return replace(found, floor=rounding(x.new_ones(len(x))))


METHODS.add(
    MethodSpec(
        name="edges",
        title="Edges",
        family="baseline",
        by_gradient=False,
        rank=92,
        source=Source(
            "Adebayo et al., Sanity Checks for Saliency Maps, NeurIPS 2018", "https://arxiv.org/abs/1810.03292"
        ),
        explainer=Edges,
        summary="The image's own edges: a map that looks like this may show the picture rather than the network.",
        per_class=False,
        caution="Not an explanation: a baseline for comparison.",
    )
)
