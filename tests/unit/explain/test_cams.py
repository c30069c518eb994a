"""The CAMs against numbers worked out by hand and derivations on whole graphs, and what may be asked of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import Tensor

import xai
from tests.unit.cam_helpers import CAMS, GRADIENT, explain, images, images_through, whole_graph
from xai.errors import InputError, LayerError, NotApplicableError
from xai.explain import (
    eigencam,
    gradcam,
    gradcam_plusplus,
    hirescam,
    layercam,
    xgradcam,
)
from xai.explain._cam import signed_map
from xai.explain.spec import METHODS
from xai.models.classifier import Classifier

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
    torch.testing.assert_close(eigencam.first_component(maps)[0], expected)


def test_eigencam_of_constant_maps_is_zero() -> None:
    assert eigencam.first_component(torch.full((3, 4, 4), 2.0))[0].abs().max() == 0


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
    with pytest.raises(NotApplicableError, match=r"layer 'fc' of Tiny gives no stack of maps; near it are [^;]+\.$"):
        xai.attribute(tiny, x, name, layer="fc")
    words = r"^layer 'fc' gives \(5,\) for an image, not a stack of maps; choose a layer that gives maps\.$"
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


@pytest.mark.parametrize("name", [*GRADIENT, "eigencam"])
def test_one_pass_an_image(tiny: Classifier, name: str) -> None:
    tiny.layers()
    x = images(3, dtype=torch.float32)
    assert images_through(tiny, lambda: xai.attribute(tiny, x, name)) == 3
    assert METHODS.get(name).passes(tiny, METHODS.get(name).explainer()) == 1


@pytest.mark.parametrize("name", CAMS)
def test_facts_are_json(tiny: Classifier, name: str) -> None:
    facts = dict(xai.attribute(tiny, images(1, dtype=torch.float32), name).facts)
    assert json.loads(json.dumps(facts)) == facts


def test_from_several_threads_as_one_after_another(tiny: Classifier) -> None:
    x = images(2, dtype=torch.float32)
    jobs = [(name, layer) for name in CAMS for layer in ("relu1", "relu2")] * 2

    def work(job: tuple[str, str]) -> bytes:
        return xai.attribute(tiny, x, job[0], layer=job[1]).values.numpy().tobytes()

    serial = [work(job) for job in jobs]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, jobs)) == serial
