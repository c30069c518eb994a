"""What holds for every gradient method: batches, memory, progress, results, refusals, and nothing left behind."""

from __future__ import annotations

import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn

import xai
from tests.conftest import make_tiny
from tests.unit.gradient_helpers import GRADIENTS, explainer_of, pixels
from xai.errors import Cancelled, InputError, LayerError
from xai.explain._gradient import segments
from xai.explain.call import make_explainer
from xai.explain.spec import METHODS
from xai.models.classifier import Classifier, InputModel
from xai.models.hooks import ModuleState
from xai.types import Run

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
        ("integrated_gradients", {"baseline": "grey"}, "baseline 'grey' is not known; use black, mean, white or blur."),
        ("smoothgrad", {"samples": 0}, "samples is 0; give 1 to 1000."),
        ("smoothgrad", {"noise": -1}, "noise is -1; give 0 to 1."),
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
