"""Score-CAM and Ablation-CAM: the formula by whole passes, and how many passes it takes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import xai
from tests.unit.cam_helpers import explain, images, images_through, look, of, whole_graph
from xai.errors import InputError
from xai.explain import ablationcam, scorecam
from xai.explain.spec import METHODS
from xai.models.classifier import Classifier
from xai.types import Run


@pytest.mark.parametrize("negative", [False, True])
def test_ablationcam_equals_whole_passes(tiny64: Classifier, negative: bool) -> None:
    x = images(2)
    logits = tiny64.module(x)
    target = logits.argmin(1) if negative else logits.argmax(1)
    score = logits.gather(1, target[:, None])[:, 0]
    assert bool((score < 0).all() if negative else (score > 0).all())
    a, _ = whole_graph(tiny64, x, target, "relu1")
    net = tiny64.module.net
    expected = []
    for n in range(2):
        total = np.zeros(a.shape[2:])
        for k in range(a.shape[1]):
            part = torch.tensor(a[n : n + 1])
            part[:, k] = 0
            h = net.get_submodule("pool")(part)
            h = net.get_submodule("relu2")(net.get_submodule("bn2")(net.get_submodule("conv2")(h)))
            without = net.get_submodule("fc")(h.mean((2, 3)))[0, target[n]]
            total += float((score[n] - without) / score[n].abs()) * a[n, k]
        expected.append(np.maximum(total, 0))
    found = explain(tiny64, x, "ablationcam", target, "relu1")
    np.testing.assert_allclose(found.values.numpy(), np.stack(expected), rtol=1e-9, atol=1e-14)
    assert found.facts["shared"] == [True, True]


def test_scorecam_equals_the_formula(tiny64: Classifier) -> None:
    x, target = images(2), torch.tensor([3, 1])
    a, _ = whole_graph(tiny64, x, target, "relu2")
    module = tiny64.module
    normal = (x - module.mean) / module.std
    found = explain(tiny64, x, "scorecam", target)
    for n in range(2):
        maps = torch.tensor(a[n])
        scores = []
        for one in maps:
            mask = F.interpolate(one[None, None], (64, 64), mode="bilinear", align_corners=False)
            mask = torch.zeros_like(mask) if one.max() == one.min() else (mask - mask.min()) / (mask.max() - mask.min())
            scores.append(float(module.net(normal[n : n + 1] * mask)[0, target[n]]))
        weights = np.exp(scores) / np.exp(scores).sum()
        expected = np.maximum((weights[:, None, None] * a[n]).sum(0), 0)
        np.testing.assert_allclose(found.values[n].numpy(), expected, rtol=1e-9, atol=1e-14)


class Maps(nn.Module):
    """Three maps of the image: its red, a constant 2, and its green doubled; logits from their means."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Conv2d(3, 3, 1)
        self.fc = nn.Linear(3, 2, bias=False)
        with torch.no_grad():
            self.maps.weight.zero_()
            self.maps.weight[0, 0, 0, 0], self.maps.weight[2, 1, 0, 0] = 1, 2
            self.maps.bias.copy_(torch.tensor([0.0, 2.0, 0.0]))
            self.fc.weight.copy_(torch.tensor([[1.0, 0.5, 1.0], [-1.0, 0.0, 0.5]]))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.maps(x).mean((2, 3)))


def test_scorecam_by_hand_with_a_constant_map(tiny64: Classifier) -> None:
    net = of(Maps(), tiny64, "maps")
    red, green = torch.tensor([[0.0, 0.4], [0.8, 0.8]]), torch.tensor([[0.5, 0.0], [0.0, 0.25]])
    x = torch.stack([red, green, torch.zeros(2, 2)])[None].double()
    found = explain(net, x, "scorecam", torch.tensor([0]))
    # masks: red/.8; 0 (constant map); green/.5. Seen through them, means of red and green, then y = r + 2 g + 1:
    through_red = (0.4 * 0.5 + 0.8 + 0.8) / 4 + 2 * (0.25 * 1.0) / 4 + 1
    through_none = 1.0
    through_green = (0.8 * 0.5) / 4 + 2 * (0.5 + 0.25 * 0.5) / 4 + 1
    weights = np.exp([through_red, through_none, through_green])
    weights /= weights.sum()
    expected = weights[0] * red.numpy() + weights[1] * 2 + weights[2] * 2 * green.numpy()
    np.testing.assert_allclose(found.values[0].numpy(), expected, rtol=1e-7)
    assert found.facts["scored"] == [2]


