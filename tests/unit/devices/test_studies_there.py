"""Every study runs on another device and finds what it finds on the CPU; a run goes on on another device than it began.

A GPU rounds otherwise than the CPU, and what is trained goes other ways from there: its studies have to come to an end
with the same facts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.conftest import make_tiny
from tests.unit import augmentation_helpers
from tests.unit.device_helpers import CPU, Tested, assert_same, placed
from tests.unit.studies.bias.test_bias import different_pictures
from tests.unit.studies.faithfulness.test_faithfulness import labelled
from tests.unit.transfer_helpers import request_for, two_brightnesses
from xai.attacks.pgd import PGD
from xai.errors import Cancelled
from xai.studies.adversarial.study import epsilon_study, security_curve
from xai.studies.augmentation.study import augment
from xai.studies.bias.mend import MendRequest, mend_own
from xai.studies.bias.own import OwnRequest, audit_own
from xai.studies.bias.run import BiasRequest, study_bias
from xai.studies.bias.train import Experiment
from xai.studies.comparison import compare, forward_seconds
from xai.studies.faithfulness.evaluate import Request, evaluate
from xai.studies.faithfulness.seen import Recipe, faithfulness
from xai.studies.randomisation.study import randomisation_check
from xai.studies.transfer.shipped import network_of_run
from xai.studies.transfer.train import train
from xai.training import Recipe as TrainingRecipe
from xai.types import Run

# What tells of the place and the time, and not of what was found.
ASIDE = {"device", "seconds", "feature_seconds", "provenance", "command", "versions", "begun", "ended", "forward"}


def found(value: Any) -> Any:
    """A study's result as plain data, without what tells where and when it was made."""
    if isinstance(value, Mapping):
        return {name: found(each) for name, each in value.items() if name not in ASIDE}
    if isinstance(value, list | tuple):
        return [found(each) for each in value]
    return value


def assert_found_alike(here: Any, there: Any, tested: Tested) -> None:
    one, two = found(here), found(there)
    if tested.pretended:
        assert_same(one, two, 1e-6)  # of float32, whose last digit depends on how memory is aligned
    elif isinstance(one, Mapping):
        assert one.keys() == two.keys()


def pixels(count: int = 2) -> Tensor:
    return torch.rand(count, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def test_the_epsilon_study(tested: Tested) -> None:
    here, there = (
        epsilon_study(placed(make_tiny(), device), pixels(), [0, 0.02, 0.1], params=PGD(steps=2))
        for device in (CPU, tested.device)
    )
    assert_same(here.clean, there.clean, 0)
    assert_same(here.noisy, there.noisy, 20 * tested.near)
    assert here.shift.keys() == there.shift.keys()
    if tested.pretended:
        assert_same(here.numbers(), there.numbers(), 0)
        assert_same(here.maps, there.maps, 0)
        assert_same(security_curve(here), security_curve(there), 0)


def test_faithfulness_and_comparison(tested: Tested) -> None:
    recipe = Recipe(methods=("gradcam", "saliency"), protocol="study", baselines=("random",))
    rows = [faithfulness([placed(make_tiny(), device)], labelled(3), recipe).table for device in (CPU, tested.device)]
    assert_found_alike(*(each.to_pydict() for each in rows), tested)
    tiles = [compare([placed(make_tiny(), device)], pixels(1), ("gradcam", "rise")) for device in (CPU, tested.device)]
    for one, two in zip(*(each.explained() for each in tiles), strict=True):
        assert_same(one.values, two.values, tested.near)
    assert forward_seconds(placed(make_tiny(), tested.device)) > 0


def test_the_randomisation_check(tested: Tested) -> None:
    results = [
        randomisation_check(placed(make_tiny(), device), pixels(), "saliency") for device in (CPU, tested.device)
    ]
    assert_same(results[0].maps, results[1].maps, 20 * tested.near)
    assert results[1].maps[0].device.type == "cpu"


def test_an_evaluation_goes_on_elsewhere(tested: Tested, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    data = two_brightnesses(tmp_path / "data")
    recipe = Recipe(methods=("gradcam",), protocol="study", baselines=("random",))
    request = Request(str(data), (("simple_cnn", "random:0"),), recipe, images=4, chunk=2)
    whole = evaluate(request, tmp_path / "whole", device="cpu")
    steps: list[int] = []

    def stop(done: int, total: int, note: str) -> None:
        steps.append(done)
        if done >= total / 2 > 0:
            raise Cancelled("stopped half way.")

    with pytest.raises(Cancelled):
        evaluate(request, tmp_path / "moved", device=str(tested.device), run=Run(on_progress=stop))
    moved = evaluate(request, tmp_path / "moved", resume=True, device=str(tested.device))
    assert whole is not None
    assert moved is not None
    assert_found_alike(whole.table.to_pydict(), moved.table.to_pydict(), tested)


def test_transfer_learning_goes_on_elsewhere(tested: Tested, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    data = two_brightnesses(tmp_path / "data")
    recipe = TrainingRecipe(epochs=4, batch=4, trainable="all", seed=1)
    request = request_for(data, recipe=recipe)
    whole = train(request, tmp_path / "whole", device="cpu")
    half = dataclasses.replace(request, recipe=dataclasses.replace(recipe, epochs=2))
    train(half, tmp_path / "moved", device=str(tested.device))
    moved = train(request, tmp_path / "moved", resume=True, device="cpu")
    there = train(request, tmp_path / "there", device=str(tested.device))
    assert whole is not None
    assert moved is not None
    assert there is not None
    for each in (moved, there):
        assert_found_alike(whole.predictions.to_pydict(), each.predictions.to_pydict(), tested)
    shown = network_of_run(there, device=str(tested.device))
    assert shown.device == tested.device
    assert_same(network_of_run(there, device="cpu").predict(pixels()), shown.predict(pixels()), tested.near)


def test_the_audit_of_own_images_and_their_mending(tested: Tested, tmp_path: Path) -> None:
    own = OwnRequest(str(different_pictures(tmp_path)), "simple_cnn", "random:3", masks=str(tmp_path / "masks"))
    devices = (CPU, tested.device)
    audits = [audit_own(own, tmp_path / f"audit-{device}", device=str(device)) for device in devices]
    assert_found_alike(*audits, tested)
    mended = [mend_own(MendRequest(own, 1, 1), tmp_path / f"mend-{device}", device=str(device)) for device in devices]
    assert_found_alike(*mended, tested)


def test_the_study_of_shortcuts(tested: Tested, tmp_path: Path) -> None:
    request = BiasRequest(Experiment(cats=6, dogs=6, epochs=1), per_group=2)
    results = [study_bias(request, tmp_path / str(device), device=str(device)) for device in (CPU, tested.device)]
    assert_found_alike(*results, tested)


def test_the_augmentation_study(tested: Tested, tmp_path: Path) -> None:
    data = augmentation_helpers.folder(tmp_path / "data", 8)
    made = augmentation_helpers.generator(data, tmp_path / "generator.safetensors")
    asked = augmentation_helpers.request(
        data, made, arms=("real", "synthetic"), ratios=(50,), percents=(100,), steps=4, rounds=2
    )
    results = [augment(asked, tmp_path / str(device), device=str(device)) for device in (CPU, tested.device)]
    assert_found_alike(*(each.summary for each in results), tested)
