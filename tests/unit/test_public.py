"""Public calls: what they refuse, in one sentence, and the modes of torch that they are called in.

In inference mode torch makes tensors that no later call can take a gradient through, and takes no gradient itself.
"""

from __future__ import annotations

import contextlib
import inspect
import math
import re
import subprocess
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import xai
import xai.attacks
import xai.data
import xai.metrics
import xai.models
import xai.stats.similarity
import xai.training
from tests.conftest import make_tiny
from tests.unit.explain.test_methods_contract import explain
from xai.attacks.spec import ATTACKS
from xai.data.spec import SAMPLES
from xai.errors import InputError
from xai.explain.spec import METHODS
from xai.metrics.spec import METRICS
from xai.models import store
from xai.models.build import untrained_network
from xai.models.classifier import Classifier
from xai.models.store import model_spec
from xai.params import parameters
from xai.studies.adversarial.study import epsilon_study
from xai.studies.comparison import compare
from xai.studies.randomisation.study import randomisation_check
from xai.training import Images, Recipe, build_network, fit
from xai.types import Run

MODES: dict[str, Callable[[], contextlib.AbstractContextManager[Any]]] = {
    "inference": torch.inference_mode,
    "no_grad": torch.no_grad,
    "elsewhere": lambda: torch.device("meta"),
}


def pixels() -> Tensor:
    """Made anew each time: made in inference mode it is a tensor of that mode."""
    return torch.tensor(np.random.default_rng(0).random((2, 3, 64, 64), dtype=np.float32), device="cpu")


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> Callable[[], contextlib.AbstractContextManager[Any]]:
    return MODES[request.param]


# --- modes of torch ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METHODS.names())
def test_methods_explain_in_any_mode_and_afterwards(name: str, mode: Any) -> None:
    expected = explain(make_tiny(), pixels(), name)
    classifier = make_tiny()  # nothing of it is known yet: layers, census and coverage are found inside
    with mode():
        inside = explain(classifier, pixels(), name)
    assert torch.equal(inside.values, expected.values)
    assert torch.equal(explain(classifier, pixels(), name).values, expected.values)


@pytest.mark.parametrize("name", METRICS.names())
def test_metrics_measure_in_any_mode(name: str, mode: Any) -> None:
    spec, classifier = METRICS.get(name), make_tiny()
    maps = xai.attribute(classifier, pixels(), "edges").maps()
    mask = xai.metrics.mask_of_box((10, 10, 40, 40), (64, 64))

    def measured() -> Any:
        if spec.kind in ("curve", "model"):
            return spec.measure(classifier, pixels(), maps, spec.params(), 1)
        first = {"mask": (maps, mask), "map": (maps,), "pair": (maps, maps.flip(1))}[spec.kind]
        return spec.measure(*first, spec.params())

    with mode():
        inside = measured()
    outside = measured()
    part = "auc" if hasattr(outside, "auc") else "values"
    assert torch.equal(getattr(inside, part), getattr(outside, part))


@pytest.mark.parametrize("name", ATTACKS.names())
def test_attacks_attack_in_any_mode(name: str, mode: Any) -> None:
    expected = xai.attacks.attack(make_tiny(), pixels(), name, epsilon=4 / 255)
    classifier = make_tiny()
    with mode():
        inside = xai.attacks.attack(classifier, pixels(), name, epsilon=4 / 255)
    assert torch.equal(inside.adversarial, expected.adversarial)
    assert not torch.equal(inside.adversarial, inside.clean)
    assert torch.equal(xai.attacks.attack(classifier, pixels(), name, epsilon=4 / 255).levels, expected.levels)


