"""Gradient methods

`xai.attribute` as a page calls it (checks, lease, provenance included), 224 px, for one class, as a ratio to the floor;
`cpu` is the same in processor time. Peers get the bare network with parameters that want gradients and contiguous
memory, and rectifiers that are modules and not in place, as they need them; pytorch-grad-cam explains one image at a
time. Guided Grad-CAM runs the part above its layer backward twice, so it has no target. Weights are random but for
EfficientNet-Lite0, whose ReLU6 the peers do not guide: they are not timed there for guided backprop and deconvnet.
Guided backprop passes over each rectifier's gradient twice (the network's own gate, then the sign), which shows where
convolutions are as light as EfficientNet-Lite0's at batch 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.googlenet import BasicConv2d

import xai
from benchmarks._peers import as_peers_have_it, quietly
from benchmarks._timing import interleaved
from xai.models.batching import DEFAULT_BATCH
from xai.models.classifier import Classifier, InputModel

FLOOR = (
    "forward and backward to the input in channels_last memory, parameters frozen, at the same batch; for integrated "
    "gradients and SmoothGrad as many of them as there are steps or samples, in the default batches, and the forward "
    "passes that give the prediction and the baseline's score."
)

PEERS = ("captum", "zennit", "pytorch-grad-cam")
SINGLE = ("saliency", "inputxgradient", "guided_backprop", "deconvnet", "guided_gradcam")
TARGET = 7
STEPS, SAMPLES = 32, 16

Work = Callable[[], object]


def floor_of(module: InputModel, x: Tensor, backwards: list[int], forwards: int = 0) -> Work:
    """Forward and backward to the input over batches of these sizes, after one forward of `forwards` images."""
    batches = [x[:1].repeat(size, 1, 1, 1) if size != len(x) else x for size in backwards]
    first = x[:1].repeat(forwards, 1, 1, 1)

    def work() -> None:
        if forwards:
            with torch.no_grad():
                module(first)
        for batch in batches:
            leaf = batch.detach().requires_grad_()
            torch.autograd.grad(module(leaf)[:, TARGET].sum(), leaf)

    return work


def with_modules(net: nn.Module) -> nn.Module:
    """Rectifiers as modules that are not in place: without that captum and zennit raise or miss them."""
    for parent in list(net.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.ReLU):
                setattr(parent, name, nn.ReLU())
            elif isinstance(child, BasicConv2d):
                setattr(parent, name, nn.Sequential(child.conv, child.bn, nn.ReLU()))
    return net


def peers_of(classifier: Classifier, x: Tensor) -> dict[tuple[str, str], Work]:
    """(method, peer) -> one explanation of the batch x by that peer."""
    import captum.attr as captum

    net, normal = as_peers_have_it(classifier, x)
    net = with_modules(net)
    layer = net.get_submodule(classifier.default_layer)
    start = torch.zeros_like(normal)

    def leaf() -> Tensor:
        return normal.detach().requires_grad_()

    made: dict[tuple[str, str], Work] = {
        ("saliency", "captum"): lambda: captum.Saliency(net).attribute(leaf(), target=TARGET),
        ("inputxgradient", "captum"): lambda: captum.InputXGradient(net).attribute(leaf(), target=TARGET),
    }
    if len(x) == 1:
        size = DEFAULT_BATCH[classifier.device.type]
        made |= {
            ("integrated_gradients", "captum"): lambda: captum.IntegratedGradients(net).attribute(
                normal, start, target=TARGET, n_steps=STEPS, internal_batch_size=size
            ),
            ("smoothgrad", "captum"): lambda: captum.NoiseTunnel(captum.Saliency(net)).attribute(
                normal, nt_samples=SAMPLES, nt_samples_batch_size=size, stdevs=0.15, target=TARGET, abs=False
            ),
            ("integrated_gradients", "zennit"): lambda: by_zennit(net, normal, "IntegratedGradients", n_iter=STEPS),
            ("smoothgrad", "zennit"): lambda: by_zennit(net, normal, "SmoothGrad", noise_level=0.15, n_iter=SAMPLES),
        }
    if classifier.name != "efficientnet_lite0":
        made |= {
            ("guided_backprop", "captum"): lambda: captum.GuidedBackprop(net).attribute(leaf(), target=TARGET),
            ("deconvnet", "captum"): lambda: captum.Deconvolution(net).attribute(leaf(), target=TARGET),
            ("guided_gradcam", "captum"): lambda: captum.GuidedGradCam(net, layer).attribute(leaf(), target=TARGET),
            ("guided_backprop", "zennit"): lambda: by_zennit(net, normal, "Gradient", composite="GuidedBackprop"),
            ("deconvnet", "zennit"): lambda: by_zennit(net, normal, "Gradient", composite="DeconvNet"),
            ("guided_backprop", "pytorch-grad-cam"): lambda: by_grad_cam(net, normal),
        }
    return {key: quietly(work) for key, work in made.items()}


def by_zennit(net: nn.Module, x: Tensor, attributor: str, composite: str = "", **options: Any) -> object:
    import zennit.attribution
    import zennit.composites

    rules = getattr(zennit.composites, composite)() if composite else None
    with getattr(zennit.attribution, attributor)(model=net, composite=rules, **options) as attribute:
        return attribute(x, lambda logits: torch.eye(logits.shape[1])[[TARGET] * len(logits)])


def by_grad_cam(net: nn.Module, x: Tensor) -> object:
    from pytorch_grad_cam import GuidedBackpropReLUModel

    model = GuidedBackpropReLUModel(net, x.device)
    return [model(each[None], target_category=TARGET) for each in x]


def row_of(
    classifier: Classifier, method: str, floor: Work, x: Tensor, peers: dict[tuple[str, str], Work], repeats: int
) -> dict[str, Any]:
    """One method, its floor and its peers, interleaved."""
    fns: dict[str, Work] = {"floor": floor, "ours": lambda: xai.attribute(classifier, x, method, TARGET)}
    fns |= {peer: work for (name, peer), work in peers.items() if name == method}
    found = interleaved(fns, repeats)
    ratio = found["ours"].over(found["floor"])
    ratios = {name: timing.over(found["floor"]) for name, timing in found.items() if name not in ("floor", "ours")}
    row: dict[str, Any] = {"what": method, "network": classifier.title, "batch": len(x)}
    row |= {"ratio": ratio, "cpu": found["ours"].cpu_over(found["floor"]), "floor s": found["floor"].wall}
    row |= {peer: ratios.get(peer) for peer in PEERS}
    if method != "guided_gradcam":
        row["target"] = "ratio <= 1.15" if method in SINGLE else "ratio <= 1.10"
    return row


def rows_of(classifier: Classifier, batch: int, repeats: int, quick: bool) -> list[dict[str, Any]]:
    """One row a method for one network and batch; the methods of many passes for one image of the lighter networks."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(batch, 3, *classifier.input_size, generator=generator).to(classifier.device)
    peers = {} if quick else peers_of(classifier, x)
    module, size = classifier.module, DEFAULT_BATCH[classifier.device.type]
    rows = [row_of(classifier, method, floor_of(module, x, [batch]), x, peers, repeats) for method in SINGLE]
    if batch == 1 and not quick and classifier.name != "resnet50":
        for method, count, forwards in (("integrated_gradients", STEPS, 2), ("smoothgrad", SAMPLES, 1)):
            whole, rest = divmod(count, size)
            floor = floor_of(module, x, [size] * whole + [rest] * (rest > 0), forwards)
            rows.append(row_of(classifier, method, floor, x, peers, repeats))
    return rows


def run(repeats: int, quick: bool) -> list[dict[str, Any]]:
    """Three networks at batch 1 and 4; `quick`: EfficientNet-Lite0 at batch 1 without peers."""
    if quick:
        return rows_of(xai.load_model("efficientnet_lite0"), 1, repeats, quick)
    cases = (("efficientnet_lite0", 1), ("resnet50", 1), ("resnet50", 4), ("googlenet", 1), ("googlenet", 4))
    rows = []
    for name, batch in cases:
        classifier = xai.load_model(name, "imagenet" if name == "efficientnet_lite0" else "random:0")
        rows += rows_of(classifier, batch, repeats, quick)
    return rows
