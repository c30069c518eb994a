"""Occlusion and RISE against numbers by hand, their formulas computed naively, and captum."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import xai
from xai.errors import Cancelled, InputError
from xai.explain._perturb import blend, colour_of
from xai.explain.occlusion import Occlusion, starts
from xai.explain.rise import RISE, mask_maker
from xai.explain.spec import METHODS
from xai.models.classifier import Classifier, InputModel
from xai.types import Explained, Run

MEAN, STD = (0.5, 0.25, 0.5), (0.5, 0.5, 0.25)


class Weighted(nn.Module):
    """Logits (w . x, 0) of the normalised image: linear, so that every drop can be worked out."""

    def __init__(self, size: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(7)
        self.weight = nn.Parameter(torch.randn(3, size, size, generator=generator, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        score = (x * self.weight).sum((1, 2, 3))
        return torch.stack([score, torch.zeros_like(score)], 1)


def linear(tiny64: Classifier, size: int) -> Classifier:
    module = InputModel(Weighted(size), MEAN, STD).double().eval().requires_grad_(False)
    return dataclasses.replace(
        tiny64, name="linear", module=module, input_size=(size, size), labels=("a", "b"), _memo={}
    )


def explain(
    classifier: Classifier, x: Tensor, explainer: Any, target: Tensor | None, run: Run | None = None
) -> Explained:
    """The explainer itself, in the network's own precision (`attribute` hands out float32)."""
    with classifier.lease() as module:
        return explainer(module, x, target, run or Run())


def images(count: int, size: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(11), dtype=dtype)


def correlation(a: Tensor, b: Tensor) -> float:
    return float(np.corrcoef(a.double().flatten().numpy(), b.double().flatten().numpy())[0, 1])


# --- what is removed -----------------------------------------------------------------------------------------------


def test_blend_with_the_mean_colour_is_the_mask_on_the_normalised_image(tiny64: Classifier) -> None:
    module = linear(tiny64, 4).module
    x, mask = images(2, 4), images(2, 4)[:, :1]
    seen = (blend(x, mask, colour_of(module, x)) - module.mean) / module.std
    torch.testing.assert_close(seen, (x - module.mean) / module.std * mask)


def test_fills(tiny64: Classifier) -> None:
    module, x = linear(tiny64, 4).module, images(1, 4)
    assert colour_of(module, x).flatten().tolist() == list(MEAN)
    assert [colour_of(module, x, fill).unique().tolist() for fill in ("black", "grey", "white")] == [[0], [0.5], [1]]


# --- occlusion -----------------------------------------------------------------------------------------------------


def test_windows_reach_the_edge_in_full_size() -> None:
    assert starts(8, 4, 2) == [0, 2, 4]
    assert starts(11, 4, 3) == [0, 3, 6, 7]
    assert starts(4, 4, 4) == [0]
    assert len(starts(224, 32, 16)) == 13
    with pytest.raises(InputError, match=r"^window is 5 px, more than the image's 4 px; give a smaller window\.$"):
        starts(4, 5, 1)


@pytest.mark.parametrize(("fill", "value"), [("mean", None), ("black", 0.0), ("white", 1.0)])
def test_occlusion_by_hand(tiny64: Classifier, fill: Any, value: float | None) -> None:
    """4 x 4 pixels, windows of 2 side by side: a pixel's value is its window's sum of w (x - fill) / std."""
    net, x = linear(tiny64, 4), images(1, 4)
    colour = torch.tensor(MEAN).view(3, 1, 1) if value is None else torch.full((3, 1, 1), value)
    share = (net.module.net.weight * (x[0] - colour) / torch.tensor(STD).view(3, 1, 1)).sum(0)
    found = explain(net, x, Occlusion(window=2, stride=2, fill=fill), torch.tensor([0]))
    for row in range(4):
        for column in range(4):
            top, left = row // 2 * 2, column // 2 * 2
            expected = share[top : top + 2, left : left + 2].sum()
            assert float(found.values[0, row, column]) == pytest.approx(float(expected), abs=1e-12)
    assert found.values.min() < 0 < found.values.max()
    other = explain(net, x, Occlusion(window=2, stride=2, fill=fill), torch.tensor([1]))
    assert other.values.abs().max() == 0


