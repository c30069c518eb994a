"""LRP

`xai.attribute` as a page calls it (checks, lease, provenance included), 224 px, for the predicted class, down to the
pixels, as a ratio to the floor; `cpu` is the same in processor time. zennit gets a frozen copy in channels_last memory
and its canonizer (batch norm merged, sums split), where it has one; captum's LRP is timed where it runs at all, though
what it gives on ResNet50 is far from the score. "-" is a network that the peer does not explain. Weights are random.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import xai
from benchmarks._peers import quietly
from benchmarks._timing import interleaved
from xai.models.classifier import Classifier, InputModel

FLOOR = "one forward + backward of the class score to the pixels."
TARGETS = {"epsilon-plus-flat": 3, "epsilon-gamma-box": 5}
NETWORKS = ("resnet50", "vgg16", "googlenet", "densenet121", "mobilenet_v3_large", "efficientnet_lite0")
BATCHES = {"resnet50": (1, 4)}


def run(repeats: int, quick: bool) -> list[dict[str, Any]]:
    """Rows: a composite on a network, as a ratio to forward + backward, beside zennit and captum."""
    rows = []
    for network in NETWORKS[:1] if quick else NETWORKS:
        classifier = xai.load_model(network, "random:0", "cpu")
        for batch in (1,) if quick else BATCHES.get(network, (4,)):
            x = torch.rand((batch, 3, 224, 224), generator=torch.Generator().manual_seed(0))
            rows += measure(classifier, x, repeats)
    return rows


def measure(classifier: Classifier, x: Tensor, repeats: int) -> list[dict[str, Any]]:
    """The rows of one network and batch size; everything takes turns."""
    network, module = classifier.name, classifier.module
    fns: dict[str, Callable[[], object]] = {"floor": lambda: forward_backward(module, x)}
    for composite in TARGETS:
        fns[composite] = lambda composite=composite: xai.attribute(classifier, x, "lrp", composite=composite)
        peer = zennit_peer(network, module, x, composite)
        if peer is not None:
            fns[f"zennit {composite}"] = quietly(peer)
    peer = captum_peer(module, x)
    if peer is not None:
        fns["captum"] = quietly(peer)
    times = interleaved(fns, repeats)
    floor = times["floor"]

    def ratio(name: str) -> float | None:
        return times[name].over(floor) if name in times else None

    return [
        {
            "what": composite,
            "network": network,
            "batch": len(x),
            "ratio": ratio(composite),
            "cpu": times[composite].cpu_over(floor),
            "zennit": ratio(f"zennit {composite}"),
            "captum": ratio("captum"),
            "target": f"ratio <= {most}",
        }
        for composite, most in TARGETS.items()
    ]


def forward_backward(module: InputModel, x: Tensor) -> Tensor:
    """The floor."""
    pixels = x.clone().requires_grad_()
    return torch.autograd.grad(module(pixels).amax(1).sum(), pixels)[0]


def zennit_peer(network: str, module: InputModel, x: Tensor, composite: str) -> Callable[[], object] | None:
    """zennit on a copy of the network, or None where it is not installed or has no canonizer."""
    try:
        from zennit.attribution import Gradient
        from zennit.composites import EpsilonGammaBox, EpsilonPlusFlat
        from zennit.torchvision import ResNetCanonizer, VGGCanonizer
    except ImportError:
        return None
    canonizers = {"resnet50": ResNetCanonizer, "vgg16": VGGCanonizer}
    if network not in canonizers:
        return None
    low, high = ((end - module.mean) / module.std for end in (0, 1))
    rest = {"canonizers": [canonizers[network]()]}
    if composite == "epsilon-plus-flat":
        chosen: Any = EpsilonPlusFlat(**rest)
    else:
        chosen = EpsilonGammaBox(low=low.expand_as(x), high=high.expand_as(x), **rest)
    net = copy.deepcopy(module.net)

    def explain() -> object:
        pixels = ((x - module.mean) / module.std).contiguous(memory_format=torch.channels_last).requires_grad_()
        with Gradient(model=net, composite=chosen) as attributor:
            return attributor(pixels, lambda out: F.one_hot(out.argmax(1), out.shape[1]) * out)

    return explain


def captum_peer(module: InputModel, x: Tensor) -> Callable[[], object] | None:
    """captum's LRP on a copy of the network, or None where it is not installed or raises."""
    try:
        from captum.attr import LRP as CaptumLRP  # noqa: N811 (captum's own name)
    except ImportError:
        return None
    net = copy.deepcopy(module.net).requires_grad_(True)
    for part in net.modules():
        if isinstance(part, nn.ReLU | nn.Hardswish | nn.ReLU6):
            part.inplace = False

    def explain() -> object:
        pixels = ((x - module.mean) / module.std).contiguous(memory_format=torch.channels_last).requires_grad_()
        target = torch.zeros(len(x), dtype=torch.int64)
        return CaptumLRP(net).attribute(pixels, target=target)

    try:
        explain()
    except (TypeError, RuntimeError, AssertionError):
        return None
    return explain
