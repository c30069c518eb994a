"""Training on another device: the same weights as on the CPU, batches that do not fit, checkpoints that move."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import make_tiny
from tests.unit.device_helpers import CPU, Tested, assert_same, placed
from tests.unit.training_helpers import SILENT, pictures
from xai.devices import memory_format
from xai.errors import InputError
from xai.models.heads import HEADS
from xai.training import Network, Recipe, fit, network_of, predict
from xai.training.augment import AUGMENTATIONS
from xai.training.features import precision_of, stored_features
from xai.training.recipe import PRECISIONS, TRAINABLE
from xai.training.steps import fit_steps
from xai.types import Run

RECIPE = Recipe(epochs=2, batch=8, learning_rate=0.01)


def network_on(device: torch.device, recipe: Recipe) -> Network:
    return network_of(placed(make_tiny(), device), ("no", "yes"), recipe)


def learned(device: torch.device, recipe: Recipe, checkpoint: Path | None = None) -> tuple[Network, Any]:
    network = network_on(device, recipe)
    history = fit(network, pictures(16), pictures(6, seed=1), recipe, Run(seed=recipe.seed), checkpoint)
    return network, history


def told(history: Any) -> list[tuple[float, ...]]:
    """The epochs' figures but for the seconds."""
    return [(e.train_loss, e.train_accuracy, e.validation_loss, e.validation_accuracy) for e in history.epochs]


def assert_learned_alike(tested: Tested, recipe: Recipe, near: float) -> None:
    (here, before), (there, after) = (learned(device, recipe) for device in (CPU, tested.device))
    assert there.base.device == next(there.module.parameters()).device == tested.device
    assert_same(here.state(), there.state(), near)
    assert_same(told(before), told(after), near)
    assert_same(predict(here, pictures(6), SILENT), predict(there, pictures(6), SILENT), near)
    trained = there.classifier()
    assert trained.device == tested.device
    assert_same(here.classifier().predict(pictures(2).pixels / 255), trained.predict(pictures(2).pixels / 255), near)


@pytest.mark.parametrize("trainable", TRAINABLE)
def test_every_part_that_can_learn(trainable: str, tested: Tested) -> None:
    assert_learned_alike(tested, dataclasses.replace(RECIPE, trainable=trainable), tested.near)


@pytest.mark.parametrize("head", HEADS)
def test_every_head(head: str, tested: Tested) -> None:
    if not tested.pretended:
        pytest.skip("a GPU draws other numbers for dropout than the CPU")
    assert_learned_alike(tested, dataclasses.replace(RECIPE, head=head, patience=1, class_weights="balanced"), 0)


def test_every_augmentation(tested: Tested) -> None:
    augment = tuple(AUGMENTATIONS)
    assert_learned_alike(tested, dataclasses.replace(RECIPE, augment=augment, schedule="cosine"), tested.near)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_precision(precision: str, tested: Tested) -> None:
    recipe = dataclasses.replace(RECIPE, trainable="all", precision=precision)
    if precision == "fp16":
        if tested.device.type == "cuda":
            learned(tested.device, recipe)
            return
        with pytest.raises(
            InputError, match=f"precision fp16 is for CUDA, not for {tested.device}; use float32 or bf16"
        ):
            learned(tested.device, recipe)
        return
    # bfloat16 keeps 8 bits, and torch's autocast keeps the casts of weights where the pretended one makes them anew.
    assert_learned_alike(tested, recipe, tested.near if precision == "float32" else 0.05)


def test_mixed_precision_asks_for_the_devices_own_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(torch, "autocast", lambda kind, dtype: asked.append((kind, dtype)))
    for device in ("cpu", "cuda", "mps"):
        precision_of("bf16", torch.device(device))
    precision_of("fp16", torch.device("cuda"))
    assert asked == [(each, torch.bfloat16) for each in ("cpu", "cuda", "mps")] + [("cuda", torch.float16)]
    with pytest.raises(InputError, match="precision fp16 is for CUDA, not for mps; use float32 or bf16"):
        precision_of("fp16", torch.device("mps"))


def test_features_and_maps_lie_as_the_device_computes_them(tested: Tested) -> None:
    here, there = (network_on(device, RECIPE) for device in (CPU, tested.device))
    found = [stored_features(each, pictures(6), SILENT) for each in (here, there)]
    assert found[1].values.device == found[1].labels.device == tested.device
    assert_same(found[0].values, found[1].values.cpu(), tested.near)
    kernel = there.module.net.get_parameter("conv2.weight")
    assert kernel.is_contiguous(memory_format=memory_format(tested.device))
    part = found[1].subset([3, 1])
    assert_same(found[0].subset([3, 1]).values, part.values.cpu(), tested.near)


def test_training_counted_in_steps(tested: Tested) -> None:
    recipe, found = dataclasses.replace(RECIPE, augment=("flip", "colour"), trainable="all"), []
    for device in (CPU, tested.device):
        network = network_on(device, recipe)
        rounds = fit_steps(network, pictures(16), [pictures(6, seed=1)], recipe, 5, Run())
        found.append((network.state(), rounds))
    assert_same(*found, tested.near)


@pytest.mark.parametrize("begun_there", [True, False], ids=["from the device to the CPU", "from the CPU to the device"])
def test_a_checkpoint_goes_on_elsewhere(begun_there: bool, tested: Tested, tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, epochs=4, trainable="all")
    whole, history = learned(CPU, recipe)
    first, second = (tested.device, CPU) if begun_there else (CPU, tested.device)
    learned(first, dataclasses.replace(recipe, epochs=2), tmp_path / "last.pt")
    resumed, after = learned(second, recipe, tmp_path / "last.pt")
    assert_same(whole.state(), resumed.state(), tested.near)
    assert_same(told(history), told(after), tested.near)


def test_a_batch_that_does_not_fit_is_learned_in_parts(tested: Tested, monkeypatch: pytest.MonkeyPatch) -> None:
    if not tested.pretended:
        pytest.skip("a GPU cannot be made to run out of memory at eight small images")
    recipe = dataclasses.replace(RECIPE, augment=("noise",))
    whole, _ = learned(CPU, recipe)
    forward = torch.nn.functional.linear

    def limited(x: torch.Tensor, *rest: Any) -> torch.Tensor:
        if x.device.type == tested.device.type and len(x) > 4:
            raise RuntimeError("MPS backend out of memory (MPS allocated: 9.00 GB, max allowed: 9.07 GB).")
        return forward(x, *rest)

    monkeypatch.setattr(torch.nn.functional, "linear", limited)
    freed: list[str] = []
    monkeypatch.setattr(torch.get_device_module(tested.device), "empty_cache", lambda: freed.append("cache"))
    halved, _ = learned(tested.device, recipe)
    assert freed
    assert_same(whole.state(), halved.state(), 1e-5)