def test_overlapping_windows_are_averaged(tiny64: Classifier) -> None:
    net, x, window = linear(tiny64, 7), images(1, 7), 3
    share = (net.module.net.weight * (x[0] - net.module.mean[0]) / net.module.std[0]).sum(0)
    begin = [0, 2, 4]
    total, times = torch.zeros(7, 7), torch.zeros(7, 7)
    for top in begin:
        for left in begin:
            total[top : top + window, left : left + window] += share[top : top + window, left : left + window].sum()
            times[top : top + window, left : left + window] += 1
    found = explain(net, x, Occlusion(window=3, stride=2), torch.tensor([0]))
    torch.testing.assert_close(found.values[0], (total / times).double(), rtol=1e-5, atol=1e-6)
    assert found.facts["windows"] == [9]


def test_occlusion_agrees_with_captum(lite0: Classifier, cat: Tensor) -> None:
    from captum.attr import Occlusion as Peer

    x = cat[:, :, 48:144, 48:144].contiguous()
    grey = lite0.module.mean.expand_as(x).contiguous()
    with torch.no_grad():
        expected = Peer(lite0.module).attribute(
            x, sliding_window_shapes=(3, 32, 32), strides=(3, 16, 16), target=281, baselines=grey
        )[:, 0]
    found = xai.attribute(lite0, x, "occlusion", 281)
    assert found.signed
    assert found.values.min() < 0 < found.values.max()
    torch.testing.assert_close(found.values, expected, rtol=1e-3, atol=1e-4)


def test_occlusion_refuses_what_leaves_gaps_or_is_no_colour() -> None:
    with pytest.raises(InputError, match=r"^stride is 9 px; give 1 to window \(8\), so that no pixel is missed\.$"):
        Occlusion(window=8, stride=9)
    with pytest.raises(InputError, match=r"^window is 0; give 1 to 4096\.$"):
        Occlusion(window=0)
    with pytest.raises(InputError, match=r"^fill 'red' is not known; use mean, black, grey or white\.$"):
        Occlusion(fill="red")  # type: ignore[arg-type]


# --- RISE ----------------------------------------------------------------------------------------------------------


def naive_masks(count: int, cells: int, p: float, height: int, width: int, seed: int) -> Tensor:
    """Each mask by itself, through the large upsampled image: (count,H,W)."""
    generator = Run(seed=seed).generator("rise")
    grids = torch.rand(count, cells, cells, generator=generator) < p
    steps = [math.ceil(height / cells), math.ceil(width / cells)]
    downs = torch.randint(steps[0], (count, 1), generator=generator)
    rights = torch.randint(steps[1], (count, 1), generator=generator)
    masks = []
    for grid, down, right in zip(grids, downs, rights, strict=True):
        size = [(cells + 1) * steps[0], (cells + 1) * steps[1]]
        large = F.interpolate(grid[None, None].double(), size, mode="bilinear", align_corners=False)[0, 0]
        masks.append(large[int(down) : int(down) + height, int(right) : int(right) + width])
    return torch.stack(masks)


@pytest.mark.parametrize(("height", "width", "cells"), [(64, 64, 7), (30, 45, 4)])
def test_masks_are_those_of_the_paper(height: int, width: int, cells: int) -> None:
    like = torch.zeros(1, 3, height, width, dtype=torch.float64)
    make = mask_maker(40, cells, 0.4, like, Run(seed=5).generator("rise"))
    expected = naive_masks(40, cells, 0.4, height, width, 5)
    torch.testing.assert_close(make(0, 40)[:, 0], expected)
    torch.testing.assert_close(make(13, 29)[:, 0], expected[13:29])  # whatever the batch


def test_masks_keep_their_share() -> None:
    make = mask_maker(4000, 7, 0.3, torch.zeros(1, 3, 28, 28), Run().generator("rise"))
    masks = make(0, 4000)
    assert masks.min() >= 0
    assert masks.max() <= 1
    # the standard error of a pixel's mean is at most sqrt(.3 * .7 / 4000) = .0072
    assert float((masks.mean(0) - 0.3).abs().max()) < 5 * 0.0073


def test_rise_equals_the_formula(tiny64: Classifier) -> None:
    x, target = images(2, 64), torch.tensor([2, 4])
    module = tiny64.module
    found = explain(tiny64, x, RISE(masks=50, cells=5, p=0.6), target, Run(seed=9))
    masks = naive_masks(50, 5, 0.6, 64, 64, 9)
    normal = (x - module.mean) / module.std
    for n in range(2):
        total = torch.zeros(64, 64, dtype=torch.float64)
        for mask in masks:  # as the paper's code does: the mask multiplies the normalised image
            total += module.net(normal[n : n + 1] * mask).softmax(1)[0, target[n]] * mask
        torch.testing.assert_close(found.values[n], total / (50 * 0.6), rtol=1e-10, atol=1e-12)


