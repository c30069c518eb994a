"""CAMs and maps by perturbation

Occlusion, RISE, Score-CAM and Ablation-CAM by `xai.attribute`, one image of 224 px, as a ratio to the floor of their
passes; `cpu` is the same in processor time. Score-CAM and Ablation-CAM at a layer of few maps, so that peers, which
take every map, end in reasonable time. Ablation-CAM's floor counts a whole pass for every map: it runs only what lies
above the layer and so falls below it. Peers get the bare network in contiguous memory and the same batch size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

import xai
from benchmarks._peers import as_peers_have_it, floor_of, quietly
from benchmarks._timing import interleaved
from xai.explain.spec import METHODS
from xai.models.batching import DEFAULT_BATCH
from xai.models.classifier import Classifier

FLOOR = "the method's forward passes in the default batches and channels_last memory, on images made beforehand."

LAYERS = {"efficientnet_lite0": "_blocks.10", "googlenet": "conv2"}
"""112 maps of 14 x 14; 64 maps of 56 x 56."""

WINDOW = {False: {"window": 32, "stride": 16}, True: {"window": 64, "stride": 40}}
"""Occlusion's windows, by `quick`: 169, or 25."""


def methods(classifier: Classifier, quick: bool) -> Mapping[str, tuple[dict[str, Any], int]]:
    """Parameters of each method, and its passes on one image."""
    layer = LAYERS[classifier.name]
    maps = next(found.channels for found in classifier.layers() if found.path == layer)
    masks = 32 if quick else 256
    occlusion = METHODS.get("occlusion")
    return {
        "occlusion": (dict(WINDOW[quick]), occlusion.passes(classifier, occlusion.explainer(**WINDOW[quick]))),
        "rise": ({"masks": masks}, masks + 1),
        "scorecam": ({"layer": layer}, maps + 1),
        "ablationcam": ({"layer": layer}, maps + 1),
    }


def peers_of(classifier: Classifier, x: Tensor, target: int, size: int, quick: bool) -> dict[str, Callable[[], object]]:
    """ "peer method" -> one explanation of x by that peer."""
    import pytorch_grad_cam
    import torchcam.methods
    from captum.attr import Occlusion
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    net, normal = as_peers_have_it(classifier, x)
    path = LAYERS[classifier.name]
    layer = net.get_submodule(path)

    def captum() -> object:
        window, stride = WINDOW[quick]["window"], WINDOW[quick]["stride"]
        return Occlusion(net).attribute(
            normal, (3, window, window), strides=(3, stride, stride), target=target, perturbations_per_eval=size
        )

    def torchcam_score() -> object:
        with torchcam.methods.ScoreCAM(net, path, batch_size=size) as cam, torch.no_grad():
            return cam(target, net(normal))

    def grad_cam(name: str) -> object:
        with getattr(pytorch_grad_cam, name)(model=net, target_layers=[layer]) as cam:
            cam.batch_size = size
            return cam(input_tensor=normal, targets=[ClassifierOutputTarget(target)])

    return {
        "captum occlusion": quietly(captum),
        "torchcam scorecam": quietly(torchcam_score),
        "pytorch-grad-cam scorecam": quietly(lambda: grad_cam("ScoreCAM")),
        "pytorch-grad-cam ablationcam": quietly(lambda: grad_cam("AblationCAM")),
    }


def rows_of(classifier: Classifier, repeats: int, quick: bool) -> list[dict[str, Any]]:
    """One row a method; a method, its floor and its peers are interleaved."""
    x = torch.rand(1, 3, *classifier.input_size, generator=torch.Generator().manual_seed(0))
    target = int(classifier.predict(x).argmax())
    size = DEFAULT_BATCH[classifier.device.type]
    peers = peers_of(classifier, x, target, size, quick)
    rows: list[dict[str, Any]] = []
    for method, (params, passes) in methods(classifier, quick).items():
        whole, rest = divmod(passes - 1, size)
        sizes = [1] + whole * [size] + ([rest] if rest else [])
        fns: dict[str, Callable[[], object]] = {
            "floor": floor_of(classifier.module, sizes, x),
            "ours": lambda m=method, p=params: xai.attribute(classifier, x, m, target, **p),  # type: ignore[misc]
        }
        fns |= {name.split()[0]: work for name, work in peers.items() if name.split()[1] == method}
        found = interleaved(fns, repeats)
        ratios = {name: timing.over(found["floor"]) for name, timing in found.items() if name not in ("floor", "ours")}
        ratio = found["ours"].over(found["floor"])
        row: dict[str, Any] = {"what": method, "network": classifier.title, "passes": passes, "batch": size}
        row |= {"ratio": ratio, "cpu": found["ours"].cpu_over(found["floor"]), "floor s": found["floor"].wall}
        row |= {peer: ratios.get(peer) for peer in ("captum", "torchcam", "pytorch-grad-cam")}
        row["to the fastest peer"] = ratio / min(ratios.values()) if ratios else None
        row["target"] = "ratio <= 1.10" + ("; to the fastest peer < 1" if ratios else "")
        rows.append(row)
    return rows


def run(repeats: int, quick: bool) -> list[dict[str, Any]]:
    """Two networks; `quick`: one of them, with fewer masks."""
    rows = []
    for name in ("googlenet",) if quick else ("googlenet", "efficientnet_lite0"):
        classifier = xai.load_model(name, "imagenet" if name == "efficientnet_lite0" else "random:0")
        rows += rows_of(classifier, repeats, quick)
    return rows
