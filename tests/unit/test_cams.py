"""The CAMs against numbers worked out by hand, derivations on whole graphs, and peers where they are right."""

from __future__ import annotations

import copy
import dataclasses
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import xai
from xai.errors import InputError, LayerError, NotApplicableError
from xai.explain import (
    ablationcam,
    eigencam,
    gradcam,
    gradcam_plusplus,
    hirescam,
    layercam,
    scorecam,
    xgradcam,
)
from xai.explain._cam import signed_map
from xai.explain._spec import METHODS
from xai.hooks import look_at
from xai.models.classifier import Classifier, InputModel
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


# --- by hand -----------------------------------------------------------------------------------------------------

A = torch.tensor([[[1.0, 2.0], [0.0, 1.0]], [[0.0, 4.0], [0.0, 0.0]]], dtype=torch.float64)[None]
G = torch.tensor([[[2.0, -1.0], [3.0, 0.0]], [[0.5, 1.0], [-2.0, 0.5]]], dtype=torch.float64)[None]
BY_HAND: list[tuple[Callable[[Tensor, Tensor, Tensor], Tensor], list[list[float]]]] = [
    # means of the gradients: 4/4 and 0/4
    (gradcam.combine, [[1.0, 2.0], [0.0, 1.0]]),
    # both maps sum to 4; 2/(2+8) + 3/(2+12) = 29/70 and .5/(2+2) + 1/(2+4) + .5/(2+2) = 5/12
    (gradcam_plusplus.combine, [[29 / 70, 58 / 70 + 20 / 12], [0.0, 29 / 70]]),
    # both maps sum to 4, and the products with the gradients to 0 and 4
    (xgradcam.combine, [[0.0, 4.0], [0.0, 0.0]]),
    (layercam.combine, [[2.0, 4.0], [0.0, 0.0]]),
    (hirescam.combine, [[2.0, 2.0], [0.0, 0.0]]),
]


@pytest.mark.parametrize(("combine", "expected"), BY_HAND, ids=[c.__module__.split(".")[-1] for c, _ in BY_HAND])
def test_formula_by_hand(combine: Callable[[Tensor, Tensor, Tensor], Tensor], expected: list[list[float]]) -> None:
    found = combine(A, G, torch.tensor([1.0]))
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64)[None], rtol=0, atol=1e-15)


