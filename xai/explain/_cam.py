"""What the gradient CAMs share: one cut forward, and the gradient of the class score at the layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from xai.errors import LayerError
from xai.hooks import cut_at
from xai.models.classifier import Classifier, InputModel, find_layer
from xai.types import Coverage, Explained, resolve_target

Combine = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(activation (N,C,h,w), gradient (N,C,h,w), score (N,)) -> signed map (N,h,w), before the ReLU."""


def explain_at_layer(
    module: InputModel, x: Tensor, target: Tensor | None, layer: str | None, combine: Combine, relu: bool = True
) -> Explained:
    """A CAM at `layer`: the forward is cut there, so the gradient costs only the part above it.

    The map stays at the layer's resolution, float32, unscaled; `relu` keeps the part that speaks for the class.
    """
    path = layer or ""
    find_layer(module.net, path)
    activation, logits = cut_at(module, module.net, path, x)
    maps_required(path, activation)
    chosen = resolve_target(logits, target)
    score = logits.gather(1, chosen[:, None])[:, 0]
    (gradient,) = torch.autograd.grad(score.sum(), activation)
    with torch.no_grad():
        signed = combine(activation.detach(), gradient, score.detach())
        values = signed.clamp(min=0) if relu else signed
    return Explained(values, logits.detach(), chosen, before_relu(signed))


def maps_required(path: str, activation: Tensor) -> None:
    """Raise `LayerError` unless the activation is a stack of maps larger than 1 x 1."""
    if activation.dim() != 4 or min(activation.shape[-2:]) < 2:
        raise LayerError(
            f"layer {path!r} gives {tuple(activation.shape[1:])} for an image, not a stack of maps; "
            "choose a convolutional layer."
        )


def before_relu(signed: Tensor) -> Mapping[str, Any]:
    """Lowest and highest value before the ReLU, per image: why a map is blank."""
    flat = signed.flatten(1)
    return {"lowest": flat.amin(1).tolist(), "highest": flat.amax(1).tolist()}


def cam_coverage(classifier: Classifier, explainer: Any) -> Coverage:
    """A CAM needs a layer that gives maps; how many cells it will have is said."""
    path = explainer.layer or classifier.default_layer
    size = next((layer.size for layer in classifier.layers() if layer.path == path), None)
    if size is None:
        classifier.layer(path)  # a path that does not exist gets its own message
        return Coverage("refused", limits=(f"layer {path} of {classifier.title} gives no stack of maps",))
    return Coverage("full", limits=(f"{size[0]} x {size[1]} cells at {path}",))
