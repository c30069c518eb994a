"""CAMs by gradient

`xai.attribute` as a page calls it (checks, lease, provenance included), 224 px, for the predicted class, with a ratio
to the floor. `cpu` is the same in processor time. Peers get the bare network with parameters that want gradients and
contiguous memory, as their documentation shows; for batches only Grad-CAM is timed beside them. Eigen-CAM needs no
gradient and stands here because it costs a forward too. Weights are random but for EfficientNet-Lite0. At batch 1
two things exceed the floor: the check that a call left the network as it was, some 2 to 3 ms, which shows where a
forward takes 25 to 40 ms; and VGG16's head, whose 500 MB of weights are read again for the gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

import xai
from benchmarks._peers import as_peers_have_it, floor_of, quietly
from benchmarks._timing import interleaved
from xai.models.classifier import Classifier

FLOOR = "one forward pass of the same batch in channels_last memory, normalisation included, without a graph."

NETWORKS = ("efficientnet_lite0", "googlenet", "densenet121", "resnet50", "vgg16")
METHODS: Mapping[str, tuple[str | None, str | None]] = {
    # method: the class in torchcam, the class in pytorch-grad-cam
    "gradcam": ("GradCAM", "GradCAM"),
    "gradcam++": ("GradCAMpp", "GradCAMPlusPlus"),
    "xgradcam": ("XGradCAM", "XGradCAM"),
    "layercam": ("LayerCAM", "LayerCAM"),
    "hirescam": (None, "HiResCAM"),
    "eigencam": (None, "EigenCAM"),
}


def peers_of(
    classifier: Classifier, x: Tensor, targets: list[int], methods: list[str]
) -> dict[str, Callable[[], object]]:
    """ "peer method" -> one explanation of x by that peer, for the peers that are installed."""
    net, normal = as_peers_have_it(classifier, x)
    layer = net.get_submodule(classifier.default_layer)
    made: dict[str, Callable[[], object]] = {}
    for method in methods:
        torchcam, grad_cam = METHODS[method]
        if torchcam:
            made[f"torchcam {method}"] = by_torchcam(torchcam, net, classifier.default_layer, normal, targets)
        if grad_cam:
            made[f"pytorch-grad-cam {method}"] = by_grad_cam(grad_cam, net, layer, normal, targets)
    made["captum gradcam"] = by_captum(net, layer, normal, targets)
    return {name: quietly(work) for name, work in made.items()}


def by_captum(net: nn.Module, layer: nn.Module, x: Tensor, targets: list[int]) -> Callable[[], object]:
    from captum.attr import LayerGradCam

    return lambda: LayerGradCam(net, layer).attribute(x, targets, relu_attributions=True)


def by_torchcam(name: str, net: nn.Module, layer: str, x: Tensor, targets: list[int]) -> Callable[[], object]:
    import torchcam.methods

    def work() -> object:
        with getattr(torchcam.methods, name)(net, layer) as cam:
            return cam(targets, net(x))

    return work


def by_grad_cam(name: str, net: nn.Module, layer: nn.Module, x: Tensor, targets: list[int]) -> Callable[[], object]:
    import pytorch_grad_cam
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    def work() -> object:
        with getattr(pytorch_grad_cam, name)(model=net, target_layers=[layer]) as cam:
            return cam(input_tensor=x, targets=[ClassifierOutputTarget(target) for target in targets])

    return work


def rows_of(classifier: Classifier, batch: int, repeats: int) -> list[dict[str, Any]]:
    """One row a method, all candidates of this network and batch interleaved."""
    x = torch.rand(batch, 3, *classifier.input_size, generator=torch.Generator().manual_seed(0))
    targets = classifier.predict(x).argmax(1).tolist()
    fns: dict[str, Callable[[], object]] = {"floor": floor_of(classifier.module, [batch], x)}
    fns |= {name: lambda name=name: xai.attribute(classifier, x, name, targets) for name in METHODS}  # type: ignore[misc]
    fns |= peers_of(classifier, x, targets, list(METHODS) if batch == 1 else ["gradcam"])
    found = interleaved(fns, repeats)
    rows: list[dict[str, Any]] = []
    for method in METHODS:
        peers = {
            peer: found[f"{peer} {method}"].over(found["floor"])
            for peer in ("captum", "torchcam", "pytorch-grad-cam")
            if f"{peer} {method}" in found
        }
        ratio = found[method].over(found["floor"])
        row: dict[str, Any] = {"what": method, "network": classifier.title, "batch": batch, "ratio": ratio}
        row |= {"cpu": found[method].cpu_over(found["floor"]), "floor ms": 1000 * found["floor"].wall}
        row |= {peer: peers.get(peer) for peer in ("captum", "torchcam", "pytorch-grad-cam")}
        row["to the fastest peer"] = ratio / min(peers.values()) if peers else None
        row["target"] = "ratio <= 1.10" + ("; to the fastest peer < 1" if peers else "")
        rows.append(row)
    return rows


def run(repeats: int, quick: bool) -> list[dict[str, Any]]:
    """Every network at batch 1 and 16; `quick`: two networks at batch 1."""
    rows = []
    for name in NETWORKS[:2] if quick else NETWORKS:
        classifier = xai.load_model(name, "imagenet" if name == "efficientnet_lite0" else "random:0")
        for batch in (1,) if quick else (1, 16):
            rows += rows_of(classifier, batch, repeats)
    return rows