def test_studies_run_in_any_mode(mode: Any) -> None:
    def each(classifier: Classifier) -> Iterator[Tensor]:
        yield epsilon_study(classifier, pixels(), (0.0, 4 / 255)).maps["new"].attack
        yield from (found.values for found in compare([classifier], pixels(), ("gradcam", "lrp")).explained())
        yield randomisation_check(classifier, pixels(), "gradcam").spearman

    expected = list(each(make_tiny()))
    classifier = make_tiny()
    with mode():
        inside = list(each(classifier))
    assert all(torch.equal(a, b) for a, b in zip(inside, expected, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(each(classifier), expected, strict=True))


def test_a_network_loaded_in_inference_mode_is_of_use_afterwards(
    tmp_path: Path, mode: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_cache", type(store._cache)())
    torch.save(untrained_network(model_spec("simple_cnn"), 0, 3).state_dict(), tmp_path / "net.pth")
    for weights in ("random:0", f"file:{tmp_path / 'net.pth'}"):
        with mode():
            classifier = xai.load_model("simple_cnn", weights, "cpu")
            x = classifier.preprocess(xai.load_image("assets/samples/chelsea.png"))
            said = classifier.predict(x)
        assert torch.equal(classifier.predict(x), said)
        assert not any(each.is_inference() for each in classifier.module.parameters())
        found = xai.attribute(classifier, x, "saliency")
        assert float(found.values.max()) > 0
        with classifier.lease() as module, mode():
            pass
        assert not module.training


def test_a_network_learns_in_inference_mode() -> None:
    images = Images(
        torch.arange(8 * 3 * 64 * 64).remainder(251).to(torch.uint8).view(8, 3, 64, 64), torch.arange(8) % 2
    )

    def history() -> Any:
        recipe = Recipe(epochs=2, batch=4)
        network = build_network("simple_cnn", "random:0", ("a", "b"), recipe)
        return fit(network, images, images, recipe, Run()).epochs

    expected = history()
    with torch.inference_mode():
        inside = history()
    told = [(each.train_loss, each.validation_loss) for each in expected]
    assert [(each.train_loss, each.validation_loss) for each in inside] == told
    assert told[0] != told[1]


# --- training mode ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["", "bn1"])
def test_a_network_in_training_mode_is_put_back_into_eval_mode(part: str) -> None:
    """Batch norm in training mode would normalise by this batch, and write its statistics over the network's own."""
    classifier, x = make_tiny(), pixels()
    expected = classifier.predict(x)
    statistics = classifier.module.net.bn1.running_mean.clone()
    classifier.module.net.get_submodule(part).train()
    with pytest.warns(UserWarning, match=r"^Tiny was in training mode; it is back in eval mode\.$"):
        found = classifier.predict(x)
    assert torch.equal(found, expected)
    assert not any(each.training for each in classifier.module.modules())
    assert torch.equal(classifier.module.net.bn1.running_mean, statistics)
    assert torch.equal(
        xai.attribute(classifier, x, "gradcam").logits, expected
    )  # the network is in order, so there is no warning


# --- what is refused --------------------------------------------------------------------------------------------------

REGISTRIES = [
    *((f"method {spec.name}", spec.explainer) for spec in METHODS),
    *((f"attack {spec.name}", spec.params) for spec in ATTACKS),
    *((f"metric {spec.name}", spec.params) for spec in METRICS),
    *((f"sample {spec.name}", spec.params) for spec in SAMPLES if spec.params is not None),
]
FIELDS = [
    pytest.param(owner, each.name, id=f"{title}.{each.name}")
    for title, owner in REGISTRIES
    for each in parameters(owner)
]
WRONG: dict[str, Any] = {
    "text": "zzz",
    "none": None,
    "a list": [1],
    "numpy": np.zeros(2),
    "nan": math.nan,
    "infinity": math.inf,
    "half": 2.5,
    "true": True,
    "a path": Path("x"),
    "a module": nn.ReLU(),
    "huge": 2**70,
    "a number": 3,
}


def fits(hint: Any, value: Any) -> bool:
    """Whether `value` has the type, written down a second time."""
    if get_origin(hint) in (Union, types.UnionType):
        return any(fits(each, value) for each in get_args(hint))
    if get_origin(hint) is Literal:
        return isinstance(value, str | int) and value in get_args(hint)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if hint is type(None):
        return value is None
    return isinstance(value, hint)


@pytest.mark.parametrize(("owner", "name"), FIELDS)
def test_parameters_of_another_type_are_refused(owner: Any, name: str) -> None:
    hint = get_type_hints(owner)[name]
    required = {each.name: "" for each in fields(owner) if each.default is MISSING and each.default_factory is MISSING}
    refused = 0
    for value in WRONG.values():
        if not fits(hint, value):
            with pytest.raises(InputError, match=rf"^{name} (is .+; give|'.+' is not known; use) .+\.$") as caught:
                owner(**{**required, name: value})
            assert "\n" not in str(caught.value)
            refused += 1
    assert refused > 5


INNER = {"ranks", "keep_upload", "load_image"}
"""Steps of the functions beside them; and `load_image`, whose own sentences are tested with it."""


def functions() -> Iterator[Any]:
    """Every public function that takes something."""
    for home in (xai, xai.attacks, xai.metrics, xai.stats.similarity, xai.models, xai.data, xai.training):
        for name in getattr(home, "__all__", [each for each in vars(home) if not each.startswith("_")]):
            value = getattr(home, name)
            own = home is not xai.stats.similarity or getattr(value, "__module__", "") == home.__name__
            if inspect.isfunction(value) and own and name not in INNER and inspect.signature(value).parameters:
                yield pytest.param(value, id=f"{home.__name__}.{name}")


def usual(name: str, hint: Any) -> Any:
    """A right value of the parameter that is called so."""
    tiny = make_tiny()
    maps = torch.rand(2, 64, 64)
    drawn = Images(torch.zeros(1, 3, 64, 64, dtype=torch.uint8), torch.zeros(1, dtype=torch.int64))
    known = {
        "classifier": tiny,
        "base": tiny,
        "sight": tiny,
        "x": pixels(),
        "maps": maps,
        "map_": maps[0],
        "a": maps,
        "b": maps,
        "before": maps,
        "after": maps,
        "trained": maps,
        "shuffled": maps,
        "clean": pixels(),
        "changed": pixels(),
        "mask": maps > 0.5,
        "name": "pgd",
        "method": "gradcam",
        "place": "no",
        "box": (0, 0, 2, 2),
        "model": "simple_cnn",
        "weights": "random:0",
        "fractions": (0.5,),
        "fraction": 0.5,
        "epsilons": (0.1,),
        "data_range": 1.0,
        "source": drawn,
        "train": drawn,
        "validation": drawn,
        "pictures": drawn,
        "path": "x",
        "recipe": Recipe(),
        "run": Run(),
        "items": (),
        "probabilities": np.zeros((1, 2)),
        "labels": np.zeros(1, int) if hint is not None and "ndarray" in str(hint) else ("a", "b"),
        "classes": ("a", "b"),
        "image": "x",
        "size": (64, 64),
        "out": Path("x.zip"),
        "data": "sample:pets",
        "network": build_network("simple_cnn", "random:0", ("a", "b"), Recipe()) if name == "network" else None,
    }
    named = isinstance(known[name], Tensor) and get_origin(hint) is Mapping
    return {"map": known[name]} if named else known[name]


class Thing:
    """What no parameter is."""


@pytest.mark.parametrize("function", functions())
def test_arguments_of_another_type_are_refused(function: Any) -> None:
    hints, right = get_type_hints(function), {}
    known = {n: e for n, e in inspect.signature(function).parameters.items() if e.kind is not e.VAR_KEYWORD}
    for name, each in known.items():
        needed = each.default is inspect.Parameter.empty
        if hints[name] is not Any:
            others = {n: Thing() for n, e in known.items() if e.default is inspect.Parameter.empty}
            with pytest.raises(InputError, match=rf"^{re.escape(name)} is a Thing; give .+\.$"):
                function(**{**others, **right, name: Thing()})
        if needed:
            right[name] = usual(name, hints[name])


def told(function: Any, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(InputError) as caught:
        function(*args, **kwargs)
    return str(caught.value)


def test_the_sentences_say_what_to_give(tiny: Classifier) -> None:
    x = pixels()
    found = xai.attribute(tiny, x, "gradcam")
    state = tiny.module.net.state_dict()
    assert told(xai.attacks.pgd, tiny, x, steps="ten") == "steps is 'ten'; give a whole number."
    assert told(xai.attacks.pgd, tiny, x, steps=2.5) == "steps is 2.5; give a whole number."
    assert told(xai.attribute, tiny, x, "rise", masks=2.5) == "masks is 2.5; give a whole number."
    assert told(xai.load_model, weights=state) == (
        "weights is an OrderedDict; give text such as 'file:PATH' (torch.save keeps a state dict in a file)."
    )
    assert told(tiny.preprocess, "cat.png") == "image is 'cat.png'; give a picture, as load_image(path) returns it."
    assert told(xai.metrics.insertion, tiny, x, found) == (
        "maps is an Attribution; give a tensor (N, H, W), as Attribution.maps() returns it."
    )
    assert told(xai.attribute, tiny, x, "gradcam", layer=tiny.module.net.relu2) == (
        "layer is a ReLU; give the path of a layer as text, such as those in classifier.layers()."
    )
    assert told(xai.attribute, tiny.module, x) == (
        "classifier is an InputModel; give a classifier, as load_model returns it."
    )
    assert told(xai.attribute, tiny, x, targets="cat") == (
        "targets is 'cat'; give the index of a class, or of one an image."
    )
    assert told(xai.metrics.curves, tiny, x, found.maps()) == "maps is a Tensor; give a dict of tensors by name."
    assert told(xai.metrics.road, tiny, x, found.maps(), noise=math.nan) == "noise is nan; give a finite number."
    assert (
        told(xai.attribute, tiny, x, "occlusion", fill="pink")
        == "fill 'pink' is not known; use mean, black, grey or white."
    )
    assert told(tiny.predict, "cat") == "x is 'cat'; give a tensor, as preprocess(image) returns it."


def test_numbers_of_numpy_are_numbers(tiny: Classifier) -> None:
    name = "integrated_gradients"
    found = xai.attribute(tiny, pixels(), name, targets=np.array([1, 2]), steps=np.int64(4))
    assert found.target.tolist() == [1, 2]
    assert type(found.provenance["params"]["steps"]) is int
    assert torch.equal(
        found.values, xai.attribute(tiny, pixels(), "integrated_gradients", targets=[1, 2], steps=4).values
    )


def test_an_argument_that_is_missing_is_named_with_its_function(tiny: Classifier) -> None:
    with pytest.raises(TypeError, match=r"^attribute\(\): missing a required argument: 'x'\.$"):
        xai.attribute(tiny)  # type: ignore[call-arg]


def test_a_function_does_not_hide_the_module_that_it_is_called_as() -> None:
    import xai.attacks.pgd as module

    assert module.PGD is vars(sys.modules["xai.attacks.pgd"])["PGD"]
    for name, held in list(sys.modules.items()):
        package, _, last = name.rpartition(".")
        if not package.startswith("xai.") or package.startswith("xai.ui"):
            continue
        shown = getattr(sys.modules[package], last, held)
        lacking = [key for key in vars(held) if not key.startswith("_") and not hasattr(shown, key)]
        assert lacking == [], f"{name} hides {lacking}"


@pytest.mark.parametrize("name", ["errors", "types", "settings", "metrics", "attacks", "images", "stats", "runs"])
def test_parts_of_the_package_need_no_import_of_their_own(name: str) -> None:
    code = f"import xai; assert xai.{name}.__name__ == 'xai.{name}' and '{name}' in dir(xai)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_name_that_the_package_lacks_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'xai' has no attribute 'nothing'"):
        _ = xai.nothing
