"""What the tests of the gradient methods share."""

from __future__ import annotations

import torch
from torch import Tensor

from xai.explain.call import make_explainer
from xai.explain.spec import METHODS, Explainer

GRADIENTS = (
    "saliency", "inputxgradient", "guided_backprop", "guided_gradcam", "deconvnet", "integrated_gradients", "smoothgrad"
)  # fmt: skip


def pixels(count: int, size: int = 64, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(
        dtype
    )


def explainer_of(name: str, **params: object) -> Explainer:
    return make_explainer(METHODS.get(name), "relu2", **params)
