"""What the tests of the CAMs share: explaining in the network's own precision, and a plain forward with its graph."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from xai.explain.spec import METHODS
from xai.models.classifier import Classifier, InputModel
from xai.models.hooks import look_at
from xai.types import Explained, Run

GRADIENT = ("gradcam", "gradcam++", "xgradcam", "layercam", "hirescam")
CAMS = (*GRADIENT, "eigencam", "scorecam", "ablationcam")


def explain(
    classifier: Classifier, x: Tensor, name: str, target: Tensor | None = None, layer: str | None = None, **params: Any
) -> Explained:
    """The explainer itself, in the network's own precision (`attribute` hands out float32)."""
    explainer = METHODS.get(name).explainer(layer=layer or classifier.default_layer, **params)
    with classifier.lease() as module:
        return explainer(module, x, target, Run())


def images(count: int, size: int = 64, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(3), dtype=dtype)


def correlation(a: Tensor, b: Tensor) -> float:
    return float(np.corrcoef(a.double().flatten().numpy(), b.double().flatten().numpy())[0, 1])


def look(classifier: Classifier, x: Tensor, layer: str) -> Tensor:
    with classifier.lease() as module:
        return look_at(module, module.net, layer, x)[0]


def whole_graph(classifier: Classifier, x: Tensor, target: Tensor, layer: str) -> tuple[np.ndarray, np.ndarray]:
    """Activation and gradient by a plain forward with a graph from the pixels on."""
    module = classifier.module
    kept: list[Tensor] = []
    handle = module.net.get_submodule(layer).register_forward_hook(lambda _m, _i, out: kept.append(out))
    try:
        logits = module(x.clone().requires_grad_())
    finally:
        handle.remove()
    (gradient,) = torch.autograd.grad(logits.gather(1, target[:, None]).sum(), kept[-1])
    return kept[-1].detach().numpy(), gradient.numpy()


def of(net: nn.Module, tiny64: Classifier, layer: str, size: int = 2) -> Classifier:
    """A classifier around `net` without normalisation (mean 0, std 1)."""
    module = InputModel(net, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)).double().eval().requires_grad_(False)
    return dataclasses.replace(
        tiny64, name="net", module=module, default_layer=layer, input_size=(size, size), labels=("a", "b"), _memo={}
    )


def images_through(classifier: Classifier, work: Callable[[], object]) -> int:
    """How many images pass the first layer of the network while `work` runs."""
    seen: list[int] = []
    handle = classifier.module.register_forward_pre_hook(lambda _m, inputs: seen.append(len(inputs[0])))
    try:
        work()
    finally:
        handle.remove()
    return sum(seen)
