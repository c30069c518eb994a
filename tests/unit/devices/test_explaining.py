"""Every method, metric, attack and similarity gives on another device what it gives on the CPU.

They are taken from the registries: what is added later is compared by itself.
"""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn

import xai
from tests.conftest import make_tiny
from tests.unit.device_helpers import CPU, Tested, assert_same, placed
from tests.unit.explain.test_methods_contract import params
from tests.unit.explain.test_transformers import make_vit
from tests.unit.metrics.test_metrics_contract import measured
from xai.attacks import attack
from xai.attacks.call import sweep
from xai.attacks.spec import ATTACKS, Loss
from xai.errors import NotApplicableError
from xai.explain.spec import METHODS
from xai.metrics import METRICS, curves
from xai.metrics.distance import image_distance
from xai.metrics.shift import explanation_shift
from xai.models.classifier import Classifier, InputModel
from xai.outputs import NO_YES
from xai.stats import similarity

NETWORKS = {"tiny": make_tiny, "vit": lambda: make_vit(torch.float32)}


def pixels(size: int = 64) -> Tensor:
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))


def maps(size: int = 64) -> Tensor:
    return torch.rand(2, size, size, generator=torch.Generator().manual_seed(1)) - 0.3


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("name", METHODS.names())
def test_every_method(name: str, network: str, tested: Tested) -> None:
    classifier = NETWORKS[network]()
    x = pixels(classifier.input_size[0])

    def explained(device: torch.device) -> Any:
        try:
            return xai.attribute(placed(classifier, device), x, name, targets=[1, 2], **params(METHODS.get(name)))
        except NotApplicableError as error:
            return str(error)

    here, there = explained(CPU), explained(tested.device)
    if isinstance(here, str):
        assert here == there
        return
    assert_same(here.values, there.values, tested.near)
    assert_same(here.logits, there.logits, tested.near)
    assert_same(here.facts, there.facts, tested.near)
    assert_same(here.coverage, there.coverage, tested.near)
    assert here.target.tolist() == there.target.tolist() == [1, 2]


NEAR = {"road": 1e-4}
"""Metrics that stop at a tolerance, which images in one batch reach at other steps."""


@pytest.mark.parametrize("name", METRICS.names())
def test_every_metric(name: str, tested: Tested) -> None:
    spec, near = METRICS.get(name), max(tested.near, NEAR.get(name, 0.0))
    x, own = (pixels(32), maps(32)) if name == "road" else (pixels(), maps())  # its equations take a while
    there = placed(make_tiny(), tested.device)
    here = measured(spec, placed(make_tiny(), CPU), x, own)
    assert_same(here, measured(spec, there, x, own), near)
    if spec.kind in ("mask", "map", "pair"):  # a caller's maps may lie there too
        assert_same(here, measured(spec, there, x, own.to(tested.device)), near)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("protocol", ["rise", "study"])
def test_every_protocol_and_precision_of_the_curves(protocol: str, precision: str, tested: Tested) -> None:
    found = [
        curves(placed(make_tiny(), device), pixels(), {"a": maps(), "b": maps().flip(1)}, protocol, precision=precision)
        for device in (CPU, tested.device)
    ]
    assert_same(*(each.curves for each in found), tested.near if precision == "float32" else max(tested.near, 0.02))
    assert_same(*(each.target for each in found), 0)


@pytest.mark.parametrize("loss", get_args(Loss))
@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("name", ATTACKS.names())
def test_every_attack(name: str, norm: str, targeted: bool, loss: str, tested: Tested) -> None:
    kind = ATTACKS.get(name).params
    known = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    asked = {"norm": norm, "targeted": targeted, "loss": loss, "steps": 3, "restarts": 2}
    how = kind(**{key: value for key, value in asked.items() if key in known})
    epsilon = 8 / 255 if norm == "linf" else 1.0
    here, there = (
        attack(placed(make_tiny(), device), pixels(), name, how, labels=[1, 2], epsilon=epsilon)
        for device in (CPU, tested.device)
    )
    changed = {"provenance": {**here.provenance, "device": None}}
    here, there = (dataclasses.replace(each, **changed) for each in (here, there))
    if tested.pretended:
        assert_same(here, there, 0)
        return
    # The sign of a gradient near zero is another on another device: most pixels are the same, and the norms hold.
    assert_same(here.adversarial, there.adversarial, 0.02)
    assert bool((there.linf <= epsilon + 1e-6).all() if norm == "linf" else (there.l2 <= epsilon + 1e-5).all())


