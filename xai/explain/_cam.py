"""What the gradient CAMs share: one cut forward, and the gradient of the class score at the layer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from xai.errors import LayerError
from xai.explain._gradient import slope
from xai.models.batching import in_batches
from xai.models.classifier import Classifier, InputModel, find_layer
from xai.models.hooks import cut_at
from xai.models.layers import layout_at, near_layers, to_maps
from xai.types import Coverage, Explained, Run, one_each, resolve_target

Combine = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(activation (N,C,h,w), gradient (N,C,h,w), score (N,)) -> signed map (N,h,w), before the ReLU."""


def explain_at_layer(
    module: InputModel, x: Tensor, target: Tensor | None, layer: str | None, combine: Combine, run: Run
) -> Explained:
    """A CAM at `layer`: the forward is cut there, so the gradient costs only the part above it.

    The map stays at the layer's resolution, float32, unscaled; a ReLU keeps the part that speaks for the class.
    """
    path = layer or ""
    find_layer(module.net, path)
    chosen = one_each(target, len(x)) if target is not None else None

    def work(start: int, stop: int) -> tuple[Tensor, Tensor, Tensor]:
        return signed_map(module, x[start:stop], None if chosen is None else chosen[start:stop], path, combine)

    found = [part for _, _, part in in_batches(work, len(x), run, "class activation maps")]
    signed, logits, target = (torch.cat(column) for column in zip(*found, strict=True))
    return Explained(signed.clamp(min=0), logits, target, before_relu(signed))


def signed_map(
    module: InputModel, x: Tensor, target: Tensor | None, path: str, combine: Combine
) -> tuple[Tensor, Tensor, Tensor]:
    """One cut forward and the gradient above the cut: (map before the ReLU (N,h,w), logits (N,K), target (N,))."""
    activation, logits = cut_at(module, module.net, path, x)
    maps = maps_at(module, path, activation.detach())
    chosen = resolve_target(logits, target)
    score = logits.gather(1, chosen[:, None])[:, 0]
    gradient = slope(score.sum(), activation)
    if gradient is None:
        raise off_the_way(path)
    with torch.no_grad():
        return combine(maps, maps_at(module, path, gradient), score.detach()), logits.detach(), chosen


def off_the_way(path: str) -> LayerError:
    """The error for a layer that no class score depends on."""
    return LayerError(
        f"layer {path!r} is in a branch that the class score does not depend on, so it has no gradient; "
        "choose another layer."
    )


def each_image(
    explain: Callable[[Tensor, Tensor | None, Run], Explained], x: Tensor, target: Tensor | None, run: Run
) -> Explained:
    """Image after image, for methods whose passes fill the batches with one image: memory stays that of one image.

    explain(x (1,3,H,W), target (1,) or None, run) -> Explained whose facts are lists of one. Progress is told in passes
    as if every image took as many as the one at work.
    """
    chosen = one_each(target, len(x)) if target is not None else None
    found = []
    for index in range(len(x)):
        part = None if chosen is None else chosen[index : index + 1]
        found.append(explain(x[index : index + 1], part, nth_of(run, index, len(x))))
    values, logits, targets = (torch.cat([getattr(f, n) for f in found]) for n in ("values", "logits", "target"))
    facts = {name: [f.facts[name][0] for f in found] for name in found[0].facts}
    floors = [f.floor for f in found if f.floor is not None]
    return Explained(values, logits, targets, facts, torch.cat(floors) if floors else None)


def nth_of(run: Run, index: int, count: int) -> Run:
    """A run whose reports are those of the `index`-th of `count` equal parts."""
    return dataclasses.replace(
        run, on_progress=lambda done, total, note: run.on_progress(index * total + done, count * total, note)
    )


def maps_at(module: InputModel, path: str, activation: Tensor) -> Tensor:
    """The output of layer `path` as maps (N,C,h,w): a transformer's tokens are laid out on their grid.

    Raises `LayerError` where it is no stack of maps larger than 1 x 1.
    """
    if activation.dim() in (3, 4) and module.tokens is not None:
        layout = layout_at(module.net, path, activation, module.tokens)
        activation = to_maps(activation, layout, module.tokens)
    maps_required(path, activation)
    return activation


def maps_required(path: str, activation: Tensor) -> None:
    """Raise `LayerError` unless the activation is a stack of maps larger than 1 x 1."""
    if activation.dim() != 4 or min(activation.shape[-2:]) < 2:
        raise LayerError(
            f"layer {path!r} gives {tuple(activation.shape[1:])} for an image, not a stack of maps; "
            "choose a layer that gives maps."
        )


def before_relu(signed: Tensor) -> Mapping[str, Any]:
    """Lowest and highest value before the ReLU, per image: why a map is blank."""
    flat = signed.flatten(1)
    return {"lowest": flat.amin(1).tolist(), "highest": flat.amax(1).tolist()}


def channels_at(classifier: Classifier, explainer: Any) -> int:
    """Number of feature maps at the explainer's layer; raises `LayerError` where the layer gives none."""
    path = explainer.layer or classifier.default_layer
    classifier.layer(path)
    found = next((layer.channels for layer in classifier.layers(True, aside=True) if layer.path == path), None)
    if found is None:
        near = near_layers(path, classifier.layers(tokens=True))
        raise LayerError(f"layer {path!r} of {classifier.title} gives no stack of maps; {near}.")
    return found


def cam_coverage(classifier: Classifier, explainer: Any) -> Coverage:
    """A CAM needs a layer that gives maps; says how many cells it will have."""
    path = explainer.layer or classifier.default_layer
    size = next((layer.size for layer in classifier.layers(True, aside=True) if layer.path == path), None)
    if size is None:
        classifier.layer(path)  # a path that does not exist gets its own message
        none = f"layer {path!r} of {classifier.title} gives no stack of maps"
        return Coverage("refused", limits=(none, near_layers(path, classifier.layers(tokens=True))))
    return Coverage("full", limits=(f"{size[0]} x {size[1]} cells at {path}",))
