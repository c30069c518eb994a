"""LRP on networks: what is in front of the first layer, operations, coverage, refusals, and real networks."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import get_model

import xai
from tests.conftest import ROOT
from tests.unit._lrp_reference import (
    E,
    Gated,
    by_matrix,
    classifier_of,
    explain,
    first_by_matrix,
    matrix,
    norm_by_hand,
    pixels,
    randomise,
    unaccounted,
    wrapped,
)
from xai.errors import InputError, NotApplicableError
from xai.explain._lrp.ops import Rules
from xai.explain._lrp.weights import Norm, store_of
from xai.explain.lrp import COMPOSITES, LRP, described, record
from xai.models.classifier import Classifier

# What is in front of the first layer ------------------------------------------------------------------------------


class Prepared(nn.Module):
    """GoogLeNet's slicing and rescaling of channels, then EfficientNet's padding right and below, then a stem."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, stride=2)
        self.fc = nn.Linear(4, 3)

    def prepare(self, x: Tensor) -> Tensor:
        parts = [torch.unsqueeze(x[:, i], 1) * (0.2 - 0.3 * i) + (0.1 * i - 0.2) for i in range(3)]
        return F.pad(torch.cat(parts, 1), (0, 1, 0, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.relu(self.stem(self.prepare(x))).mean((2, 3)))


@pytest.mark.parametrize("composite", ["epsilon-plus-flat", "epsilon-gamma-box"])
def test_the_first_layers_rule_sees_through_the_preparation(composite: str) -> None:
    net = randomise(Prepared().double().eval(), 8)
    module, x = wrapped(net), pixels(1, 3, 8, 8)
    found = explain(module, x, 2, composite=composite)
    pixel = lambda t: net.stem(net.prepare((t - module.mean) / module.std))  # noqa: E731
    a = F.relu(pixel(x))
    logits = net.fc(a.mean((2, 3)))
    r = by_matrix("epsilon", *matrix(net.fc, (4,)), a.mean((2, 3)).flatten(), F.one_hot(torch.tensor(2), 3) * logits[0])
    average = matrix(lambda t: t.mean((2, 3)), tuple(a.shape[1:]))[0]
    r = norm_by_hand(a.flatten(), a.mean((2, 3)).flatten(), average, r)
    ones = (matrix(pixel, (3, 8, 8))[0] != 0).double()
    expected = first_by_matrix(COMPOSITES[composite].first, pixel, ones, x[0], r)
    torch.testing.assert_close(found.values.flatten(), expected, rtol=1e-7, atol=1e-12)
    assert max(unaccounted(found)) < 1e-6  # nothing is lost in the padding


def test_a_batch_norm_in_front_is_preparation_too() -> None:
    norm = randomise(nn.BatchNorm2d(3).double(), 2)
    conv = randomise(nn.Conv2d(3, 4, 3).double(), 3)
    head = randomise(nn.Linear(4, 3).double(), 4)

    class Net(nn.Module):
        def __init__(self, front: bool) -> None:
            super().__init__()
            self.norm, self.conv, self.head, self.front = norm, copy.deepcopy(conv), head, front
            if not front:  # the same map with the norm folded into the convolution, rightwards (no padding)
                scale, shift = Norm(norm.running_mean, norm.running_var, norm.weight, norm.bias, norm.eps).affine()
                self.conv.weight.data.mul_(scale.view(1, 3, 1, 1))
                self.conv.bias.data.add_(conv.weight.data.sum((2, 3)) @ shift)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(F.relu(self.conv(self.norm(x) if self.front else x)).mean((2, 3)))

    for composite in ("epsilon-plus-flat", "epsilon-gamma-box"):
        both = [
            explain(wrapped(Net(front)), pixels(2, 3, 6, 6), 0, composite=composite).values for front in (True, False)
        ]
        torch.testing.assert_close(*both, rtol=1e-7, atol=1e-12)


def test_fully_connected_networks_start_flat_as_well() -> None:
    net = randomise(nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 3)), 1)
    found = explain(wrapped(net), pixels(2, 3, 2, 2), 0)
    rows = found.values.flatten(1)
    torch.testing.assert_close(rows, rows[:, :1].expand_as(rows))
    assert max(unaccounted(found)) < 1e-6


# Operations -------------------------------------------------------------------------------------------------------


def test_the_gate_is_a_constant() -> None:
    net = randomise(Gated().double().eval(), 9)
    module, x = wrapped(net), pixels(1, 3, 8, 8)
    found = explain(module, x, 0)
    net.frozen = net.gate(F.relu(net.stem((x - module.mean) / module.std)))
    torch.testing.assert_close(found.values, explain(module, x, 0).values)


