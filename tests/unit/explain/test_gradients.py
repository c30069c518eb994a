"""The gradient methods against derivations that use no autograd."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from tests.conftest import TinyNet
from tests.unit.gradient_helpers import explainer_of, pixels
from xai.explain.integrated_gradients import IntegratedGradients, blurred, gauss_legendre
from xai.explain.smoothgrad import SmoothGrad
from xai.models.classifier import Classifier, InputModel
from xai.types import Run


class ByHand:
    """TinyNet written out, forward and backward; the rectifiers' backward is chosen by `rule`."""

    def __init__(self, module: InputModel, x: Tensor) -> None:
        net = module.net
        assert isinstance(net, TinyNet)
        self.net, self.std = net, module.std
        self.scale1, shift1 = self._affine(net.bn1)
        self.scale2, shift2 = self._affine(net.bn2)
        self.x = (x - module.mean) / module.std
        self.n1 = F.conv2d(self.x, net.conv1.weight, net.conv1.bias, 2, 1) * self.scale1 + shift1
        pooled, self.switches = F.max_pool2d(self.n1.clamp(min=0), 2, return_indices=True)
        self.pooled = pooled
        self.n2 = F.conv2d(pooled, net.conv2.weight, net.conv2.bias, 1, 1) * self.scale2 + shift2
        self.maps = self.n2.clamp(min=0)
        self.logits = self.maps.mean((2, 3)) @ net.fc.weight.T + net.fc.bias

    @staticmethod
    def _affine(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        return scale.view(1, -1, 1, 1), (norm.bias - norm.running_mean * scale).view(1, -1, 1, 1)

    def at_maps(self, target: Tensor) -> Tensor:
        return (self.net.fc.weight[target] / 256)[:, :, None, None].expand_as(self.maps)

    def at_pixels(self, target: Tensor, rule: str) -> Tensor:
        def back(signal: Tensor, before: Tensor) -> Tensor:
            gate = torch.ones_like(signal) if rule == "deconvnet" else (before > 0).double()
            return gate * (signal if rule == "plain" else signal.clamp(min=0))

        signal = back(self.at_maps(target), self.n2) * self.scale2
        signal = nn.grad.conv2d_input(self.pooled.shape, self.net.conv2.weight, signal, 1, 1)
        signal = F.max_unpool2d(signal, self.switches, 2)
        signal = back(signal, self.n1) * self.scale1
        return nn.grad.conv2d_input(self.x.shape, self.net.conv1.weight, signal, 2, 1) / self.std


@pytest.mark.parametrize("targets", [None, [4, 0, 2]])
def test_single_pass_methods_by_hand(tiny64: Classifier, targets: list[int] | None) -> None:
    module, x = tiny64.module, pixels(3)
    hand = ByHand(module, x)
    target = hand.logits.argmax(1) if targets is None else torch.tensor(targets)
    plain = hand.at_pixels(target, "plain")
    guided = hand.at_pixels(target, "guided")
    alpha = hand.at_maps(target).mean((2, 3), keepdim=True)
    cam = (alpha * hand.maps).sum(1, keepdim=True).clamp(min=0)
    cam = F.interpolate(cam, (64, 64), mode="bilinear", align_corners=False)
    expected = {
        "saliency": plain.abs().amax(1),
        "inputxgradient": x * plain,
        "guided_backprop": guided,
        "deconvnet": hand.at_pixels(target, "deconvnet"),
        "guided_gradcam": guided * cam,
    }
    for name, values in expected.items():
        found = explainer_of(name)(module, x, None if targets is None else target, Run())
        assert values.abs().max() > 0, name
        assert torch.allclose(found.values, values, rtol=1e-9, atol=1e-15), name
        assert torch.allclose(found.logits, hand.logits, rtol=1e-12), name
        assert torch.equal(found.target, target), name
    assert not torch.allclose(guided, plain)
    assert not torch.allclose(expected["deconvnet"], guided)


def test_integrated_gradients_by_hand(tiny64: Classifier) -> None:
    x, target = pixels(2), torch.tensor([1, 3])
    nodes, weights = np.polynomial.legendre.leggauss(5)
    for baseline, value in (("black", 0.0), ("white", 1.0), ("mean", (0.5, 0.4, 0.3))):
        start = torch.tensor(value, dtype=torch.float64).expand(3).view(1, 3, 1, 1)
        expected = torch.zeros_like(x)
        for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
            point = start + node * (x - start)
            expected += weight * (x - start) * ByHand(tiny64.module, point).at_pixels(target, "plain")
        found = IntegratedGradients(steps=5, baseline=baseline)(tiny64.module, x, target, Run())  # type: ignore[arg-type]
        # the mean is a float32 buffer's 0.4 and 0.3
        assert torch.allclose(found.values, expected, rtol=1e-6, atol=1e-8), baseline
        ends = [ByHand(tiny64.module, end).logits for end in (x, start.expand_as(x))]
        rise = (ends[0] - ends[1]).gather(1, target[:, None])[:, 0]
        assert found.facts["score_difference"] == pytest.approx(rise.tolist(), abs=1e-6)
        assert found.facts["attribution_sum"] == pytest.approx(expected.sum((1, 2, 3)).tolist(), abs=1e-6)
        gap = [a - b for a, b in zip(found.facts["attribution_sum"], found.facts["score_difference"], strict=True)]
        assert found.facts["completeness_gap"] == pytest.approx(gap, abs=1e-12)


def small_net(activation: nn.Module) -> InputModel:
    generator = torch.Generator().manual_seed(3)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), activation, nn.Flatten(), nn.Linear(4 * 36, 3)).double()
    with torch.no_grad():
        for tensor in net.parameters():
            tensor.copy_(torch.randn(tensor.shape, generator=generator, dtype=torch.float64) * 0.3)
    return InputModel(net, (0.4,) * 3, (0.3,) * 3).double().eval().requires_grad_(False)


