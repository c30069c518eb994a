"""What every explanation method owes its callers, on a tiny and on a real network; new methods are found by themselves.

Costly methods run with few passes here: a parameter named in `CHEAP` is turned down, whichever method has it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import xai
from tests.conftest import make_tiny
from xai.errors import Cancelled, InputError
from xai.explain.call import make_explainer
from xai.explain.spec import FAMILIES, METHODS, MethodSpec
from xai.models.classifier import Classifier
from xai.types import Attribution, Run

CHEAP = {"masks": 24, "channels": 6, "steps": 4, "samples": 3, "stride": 32}
MANY_PASSES = 8
"""From here on a method must report often enough to be cancelled."""

NAMES = METHODS.names()
SIZE = {"tiny": 64, "lite0": 96}


@pytest.fixture(params=["tiny", "lite0"])
def classifier(request: pytest.FixtureRequest) -> Classifier:
    found: Classifier = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def x(classifier: Classifier, cat: Tensor) -> Tensor:
    """Two different pictures: the cat, and its mirror image in other colours."""
    size = 64 if classifier.name == "tiny" else 96
    small = torch.nn.functional.interpolate(cat, (size, size), mode="bilinear")
    return torch.cat([small, small.flip(3, 1) * 0.8])


def params(spec: MethodSpec) -> dict[str, Any]:
    return {f.name: CHEAP[f.name] for f in dataclasses.fields(spec.explainer) if f.name in CHEAP}  # type: ignore[arg-type]


def explain(classifier: Classifier, x: Tensor, name: str, **options: Any) -> Attribution:
    """`attribute` with few passes; skips the test where the method refuses the network."""
    spec = METHODS.get(name)
    coverage = xai.applicability(classifier, name, **params(spec))
    if coverage.status == "refused":
        pytest.skip(f"{name} does not apply to {classifier.name}: {coverage.sentence}")
    return xai.attribute(classifier, x, name, **{**params(spec), **options})


def passes(classifier: Classifier, name: str) -> int:
    spec = METHODS.get(name)
    explainer = make_explainer(spec, **params(spec))
    if getattr(explainer, "layer", "") is None:
        explainer = dataclasses.replace(explainer, layer=classifier.default_layer)  # type: ignore[type-var]
    return spec.passes(classifier, explainer)


@contextmanager
def unchanged(classifier: Classifier) -> Iterator[None]:
    """Independently of the lease's own check: no hooks, flags and every number as before."""
    module = classifier.module

    def hooks(layer: nn.Module) -> tuple[int, ...]:
        tables = (layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks, layer._backward_pre_hooks)
        return tuple(map(len, tables))

    before = [(path, id(layer), hooks(layer), layer.training) for path, layer in module.named_modules()]
    numbers = {key: value.clone() for key, value in module.state_dict().items()}
    yield
    assert [(path, id(layer), hooks(layer), layer.training) for path, layer in module.named_modules()] == before
    assert all(torch.equal(numbers[key], value) for key, value in module.state_dict().items())
    assert not any(p.requires_grad or p.grad is not None for p in module.parameters())
    assert torch.is_grad_enabled()


# --- what is said about a method ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_it_is_described(name: str) -> None:
    spec = METHODS.get(name)
    assert spec.family in FAMILIES
    assert spec.title
    assert spec.summary.endswith(".")
    assert spec.source.citation
    assert spec.source.link.startswith("https://")


@pytest.mark.parametrize("name", NAMES)
def test_its_parameters_are_a_frozen_dataclass_with_defaults(name: str) -> None:
    explainer = METHODS.get(name).explainer()
    assert dataclasses.is_dataclass(explainer)
    assert type(explainer).__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert explainer == METHODS.get(name).explainer()
    json.dumps(dataclasses.asdict(explainer))  # it goes into manifests
    for field in dataclasses.fields(explainer):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(explainer, field.name, None)


def test_ranks_put_the_families_one_after_another() -> None:
    families = [spec.family for spec in METHODS]
    assert sorted(set(families), key=families.index) == [f for f in FAMILIES if f in families]
    assert families == sorted(families, key=FAMILIES.index)


# --- what it returns ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_shapes_kinds_and_finite_numbers(classifier: Classifier, x: Tensor, name: str) -> None:
    with unchanged(classifier):
        found = explain(classifier, x, name)
    count, _, height, width = x.shape
    assert found.values.shape[0] == count
    assert found.values.dim() == 3 or found.values.shape == (count, 3, height, width)
    assert found.values.shape[-2] <= height
    assert found.maps().shape == (count, height, width)
    for tensor in (found.values, found.logits, found.maps()):
        assert tensor.dtype == torch.float32
        assert tensor.device.type == "cpu"
        assert not tensor.requires_grad
        assert bool(torch.isfinite(tensor).all())
    assert found.signed or float(found.values.min()) >= 0
    assert bool((found.values.flatten(1).std(1) > 0).all()), "a blank map"
    logits = classifier.predict(x)
    torch.testing.assert_close(found.logits, logits, rtol=1e-3, atol=1e-4 * float(logits.abs().max()))
    assert found.target.tolist() == logits.argmax(1).tolist()
    assert found.facts["blank"] == ["", ""]
    json.dumps(found.provenance)
    json.dumps({key: value for key, value in found.facts.items() if not isinstance(value, Tensor)})