class Forms(nn.Module):
    """One network written with fresh results, or with in-place operations whose results are ignored."""

    def __init__(self, inplace: bool) -> None:
        super().__init__()
        self.inplace = inplace
        self.a, self.b, self.c = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1), nn.Linear(4, 3)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        if not self.inplace:
            x = torch.relu(self.norm(self.a(x)))
            return self.c(F.hardtanh(self.b(x) + x, 0.0, 6.0).mul(0.5).sum((2, 3)))
        x = self.norm(self.a(x))
        F.relu(x, inplace=True)
        y = self.b(x)
        y += x
        y.clamp_(0, 6)
        y.mul_(0.5)
        return self.c(y.sum((2, 3)))


@pytest.mark.parametrize("composite", COMPOSITES)
def test_in_place_forms_are_the_same(composite: str) -> None:
    plain, inplace = (wrapped(randomise(Forms(flag), 1)) for flag in (False, True))
    x = pixels(2, 3, 6, 6)
    first, second = (explain(module, x, 1, composite=composite) for module in (plain, inplace))
    assert torch.equal(first.values, second.values)
    assert torch.equal(second.logits, inplace(x))


def test_padding_by_name_is_padding_by_number() -> None:
    class Named(nn.Module):
        def __init__(self, named: bool) -> None:
            super().__init__()
            self.a = nn.Conv2d(3, 4, 4, padding="same" if named else 0)
            self.b = nn.Conv2d(4, 5, 3, padding="same" if named else 1)
            self.c = nn.Conv2d(5, 3, 2, padding="valid" if named else 0)
            self.named = named

        def forward(self, x: Tensor) -> Tensor:
            x = x if self.named else F.pad(x, (1, 2, 1, 2))
            return F.adaptive_avg_pool2d(self.c(F.relu(self.b(F.relu(self.a(x))))), 1).flatten(1)

    x = pixels(2, 3, 7, 6)
    first, second = (wrapped(randomise(Named(flag), 1)) for flag in (True, False))
    torch.testing.assert_close(first(x), second(x))
    for composite in COMPOSITES:
        both = [explain(module, x, 1, composite=composite) for module in (first, second)]
        torch.testing.assert_close(both[0].values, both[1].values, rtol=1e-8, atol=1e-12)
        assert max(unaccounted(both[0])) < 1e-6


@pytest.mark.parametrize("norm_first", [True, False])
def test_a_layer_with_two_users_keeps_its_batch_norm_apart(norm_first: bool) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.norm, self.fc = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = self.a(x)
            parts = (self.norm(x), F.relu(x)) if norm_first else (F.relu(x), self.norm(x))
            return self.fc(F.relu(torch.cat(parts, 1)).mean((2, 3)))

    module = wrapped(randomise(Twice(), 1))
    x = pixels(2, 3, 6, 6)
    counts = record(module, x, Rules(COMPOSITES["epsilon"], E, 0.25, store_of(module)))[2]
    assert counts.norms == (0, 1)
    for composite in COMPOSITES:
        assert max(unaccounted(explain(module, x, 1, composite=composite))) < 1e-6


# Real networks ----------------------------------------------------------------------------------------------------

NAMED = ("vgg16", "resnet50", "googlenet", "densenet121", "mobilenet_v3_large", "efficientnet_lite0")


@pytest.mark.parametrize("name", NAMED)
def test_every_named_network_conserves_its_score(name: str) -> None:
    classifier = xai.load_model(name, "imagenet" if name == "efficientnet_lite0" else "random:0", "cpu")
    x = pixels(1, 3, 96, 96, dtype=torch.float32)
    for composite in ("epsilon-plus-flat", "epsilon-gamma-box"):
        with classifier.lease() as module:
            found = explain(module, x, 281, composite=composite)
            torch.testing.assert_close(found.logits, module(x))
        assert bool(torch.isfinite(found.values).all())
        assert max(unaccounted(found)) < 1e-3  # float32
        total = float(found.values.abs().sum()) / abs(found.facts["score"][0])
        assert total < 10  # peers reach 57 (DenseNet121) to 5e36 (ResNet50)


def test_the_map_is_on_the_photograph_of_the_class(lite0: Classifier) -> None:
    names = ("chelsea.png", "coffee.png")
    photos = [lite0.preprocess(xai.load_image(ROOT / "assets" / "samples" / name), view="whole") for name in names]
    both = torch.cat([F.interpolate(photo, (224, 112), mode="bilinear", antialias=True) for photo in photos], 3)
    classes = torch.tensor([281, 967])  # tabby, espresso
    for composite in ("epsilon-plus-flat", "epsilon-gamma-box"):
        found = xai.attribute(lite0, both.expand(2, -1, -1, -1), "lrp", targets=classes, composite=composite)
        maps = found.maps().clamp(min=0)
        left = maps[..., :112].sum((1, 2)) / maps.sum((1, 2))
        assert float(left[0]) > 0.75
        assert float(left[1]) < 0.25


