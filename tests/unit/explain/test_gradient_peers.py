"""The gradient methods against captum where it is right, and against module hooks on a copy where it is not.

captum knows `nn.ReLU` modules alone: for functional ReLU (GoogLeNet) the copy gets modules; ReLU6 is guided by hooks.
Random weights say nothing about pictures but everything about agreement.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable

import pytest
import torch
from captum.attr import (
    Deconvolution,
    GuidedBackprop,
    GuidedGradCam,
    InputXGradient,
    Saliency,
)
from captum.attr import (
    IntegratedGradients as CaptumIntegratedGradients,
)
from torch import Tensor, nn
from torchvision.models.googlenet import BasicConv2d

import xai
from xai.explain.integrated_gradients import Baseline, IntegratedGradients
from xai.models.classifier import Classifier, InputModel
from xai.types import Run

TARGET = 7
Gradients = Callable[[InputModel, Tensor], Tensor]


def image(size: int) -> Tensor:
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(5))


def agree(found: Tensor, expected: Tensor) -> None:
    """Same numbers but for float32's order of summation: correlation of each image, and the largest difference."""
    assert found.shape == expected.shape
    for one, two in zip(found.double().flatten(1), expected.double().flatten(1), strict=True):
        assert two.abs().max() > 0
        assert float(torch.corrcoef(torch.stack([one, two]))[0, 1]) > 0.9999
        assert float((one - two).abs().max() / two.abs().max()) < 1e-3


def with_modules(classifier: Classifier) -> InputModel:
    """A copy whose rectifiers are modules that do not work in place, as captum needs them."""
    module: InputModel = copy.deepcopy(classifier.module)
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.ReLU):
                setattr(parent, name, nn.ReLU())
            elif isinstance(child, BasicConv2d):
                setattr(parent, name, nn.Sequential(child.conv, child.bn, nn.ReLU()))
    return module


def hooked(module: InputModel, x: Tensor, rule: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """The gradient with each ReLU6 module's backward replaced: rule(gradient at x, gradient at y)."""
    module = copy.deepcopy(module)
    for layer in module.modules():
        if isinstance(layer, nn.ReLU6):
            layer.register_full_backward_hook(lambda _m, at_x, at_y: (rule(at_x[0], at_y[0]),))
    x = x.clone().requires_grad_()
    (found,) = torch.autograd.grad(module(x)[:, TARGET].sum(), x)
    return found


@pytest.fixture(autouse=True)
def _quiet() -> None:
    warnings.filterwarnings("ignore", message=".*(backward hooks|required_grads|non-full backward hook).*")


@pytest.mark.parametrize(
    ("name", "size", "rectifiers"),
    [("resnet50", 64, 49), ("vgg16", 32, 15), ("googlenet", 64, 57), ("densenet121", 64, 121)],
)
def test_captum_on_rectifier_networks(name: str, size: int, rectifiers: int) -> None:
    classifier, x = xai.load_model(name, weights="random:0", device="cpu"), image(size)
    target = int(classifier.predict(x).sum(0).argmax())  # a class that Grad-CAM has something to say for
    module = with_modules(classifier)
    peers: dict[str, Gradients] = {
        "saliency": lambda m, v: Saliency(m).attribute(v, target=target).amax(1),
        "inputxgradient": lambda m, v: InputXGradient(m).attribute(v, target=target),
        "guided_backprop": lambda m, v: GuidedBackprop(m).attribute(v, target=target),
        "deconvnet": lambda m, v: Deconvolution(m).attribute(v, target=target),
        "guided_gradcam": lambda m, v: GuidedGradCam(m, m.net.get_submodule(classifier.default_layer)).attribute(
            v, target=target, interpolate_mode="bilinear"
        ),
    }
    for method, peer in peers.items():
        found = xai.attribute(classifier, x, method, targets=target)
        agree(found.values, peer(module, x.clone().requires_grad_()).detach())
        if method == "guided_backprop":
            assert (found.coverage.done, found.coverage.total) == (rectifiers, rectifiers)


def test_captum_misses_functional_rectifiers_and_we_do_not() -> None:
    classifier, x = xai.load_model("googlenet", weights="random:0", device="cpu"), image(64)
    plain = InputXGradient(classifier.module).attribute(x.clone().requires_grad_(), target=TARGET) / x
    peer = GuidedBackprop(copy.deepcopy(classifier.module)).attribute(x.clone().requires_grad_(), target=TARGET)
    agree(peer.detach(), plain.detach())  # captum's guided backprop here is the plain gradient
    ours = xai.attribute(classifier, x, "guided_backprop", targets=TARGET).values
    assert float(torch.cosine_similarity(ours.flatten(1), plain.detach().flatten(1)).max()) < 0.9


def test_relu6_by_module_hooks(lite0: Classifier, cat: Tensor) -> None:
    expected = {
        "guided_backprop": hooked(lite0.module, cat, lambda at_x, at_y: at_x.clamp(min=0)),
        "deconvnet": hooked(lite0.module, cat, lambda at_x, at_y: at_y.clamp(min=0)),
    }
    for method, values in expected.items():
        agree(xai.attribute(lite0, cat, method, targets=TARGET).values, values)


def test_captum_on_real_weights(lite0: Classifier, cat: Tensor) -> None:
    x = cat.clone().requires_grad_()
    agree(
        xai.attribute(lite0, cat, "saliency", targets=TARGET).values,
        Saliency(lite0.module).attribute(x, target=TARGET).amax(1).detach(),
    )
    agree(
        xai.attribute(lite0, cat, "inputxgradient", targets=TARGET).values,
        InputXGradient(lite0.module).attribute(x, target=TARGET).detach(),
    )


@pytest.mark.parametrize(("baseline", "value"), [("black", 0.0), ("mean", 127 / 255)])
def test_captum_integrated_gradients(lite0: Classifier, cat: Tensor, baseline: Baseline, value: float) -> None:
    # in float64: a rectifier that float32's rounding switches on or off at one point is a difference of a percent
    module, x = copy.deepcopy(lite0.module).double(), cat.double()
    target = torch.tensor([TARGET])
    found = IntegratedGradients(steps=4, baseline=baseline)(module, x, target, Run())
    expected, delta = CaptumIntegratedGradients(module).attribute(
        x,
        baselines=torch.full_like(x, value),
        target=TARGET,
        n_steps=4,
        method="gausslegendre",
        return_convergence_delta=True,
    )
    agree(found.values, expected.detach())
    assert found.facts["completeness_gap"][0] == pytest.approx(float(delta), abs=1e-4)