def test_a_sweep_over_epsilons(tested: Tested) -> None:
    here, there = (sweep(placed(make_tiny(), device), pixels(), [0, 0.01, 0.05]) for device in (CPU, tested.device))
    for one, two in zip(here, there, strict=True):
        assert_same(one.adversarial, two.adversarial, 20 * tested.near)
        assert_same(one.levels.float(), two.levels.float(), 20 * tested.near)


COMPARED = {
    "pearson": (),
    "spearman": (),
    "topk_iou": (0.1,),
    "ssim": (1.0,),
    "centroid_drift": (),
    "energy_inside": (),
}
"""The measures of `xai.stats.similarity` that take two maps, with what else they ask for."""


def test_every_similarity_is_compared() -> None:
    pairs = {
        name
        for name, each in vars(similarity).items()
        if inspect.isfunction(each) and each.__module__ == similarity.__name__ and not name.startswith("_")
        and list(inspect.signature(each).parameters)[:2] in (["a", "b"], ["maps", "mask"])
    }  # fmt: skip
    assert pairs == set(COMPARED)


@pytest.mark.parametrize("name", COMPARED)
def test_every_similarity(name: str, tested: Tested) -> None:
    measure = getattr(similarity, name)
    one, two = maps().round(decimals=1), maps().flip(1)  # with ties
    there = measure(one.to(tested.device), two.to(tested.device), *COMPARED[name])
    assert_same(measure(one, two, *COMPARED[name]), there.cpu(), tested.near)


def test_shifts_and_distances(tested: Tested) -> None:
    for measure, one, two in (
        (explanation_shift, maps(), maps().flip(2)),
        (image_distance, pixels(), pixels().flip(2)),
    ):
        there = measure(one.to(tested.device), two.to(tested.device))
        assert_same(measure(one, two), {name: each.cpu() for name, each in there.items()}, tested.near)


def test_predictions_and_their_names(tested: Tested) -> None:
    here, there = (placed(make_tiny(), device) for device in (CPU, tested.device))
    assert_same(here.predict(pixels()), there.predict(pixels()), tested.near)
    logits = there.module(pixels().to(tested.device))
    assert_same(here.top(here.predict(pixels())), there.top(logits), tested.near)
    assert here.layers() == there.layers()
    assert here.stages() == there.stages()


@pytest.mark.parametrize("weights", ["imagenet", "random:0"])
def test_networks_are_loaded_onto_it(weights: str, tested: Tested, cat: Tensor) -> None:
    here, there = (xai.load_model("efficientnet_lite0", weights, device) for device in (CPU, tested.device))
    assert there.device == tested.device
    assert here.fingerprint == there.fingerprint
    assert all(value.device == tested.device for value in there.module.state_dict().values())
    assert_same(here.predict(cat), there.predict(cat), tested.near)


def yes_or_no() -> Classifier:
    """The tiny classifier with one output."""
    base = make_tiny()
    net = base.module.net
    net.fc = nn.Linear(12, 1, bias=False)
    with torch.no_grad():
        net.fc.weight.copy_(torch.randn(1, 12, generator=torch.Generator().manual_seed(2)))
    module = InputModel(net, (0.5,) * 3, (0.25,) * 3, single=True).eval().requires_grad_(False)
    return dataclasses.replace(base, module=module, labels=NO_YES)


def test_a_network_with_one_output(tested: Tested) -> None:
    here, there = (placed(yes_or_no(), device) for device in (CPU, tested.device))
    assert_same(here.predict(pixels()), there.predict(pixels()), tested.near)
    for name in ("saliency", "rise"):
        found = [xai.attribute(each, pixels(), name, targets=1, **params(METHODS.get(name))) for each in (here, there)]
        assert_same(found[0].values, found[1].values, tested.near)
    found = [curves(each, pixels(32), {"a": maps(32)}, "study").curves for each in (here, there)]
    assert_same(*found, tested.near)
    attacked = [attack(each, pixels(), "pgd", ATTACKS.get("pgd").params(steps=2)) for each in (here, there)]
    assert_same(attacked[0].adversarial, attacked[1].adversarial, 20 * tested.near)
    assert attacked[0].success.tolist() == attacked[1].success.tolist()