# Coverage and refusals --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "status", "sentence"),
    [
        ("resnet50", "full", "54 of 54 layers get relevance; 53 of 53 batch norms merged; 16 sums split"),
        ("googlenet", "full", "58 of 58 layers get relevance; 57 of 57 batch norms merged; 10 concatenations split"),
        (
            "densenet121",
            "limited",
            "121 of 121 layers get relevance; 59 of 121 batch norms merged; "
            "62 that no layer precedes share relevance with their constants; 62 concatenations split",
        ),
        (
            "mobilenet_v3_large",
            "limited",
            "48 of 64 layers get relevance; 46 of 46 batch norms merged; 10 sums split; 8 gates held constant; "
            "Hardswish (21) passes relevance, an extension",
        ),
    ],
)
def test_coverage_counts(name: str, status: str, sentence: str) -> None:
    found = xai.applicability(xai.load_model(name, "random:0", "cpu"), "lrp")
    assert (found.status, found.sentence) == (status, sentence)


class Refused(nn.Module):
    def __init__(self, body: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.fc, self.body = nn.Conv2d(3, 4, 3), nn.Linear(4, 3), body

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.body(self, self.conv(x)).mean((2, 3)))


def _write(net: nn.Module, x: Tensor) -> Tensor:
    x[:, 0] = 0
    return x


def _alias(net: nn.Module, x: Tensor) -> Tensor:
    view = x.unsqueeze(0)
    x.relu_()
    return view[0]


REFUSALS: list[tuple[Callable[[nn.Module, Tensor], Tensor], str]] = [
    (lambda net, x: F.layer_norm(x, x.shape[1:]), "it has no rule for LayerNorm"),
    (lambda net, x: F.gelu(x) + F.group_norm(x, 2), "it has no rule for GroupNorm, GELU"),
    (lambda net, x: torch.sigmoid(x), "it has no rule for a sigmoid that is no gate"),
    (lambda net, x: x * x, "it has no rule for products of activations"),
    (lambda net, x: 1 / (1 + x.abs()), "it has no rule for quotients of activations, abs"),
    (lambda net, x: F.batch_norm(x, None, None, training=True), "it has no rule for batch norm in training mode"),
    (lambda net, x: torch.ones_like(x), "its logits do not depend on the pixels"),
    (_write, "it writes into a part of an activation"),
    (_alias, "it rewrites activations that are in use elsewhere"),
    (lambda net, x: x.exp_(), "it has no rule for exp"),
]


@pytest.mark.parametrize(("body", "reason"), REFUSALS)
def test_refused_with_the_reason(body: Callable[[nn.Module, Tensor], Tensor], reason: str) -> None:
    classifier = classifier_of(randomise(Refused(body)), 8)
    found = xai.applicability(classifier, "lrp")
    assert (found.status, found.sentence) == ("refused", reason)
    with pytest.raises(NotApplicableError, match="LRP does not apply to Own: "):
        xai.attribute(classifier, pixels(1, 3, 8, 8, dtype=torch.float32), "lrp")


@pytest.mark.parametrize(
    ("name", "reason"), [("vit_b_16", "LayerNorm, GELU, Attention"), ("convnext_tiny", "LayerNorm, GELU")]
)
def test_transformers_are_refused(name: str, reason: str) -> None:
    classifier = classifier_of(get_model(name, num_classes=3), 224)
    assert xai.applicability(classifier, "lrp").sentence == f"it has no rule for {reason}"


def test_a_network_without_a_rule_is_refused_by_the_method_itself() -> None:
    module = wrapped(randomise(Refused(lambda net, x: F.gelu(x))))
    text = "LRP does not apply to this network: it has no rule for GELU; choose another method."
    with pytest.raises(NotApplicableError, match=f"^{re.escape(text)}$"):
        explain(module, pixels(1, 3, 8, 8))


@pytest.mark.parametrize(
    ("params", "text"),
    [
        (
            {"composite": "plus"},
            "composite 'plus' is not known; use epsilon-plus-flat, epsilon-gamma-box, epsilon or alpha1-beta0.",
        ),
        ({"epsilon": -1.0}, "epsilon is -1.0; give 0 to 10."),
        ({"gamma": float("nan")}, "gamma is nan; give a finite number."),
    ],
)
def test_parameters_are_checked(params: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError, match=f"^{re.escape(text)}$"):
        LRP(**params)


def test_a_score_of_zero_has_no_shares() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    net[1].weight.data.zero_()
    net[1].bias.data.zero_()
    found = explain(wrapped(net), pixels(1, 3, 2, 2), 0)
    assert (found.facts["ratio"], found.facts["bias_share"]) == ([None], [None])
    assert bool((found.values == 0).all())


def test_coverage_does_not_depend_on_composite_or_size(lite0: Classifier) -> None:
    found = xai.applicability(lite0, "lrp")
    assert found.sentence == "50 of 50 layers get relevance; 49 of 49 batch norms merged; 9 sums split"
    rules = Rules(COMPOSITES["epsilon"], 0.0, 0.0, store_of(lite0.module))
    counts = record(lite0.module, pixels(1, 3, 64, 64, dtype=torch.float32), rules)[2]
    assert described(counts) == found