@pytest.mark.parametrize("name", NAMES)
def test_same_seed_same_bytes(classifier: Classifier, x: Tensor, name: str) -> None:
    state = torch.get_rng_state()
    first = explain(classifier, x, name, seed=3)
    again = explain(classifier, x, name, seed=3)
    assert torch.equal(first.values, again.values)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_is_its_images_one_by_one(classifier: Classifier, x: Tensor, name: str) -> None:
    both = explain(classifier, x, name, targets=[1, 2])
    for index in range(2):
        alone = explain(classifier, x[index : index + 1], name, targets=index + 1)
        scale = float(alone.values.abs().max())
        torch.testing.assert_close(both.values[index], alone.values[0], rtol=1e-3, atol=1e-3 * scale)


@pytest.mark.parametrize("name", NAMES)
def test_targets_in_every_form(classifier: Classifier, x: Tensor, name: str) -> None:
    one = explain(classifier, x, name, targets=2)
    for form in ([2, 2], torch.tensor([2, 2]), torch.tensor(2)):
        same = explain(classifier, x, name, targets=form)
        assert same.target.tolist() == [2, 2]
        assert torch.equal(same.values, one.values)


@pytest.mark.parametrize("name", NAMES)
def test_it_does_not_mind_that_gradients_are_off(classifier: Classifier, x: Tensor, name: str) -> None:
    expected = explain(classifier, x, name)
    with torch.no_grad():
        found = explain(classifier, x, name)
        assert not torch.is_grad_enabled()
    assert torch.equal(found.values, expected.values)


@pytest.mark.parametrize("name", NAMES)
def test_pixels_of_another_dtype(name: str, tiny: Classifier, tiny64: Classifier) -> None:
    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = explain(tiny64, x, name).maps()
    found = explain(tiny, x, name).maps()
    assert found.dtype == expected.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-2 * float(expected.abs().max()))


# --- what goes wrong ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("change", "options", "told"),
    [
        (lambda x: x * 255, {}, "give pixels in [0, 1]"),
        (lambda x: x * float("nan"), {}, "not a number"),
        (lambda x: x, {"targets": 10_000}, "target class 10000 does not exist"),
        (lambda x: x, {"targets": -1}, "target class -1 does not exist"),
        (lambda x: x, {"targets": 1.5}, "targets is 1.5; give the index of a class, or of one an image."),
        (lambda x: x, {"targets": torch.tensor([1.0, 2.0])}, "targets is tensor([1., 2.]); give the index of a class"),
        (lambda x: x, {"targets": "cat"}, "targets is 'cat'; give the index of a class, or of one an image."),
        (lambda x: x, {"targets": [0, 1, 2]}, "targets has 3 classes for 2 images; give one per image."),
        (lambda x: x, {"colour": 1}, "has no parameter 'colour'"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(
    tiny: Classifier, name: str, change: Callable[[Tensor], Tensor], options: dict[str, Any], told: str
) -> None:
    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with unchanged(tiny), pytest.raises(InputError) as caught:
        explain(tiny, change(x), name, **options)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


class BoomError(Exception):
    pass


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_crash_in_a_forward_comes_out_and_leaves_nothing(name: str, at: int) -> None:
    classifier = make_tiny()
    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    xai.applicability(classifier, name)  # what it asks the network once and remembers
    calls = 0

    def fuse(_module: nn.Module, _args: object) -> None:
        nonlocal calls
        calls += 1
        if calls == at:
            raise BoomError

    handle = classifier.module.net.relu2.register_forward_pre_hook(fuse)
    crash: BoomError | None = None
    with unchanged(classifier):
        try:
            explain(classifier, x, name)
        except BoomError as error:
            crash = error
    handle.remove()
    assert (crash is not None) == (calls >= at)
    assert calls >= 1
    assert not getattr(crash, "__notes__", []), "the lease found something changed"
    assert torch.equal(explain(classifier, x, name).values, explain(make_tiny(), x, name).values)


@pytest.mark.parametrize("name", NAMES)
def test_cancel_is_honoured_at_once_and_midway(classifier: Classifier, x: Tensor, name: str) -> None:
    if passes(classifier, name) <= MANY_PASSES:
        pytest.skip(f"{name} takes {passes(classifier, name)} passes")
    asked = 0

    def after(count: int) -> Callable[[], bool]:
        def cancelled() -> bool:
            nonlocal asked
            asked += 1
            return asked > count

        return cancelled

    for count in (0, 1):
        asked = 0
        with unchanged(classifier), pytest.raises(Cancelled):
            explain(classifier, x, name, run=Run(cancelled=after(count)))


@pytest.mark.parametrize("name", NAMES)
def test_progress_grows_to_its_total(classifier: Classifier, x: Tensor, name: str) -> None:
    told: list[tuple[int, int]] = []
    explain(classifier, x, name, run=Run(on_progress=lambda done, total, _note: told.append((done, total))))
    assert told or passes(classifier, name) <= MANY_PASSES
    assert all(0 <= done <= total for done, total in told)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert not told or told[-1][0] == told[-1][1]


@pytest.mark.parametrize("name", NAMES)
def test_its_cost_is_told_before(classifier: Classifier, name: str) -> None:
    assert passes(classifier, name) >= 1