def test_rise_finds_the_pixels_that_decide(tiny64: Classifier) -> None:
    """A network that looks at one corner only: the map is highest there."""
    net = linear(tiny64, 28)
    net.module.net.weight.zero_()
    net.module.net.weight[:, :6, :6] = 0.02  # logits up to 3: no saturation
    found = explain(net, torch.ones(1, 3, 28, 28, dtype=torch.float64), RISE(masks=3000), torch.tensor([0]))
    corner, rest = found.values[0, :6, :6].mean(), found.values[0, 14:, 14:].mean()
    assert float(corner) > float(rest) + 0.03  # a pixel's standard error is about 0.01
    assert int(found.values[0].argmax()) // 28 < 8
    assert int(found.values[0].argmax()) % 28 < 8


def test_rise_refuses_parameters_out_of_range(tiny64: Classifier) -> None:
    with pytest.raises(InputError, match=r"^masks is 0; give 1 to 100000\.$"):
        RISE(masks=0)
    with pytest.raises(InputError, match=r"^cells is 1; give 2 to 64\.$"):
        RISE(cells=1)
    with pytest.raises(InputError, match=r"^p is 1; give a share between 0 and 1\.$"):
        RISE(p=1)
    with pytest.raises(InputError, match=r"^cells is 9, more than the image's 8 px; give fewer\.$"):
        explain(tiny64, images(1, 8), RISE(cells=9), None)


# --- both ----------------------------------------------------------------------------------------------------------

SMALL: dict[str, dict[str, Any]] = {"occlusion": {"window": 24, "stride": 12}, "rise": {"masks": 40}}


@pytest.mark.parametrize("name", SMALL)
def test_batch_equals_one_by_one(tiny: Classifier, name: str) -> None:
    x = images(3, 64, torch.float32)
    together = xai.attribute(tiny, x, name, [1, 4, 0], **SMALL[name])
    assert together.values.shape == (3, 64, 64)
    for i, target in enumerate([1, 4, 0]):
        alone = xai.attribute(tiny, x[i : i + 1], name, target, **SMALL[name])
        assert torch.equal(together.values[i], alone.values[0])


@pytest.mark.parametrize("name", SMALL)
def test_same_seed_same_bytes_and_the_predicted_class(tiny: Classifier, name: str) -> None:
    x = images(2, 64, torch.float32)
    one, again, other = (xai.attribute(tiny, x, name, seed=seed, **SMALL[name]) for seed in (3, 3, 4))
    assert one.values.numpy().tobytes() == again.values.numpy().tobytes()
    assert torch.equal(one.values, other.values) == (name == "occlusion")
    assert one.target.tolist() == tiny.predict(x).argmax(1).tolist()
    torch.testing.assert_close(one.logits, tiny.predict(x))


@pytest.mark.parametrize("name", SMALL)
def test_passes_are_those_made(tiny: Classifier, name: str) -> None:
    seen: list[int] = []
    handle = tiny.module.register_forward_pre_hook(lambda _m, inputs: seen.append(len(inputs[0])))
    try:
        xai.attribute(tiny, images(1, 64, torch.float32), name, **SMALL[name])
    finally:
        handle.remove()
    spec = METHODS.get(name)
    assert spec.passes(tiny, spec.explainer(**SMALL[name])) == sum(seen)
    assert max(seen) == 16  # in full batches


@pytest.mark.parametrize("name", SMALL)
def test_progress_is_told_and_cancel_honoured(tiny: Classifier, name: str) -> None:
    told: list[tuple[int, int]] = []
    x = images(2, 64, torch.float32)
    run = Run(on_progress=lambda done, total, note: told.append((done, total)))
    xai.attribute(tiny, x, name, run=run, **SMALL[name])
    assert told == sorted(told)
    assert told[-1][0] == told[-1][1]
    with pytest.raises(Cancelled):
        xai.attribute(tiny, x, name, run=Run(cancelled=lambda: True), **SMALL[name])


def test_default_cost() -> None:
    assert RISE().masks == 1000
    assert METHODS.get("rise").passes(None, RISE()) == 1001  # type: ignore[arg-type]