@pytest.mark.parametrize("baseline", ["black", "mean", "white", "blur"])
def test_completeness_holds_where_the_network_is_smooth(baseline: str) -> None:
    module, x = small_net(nn.Tanh()), pixels(3, 8)
    found = IntegratedGradients(steps=160, baseline=baseline)(module, x, None, Run())  # type: ignore[arg-type]
    assert min(abs(v) for v in found.facts["score_difference"]) > 1e-3
    assert max(abs(v) for v in found.facts["completeness_gap"]) < 1e-10


def test_completeness_of_a_linear_network_needs_one_step() -> None:
    module, x = small_net(nn.Identity()), pixels(2, 8)
    found = IntegratedGradients(steps=1)(module, x, torch.tensor([2, 0]), Run())
    assert max(abs(v) for v in found.facts["completeness_gap"]) < 1e-12


def test_more_steps_close_the_gap(tiny64: Classifier) -> None:
    few, many = (
        torch.tensor(IntegratedGradients(steps=steps)(tiny64.module, pixels(4), None, Run()).facts["completeness_gap"])
        for steps in (2, 64)
    )
    assert many.abs().mean() < 0.1 * few.abs().mean()


def test_gauss_legendre_is_exact_for_polynomials() -> None:
    nodes, weights = gauss_legendre(4)
    for degree in range(8):
        assert sum(w * t**degree for t, w in zip(nodes, weights, strict=True)) == pytest.approx(
            1 / (degree + 1), abs=1e-14
        )
    assert sum(w * t**8 for t, w in zip(nodes, weights, strict=True)) != pytest.approx(1 / 9, abs=1e-6)


def test_the_blurred_baseline_is_scipys() -> None:
    x = pixels(1, 40)
    found = blurred(x, 2.0)
    expected = np.stack([gaussian_filter(channel, 2.0, radius=6, mode="mirror") for channel in x[0].numpy()])
    assert np.allclose(found[0].numpy(), expected, atol=1e-12)


def test_smoothgrad_by_hand(tiny64: Classifier) -> None:
    x, target, run = pixels(2), torch.tensor([1, 3]), Run(seed=7)
    x[1] *= 0.5
    expected = torch.zeros_like(x)
    for sample in range(3):
        drawn = torch.randn(3, 64, 64, generator=run.generator("smoothgrad", sample)).double()
        spread = torch.stack([image.max() - image.min() for image in x]).view(2, 1, 1, 1)
        expected += ByHand(tiny64.module, x + 0.15 * spread * drawn).at_pixels(target, "plain") / 3
    found = SmoothGrad(samples=3)(tiny64.module, x, target, run)
    assert torch.allclose(found.values, expected, rtol=1e-9, atol=1e-14)
    sizes = SmoothGrad(samples=3, magnitude=True)(tiny64.module, x, target, run)
    assert torch.allclose(sizes.values, expected.abs().amax(1), rtol=1e-9, atol=1e-14)
    other = SmoothGrad(samples=3)(tiny64.module, x, target, Run(seed=8))
    assert not torch.allclose(other.values, expected)


def test_smoothgrad_without_noise_is_the_gradient(tiny64: Classifier) -> None:
    x = pixels(2)
    plain = ByHand(tiny64.module, x)
    found = SmoothGrad(samples=2, noise=0)(tiny64.module, x, None, Run())
    assert torch.allclose(found.values, plain.at_pixels(plain.logits.argmax(1), "plain"), rtol=1e-9, atol=1e-14)
