"""Ablation-CAM."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from xai.devices import out_of_memory
from xai.explain._cam import before_relu, cam_coverage, channels_at, each_image, maps_at
from xai.explain.spec import METHODS, MethodSpec
from xai.models.batching import DEFAULT_BATCH, in_batches
from xai.models.classifier import Classifier, InputModel, find_layer
from xai.models.hooks import look_at, resume_at
from xai.models.layers import by_channel, layout_at
from xai.params import Parameters
from xai.registry import Source
from xai.types import Explained, Run, resolve_target, rounding

HELD = {"cpu": 2**24, "cuda": 2**27}
"""Values of ablated activations held at a time, by device type."""

TRIALS = 3
"""Passes spent on the image itself and on finding out whether one image may stand for a batch below the layer."""


def batch_size(maps: int, values: int, device: str) -> int:
    """Ablations a forward: those that `HELD` allows for activations of `values` values, and not fewer than usual."""
    return min(maps, max(DEFAULT_BATCH.get(device, 16), HELD.get(device, 2**24) // values))


@dataclass(frozen=True)
class AblationCAM(Parameters):
    """L = ReLU(sum_k w_k A_k) with w_k = (y_c - y_c without A_k) / |y_c|, y_c the logit of the class.

    Without A_k means that the map is zero while the others stay. The paper divides by y_c; where the logit is negative
    that would turn the map into its opposite, hence |y_c|.

    Only what lies above the layer is run for every map: below it, one image stands for the batch. Whether a network
    allows that is tried before it is used; if not, whole passes are made, with the same result (`shared` in the facts).
    A map that is zero everywhere needs no pass: taking it away changes nothing.
    """

    layer: str | None = None

    def __call__(self, module: InputModel, x: Tensor, target: Tensor | None, run: Run) -> Explained:
        """x (N,3,H,W) in [0, 1] -> values (N,h,w) at the layer's resolution, not negative."""
        path = self.layer or ""
        find_layer(module.net, path)
        with torch.no_grad():
            return each_image(lambda one, chosen, part: self._one(module, path, one, chosen, part), x, target, run)

    def _one(self, module: InputModel, path: str, x: Tensor, target: Tensor | None, run: Run) -> Explained:
        activation, logits, runs = look_at(module, module.net, path, x)
        maps = maps_at(module, path, activation)
        layout = layout_at(module.net, path, activation, module.tokens)
        chosen = resolve_target(logits, target)
        shared = one_stands_for_all(module, path, x, activation, logits, runs)
        live = maps[0].flatten(1).any(1).nonzero()[:, 0]
        score = logits[0, chosen]
        without = score.repeat(maps.shape[1])

        def work(start: int, stop: int) -> Tensor:
            count = stop - start
            part = activation.repeat(count, *[1] * (activation.dim() - 1))
            by_channel(part, layout, module.tokens)[torch.arange(count, device=part.device), live[start:stop]] = 0
            below = x if shared else x.expand(count, -1, -1, -1)
            return resume_at(module, module.net, path, below, part, runs)[:, chosen[0]]

        size = batch_size(len(live), activation.numel(), x.device.type) if shared else None
        for start, stop, found in in_batches(work, len(live), run, "maps taken away", size):
            without[live[start:stop]] = found
        weights = (score - without) / torch.where(score == 0, 1, score.abs())
        signed = torch.einsum("k,nkhw->nhw", weights, maps)
        facts = {**before_relu(signed), "scored": [len(live)], "shared": [shared]}
        mass = maps.abs().sum(1).amax((1, 2))
        floor = rounding(logits.abs().amax(1) / torch.where(score == 0, 1, score.abs()) * mass, 10.0)
        return Explained(signed.clamp(min=0), logits, chosen, facts, floor)


def one_stands_for_all(module: InputModel, path: str, x: Tensor, activation: Tensor, logits: Tensor, runs: int) -> bool:
    """May one image below the layer stand for a batch above it?

    Two activations, the real one and one without every second map, are put in as a batch over one image, and compared
    with the same two put in one at a time. Networks that mix tensors from below and above the layer in other ways than
    broadcasting raise, or give another number of images, or other logits.
    """
    other = activation.clone()
    other[:, ::2] = 0
    alone = resume_at(module, module.net, path, x, other.clone(), runs)
    try:
        both = resume_at(module, module.net, path, x, torch.cat([activation, other]), runs)
    except RuntimeError as error:
        if out_of_memory(error):
            raise
        return False
    expected = torch.cat([logits, alone])
    if both.shape != expected.shape:
        return False
    near = 1e4 * torch.finfo(both.dtype).eps * float(expected.abs().max())
    return float((both - expected).abs().max()) <= near


class Multiplications(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the multiplications of convolutions and matrix products in this thread (torch's own count, in FLOP)."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        count = flop_registry.get(func._overloadpacket)
        self.total += count(*args, **(kwargs or {}), out_val=out) if count else 0
        return out


def share_above(classifier: Classifier, path: str) -> float:
    """The share of a forward's multiplications that lie above layer `path`, counted once and kept."""
    key = f"share above {path}"
    if key not in classifier._memo:
        below: list[int] = []
        owner = threading.get_ident()
        x = torch.full(
            (1, 3, *classifier.input_size), 0.5, device=classifier.device, dtype=classifier.module.mean.dtype
        )
        with classifier.lease() as module, torch.no_grad(), Multiplications() as counter:
            handle = find_layer(module.net, path).register_forward_hook(
                lambda *_: below.append(counter.total) if threading.get_ident() == owner else None
            )
            try:
                module(x)
            finally:
                handle.remove()
        classifier._memo[key] = 1 - below[-1] / counter.total
    share: float = classifier._memo[key]
    return share


def passes(classifier: Classifier, explainer: Any) -> int:
    """Whole passes that the work amounts to where one image may stand for a batch: trials, once below the layer for
    each batch, and above the layer for each map, by their share of a pass's multiplications."""
    path = explainer.layer or classifier.default_layer
    maps = channels_at(classifier, explainer)
    size = next(layer.size for layer in classifier.layers(True, aside=True) if layer.path == path)
    batches = math.ceil(maps / batch_size(maps, maps * size[0] * size[1], classifier.device.type))
    share = share_above(classifier, path)
    return TRIALS + math.ceil(batches * (1 - share) + maps * share)


METHODS.add(
    MethodSpec(
        name="ablationcam",
        title="Ablation-CAM",
        family="cam",
        by_gradient=False,
        rank=17,
        source=Source("Desai & Ramaswamy, Ablation-CAM, WACV 2020", "https://doi.org/10.1109/WACV45572.2020.9093360"),
        explainer=AblationCAM,
        summary="Weights each feature map by how far the class score falls when the map is taken away.",
        coverage=cam_coverage,
        passes=passes,
    )
)
