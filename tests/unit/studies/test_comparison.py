"""Tiles that never lose one another, targets as people type them, and the cost beforehand."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from PIL import Image
from scipy.stats import spearmanr
from torch import Tensor

from tests.conftest import make_tiny
from xai.errors import Cancelled, InputError
from xai.explain import attribute
from xai.explain.spec import METHODS
from xai.models.classes import class_index, target_classes
from xai.models.classifier import Classifier
from xai.studies import comparison
from xai.studies.comparison import agreement, compare, cost, each_tile, forward_seconds, passes
from xai.types import Run


@pytest.fixture
def x() -> Tensor:
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def test_tiles_come_classifier_by_classifier(tiny: Classifier, x: Tensor) -> None:
    other = make_tiny(seed=1)
    found = compare([tiny, other], x, ["gradcam", "saliency"])
    assert [(tile.classifier, tile.method) for tile in found.tiles] == [
        (tiny, "gradcam"),
        (tiny, "saliency"),
        (other, "gradcam"),
        (other, "saliency"),
    ]
    assert len(found.explained()) == 4


def test_a_tile_is_what_attribute_gives(tiny: Classifier, x: Tensor) -> None:
    tile = compare([tiny], x, ["rise"], targets=[1, 3], seed=5, params={"rise": {"masks": 8, "cells": 4}}).tiles[0]
    alone = attribute(tiny, x, "rise", [1, 3], seed=5, masks=8, cells=4)
    assert tile.attribution is not None
    assert torch.equal(tile.attribution.values, alone.values)
    assert tile.attribution.target.tolist() == [1, 3]


def test_pictures_are_preprocessed_by_each_classifier(lite0: Classifier, tiny: Classifier) -> None:
    picture = Image.new("RGB", (300, 260), (200, 100, 50))
    tiles = compare([lite0, tiny], picture, ["gradcam"], view="whole").tiles
    assert [tuple(tile.x.shape) for tile in tiles] == [(1, 3, 224, 224), (1, 3, 64, 64)]


def test_a_refusal_and_a_failure_keep_their_place(tiny: Classifier, x: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: Any, **__: Any) -> None:
        raise RuntimeError("out of luck")

    broken = dataclasses.replace(METHODS.get("saliency"), coverage=crash)
    monkeypatch.setitem(METHODS._entries, "saliency", broken)
    tiles = compare([tiny], x, ["gradcam", "saliency", "hirescam"], layer="fc").tiles
    assert [tile.attribution is None for tile in tiles] == [True, True, True]
    assert (tiles[0].refused, tiles[1].refused) == (True, False)
    assert "gives no stack of maps" in tiles[0].sentence
    assert tiles[1].sentence == "RuntimeError: out of luck"
    kept = compare([tiny], x, ["gradcam", "saliency", "hirescam"]).tiles
    assert [tile.attribution is None for tile in kept] == [False, True, False]


def test_a_layer_that_one_classifier_lacks_is_its_own_tiles_sentence(lite0: Classifier, tiny: Classifier) -> None:
    picture = Image.new("RGB", (300, 260), (200, 100, 50))
    tiles = compare([tiny, lite0], picture, ["gradcam"], layer="_blocks.5").tiles
    assert [tile.refused for tile in tiles] == [True, False]
    assert "layer '_blocks.5' is not in this network" in tiles[0].sentence


def test_one_method_can_have_its_own_layer(tiny: Classifier, x: Tensor) -> None:
    tiles = compare([tiny], x, ["gradcam", "hirescam"], params={"gradcam": {"layer": "relu1"}}).tiles
    assert [tuple(tile.attribution.values.shape[1:]) for tile in tiles if tile.attribution] == [(32, 32), (16, 16)]


def test_what_cannot_be_asked_is_refused_before_anything_runs(tiny: Classifier, x: Tensor) -> None:
    with pytest.raises(InputError, match="method 'gradcamm' is not known; did you mean gradcam"):
        compare([tiny], x, ["saliency", "gradcamm"])
    with pytest.raises(InputError, match="rise has no parameter 'mask'"):
        compare([tiny], x, ["rise"], params={"rise": {"mask": 3}})
    with pytest.raises(InputError, match="parameters for 'rise', which is not among the methods"):
        compare([tiny], x, ["gradcam"], params={"rise": {"masks": 3}})


def test_a_named_target_is_found_in_each_classifier(tiny: Classifier, x: Tensor) -> None:
    other = dataclasses.replace(make_tiny(seed=1), labels=("dog", "x1", "x2", "x3", "x4"))
    lacking = dataclasses.replace(make_tiny(seed=2), labels=("y0", "y1", "y2", "y3", "y4"))
    tiles = compare([tiny, other, lacking], x, ["gradcam"], targets="Dog").tiles
    assert [tile.attribution.target.tolist() for tile in tiles if tile.attribution] == [[3, 3], [0, 0]]
    assert tiles[2].refused
    assert "class 'Dog' is not known to Tiny" in tiles[2].sentence


def test_top_two_is_each_images_second_class(tiny: Classifier, x: Tensor) -> None:
    tile = compare([tiny], x, ["gradcam"], targets="top2").tiles[0]
    assert tile.attribution is not None
    expected = tile.attribution.logits.argsort(dim=1, descending=True)[:, 1]
    assert tile.attribution.target.tolist() == expected.tolist()


def test_progress_counts_the_passes_of_all_tiles(tiny: Classifier, x: Tensor) -> None:
    seen: list[tuple[int, int]] = []
    run = Run(on_progress=lambda done, total, note: seen.append((done, total)))
    compare([tiny], x, ["gradcam", "occlusion"], run=run)
    total = passes(tiny, "gradcam", 2) + passes(tiny, "occlusion", 2)
    assert {each for _, each in seen} == {total}
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert (seen[0][0], seen[-1][0]) == (0, total)


def test_cancelling_stops_between_tiles(tiny: Classifier, x: Tensor) -> None:
    done: list[str] = []
    run = Run(cancelled=lambda: len(done) == 1)
    tiles = each_tile([tiny], x, ["gradcam", "hirescam", "saliency"], run=run)
    with pytest.raises(Cancelled):
        done.extend(tile.method for tile in tiles)
    assert done == ["gradcam"]


def test_the_cost_is_passes_times_the_shortest_timed_forward(tiny: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 10.5, 20.0, 20.25, 30.0, 37.0])  # a machine that was busy in the last one
    monkeypatch.setattr(comparison.time, "perf_counter", lambda: next(clock))
    own = make_tiny(seed=3)
    assert forward_seconds(own) == 0.25
    estimate = cost(own, "occlusion", images=2)
    assert estimate.passes == passes(own, "occlusion", 2) > 2
    assert estimate.seconds == 0.25 * estimate.passes  # the clock has no further reading: it was not timed again


# Classes as people type them


@pytest.mark.parametrize(("text", "index"), [("0", 0), (" 4 ", 4), ("cat", 2), ("CAT", 2)])
def test_class_index(tiny: Classifier, text: str, index: int) -> None:
    assert class_index(tiny, text) == index


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("5", "class 5 does not exist; Tiny has 0 to 4."),
        ("-1", "class -1 does not exist; Tiny has 0 to 4."),
        ("ca", "class 'ca' is not known to Tiny; did you mean cat?"),
        ("doge", "class 'doge' is not known to Tiny; did you mean dog?"),
        ("zebra", "class 'zebra' is not known to Tiny; give its index."),
        ("", "class '' is not known to Tiny; give its index."),
    ],
)
def test_class_index_refuses(tiny: Classifier, text: str, message: str) -> None:
    with pytest.raises(InputError) as told:
        class_index(tiny, text)
    assert str(told.value) == message


def test_a_name_of_two_classes_asks_for_the_index(tiny: Classifier) -> None:
    twice = dataclasses.replace(tiny, labels=("crane", "bee", "Crane", "dog", "elk"))
    with pytest.raises(InputError, match="class 'crane' is the name of 0 and 2; give the index"):
        class_index(twice, "crane")


def test_target_classes(tiny: Classifier) -> None:
    logits = torch.tensor([[0.0, 3.0, 1.0, 2.0, -1.0], [5.0, 4.0, 3.0, 2.0, 1.0]])
    assert target_classes(tiny, "top1", logits).tolist() == [1, 0]
    assert target_classes(tiny, "TOP3", logits).tolist() == [2, 2]
    assert target_classes(tiny, "elk", logits).tolist() == [4, 4]
    with pytest.raises(InputError, match="target 'top6' does not exist; use top1 to top5"):
        target_classes(tiny, "top6", logits)
    with pytest.raises(InputError, match="target 'top0' does not exist"):
        target_classes(tiny, "top0", logits)


def test_agreement_is_spearmans_correlation_of_every_two_maps(tiny64: Classifier) -> None:
    x = torch.rand(2, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    found = compare([tiny64], x, ["gradcam", "saliency", "center"]).explained()
    for signed in (False, True):
        table = agreement(found, signed)
        assert table.shape == (2, 3, 3)
        for one in range(3):
            for two in range(3):
                maps = [found[each].maps() if signed else found[each].maps().abs() for each in (one, two)]
                expected = [spearmanr(a.flatten(), b.flatten()).statistic for a, b in zip(*maps, strict=True)]
                assert table[:, one, two].tolist() == pytest.approx(expected, abs=1e-9, nan_ok=True)
        assert table[:, 1, 1].tolist() == pytest.approx([1.0, 1.0], abs=1e-12)


def test_a_map_and_a_finer_one_whose_factor_it_is_agree_by_size(tiny64: Classifier) -> None:
    (one,) = compare([tiny64], torch.rand(1, 3, 64, 64).double(), ["saliency"]).explained()
    noise = torch.randn(1, 64, 64, generator=torch.Generator().manual_seed(0))
    coarse = dataclasses.replace(one, values=torch.linspace(0, 1, 64).expand(1, 64, 64))
    finer = dataclasses.replace(one, values=coarse.values * noise)  # as Guided Grad-CAM is Grad-CAM times a fine map
    assert float(agreement([coarse, finer])[0, 0, 1]) > 0.4
    assert abs(float(agreement([coarse, finer], signed=True)[0, 0, 1])) < 0.1
    blank = dataclasses.replace(one, values=torch.zeros(1, 64, 64))
    assert agreement([coarse, blank])[0].isnan().tolist() == [[False, True], [True, True]]


@pytest.mark.parametrize(("target", "forwards"), [("2", 1), ("Cat", 1), ("top2", 2)])
def test_only_a_place_in_the_prediction_costs_a_pass_of_its_own(x: Tensor, target: str, forwards: int) -> None:
    classifier = make_tiny()
    count: list[int] = []
    passes(classifier, "gradcam")  # the trace of the layers, made once
    compare([classifier], x, ["gradcam"])
    handle = classifier.module.register_forward_hook(lambda *_: count.append(1))
    compare([classifier], x, ["gradcam"], targets=target)
    handle.remove()
    assert len(count) == forwards