@pytest.mark.parametrize("combine", [gradcam_plusplus.combine, xgradcam.combine])
def test_dead_and_singular_maps_get_no_weight(combine: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    dead = torch.zeros_like(A)
    assert combine(dead, G, torch.ones(1)).tolist() == dead.sum(1).tolist()
    cancelling = torch.tensor([[[[-1.0, 1.0], [-1.0, 0.0]], [[2.0, -2.0], [1.0, -1.0]]]])  # sums -1 and 0
    pole = torch.full_like(cancelling, 2.0)  # 2 + g * sum = 0 for the first map
    assert bool(torch.isfinite(combine(cancelling, pole, torch.ones(1))).all())


def test_gradcam_plusplus_does_not_lose_small_gradients() -> None:
    # With a constant of 1e-6 beside g^2, a gradient of 1e-4 would count 1/50 of what it should.
    found = gradcam_plusplus.combine(A, G * 1e-4, torch.ones(1))
    expected = sum(
        (g * 1e-4).clamp(min=0).div(2 + g * 1e-4 * a.sum()).sum() * a for a, g in zip(A[0], G[0], strict=True)
    )
    torch.testing.assert_close(found[0], expected, rtol=1e-12, atol=0)


def test_hirescam_sums_to_the_logit_without_its_bias(tiny64: Classifier) -> None:
    x = images(2)
    net = tiny64.module.net
    logits = tiny64.module(x)
    signed: list[Tensor] = []

    def keep(activation: Tensor, gradient: Tensor, score: Tensor) -> Tensor:
        signed.append(hirescam.combine(activation, gradient, score))
        return signed[-1]

    with tiny64.lease() as module:
        signed_map(module, x, torch.tensor([1, 4]), "relu2", keep)
    expected = logits[[0, 1], [1, 4]] - net.get_submodule("fc").bias[[1, 4]]
    torch.testing.assert_close(signed[0].sum((1, 2)), expected, rtol=1e-10, atol=1e-10)


# --- whole graph, float64 ------------------------------------------------------------------------------------------


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


def by_loops(name: str, a: np.ndarray, g: np.ndarray) -> np.ndarray:
    """The formula of one image, (C,h,w) x 2 -> (h,w), as the paper writes it."""
    out = np.zeros(a.shape[1:])
    for ak, gk in zip(a, g, strict=True):
        if name == "gradcam":
            out += gk.mean() * ak
        elif name == "gradcam++":
            alpha = np.divide(gk**2, 2 * gk**2 + ak.sum() * gk**3, out=np.zeros_like(gk), where=gk > 0)
            out += (alpha * np.maximum(gk, 0)).sum() * ak
        elif name == "xgradcam":
            out += (ak / ak.sum() * gk).sum() * ak if ak.sum() else 0
        elif name == "layercam":
            out += np.maximum(gk, 0) * ak
        elif name == "hirescam":
            out += gk * ak
    return np.maximum(out, 0)


@pytest.mark.parametrize("layer", ["relu2", "pool", "relu1"])
@pytest.mark.parametrize("name", GRADIENT)
def test_gradient_cam_equals_the_whole_graph(tiny64: Classifier, name: str, layer: str) -> None:
    x, target = images(3), torch.tensor([4, 0, 2])
    a, g = whole_graph(tiny64, x, target, layer)
    found = explain(tiny64, x, name, target, layer)
    expected = np.stack([by_loops(name, ai, gi) for ai, gi in zip(a, g, strict=True)])
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(found.values.numpy(), expected, rtol=1e-9, atol=1e-14)
    assert found.values.shape[1:] == a.shape[2:]


@pytest.mark.parametrize("layer", ["relu2", "relu1"])  # 12 maps of 256 cells; 8 maps of 1024 cells
def test_eigencam_is_the_first_singular_vector(tiny64: Classifier, layer: str) -> None:
    x = images(2)
    a, _ = whole_graph(tiny64, x, torch.tensor([0, 0]), layer)
    found = explain(tiny64, x, "eigencam", layer=layer)
    for ai, values in zip(a, found.values.numpy(), strict=True):
        rows = ai.reshape(len(ai), -1).T
        rows = rows - rows.mean(0)
        first = (rows @ np.linalg.svd(rows)[2][0]).reshape(ai.shape[1:])
        first *= np.sign((first * ai.mean(0)).sum())  # the first component has mean zero
        np.testing.assert_allclose(values, np.maximum(first, 0), rtol=1e-8, atol=1e-10)


def test_eigencam_with_more_maps_than_cells() -> None:
    maps = torch.randn(40, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rows = maps.flatten(1).T - maps.flatten(1).T.mean(0)
    u, s, _ = torch.linalg.svd(rows, full_matrices=False)
    expected = (u[:, 0] * s[0]).view(3, 4)
    expected = expected * torch.sign((expected * maps.mean(0)).sum())
    torch.testing.assert_close(eigencam.first_component(maps), expected)


def test_eigencam_of_constant_maps_is_zero() -> None:
    assert eigencam.first_component(torch.full((3, 4, 4), 2.0)).abs().max() == 0


@pytest.mark.parametrize("negative", [False, True])
def test_ablationcam_equals_whole_passes(tiny64: Classifier, negative: bool) -> None:
    x = images(2)
    logits = tiny64.module(x)
    target = logits.argmin(1) if negative else logits.argmax(1)
    score = logits.gather(1, target[:, None])[:, 0]
    assert bool((score < 0).all() if negative else (score > 0).all())
    a, _ = whole_graph(tiny64, x, target, "relu1")
    net = tiny64.module.net
    expected = []
    for n in range(2):
        total = np.zeros(a.shape[2:])
        for k in range(a.shape[1]):
            part = torch.tensor(a[n : n + 1])
            part[:, k] = 0
            h = net.get_submodule("pool")(part)
            h = net.get_submodule("relu2")(net.get_submodule("bn2")(net.get_submodule("conv2")(h)))
            without = net.get_submodule("fc")(h.mean((2, 3)))[0, target[n]]
            total += float((score[n] - without) / score[n].abs()) * a[n, k]
        expected.append(np.maximum(total, 0))
    found = explain(tiny64, x, "ablationcam", target, "relu1")
    np.testing.assert_allclose(found.values.numpy(), np.stack(expected), rtol=1e-9, atol=1e-14)
    assert found.facts["shared"] == [True, True]


def test_scorecam_equals_the_formula(tiny64: Classifier) -> None:
    x, target = images(2), torch.tensor([3, 1])
    a, _ = whole_graph(tiny64, x, target, "relu2")
    module = tiny64.module
    normal = (x - module.mean) / module.std
    found = explain(tiny64, x, "scorecam", target)
    for n in range(2):
        maps = torch.tensor(a[n])
        scores = []
        for one in maps:
            mask = F.interpolate(one[None, None], (64, 64), mode="bilinear", align_corners=False)
            mask = torch.zeros_like(mask) if one.max() == one.min() else (mask - mask.min()) / (mask.max() - mask.min())
            scores.append(float(module.net(normal[n : n + 1] * mask)[0, target[n]]))
        weights = np.exp(scores) / np.exp(scores).sum()
        expected = np.maximum((weights[:, None, None] * a[n]).sum(0), 0)
        np.testing.assert_allclose(found.values[n].numpy(), expected, rtol=1e-9, atol=1e-14)


class Maps(nn.Module):
    """Three maps of the image: its red, a constant 2, and its green doubled; logits from their means."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Conv2d(3, 3, 1)
        self.fc = nn.Linear(3, 2, bias=False)
        with torch.no_grad():
            self.maps.weight.zero_()
            self.maps.weight[0, 0, 0, 0], self.maps.weight[2, 1, 0, 0] = 1, 2
            self.maps.bias.copy_(torch.tensor([0.0, 2.0, 0.0]))
            self.fc.weight.copy_(torch.tensor([[1.0, 0.5, 1.0], [-1.0, 0.0, 0.5]]))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.maps(x).mean((2, 3)))


def of(net: nn.Module, tiny64: Classifier, layer: str, size: int = 2) -> Classifier:
    """A classifier around `net` without normalisation (mean 0, std 1)."""
    module = InputModel(net, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)).double().eval().requires_grad_(False)
    return dataclasses.replace(
        tiny64, name="net", module=module, default_layer=layer, input_size=(size, size), labels=("a", "b"), _memo={}
    )


def test_scorecam_by_hand_with_a_constant_map(tiny64: Classifier) -> None:
    net = of(Maps(), tiny64, "maps")
    red, green = torch.tensor([[0.0, 0.4], [0.8, 0.8]]), torch.tensor([[0.5, 0.0], [0.0, 0.25]])
    x = torch.stack([red, green, torch.zeros(2, 2)])[None].double()
    found = explain(net, x, "scorecam", torch.tensor([0]))
    # masks: red/.8; 0 (constant map); green/.5. Seen through them, means of red and green, then y = r + 2 g + 1:
    through_red = (0.4 * 0.5 + 0.8 + 0.8) / 4 + 2 * (0.25 * 1.0) / 4 + 1
    through_none = 1.0
    through_green = (0.8 * 0.5) / 4 + 2 * (0.5 + 0.25 * 0.5) / 4 + 1
    weights = np.exp([through_red, through_none, through_green])
    weights /= weights.sum()
    expected = weights[0] * red.numpy() + weights[1] * 2 + weights[2] * 2 * green.numpy()
    np.testing.assert_allclose(found.values[0].numpy(), expected, rtol=1e-7)
    assert found.facts["scored"] == [2]


def test_scorecam_channels_are_those_that_vary_most(tiny64: Classifier) -> None:
    net = of(Maps(), tiny64, "maps")
    x = torch.rand(1, 3, 2, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x[:, 0] *= 0.1  # the doubled green varies most, red less, the constant not at all
    found = explain(net, x, "scorecam", channels=1)
    np.testing.assert_allclose(found.values[0].numpy(), 2 * x[0, 1].numpy())
    torch.testing.assert_close(
        explain(net, x, "scorecam", channels=3).values, explain(net, x, "scorecam").values, rtol=0, atol=0
    )
    with pytest.raises(InputError, match=r"^channels is 0; give 1 or more, or none for all\.$"):
        scorecam.ScoreCAM(channels=0)


# --- where one image may stand for a batch ------------------------------------------------------------------------


class Bypass(nn.Module):
    """A layer that is bypassed in the way named: added, concatenated, or folded with the batch size seen below."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way
        generator = torch.Generator().manual_seed(5)
        self.stem, self.layer = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)
        self.fc = nn.Linear(8 if way == "cat" else 4, 3)
        with torch.no_grad():
            for tensor in self.parameters():
                tensor.copy_(torch.randn(tensor.shape, generator=generator))

    def forward(self, x: Tensor) -> Tensor:
        below = self.stem(x)
        y = F.relu(self.layer(below), inplace=True)
        if self.way == "add":
            y = y + below
        elif self.way == "add in place below":
            y = below.add_(y)
        elif self.way == "cat":
            y = torch.cat([y, below], 1)
        elif self.way == "fold":  # with the batch size seen below, images of a larger batch are mixed
            mixed = y.reshape(below.shape[0], -1, 4, y.shape[2] * y.shape[3]).mean((1, 3))
            return self.fc(y.mean((2, 3))) + self.fc(mixed)
        return self.fc(y.mean((2, 3)))


@pytest.mark.parametrize(
    ("way", "shared"), [("add", True), ("add in place below", False), ("cat", False), ("fold", False)]
)
def test_ablation_below_a_bypass_is_right_whichever_way(tiny64: Classifier, way: str, shared: bool) -> None:
    net = of(Bypass(way), tiny64, "layer", size=4)
    x = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    found = explain(net, x, "ablationcam", torch.tensor([1]))
    assert found.facts["shared"] == [shared]
    activation = net.module.net.layer(net.module.net.stem(x))
    score = net.module(x)[0, 1]
    total = torch.zeros(4, 4, dtype=torch.float64)
    for k in range(4):
        part = activation.clone()
        part[:, k] = 0
        handle = net.module.net.layer.register_forward_hook(lambda _m, _i, _o, part=part: part.clone())
        total += (score - net.module(x)[0, 1]) / score.abs() * activation[0, k]
        handle.remove()
    torch.testing.assert_close(found.values[0], total.clamp(min=0), rtol=1e-9, atol=1e-12)


class Twice(nn.Module):
    """One ReLU module that runs twice in a forward."""

    def __init__(self) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.a, self.b, self.fc = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 5, 1), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.relu(self.b(self.relu(self.a(x)))).mean((2, 3)))