def test_scorecam_channels_are_those_that_vary_most(tiny64: Classifier) -> None:
    net = of(Maps(), tiny64, "maps")
    x = torch.rand(1, 3, 2, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x[:, 0] *= 0.1  # the doubled green varies most, red less, the constant not at all
    found = explain(net, x, "scorecam", channels=1)
    np.testing.assert_allclose(found.values[0].numpy(), 2 * x[0, 1].numpy())
    torch.testing.assert_close(
        explain(net, x, "scorecam", channels=3).values, explain(net, x, "scorecam").values, rtol=0, atol=0
    )
    with pytest.raises(InputError, match=r"^channels is 0; give 1 to 65536\.$"):
        scorecam.ScoreCAM(channels=0)


# --- where one image may stand for a batch ------------------------------------------------------------------------


class Bypass(nn.Module):
    """A layer that is bypassed in the way named: added, concatenated, or folded with the batch size seen below."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way
        generator = torch.Generator().manual_seed(5)
        self.stem, self.layer = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)
        self.fc = nn.Linear(8 if way == "cat" else 4, 3)
        with torch.no_grad():
            for tensor in self.parameters():
                tensor.copy_(torch.randn(tensor.shape, generator=generator))

    def forward(self, x: Tensor) -> Tensor:
        below = self.stem(x)
        y = F.relu(self.layer(below), inplace=True)
        if self.way == "add":
            y = y + below
        elif self.way == "add in place below":
            y = below.add_(y)
        elif self.way == "cat":
            y = torch.cat([y, below], 1)
        elif self.way == "fold":  # with the batch size seen below, images of a larger batch are mixed
            mixed = y.reshape(below.shape[0], -1, 4, y.shape[2] * y.shape[3]).mean((1, 3))
            return self.fc(y.mean((2, 3))) + self.fc(mixed)
        return self.fc(y.mean((2, 3)))


@pytest.mark.parametrize(
    ("way", "shared"), [("add", True), ("add in place below", False), ("cat", False), ("fold", False)]
)
def test_ablation_below_a_bypass_is_right_whichever_way(tiny64: Classifier, way: str, shared: bool) -> None:
    net = of(Bypass(way), tiny64, "layer", size=4)
    x = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    found = explain(net, x, "ablationcam", torch.tensor([1]))
    assert found.facts["shared"] == [shared]
    activation = net.module.net.layer(net.module.net.stem(x))
    score = net.module(x)[0, 1]
    total = torch.zeros(4, 4, dtype=torch.float64)
    for k in range(4):
        part = activation.clone()
        part[:, k] = 0
        handle = net.module.net.layer.register_forward_hook(lambda _m, _i, _o, part=part: part.clone())
        total += (score - net.module(x)[0, 1]) / score.abs() * activation[0, k]
        handle.remove()
    torch.testing.assert_close(found.values[0], total.clamp(min=0), rtol=1e-9, atol=1e-12)


class Twice(nn.Module):
    """One ReLU module that runs twice in a forward."""

    def __init__(self) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.a, self.b, self.fc = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 5, 1), nn.Linear(5, 2)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for tensor in self.parameters():
                tensor.copy_(torch.randn(tensor.shape, generator=generator))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.relu(self.b(self.relu(self.a(x)))).mean((2, 3)))


def test_a_layer_that_runs_twice_is_taken_at_its_last_run(tiny64: Classifier) -> None:
    net = of(Twice(), tiny64, "relu", size=4)
    x = images(1, 4)
    inner = net.module.net
    last = inner.relu(inner.b(inner.relu(inner.a(x))))
    weights = inner.fc.weight[0] / 16
    expected = (weights[:, None, None] * last[0]).sum(0).clamp(min=0)
    torch.testing.assert_close(explain(net, x, "gradcam", torch.tensor([0])).values[0], expected)
    score = net.module(x)[0, 0]
    drops = inner.fc.weight[0] * last[0].mean((1, 2)) / score.abs()
    expected = (drops[:, None, None] * last[0]).sum(0).clamp(min=0)
    torch.testing.assert_close(explain(net, x, "ablationcam", torch.tensor([0])).values[0], expected)


# --- cost ----------------------------------------------------------------------------------------------------------


def test_scorecam_passes(tiny: Classifier) -> None:
    tiny.layers()  # traced once, by a pass of its own
    x = images(1, dtype=torch.float32)
    assert bool((look(tiny, x, "relu2").flatten(2).std(2) > 0).all())  # no constant map
    spec = METHODS.get("scorecam")
    for channels in (None, 5):
        made = images_through(tiny, lambda c=channels: xai.attribute(tiny, x, "scorecam", channels=c))
        assert spec.passes(tiny, spec.explainer(channels=channels)) == made + 1  # none for constant maps


def test_ablationcam_passes_count_the_part_above_the_layer(tiny: Classifier) -> None:
    conv1, conv2, fc = 32 * 32 * 8 * 27, 16 * 16 * 12 * 72, 12 * 5
    total = conv1 + conv2 + fc
    assert ablationcam.share_above(tiny, "relu2") == pytest.approx(fc / total)
    assert ablationcam.share_above(tiny, "relu1") == pytest.approx((conv2 + fc) / total)
    spec = METHODS.get("ablationcam")
    # three trials, one batch below the layer, eight maps above it
    assert spec.passes(tiny, spec.explainer(layer="relu1")) == 3 + int(
        np.ceil(conv1 / total + 8 * (conv2 + fc) / total)
    )
    x = images(1, dtype=torch.float32)
    made = images_through(tiny, lambda: xai.attribute(tiny, x, "ablationcam", layer="relu1"))
    assert made == 4  # what goes through the part below the layer


def test_ablation_batches_are_bounded() -> None:
    assert ablationcam.batch_size(2048, 2048 * 49, "cpu") == 167
    assert ablationcam.batch_size(64, 64 * 224 * 224, "cpu") == 16
    assert ablationcam.batch_size(8, 64, "cpu") == 8


def test_progress_counts_over_all_images(tiny: Classifier) -> None:
    told: list[tuple[int, int]] = []
    run = Run(on_progress=lambda done, total, note: told.append((done, total)))
    xai.attribute(tiny, images(3, dtype=torch.float32), "scorecam", run=run)
    assert told == sorted(told)
    assert told[-1] == (36, 36)
