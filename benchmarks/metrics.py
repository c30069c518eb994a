"""Insertion, deletion and ROAD

Both curves of a few images by `xai.metrics.curves` as a page calls it (checks, ranks, lease and protocol included),
224 px, as a ratio to the floor of its own passes; `cpu` is the same in processor time. Beside it an own plain
derivation of RISE's evaluation (all images of one step in a batch, pixels replaced on the host) and torchcam's metric
(which also makes its map), both with the bare network in contiguous memory. The bf16 rows are a ratio to the float32
floor, with the largest AUC difference from float32. ROAD's ratio includes filling the holes. Weights are random but for
EfficientNet-Lite0.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import xai
from benchmarks._peers import as_peers_have_it, floor_of, quietly
from benchmarks._timing import interleaved
from xai.metrics import curves, get_protocol, precision_error, road
from xai.metrics.engine import BATCH
from xai.metrics.substrate import rise_kernel
from xai.models.batching import DEFAULT_BATCH
from xai.models.classifier import Classifier

FLOOR = (
    "the forward passes of the same positions, in the same batches and channels_last memory, on images made beforehand."
)

SIDE = 224


def batch_of(classifier: Classifier) -> int:
    """Images a forward pass, as the curves choose them."""
    kind = classifier.device.type
    return BATCH.get(kind, DEFAULT_BATCH[kind])


def sizes_of(images: int, inner: int, batch: int) -> list[int]:
    """Batches that both curves of one map take: whole images, blurred ones, the flat colour, and the positions."""
    whole, rest = divmod(2 * images * inner, batch)
    return [images, images, 1] + whole * [batch] + ([rest] if rest else [])


def plain_rise(net: nn.Module, x: Tensor, maps: Tensor, step: int) -> Callable[[], object]:
    """Both curves as RISE's evaluation is described: x normalised (N,3,H,W), a pass over the images a step."""
    weight = torch.zeros(3, 3, 11, 11)
    for channel in range(3):
        weight[channel, channel] = rise_kernel().float()
    order = np.flip(np.argsort(maps.numpy().reshape(len(maps), -1), axis=1), axis=-1)

    def one(start: Tensor, finish: Tensor, target: Tensor) -> np.ndarray[Any, Any]:
        current, end = start.numpy().copy().reshape(len(x), 3, -1), finish.numpy().reshape(len(x), 3, -1)
        total = current.shape[-1]
        scores = []
        rows = np.arange(len(x))[:, None]
        for done in range((total + step - 1) // step + 1):
            pictures = torch.from_numpy(current.reshape(x.shape))
            scores.append(net(pictures).softmax(1).gather(1, target[:, None])[:, 0].numpy())
            pixels = order[:, step * done : step * (done + 1)]
            for channel in range(3):
                current[rows, channel, pixels] = end[rows, channel, pixels]
        return np.stack(scores)

    def work() -> object:
        with torch.no_grad():
            target = net(x).argmax(1)
            return one(x, torch.zeros_like(x), target), one(F.conv2d(x, weight, padding=5), x, target)

    return work


def torchcams(net: nn.Module, layer: str, x: Tensor, points: int, batch: int) -> Callable[[], object]:
    """torchcam's deletion and insertion with as many positions."""
    from torchcam.methods import GradCAM
    from torchcam.metrics import DeletionInsertionMetric

    def work() -> object:
        with GradCAM(net, layer) as cam:
            metric = DeletionInsertionMetric(cam, lambda logits: logits.softmax(-1), steps=points - 1, batch_size=batch)
            metric.update(x)
            return metric.summary()

    return quietly(work)


def curve_rows(classifier: Classifier, protocol: str, images: int, repeats: int) -> list[dict[str, Any]]:
    """A float32 row beside the peers, and a bf16 row, all interleaved."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(images, 3, SIDE, SIDE, generator=generator)
    maps = torch.rand(images, SIDE, SIDE, generator=generator)
    counts = get_protocol(protocol).counts((SIDE, SIDE))
    batch = batch_of(classifier)
    sizes = sizes_of(images, len(counts) - 2, batch)
    fns: dict[str, Callable[[], object]] = {
        "floor": floor_of(classifier.module, sizes, x.to(classifier.device)),
        "ours": lambda: curves(classifier, x, {"map": maps}, protocol),
        "bf16": lambda: curves(classifier, x, {"map": maps}, protocol, precision="bf16"),
    }
    if classifier.device.type == "cpu":
        net, normal = as_peers_have_it(classifier, x)
        fns["plain RISE"] = plain_rise(net, normal, maps, counts[1])
        if importlib.util.find_spec("torchcam"):
            fns["torchcam"] = torchcams(net, classifier.default_layer, normal, len(counts), batch)
    found = interleaved(fns, repeats)
    floor = found["floor"]
    head = {"what": f"insertion + deletion, {protocol}", "network": classifier.title, "images": images}
    head |= {"passes": sum(sizes), "batch": batch}
    peers = {name: found[name].over(floor) for name in ("plain RISE", "torchcam") if name in found}
    exact: dict[str, Any] = {**head, "ratio": found["ours"].over(floor), "cpu": found["ours"].cpu_over(floor)}
    exact |= {"floor s": floor.wall, "images/s": images / found["ours"].wall, **peers, "target": "ratio <= 1.10"}
    rough: dict[str, Any] = {**head, "what": f"{head['what']}, bf16", "ratio": found["bf16"].over(floor)}
    rough |= {"cpu": found["bf16"].cpu_over(floor), "floor s": floor.wall, "images/s": images / found["bf16"].wall}
    errors = precision_error(classifier, x, {"map": maps}, protocol)
    rough |= {"AUC error": max(errors.values()), "target": "ratio <= 0.65"}
    return [exact, rough]


def road_row(classifier: Classifier, images: int, repeats: int) -> dict[str, Any]:
    """ROAD at nine fractions, most relevant first."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(images, 3, SIDE, SIDE, generator=generator)
    maps = xai.attribute(classifier, x, "gradcam").maps()
    batch = batch_of(classifier)
    whole, rest = divmod(9 * images, batch)
    sizes = [images] + whole * [batch] + ([rest] if rest else [])
    fns: dict[str, Callable[[], object]] = {
        "floor": floor_of(classifier.module, sizes, x.to(classifier.device)),
        "ours": lambda: road(classifier, x, maps),
    }
    found = interleaved(fns, repeats)
    floor, ours = found["floor"], found["ours"]
    row: dict[str, Any] = {"what": "ROAD", "network": classifier.title, "images": images, "passes": sum(sizes)}
    return row | {"batch": batch, "ratio": ours.over(floor), "cpu": ours.cpu_over(floor), "floor s": floor.wall}


def run(repeats: int, quick: bool) -> list[dict[str, Any]]:
    """Two networks at `rise`, one at `rise-row` and ROAD; `quick`: one network, one image. On a GPU many images."""
    small = xai.load_model("efficientnet_lite0")
    many = small.device.type == "cuda"
    if quick:
        return curve_rows(small, "rise", 1, repeats)
    if many:
        return gpu_rows(repeats)
    rows = curve_rows(xai.load_model("resnet50", "random:0"), "rise", 2, repeats)
    rows += curve_rows(small, "rise", 2, repeats) + curve_rows(small, "rise-row", 1, repeats)
    return [*rows, road_row(small, 2, repeats)]


def gpu_rows(repeats: int) -> list[dict[str, Any]]:
    """Study 1's networks on a GPU; "10,000 images" is the time for ImageNet-V2 whole by these rows, decoding aside."""
    rows: list[dict[str, Any]] = []
    for name in ("vgg16", "resnet50", "googlenet"):
        classifier = xai.load_model(name, "random:0")
        for protocol in ("study", "rise"):
            rows += curve_rows(classifier, protocol, 64, repeats)
    return [{**row, "10,000 images, min": 10_000 / row["images/s"] / 60} for row in rows]
