"""LRP beside zennit and captum, where they are right."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import get_model

from tests.unit._lrp_reference import MEAN, STD, E, explain, pixels, randomise, wrapped
from xai.models.classifier import InputModel

# Peers ------------------------------------------------------------------------------------------------------------


def zennit_values(net: nn.Module, x: Tensor, composite: str, canonizer: Any, exact: bool) -> Tensor:
    """zennit's relevance for the predicted class; batch norm's eps is put into its variance, where zennit misses it."""
    from zennit.attribution import Gradient
    from zennit.composites import EpsilonGammaBox, EpsilonPlusFlat
    from zennit.core import Stabilizer

    net = copy.deepcopy(net).requires_grad_(True)
    for norm in net.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_var += norm.eps
            norm.eps = 1e-30  # torch 2.11 takes no 0
    mean, std = (torch.tensor(v, dtype=x.dtype).view(1, 3, 1, 1) for v in (MEAN, STD))
    e: Any = Stabilizer(E, norm_scale=True) if exact else E
    rest = {"epsilon": e, "stabilizer": e, "canonizers": [canonizer()]}
    if composite == "epsilon-plus-flat":
        chosen: Any = EpsilonPlusFlat(**rest)
    else:
        chosen = EpsilonGammaBox(low=(-mean / std).expand_as(x), high=((1 - mean) / std).expand_as(x), **rest)
    with Gradient(model=net, composite=chosen) as attributor:
        start = lambda out: F.one_hot(out.argmax(1), out.shape[1]) * out  # noqa: E731
        _, relevance = attributor(((x - mean) / std).requires_grad_(), start)
    return relevance.detach()


def correlation(a: Tensor, b: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])


@pytest.mark.parametrize("composite", ["epsilon-plus-flat", "epsilon-gamma-box"])
def test_zennit_with_its_resnet_canonizer(composite: str) -> None:
    from zennit.torchvision import ResNetCanonizer

    net = randomise(get_model("resnet50", num_classes=10).double().eval(), 1)
    for block in net.modules():  # keep the sums of 16 blocks within reason
        if hasattr(block, "bn3"):
            block.bn3.weight.data.mul_(0.3)
    x = pixels(1, 3, 64, 64)
    expected = zennit_values(net, x, composite, ResNetCanonizer, exact=True)
    found = explain(wrapped(net), x, composite=composite).values
    # the gamma rule's stabiliser has another scale there, both branches apart
    assert float((found - expected).abs().max() / expected.abs().max()) < (1e-10 if "flat" in composite else 1e-4)


@pytest.mark.parametrize(
    ("composite", "exact"),
    [("epsilon-plus-flat", True), ("epsilon-gamma-box", True), ("epsilon-plus-flat", False)],
)
def test_zennit_on_vgg16(composite: str, exact: bool) -> None:
    from zennit.torchvision import VGGCanonizer

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = get_model("vgg16", num_classes=10).eval()
    x = pixels(1, 3, 64, 64, dtype=torch.float32)
    expected = zennit_values(net, x, composite, VGGCanonizer, exact)
    found = explain(wrapped(net, torch.float32), x, composite=composite).values
    assert correlation(found, expected) > 0.9999
    if exact:  # zennit's own stabiliser is 1e-6 itself, ours 1e-6 of the rms, in networks of any scale
        assert float((found - expected).norm() / expected.norm()) < 1e-4


def test_captum_on_a_tiny_network() -> None:
    from captum import attr

    class Net(nn.Module):  # captum knows no rule for nn.Flatten
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.relu, self.pool, self.fc = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Linear(36, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.pool(self.relu(self.conv(x))).flatten(1))

    net = randomise(Net().double(), 3)
    module = InputModel(net, (0, 0, 0), (1, 1, 1)).eval().requires_grad_(False)
    x = pixels(2, 3, 8, 8)
    expected = attr.LRP(copy.deepcopy(net).requires_grad_(True)).attribute(x.clone().requires_grad_(), target=1)
    found = explain(module, x, 1, composite="epsilon", epsilon=1e-9)
    torch.testing.assert_close(found.values, expected.detach(), rtol=1e-6, atol=1e-8)
