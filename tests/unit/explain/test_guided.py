"""The guided and the deconvnet's backward, rule by rule, and how far they are said to reach."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import get_model

import xai
from tests.conftest import make_tiny
from xai.errors import NotApplicableError
from xai.explain._guided import GuidedMode, Switch
from xai.explain.guided_backprop import GuidedBackprop
from xai.models.classifier import Classifier, InputModel
from xai.models.hooks import ModuleState
from xai.types import Run

# each value of x meets each sign of the arriving gradient g
X = torch.tensor([-2.0, -0.5, 0.0, 0.5, 3.0, 6.0, 7.0], dtype=torch.float64).repeat(2)
G = torch.cat([torch.full((7,), 2.0), torch.full((7,), -3.0)]).double()


def backward(function: Callable[[Tensor], Tensor], mode: GuidedMode, x: Tensor = X, g: Tensor = G) -> Tensor:
    """The relevance that arrives at x when g arrives at function(x)."""
    leaf = x.clone().requires_grad_()
    with mode:
        y = function(leaf.clone())
    (found,) = torch.autograd.grad(y, leaf, g)
    return found


RELUS: list[Callable[[Tensor], Tensor]] = [
    nn.ReLU(),
    nn.ReLU(inplace=True),
    F.relu,
    torch.relu,
    torch.relu_,
    Tensor.relu_,
    lambda x: x.clamp(min=0),
    lambda x: x.clamp_min_(0),
    lambda x: F.threshold(x, 0, 0),
]
RELU6S: list[Callable[[Tensor], Tensor]] = [
    nn.ReLU6(),
    nn.ReLU6(inplace=True),
    F.relu6,
    lambda x: F.hardtanh(x, 0.0, 6.0),
    lambda x: F.hardtanh_(x, 0.0, 6.0),
    lambda x: x.clamp(0, 6),
]


@pytest.mark.parametrize("function", RELUS)
def test_relu_guided(function: Callable[[Tensor], Tensor]) -> None:
    # x:                -2   -.5  0    .5   3    6    7
    expected = torch.tensor([0, 0, 0, 2, 2, 2, 2, 0, 0, 0, 0, 0, 0, 0]).double()
    assert torch.equal(backward(function, GuidedMode()), expected)


@pytest.mark.parametrize("function", RELU6S)
def test_relu6_guided(function: Callable[[Tensor], Tensor]) -> None:
    expected = torch.tensor([0, 0, 0, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0]).double()
    assert torch.equal(backward(function, GuidedMode()), expected)


@pytest.mark.parametrize("function", [*RELUS, *RELU6S])
def test_deconvnet_rectifies_the_signal_alone(function: Callable[[Tensor], Tensor]) -> None:
    expected = torch.tensor([2.0] * 7 + [0.0] * 7).double()
    assert torch.equal(backward(function, GuidedMode(deconvnet=True)), expected)


@pytest.mark.parametrize("function", [*RELUS, *RELU6S, nn.Hardswish(), nn.SiLU(inplace=True), nn.GELU()])
@pytest.mark.parametrize("deconvnet", [False, True])
def test_values_are_those_of_the_plain_function(function: Callable[[Tensor], Tensor], deconvnet: bool) -> None:
    with GuidedMode(deconvnet=deconvnet, extension=True):
        found = function(X.clone())
    assert torch.equal(found, function(X.clone()))


def test_other_functions_keep_their_gradient() -> None:
    for function in (torch.tanh, torch.sigmoid, F.silu, F.hardswish, F.gelu, lambda x: x.clamp(-1, 1)):
        leaf = X.clone().requires_grad_()
        (plain,) = torch.autograd.grad(function(leaf), leaf, G)
        assert torch.equal(backward(function, GuidedMode()), plain)
        assert torch.equal(backward(function, GuidedMode(deconvnet=True)), plain)


LIKE: list[Callable[[Tensor], Tensor]] = [
    nn.Hardswish(),
    nn.Hardswish(inplace=True),
    nn.SiLU(),
    nn.SiLU(inplace=True),
    nn.GELU(),
    nn.ELU(inplace=True),
    nn.LeakyReLU(0.1, inplace=True),
    F.mish,
    F.softplus,
]


@pytest.mark.parametrize("function", LIKE)
def test_extension_gates_the_own_derivative(function: Callable[[Tensor], Tensor]) -> None:
    step = 1e-6
    numeric = (function(X + step) - function(X - step)) / (2 * step)  # f'(x), without autograd
    found = backward(function, GuidedMode(extension=True))
    expected = numeric * G.clamp(min=0) * (X > 0)
    smooth = (X != 0) & (X != 3)  # some have a kink there
    assert torch.allclose(found[smooth], expected[smooth], atol=1e-6)
    assert torch.equal(found[X == 0], torch.zeros(2).double())
    assert torch.equal(backward(function, GuidedMode(deconvnet=True, extension=True)), G.clamp(min=0))


def test_in_place_forms_really_write() -> None:
    for extension, function in ((False, F.relu_), (False, nn.ReLU6(True)), (True, nn.SiLU(True)), (True, F.elu_)):
        for deconvnet in (False, True):
            x = X.clone()
            kept = x + torch.zeros((), dtype=x.dtype, requires_grad=True)
            with GuidedMode(deconvnet=deconvnet, extension=extension):
                result = function(kept)
            assert torch.equal(kept.detach(), function(X.clone()))
            assert torch.equal(kept, result)


def test_in_place_result_used_through_the_argument() -> None:
    # h.relu_() whose return value is dropped, then used twice, then added to in place
    def network(x: Tensor) -> Tensor:
        h = x * 2
        h.relu_()
        y = h * 3
        y += h
        return y

    expected = 2 * ((3 * G + G).clamp(min=0) * (X > 0))
    assert torch.equal(backward(network, GuidedMode()), expected)


def test_a_view_may_be_rectified_in_place() -> None:
    def network(x: Tensor) -> Tensor:
        h = (x * 1.0).view(2, 7)
        h[0].relu_()
        return h.flatten()

    expected = torch.cat([G[:7] * (X[:7] > 0), G[7:]])
    assert torch.equal(backward(network, GuidedMode()), expected)


def test_what_follows_may_be_in_place() -> None:
    for function in (F.silu, F.hardswish):
        for deconvnet in (False, True):
            plain = backward(function, GuidedMode(deconvnet=deconvnet, extension=True))
            added = backward(lambda x, f=function: f(x).add_(1), GuidedMode(deconvnet=deconvnet, extension=True))
            assert torch.equal(added, plain)


def test_a_signal_that_branches_is_summed_before_the_gate() -> None:
    # +2 along one branch and -3 along the other: the rectifier sees -1 and stops it.
    def network(x: Tensor) -> Tensor:
        h = F.relu(x)
        return torch.cat([h, h])

    found = backward(network, GuidedMode(), torch.tensor([1.0]), torch.tensor([2.0, -3.0]))
    assert found.tolist() == [0.0]


def test_the_switch_gives_the_plain_gradient_of_the_same_graph() -> None:
    for function in (F.relu, F.relu6, F.silu, F.hardswish):
        switch = Switch()
        leaf = X.clone().requires_grad_()
        with GuidedMode(extension=True, switch=switch):
            y = function(leaf)
        (plain,) = torch.autograd.grad(function(leaf), leaf, G)
        switch.on = False
        assert torch.equal(torch.autograd.grad(y, leaf, G, retain_graph=True)[0], plain)
        switch.on = True
        assert not torch.equal(torch.autograd.grad(y, leaf, G)[0], plain)


def test_what_needs_no_gradient_is_left_alone() -> None:
    with GuidedMode(extension=True):
        assert not F.silu(X).requires_grad
        assert not F.relu(X).requires_grad


def test_bystanders_gradients_stay_plain() -> None:
    stop, wrong = threading.Event(), []
    plain = G * (X > 0)

    def bystander() -> None:
        while not stop.is_set():
            leaf = X.clone().requires_grad_()
            if not torch.equal(torch.autograd.grad(F.relu(leaf), leaf, G)[0], plain):
                wrong.append(1)

    thread = threading.Thread(target=bystander)
    thread.start()
    try:
        for _ in range(300):
            backward(F.relu, GuidedMode())
    finally:
        stop.set()
        thread.join()
    assert not wrong


# ---------------------------------------------------------------- coverage


def classifier_of(net: nn.Module, title: str, size: int) -> Classifier:
    module = InputModel(net, (0.5,) * 3, (0.25,) * 3).eval().requires_grad_(False)
    return dataclasses.replace(
        make_tiny(), title=title, module=module, input_size=(size, size), _lock=threading.RLock(), _memo={}
    )


def torchvision_net(name: str, size: int = 64, **options: object) -> Classifier:
    return classifier_of(get_model(name, num_classes=5, **options), name, size)


@pytest.mark.parametrize("method", ["guided_backprop", "deconvnet"])
def test_coverage_in_full(method: str, lite0: Classifier) -> None:
    googlenet = torchvision_net("googlenet", aux_logits=False, init_weights=False)
    for classifier, sentence in ((googlenet, "57 of 57 activations guided"), (lite0, "33 of 33 activations guided")):
        coverage = xai.applicability(classifier, method)
        assert (coverage.status, coverage.sentence) == ("full", sentence)


def test_coverage_is_limited_where_some_are_passed_plainly() -> None:
    classifier = torchvision_net("mobilenet_v3_large")
    coverage = xai.applicability(classifier, "guided_backprop")
    assert coverage.status == "limited"
    assert coverage.sentence == (
        "19 of 40 activations guided; Hardswish (21) is passed plainly; Hardsigmoid (8) keeps the plain gradient"
    )
    coverage = xai.applicability(classifier, "guided_backprop", extension=True)
    assert coverage.status == "limited"
    assert coverage.sentence == (
        "40 of 40 activations guided; for Hardswish (21) an extension of the rule, which is defined for ReLU; "
        "Hardsigmoid (8) keeps the plain gradient"
    )


@pytest.mark.parametrize("method", ["guided_backprop", "deconvnet", "guided_gradcam"])
def test_refused_where_nothing_is_guided(method: str) -> None:
    silu = torchvision_net("efficientnet_b0")
    silu = dataclasses.replace(silu, default_layer="features.8")
    expected = (
        "0 of 49 activations guided; there is no ReLU, only SiLU (49); extension=True guides the others too, which "
        "goes beyond the paper"
    )
    coverage = xai.applicability(silu, method)
    assert coverage.status == "refused"
    assert coverage.sentence.startswith(expected)
    with pytest.raises(
        NotApplicableError, match="does not apply to efficientnet_b0: 0 of 49 activations guided; there"
    ):
        xai.attribute(silu, torch.rand(1, 3, 64, 64), method)
    assert xai.applicability(silu, method, extension=True).status == "limited"


def test_transformers_are_refused_and_plain_networks_too() -> None:
    vit = torchvision_net("vit_b_16", size=32, image_size=32)
    coverage = xai.applicability(vit, "guided_backprop")
    assert coverage.status == "refused"
    assert "there is no ReLU, only GELU (12)" in coverage.sentence
    tanh = classifier_of(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(144, 2)), "Tanh net", 8)
    coverage = xai.applicability(tanh, "guided_backprop", extension=True)
    assert (coverage.status, coverage.sentence) == ("refused", "0 of 0 activations guided; there is no ReLU")


def test_extension_changes_the_map_and_says_what_is_guided() -> None:
    classifier = torchvision_net("mobilenet_v3_large")
    x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    plain, extended = (xai.attribute(classifier, x, "guided_backprop", extension=flag) for flag in (False, True))
    assert (plain.values - extended.values).abs().max() > 0.1 * plain.values.abs().max()
    assert extended.provenance["params"] == {"extension": True}


# ---------------------------------------------------------------- nothing left behind


class Failing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        F.relu(self.conv(x), inplace=True)
        raise RuntimeError("the network broke")


def test_nothing_is_left_after_a_failure() -> None:
    module = InputModel(Failing(), (0.5,) * 3, (0.5,) * 3).eval().requires_grad_(False)
    before = ModuleState.of(module)
    for deconvnet in (False, True):
        with pytest.raises(RuntimeError, match="the network broke"), GuidedMode(deconvnet=deconvnet):
            module(torch.rand(1, 3, 8, 8))
    with pytest.raises(RuntimeError, match="the network broke"):
        GuidedBackprop()(module, torch.rand(1, 3, 8, 8), None, Run())
    before.restore_and_check()
    assert torch.overrides._get_current_function_mode() is None
    leaf = X.clone().requires_grad_()
    assert torch.equal(torch.autograd.grad(F.relu(leaf), leaf, G)[0], G * (X > 0))
