"""The gradient methods against derivations that use no autograd, and what holds for all of them."""

from __future__ import annotations

import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

import xai
from tests.conftest import TinyNet, make_tiny
from xai.errors import Cancelled, InputError, LayerError
from xai.explain._gradient import segments
from xai.explain._spec import METHODS, Explainer
from xai.explain.call import make_explainer
from xai.explain.integrated_gradients import IntegratedGradients, blurred, gauss_legendre
from xai.explain.smoothgrad import SmoothGrad
from xai.hooks import ModuleState
from xai.models.classifier import Classifier, InputModel
from xai.types import Run

GRADIENTS = (
    "saliency", "inputxgradient", "guided_backprop", "guided_gradcam", "deconvnet", "integrated_gradients", "smoothgrad"
)  # fmt: skip


def pixels(count: int, size: int = 64, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(
        dtype
    )


def explainer_of(name: str, **params: object) -> Explainer:
    return make_explainer(METHODS.get(name), "relu2", **params)


# ---------------------------------------------------------------- by hand


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


# ---------------------------------------------------------------- batches, memory, progress


def test_segments_cover_steps_and_images() -> None:
    assert segments(2, 9, 4) == [(0, slice(2, 4)), (1, slice(0, 4)), (2, slice(0, 1))]
    assert segments(0, 3, 1) == [(0, slice(0, 1)), (1, slice(0, 1)), (2, slice(0, 1))]


@pytest.mark.parametrize("name", GRADIENTS)
def test_a_batch_equals_its_images(tiny64: Classifier, name: str) -> None:
    x, target = pixels(19), torch.arange(19) % 5  # more than one batch on the CPU
    params = {"steps": 3} if name == "integrated_gradients" else {"samples": 3} if name == "smoothgrad" else {}
    explain = explainer_of(name, **params)
    whole = explain(tiny64.module, x, target, Run())
    for i in (0, 17, 18):
        alone = explain(tiny64.module, x[i : i + 1], target[i : i + 1], Run())
        assert torch.allclose(whole.values[i : i + 1], alone.values, rtol=1e-9, atol=1e-14)
        assert torch.allclose(whole.logits[i : i + 1], alone.logits, rtol=1e-12)
    for key, value in whole.facts.items():
        assert isinstance(value, str) or len(value) == 19, key


class ShortOfMemory(InputModel):
    """Fits three images with a graph, no more."""

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > 3:
            raise torch.OutOfMemoryError("out of memory")
        return super().forward(x)


@pytest.mark.parametrize("name", GRADIENTS)
def test_a_batch_that_does_not_fit_is_halved_and_said(tiny64: Classifier, name: str) -> None:
    short = ShortOfMemory(tiny64.module.net, (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)).double().eval().requires_grad_(False)
    short.mean, short.std = tiny64.module.mean, tiny64.module.std
    x, notes = pixels(7), []
    explain = explainer_of(name)
    expected = explain(tiny64.module, x, None, Run())
    found = explain(short, x, None, Run(on_progress=lambda done, total, note: notes.append(note)))
    assert torch.allclose(found.values, expected.values, rtol=1e-9, atol=1e-14)
    assert any("memory is short" in note for note in notes)


@pytest.mark.parametrize("name", GRADIENTS)
def test_progress_rises_to_its_total(tiny: Classifier, name: str) -> None:
    seen: list[tuple[int, int]] = []
    run = Run(on_progress=lambda done, total, note: seen.append((done, total)))
    xai.attribute(tiny, pixels(20, dtype=torch.float32), name, run=run)
    assert len(seen) >= 2
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert {total for _, total in seen} == {seen[-1][0]}


@pytest.mark.parametrize(("name", "expected"), [("integrated_gradients", 5 * 2 + 2 + 1), ("smoothgrad", 4 * 2 + 2)])
def test_images_through_the_network(tiny64: Classifier, name: str, expected: int) -> None:
    through = []
    explain = explainer_of(name, **({"steps": 5} if name == "integrated_gradients" else {"samples": 4}))
    handle = tiny64.module.net.register_forward_pre_hook(lambda _m, args: through.append(len(args[0])))
    try:
        explain(tiny64.module, pixels(2), None, Run())
    finally:
        handle.remove()
    assert sum(through) == expected


@pytest.mark.parametrize("name", GRADIENTS)
def test_the_stated_cost(tiny: Classifier, name: str) -> None:
    spec = METHODS.get(name)
    expected = {"integrated_gradients": 3 * 32 + 2, "smoothgrad": 3 * 16 + 1, "guided_gradcam": 4}.get(name, 3)
    assert spec.passes(tiny, spec.explainer()) == expected
    assert spec.family == "gradient"


# ---------------------------------------------------------------- results and refusals


@pytest.mark.parametrize("name", GRADIENTS)
def test_results(lite0: Classifier, cat: Tensor, name: str) -> None:
    params = {"steps": 4} if name == "integrated_gradients" else {"samples": 2} if name == "smoothgrad" else {}
    found, again = (xai.attribute(lite0, cat, name, seed=3, **params) for _ in range(2))
    assert found.values.shape == ((1, 224, 224) if name == "saliency" else (1, 3, 224, 224))
    assert found.values.dtype == torch.float32
    assert torch.isfinite(found.values).all()
    assert not found.values.requires_grad
    assert torch.equal(found.values, again.values)
    assert found.signed == bool((found.values < 0).any())
    assert found.facts["blank"] == [""]
    assert torch.equal(found.target, found.logits.argmax(1))
    assert torch.allclose(found.logits, lite0.predict(cat), atol=1e-4)


def test_guided_gradcam_is_guided_backprop_times_gradcam(lite0: Classifier, cat: Tensor) -> None:
    for layer in (None, "_blocks.10"):
        cam = xai.attribute(lite0, cat, "gradcam", layer=layer).maps()
        guided = xai.attribute(lite0, cat, "guided_backprop").values
        found = xai.attribute(lite0, cat, "guided_gradcam", layer=layer)
        assert torch.allclose(
            found.values, guided * cam[:, None], rtol=1e-3, atol=1e-6 * float(found.values.abs().max())
        )
        assert "33 of 33 activations guided" in found.coverage.sentence
        assert "cells at" in found.coverage.sentence


def test_a_smoothgrad_of_magnitudes_is_not_signed(tiny: Classifier) -> None:
    x = pixels(1, dtype=torch.float32)
    assert xai.attribute(tiny, x, "smoothgrad").signed
    found = xai.attribute(tiny, x, "smoothgrad", magnitude=True)
    assert not found.signed
    assert found.values.shape == (1, 64, 64)
    assert float(found.values.min()) >= 0


def test_cautions_and_sources() -> None:
    for name in ("guided_backprop", "deconvnet"):
        caution = METHODS.get(name).caution
        assert "Hardly depends on the class" in caution
        assert "Adebayo et al." in caution
        assert "Nie et al." in caution
    ranks = [METHODS.get(name).rank for name in GRADIENTS]
    assert ranks == list(range(30, 37))


def test_bad_parameters_are_refused_in_one_sentence(tiny: Classifier) -> None:
    x = pixels(2, dtype=torch.float32)
    cases: list[tuple[str, dict[str, object], str]] = [
        ("integrated_gradients", {"steps": 0}, "steps is 0; give 1 to 1000."),
        ("integrated_gradients", {"baseline": "grey"}, "baseline 'grey' is not known; use black, mean, white, blur."),
        ("smoothgrad", {"samples": 0}, "samples is 0; give 1 to 1000."),
        ("smoothgrad", {"noise": -1}, "noise is -1; give 0 to 1.0, as a share of the image's value range."),
        ("saliency", {"steps": 3}, "saliency has no parameter 'steps'; it has none."),
        ("guided_backprop", {"targets": [1, 2, 3]}, "targets has 3 classes for 2 images; give one per image."),
        ("integrated_gradients", {"targets": 5}, "target class 5 does not exist; this classifier has 0 to 4."),
        ("smoothgrad", {"targets": [-1, 2]}, "target class -1 does not exist; this classifier has 0 to 4."),
    ]
    for name, params, message in cases:
        with pytest.raises(InputError) as refused:
            xai.attribute(tiny, x, name, **params)  # type: ignore[arg-type]
        assert str(refused.value) == message


def test_guided_gradcam_says_when_its_layer_does_not_run(tiny: Classifier) -> None:
    module = make_tiny().module
    module.net.add_module("spare", nn.ReLU())
    with pytest.raises(LayerError, match="layer 'spare' does not run in this network's forward; choose another layer"):
        make_explainer(METHODS.get("guided_gradcam"), "spare")(module, pixels(1, dtype=torch.float32), None, Run())
    with pytest.raises(LayerError, match="'fc' gives"):
        make_explainer(METHODS.get("guided_gradcam"), "fc")(module, pixels(1, dtype=torch.float32), None, Run())


# ---------------------------------------------------------------- nothing left behind, several people at once


@pytest.mark.parametrize("name", GRADIENTS)
def test_the_module_is_as_before_even_after_a_failure(name: str) -> None:
    tiny, x = make_tiny(), pixels(20, dtype=torch.float32)
    before = ModuleState.of(tiny.module)
    weights = {key: value.clone() for key, value in tiny.module.state_dict().items()}
    xai.attribute(tiny, x, name)
    with pytest.raises(InputError):
        xai.attribute(tiny, x, name, targets=99)
    reports: list[int] = []
    stop = Run(on_progress=lambda done, total, note: reports.append(done), cancelled=lambda: len(reports) > 0)
    with pytest.raises(Cancelled):
        xai.attribute(tiny, x, name, run=stop)
    with pytest.raises(RuntimeError):  # the network itself fails: wrong dtype
        explainer_of(name)(tiny.module, x.double(), None, Run())
    before.restore_and_check()
    assert all(torch.equal(weights[key], value) for key, value in tiny.module.state_dict().items())
    assert torch.overrides._get_current_function_mode() is None
    assert torch.is_grad_enabled()


def test_threads_on_one_module_are_bit_identical_to_serial() -> None:
    """Without the lease: these methods act in their own thread alone."""
    tiny = make_tiny()
    jobs = [
        (name, seed) for seed in range(8) for name in ("guided_backprop", "deconvnet", "saliency", "guided_gradcam")
    ]

    def explain(job: tuple[str, int]) -> Tensor:
        x = pixels(2, seed=job[1], dtype=torch.float32)
        return explainer_of(job[0])(tiny.module, x, None, Run()).values

    serial = [explain(job) for job in jobs]
    barrier = threading.Barrier(4)

    def worker(index: int) -> list[Tensor]:
        barrier.wait()
        return [explain(job) for job in jobs[index:] + jobs[:index]]  # each thread begins elsewhere

    with ThreadPoolExecutor(4) as pool:
        for index, found in enumerate(pool.map(worker, range(4))):
            for expected, value in zip(serial[index:] + serial[:index], found, strict=True):
                assert torch.equal(value, expected)


def test_threads_through_the_lease(lite0: Classifier, cat: Tensor) -> None:
    names = ("guided_backprop", "deconvnet", "saliency", "guided_backprop")
    serial = [xai.attribute(lite0, cat, name).values for name in names]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda name: xai.attribute(lite0, cat, name).values, names))
    assert all(torch.equal(a, b) for a, b in zip(serial, found, strict=True))


def test_explainers_are_frozen_values() -> None:
    for name in GRADIENTS:
        explainer = METHODS.get(name).explainer()
        assert dataclasses.is_dataclass(explainer)
        assert explainer == METHODS.get(name).explainer()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", GRADIENTS)
def test_cuda_agrees_with_the_cpu(tiny64: Classifier, name: str) -> None:
    params = {"steps": 3} if name == "integrated_gradients" else {"samples": 3} if name == "smoothgrad" else {}
    explain, x = explainer_of(name, **params), pixels(3)
    module = make_tiny(torch.float64).module.cuda()
    found = explain(module, x.cuda(), None, Run(device=torch.device("cuda")))
    again = explain(module, x.cuda(), None, Run(device=torch.device("cuda")))
    assert torch.allclose(found.values.cpu(), explain(tiny64.module, x, None, Run()).values, rtol=1e-8, atol=1e-13)
    assert torch.equal(found.values, again.values)