def test_a_layer_that_runs_twice_is_taken_at_its_last_run(tiny64: Classifier) -> None:
    torch.manual_seed(0)
    net = of(Twice(), tiny64, "relu", size=4)
    x = torch.rand(1, 3, 4, 4, dtype=torch.float64)
    inner = net.module.net
    last = inner.relu(inner.b(inner.relu(inner.a(x))))
    weights = inner.fc.weight[0] / 16
    expected = (weights[:, None, None] * last[0]).sum(0).clamp(min=0)
    torch.testing.assert_close(explain(net, x, "gradcam", torch.tensor([0])).values[0], expected)
    score = net.module(x)[0, 0]
    drops = inner.fc.weight[0] * last[0].mean((1, 2)) / score.abs()
    expected = (drops[:, None, None] * last[0]).sum(0).clamp(min=0)
    torch.testing.assert_close(explain(net, x, "ablationcam", torch.tensor([0])).values[0], expected)


# --- in place, on real architectures -------------------------------------------------------------------------------


def resnet_bn3(net: Any, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Output of layer4.2.bn3, and what follows, without in-place operations."""
    h = F.relu(net.bn1(net.conv1(x)))
    h = net.layer4[1](net.layer4[0](net.layer3(net.layer2(net.layer1(net.maxpool(h))))))
    block = net.layer4[2]
    out = F.relu(block.bn2(block.conv2(F.relu(block.bn1(block.conv1(h))))))
    return block.bn3(block.conv3(out)), lambda a: net.fc(F.relu(a + h).mean((2, 3)))


def densenet_norm5(net: Any, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Output of features.norm5, and what follows."""
    for name, layer in net.features.named_children():
        x = F.relu(layer(x)) if name == "norm0" else x if name in ("relu0", "relu5") else layer(x)
    return x, lambda a: net.classifier(F.relu(a).mean((2, 3)))


def densenet_relu5(net: Any, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Output of the final ReLU, and what follows."""
    a, _ = densenet_norm5(net, x)
    return F.relu(a), lambda kept: net.classifier(kept.mean((2, 3)))


@pytest.mark.parametrize(
    ("model", "layer", "split"),
    [
        ("resnet50", "layer4.2.bn3", resnet_bn3),
        ("densenet121", "features.norm5", densenet_norm5),
        ("densenet121", "features.relu5", densenet_relu5),
    ],
)
def test_in_place_operations_after_the_layer_do_not_reach_the_map(
    cat: Tensor, model: str, layer: str, split: Callable[..., Any]
) -> None:
    classifier = xai.load_model(model, "random:0", device="cpu")
    module = classifier.module
    with torch.no_grad():
        activation, above = split(module.net, (cat - module.mean) / module.std)
    activation = activation.contiguous().requires_grad_()
    logits = above(activation)
    (gradient,) = torch.autograd.grad(logits[0, 281], activation)
    alpha = gradient.mean((2, 3), keepdim=True)
    expected = (alpha * activation.detach()).sum(1)
    found = xai.attribute(classifier, cat, "gradcam", 281, layer=layer)
    assert correlation(found.logits, logits.detach()) > 0.99999
    torch.testing.assert_close(found.values, expected.clamp(min=0), rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
    assert expected.max() > 0
    torch.testing.assert_close(look(classifier, cat, layer), activation.detach(), rtol=1e-3, atol=1e-4)


# --- peers ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def thawed(lite0: Classifier) -> InputModel:
    """A copy whose parameters want gradients: pytorch-grad-cam and torchcam raise on frozen ones."""
    return copy.deepcopy(lite0.module).requires_grad_(True)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def grad_cam_map(name: str, module: InputModel, x: Tensor, target: int, layer: nn.Module) -> Tensor:
    import pytorch_grad_cam as peer
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    with getattr(peer, name)(model=module, target_layers=[layer]) as cam:
        return torch.from_numpy(cam(input_tensor=x, targets=[ClassifierOutputTarget(target)]))


def torchcam_map(name: str, module: InputModel, x: Tensor, target: int, layer: str) -> Tensor:
    import torchcam.methods as peer

    with getattr(peer, name)(module, f"net.{layer}") as cam:
        return cam(target, module(x), normalized=False)[0].detach()


@pytest.mark.parametrize("target", [281, 463])  # tabby, the predicted neighbourhood; bucket
@pytest.mark.parametrize(
    ("name", "peer"),
    [("gradcam", "GradCAM"), ("xgradcam", "XGradCAM"), ("layercam", "LayerCAM"), ("hirescam", "HiResCAM")],
)
def test_agrees_with_grad_cam(
    lite0: Classifier, thawed: InputModel, cat: Tensor, name: str, peer: str, target: int
) -> None:
    found = xai.attribute(lite0, cat, name, target)
    expected = grad_cam_map(peer, thawed, cat, target, thawed.net.get_submodule(lite0.default_layer))
    assert correlation(found.maps(), expected) >= 0.9999


@pytest.mark.parametrize(
    ("name", "peer", "layer"),
    [
        ("gradcam", "GradCAM", "_relu_head"),
        ("gradcam", "GradCAM", "_blocks.10"),
        ("layercam", "LayerCAM", "_relu_head"),
        ("layercam", "LayerCAM", "_blocks.10"),
        # not at _blocks.10, whose maps sum to about zero: the peer's 1e-8 beside the sum makes other weights
        ("xgradcam", "XGradCAM", "_relu_head"),
    ],
)
def test_agrees_with_torchcam(
    lite0: Classifier, thawed: InputModel, cat: Tensor, name: str, peer: str, layer: str
) -> None:
    found = xai.attribute(lite0, cat, name, 281, layer=layer)
    expected = torchcam_map(peer, thawed, cat, 281, layer)
    torch.testing.assert_close(found.values, expected, rtol=1e-3, atol=1e-4 * float(expected.max()))


def test_agrees_with_captum(lite0: Classifier, cat: Tensor) -> None:
    from captum.attr import LayerGradCam

    module = copy.deepcopy(lite0.module)
    layer = module.net.get_submodule("_blocks.10")
    expected = LayerGradCam(module, layer).attribute(cat.clone().requires_grad_(), 281, relu_attributions=True)[:, 0]
    found = xai.attribute(lite0, cat, "gradcam", 281, layer="_blocks.10")
    torch.testing.assert_close(found.values, expected.detach(), rtol=1e-3, atol=1e-4 * float(expected.max()))


def test_gradcam_plusplus_agrees_where_the_peers_constant_is_small(lite0: Classifier, cat: Tensor) -> None:
    """pytorch-grad-cam adds 1e-6 to 2 g^2 + ..., and gradients here are about 1e-3: the two differ until these grow."""
    scaled = copy.deepcopy(lite0.module)
    fc = scaled.net.get_submodule("_fc")
    fc.weight.data.mul_(1000)
    classifier = dataclasses.replace(lite0, module=scaled)
    layer = lite0.default_layer
    found = xai.attribute(classifier, cat, "gradcam++", 281)
    loud = copy.deepcopy(scaled).requires_grad_(True)
    expected = grad_cam_map("GradCAMPlusPlus", loud, cat, 281, loud.net.get_submodule(layer))
    assert correlation(found.maps(), expected) >= 0.9999


def test_eigencam_agrees_with_grad_cam_up_to_the_sign(lite0: Classifier, cat: Tensor) -> None:
    from pytorch_grad_cam.utils.svd_on_activations import get_2d_projection

    with lite0.lease() as module, torch.no_grad():
        activation, _, _ = look_at(module, module.net, "_blocks.10", cat)
    peer = torch.from_numpy(get_2d_projection(activation.numpy()))
    ours = eigencam.first_component(activation[0])
    assert abs(correlation(ours, peer)) >= 0.9999
    assert correlation(ours, activation.mean(1)) > 0
    found = xai.attribute(lite0, cat, "eigencam", layer="_blocks.10")
    torch.testing.assert_close(found.values[0], ours.clamp(min=0))


def scaled_then_upsampled(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """up(norm(A_k)): the same but for the highest and lowest points, which upsampling by an even factor cuts off."""
    low, high = torch.aminmax(maps.flatten(1), dim=1)
    return F.interpolate(
        ((maps - low[:, None, None]) / (high - low)[:, None, None])[:, None], size, mode="bilinear", align_corners=False
    )


@pytest.fixture
def small(cat: Tensor) -> Tensor:
    """A part of the photograph, so that many passes stay cheap."""
    return cat[:, :, 60:156, 60:156].contiguous()


def test_scorecam_agrees_with_torchcam(lite0: Classifier, small: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """The peer scales maps before it upsamples them, we after; with that one step replaced, all else is equal."""
    import torchcam.methods as peer

    layer, module = "_blocks.4", lite0.module
    net = copy.deepcopy(module.net)
    normal = (small - module.mean) / module.std
    with peer.ScoreCAM(net, layer, batch_size=16) as cam, torch.no_grad():
        expected = cam(281, net(normal), normalized=False)[0]
    ours = xai.attribute(lite0, small, "scorecam", 281, layer=layer).values
    monkeypatch.setattr(scorecam, "masks_from", scaled_then_upsampled)
    theirs = xai.attribute(lite0, small, "scorecam", 281, layer=layer).values
    assert correlation(theirs, expected) >= 0.9999
    assert 0.98 < correlation(ours, expected) < 0.9999


def test_ablationcam_agrees_with_grad_cam(lite0: Classifier, small: Tensor) -> None:
    """At a layer whose lowest value is zero; elsewhere the peer puts in -1e7 in place of zero."""
    layer = "_blocks.0._relu"
    assert look(lite0, small, layer).min() == 0
    module = copy.deepcopy(lite0.module)
    predicted = int(module(small).argmax())
    expected = grad_cam_map("AblationCAM", module, small, predicted, module.net.get_submodule(layer))
    found = xai.attribute(lite0, small, "ablationcam", predicted, layer=layer)
    assert correlation(found.maps(), expected) >= 0.9999


def look(classifier: Classifier, x: Tensor, layer: str) -> Tensor:
    with classifier.lease() as module:
        return look_at(module, module.net, layer, x)[0]


# --- requests ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CAMS)
def test_batch_equals_one_by_one(tiny: Classifier, name: str) -> None:
    x = images(18, dtype=torch.float32)  # more than a batch
    targets = [i % 5 for i in range(18)]
    together = xai.attribute(tiny, x, name, targets)
    assert together.values.shape == (18, 16, 16)
    assert together.target.tolist() == targets
    for i in range(18):
        alone = xai.attribute(tiny, x[i : i + 1], name, targets[i])
        torch.testing.assert_close(together.values[i], alone.values[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", CAMS)
def test_target_none_is_the_predicted_class(tiny: Classifier, name: str) -> None:
    x = images(3, dtype=torch.float32)
    found = xai.attribute(tiny, x, name)
    assert found.target.tolist() == tiny.predict(x).argmax(1).tolist()
    asked = xai.attribute(tiny, x, name, found.target)
    assert torch.equal(found.values, asked.values)


@pytest.mark.parametrize("name", CAMS)
def test_only_per_class_methods_depend_on_the_class(tiny: Classifier, name: str) -> None:
    x = images(1, dtype=torch.float32)
    one, other = (xai.attribute(tiny, x, name, target, layer="relu1").values for target in (0, 1))
    assert torch.equal(one, other) != METHODS.get(name).per_class


@pytest.mark.parametrize("name", CAMS)
def test_layer_that_does_not_exist(tiny: Classifier, name: str) -> None:
    with pytest.raises(LayerError, match=r"^layer 'relu3' is not in this network; near it are relu"):
        xai.attribute(tiny, images(1, dtype=torch.float32), name, layer="relu3")


@pytest.mark.parametrize("name", CAMS)
def test_layer_that_gives_a_vector(tiny: Classifier, name: str) -> None:
    x = images(1, dtype=torch.float32)
    with pytest.raises(NotApplicableError, match=r"layer fc of Tiny gives no stack of maps\.$"):
        xai.attribute(tiny, x, name, layer="fc")
    words = r"^layer 'fc' gives \(5,\) for an image, not a stack of maps; choose a convolutional layer\.$"
    with pytest.raises(LayerError, match=words):
        explain(tiny, x, name, layer="fc")


@pytest.mark.parametrize("name", CAMS)
def test_wrong_number_of_targets(tiny: Classifier, name: str) -> None:
    with pytest.raises(InputError, match=r"^targets has 3 classes for 2 images; give one per image\.$"):
        xai.attribute(tiny, images(2, dtype=torch.float32), name, [0, 1, 2])


@pytest.mark.parametrize("name", CAMS)
def test_facts_tell_the_range_before_the_relu(tiny: Classifier, name: str) -> None:
    found = xai.attribute(tiny, images(2, dtype=torch.float32), name, [0, 3])
    for i in range(2):
        assert found.facts["highest"][i] == pytest.approx(float(found.values[i].max()), abs=1e-9) or (
            found.facts["highest"][i] < 0 and found.values[i].max() == 0
        )
        assert found.facts["lowest"][i] <= found.facts["highest"][i]


# --- cost ----------------------------------------------------------------------------------------------------------


def images_through(classifier: Classifier, work: Callable[[], object]) -> int:
    """How many images pass the first layer of the network while `work` runs."""
    seen: list[int] = []
    handle = classifier.module.register_forward_pre_hook(lambda _m, inputs: seen.append(len(inputs[0])))
    try:
        work()
    finally:
        handle.remove()
    return sum(seen)


@pytest.mark.parametrize("name", [*GRADIENT, "eigencam"])
def test_one_pass_an_image(tiny: Classifier, name: str) -> None:
    tiny.layers()
    x = images(3, dtype=torch.float32)
    assert images_through(tiny, lambda: xai.attribute(tiny, x, name)) == 3
    assert METHODS.get(name).passes(tiny, METHODS.get(name).explainer()) == 1


def test_scorecam_passes(tiny: Classifier) -> None:
    x = images(1, dtype=torch.float32)
    assert bool((look(tiny, x, "relu2").flatten(2).std(2) > 0).all())  # no constant map
    spec = METHODS.get("scorecam")
    for channels in (None, 5):
        made = images_through(tiny, lambda c=channels: xai.attribute(tiny, x, "scorecam", channels=c))
        assert spec.passes(tiny, spec.explainer(channels=channels)) == made + 1  # none for constant maps


def test_ablationcam_passes_count_the_part_above_the_layer(tiny: Classifier) -> None:
    conv1, conv2, fc = 32 * 32 * 8 * 27, 16 * 16 * 12 * 72, 12 * 5
    total = conv1 + conv2 + fc
    assert ablationcam.share_above(tiny, "relu2") == pytest.approx(fc / total)
    assert ablationcam.share_above(tiny, "relu1") == pytest.approx((conv2 + fc) / total)
    spec = METHODS.get("ablationcam")
    # three trials, one batch below the layer, eight maps above it
    assert spec.passes(tiny, spec.explainer(layer="relu1")) == 3 + int(
        np.ceil(conv1 / total + 8 * (conv2 + fc) / total)
    )
    x = images(1, dtype=torch.float32)
    made = images_through(tiny, lambda: xai.attribute(tiny, x, "ablationcam", layer="relu1"))
    assert made == 4  # what goes through the part below the layer


def test_ablation_batches_are_bounded() -> None:
    assert ablationcam.batch_size(2048, 2048 * 49, "cpu") == 167
    assert ablationcam.batch_size(64, 64 * 224 * 224, "cpu") == 16
    assert ablationcam.batch_size(8, 64, "cpu") == 8


def test_progress_counts_over_all_images(tiny: Classifier) -> None:
    told: list[tuple[int, int]] = []
    run = Run(on_progress=lambda done, total, note: told.append((done, total)))
    xai.attribute(tiny, images(3, dtype=torch.float32), "scorecam", run=run)
    assert told == sorted(told)
    assert told[-1] == (36, 36)


def facts_are_plain(facts: Mapping[str, Any]) -> bool:
    import json

    return bool(json.dumps(dict(facts)))


@pytest.mark.parametrize("name", CAMS)
def test_facts_are_json(tiny: Classifier, name: str) -> None:
    assert facts_are_plain(xai.attribute(tiny, images(1, dtype=torch.float32), name).facts)


def test_from_several_threads_as_one_after_another(tiny: Classifier) -> None:
    x = images(2, dtype=torch.float32)
    jobs = [(name, layer) for name in CAMS for layer in ("relu1", "relu2")] * 2

    def work(job: tuple[str, str]) -> bytes:
        return xai.attribute(tiny, x, job[0], layer=job[1]).values.numpy().tobytes()

    serial = [work(job) for job in jobs]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, jobs)) == serial
