"""Coverage counts only the layers between the pixels and the score, not every layer of the network."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import xai
from tests.conftest import make_tiny
from xai.errors import InputError, LayerError, NotApplicableError
from xai.models.census import census
from xai.models.classifier import Classifier, InputModel
from xai.models.layers import SEQUENCE, Tokens, last_block, trace

GUIDED = ("guided_backprop", "deconvnet", "guided_gradcam")
SIZE = 12


def classifier_of(net: nn.Module, layer: str = "stem", tokens: Tokens | None = None, size: int = SIZE) -> Classifier:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for value in net.parameters():
            value.copy_(torch.randn(value.shape, generator=generator) * 0.3)
    module = InputModel(net, (0.5,) * 3, (0.25,) * 3, tokens).eval().requires_grad_(False)
    return dataclasses.replace(
        make_tiny(),
        title="Net",
        module=module,
        input_size=(size, size),
        default_layer=layer,
        labels=("a", "b"),
        tokens=tokens,
        _lock=threading.RLock(),
        _memo={},
    )


class Branches(nn.Module):
    """A stem, what `way` makes of it, and a side branch of convolution and ReLU that is joined as `join` says."""

    def __init__(
        self,
        join: Callable[[Tensor, Tensor], Tensor],
        way: Callable[[Tensor], Tensor] = torch.tanh,
        source: Callable[[Tensor, Tensor], Tensor] = lambda x, h: h,
    ) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.side = nn.Conv2d(4, 4, 3, padding=1)
        self.fc = nn.Linear(4, 2)
        self.join, self.way, self.source = join, way, source

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x)
        side = F.relu(self.side(self.source(x, h)), inplace=True)
        h = self.join(self.way(h), side)
        logits: Tensor = self.fc(h.mean((2, 3)))
        return logits


OFF_THE_WAY = {
    "not used": Branches(lambda h, side: h),
    "detached": Branches(lambda h, side: h + side.detach()),
    "not reached by a pixel": Branches(lambda h, side: h + side, source=lambda x, h: torch.ones(1, 4, 10, 10)),
    "of a parameter": Branches(
        lambda h, side: h + side, source=lambda x, h: torch.ones(1, 4, 10, 10, requires_grad=True)
    ),
    "behind a detached input": Branches(lambda h, side: h + side, source=lambda x, h: h.detach()),
}


@pytest.mark.parametrize("case", OFF_THE_WAY)
@pytest.mark.parametrize("method", GUIDED)
def test_an_activation_off_the_way_is_no_reason_to_guide(case: str, method: str) -> None:
    classifier = classifier_of(OFF_THE_WAY[case])
    coverage = xai.applicability(classifier, method)
    assert coverage.status == "refused"
    assert coverage.sentence == (
        "0 of 0 activations guided; there is no ReLU between the pixels and the score; "
        "not counted: ReLU (1) in a branch that does not join the pixels to the score"
    )
    with pytest.raises(NotApplicableError, match="there is no ReLU between the pixels and the score"):
        xai.attribute(classifier, torch.rand(1, 3, SIZE, SIZE), method)


@pytest.mark.parametrize("case", OFF_THE_WAY)
def test_only_what_lies_on_the_way_is_counted(case: str) -> None:
    net = OFF_THE_WAY[case]
    classifier = classifier_of(Branches(net.join, way=F.relu, source=net.source))
    found = census(classifier)
    assert (found.count("relu"), dict(found.aside)["relu"]) == (1, 1)
    coverage = xai.applicability(classifier, "guided_backprop")
    assert (coverage.status, coverage.done, coverage.total) == ("full", 1, 1)
    assert "not counted: ReLU (1)" in coverage.sentence


@pytest.mark.parametrize(
    "join",
    [
        lambda h, side: h + side,
        lambda h, side: h.add_(side),
        lambda h, side: torch.cat([h[:, :2], side[:, 2:]], 1),
        lambda h, side: h * side.sigmoid(),
    ],
)
def test_an_activation_on_the_way_is_counted(join: Callable[[Tensor, Tensor], Tensor]) -> None:
    assert census(classifier_of(Branches(join))).count("relu") == 1


def test_a_part_that_is_rectified_in_place_is_on_the_way() -> None:
    def way(h: Tensor) -> Tensor:
        h[:, :2].relu_()
        return h

    assert census(classifier_of(Branches(lambda h, side: h, way))).count("relu") == 1


class OneEach(nn.Module):
    """Two classes: the first has a score without an activation, the second one behind a ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.a, self.b = nn.Linear(4, 1), nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x)
        return torch.cat([self.a(h.mean((2, 3))), self.b(F.relu(h).mean((2, 3)))], 1)


@pytest.mark.parametrize("method", GUIDED)
def test_a_map_that_equals_the_plain_gradient_says_so(method: str) -> None:
    classifier = classifier_of(OneEach())
    x = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    found = xai.attribute(classifier, x, method, targets=[0, 1])
    said = "No activation stopped any signal for this image and this class, so this is the plain gradient."
    assert found.facts["note"] == [said, ""]
    assert (found.notice(0), found.notice(1)) == (said, "")
    if method != "guided_gradcam":
        plain = xai.attribute(classifier, x, "saliency", targets=[0, 1]).values
        assert torch.equal(found.values[0].abs().amax(0), plain[0])
        assert not torch.equal(found.values[1].abs().amax(0), plain[1])


def test_relevance_counts_the_layers_on_the_way() -> None:
    plain = xai.applicability(classifier_of(Branches(lambda h, side: h, F.relu)), "lrp")
    assert (plain.done, plain.total) == (2, 2)
    joined = xai.applicability(classifier_of(Branches(lambda h, side: h + side, F.relu)), "lrp")
    assert (joined.done, joined.total) == (3, 3)
    gated = xai.applicability(classifier_of(Branches(lambda h, side: h * side.sigmoid(), F.relu)), "lrp")
    assert (gated.done, gated.total) == (2, 3)


@pytest.mark.parametrize("method", ["gradcam", "gradcam++", "xgradcam", "layercam", "hirescam", "guided_gradcam"])
def test_a_layer_off_the_way_has_no_gradient(method: str) -> None:
    classifier = classifier_of(Branches(lambda h, side: h, F.relu))
    with pytest.raises(LayerError, match=r"^layer 'side' is in a branch that the class score does not depend on"):
        xai.attribute(classifier, torch.rand(1, 3, SIZE, SIZE), method, layer="side")


@pytest.mark.parametrize("method", ["saliency", "inputxgradient", "integrated_gradients", "smoothgrad"])
def test_a_score_without_a_gradient_is_refused(method: str) -> None:
    classifier = classifier_of(Branches(lambda h, side: h.detach()))
    with pytest.raises(NotApplicableError, match="score does not depend on the pixels by any differentiable way"):
        xai.attribute(classifier, torch.rand(1, 3, SIZE, SIZE), method)


@pytest.mark.parametrize("method", ["gradcam", "eigencam", "scorecam", "guided_gradcam"])
@pytest.mark.parametrize("wrong", ["sten", "fc", "nothing.like.it"])
def test_only_layers_that_give_maps_are_suggested(method: str, wrong: str) -> None:
    classifier = classifier_of(Branches(lambda h, side: h + side, F.relu))
    with pytest.raises(InputError, match="near it are") as caught:
        xai.attribute(classifier, torch.rand(1, 3, SIZE, SIZE), method, layer=wrong)
    names = str(caught.value).rstrip(".").split("near it are ")[1].split(", ")
    assert set(names) <= {"stem", "side"}
    for name in names:
        assert tuple(xai.attribute(classifier, torch.rand(1, 3, SIZE, SIZE), method, layer=name).values.shape[-2:])


def test_tokens_that_can_be_laid_out_are_suggested() -> None:
    classifier = classifier_of(Attends(Multihead(), Multihead()), "patch", GRID)
    with pytest.raises(LayerError, match=r"near it are blocks\.1, blocks\.0"):
        classifier.layer("blocks.9")


# ---------------------------------------------------------------- attention


class Written(nn.Module):
    """Self-attention of one head, written out or by torch's fused function."""

    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.qkv, self.fused = nn.Linear(8, 24), fused

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, -1)
        if self.fused:
            return F.scaled_dot_product_attention(q, k, v)
        result: Tensor = (q @ k.transpose(-1, -2) / 8**0.5).softmax(-1) @ v
        return result


class Multihead(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.inner(x, x, x, need_weights=False)[0]
        return result


class Attends(nn.Module):
    """A class token and a 3 x 3 grid of patches, blocks of attention with a skip; one more block may run aside."""

    def __init__(self, *blocks: nn.Module, aside: nn.Module | None = None) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 4, 4)
        self.token = nn.Parameter(torch.zeros(1, 1, 8))
        self.blocks = nn.ModuleList(blocks)
        self.aside = aside
        self.fc = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.patch(x).flatten(2).transpose(1, 2)
        h = torch.cat([self.token.expand(len(h), -1, -1), h], 1)
        for block in self.blocks:
            h = h + block(h)
        if self.aside is not None:
            self.aside(h)
        logits: Tensor = self.fc(h[:, 0])
        return logits


GRID = Tokens(SEQUENCE, (3, 3), prefix=1)
ATTENTION = ("attention_rollout", "attention_gradient")


@pytest.mark.parametrize("method", ATTENTION)
@pytest.mark.parametrize(
    ("net", "tokens", "status", "sentence"),
    [
        (Attends(Multihead(), Multihead()), GRID, "full", "2 of 2 attention layers; class token first, 3 x 3 grid"),
        (
            Attends(Multihead(), Written(True), Written(False)),
            GRID,
            "limited",
            "1 of 3 attention layers; class token first, 3 x 3 grid; "
            "the other 2 softmax or attention steps give no weights",
        ),
        (
            Attends(Written(False), Written(False)),
            GRID,
            "refused",
            "it has Softmax (2) between the pixels and the score, but gives its weights nowhere: they can be read "
            "from torch.nn.MultiheadAttention over all tokens only",
        ),
        (Attends(Written(True)), GRID, "refused", "it has Attention (1) between the pixels and the score, but gives"),
        (
            Attends(Written(False), Written(False)),
            None,
            "refused",
            "it has Softmax (2), but not over a class token and one grid of patches",
        ),
        (
            Attends(aside=Multihead()),
            GRID,
            "refused",
            "there is no attention between the pixels and the score; Attention (1) is in a branch that does not join",
        ),
        (
            Attends(Multihead(), aside=Multihead()),
            GRID,
            "refused",
            "1 of 2 attention layers lie between the pixels and the score",
        ),
        (Branches(lambda h, side: h), None, "refused", "there is no attention between the pixels and the score"),
    ],
)
def test_attention_is_described_as_it_runs(
    method: str, net: nn.Module, tokens: Tokens | None, status: str, sentence: str
) -> None:
    classifier = classifier_of(net, "patch" if tokens else "stem", tokens)
    coverage = xai.applicability(classifier, method)
    assert coverage.status == status
    assert coverage.sentence.startswith(sentence)
    x = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    if status == "refused":
        with pytest.raises(NotApplicableError, match="does not apply to Net"):
            xai.attribute(classifier, x, method)
    else:
        assert xai.attribute(classifier, x, method).values.abs().amax((1, 2)).min() > 0


def test_swin_is_said_to_attend_and_convnext_not() -> None:
    swin = xai.applicability(xai.load_model("swin_t", "random:0", "cpu"), "attention_rollout")
    assert swin.sentence.startswith("it has Softmax (12), but not over a class token and one grid of patches")
    convnext = xai.applicability(xai.load_model("convnext_tiny", "random:0", "cpu"), "attention_rollout")
    assert convnext.sentence == "there is no attention between the pixels and the score"


# --- functions without slope ------------------------------------------------------------------------------------------


class Stepped(nn.Module):
    """Convolution, ReLU, a step, convolution, ReLU, as `join` puts it beside what comes before the step."""

    def __init__(self, step: Callable[[Tensor], Tensor], join: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.stem, self.above = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, padding=1)
        self.fc = nn.Linear(4, 2)
        self.step, self.join = step, join

    def forward(self, x: Tensor) -> Tensor:
        before = F.relu(self.stem(x))
        after = F.relu(self.above(self.step(8 * before)))
        logits: Tensor = self.fc(self.join(before, after).mean((2, 3)))
        return logits


STEPPED: dict[str, Callable[[Tensor], Tensor]] = {
    "round": torch.round,
    "sign": torch.sign,
    "floor": lambda h: h.floor_(),
    "division rounded by floor": lambda h: torch.div(h, 2, rounding_mode="floor"),
}


@pytest.mark.parametrize("name", STEPPED)
def test_behind_a_step_nothing_is_guided_and_a_map_of_zeros_tells_why(name: str) -> None:
    classifier = classifier_of(Stepped(STEPPED[name], lambda before, after: after))
    for method in GUIDED:
        coverage = xai.applicability(classifier, method)
        assert (coverage.status, coverage.done, coverage.total) == ("refused", 0, 0)
        assert coverage.sentence == (
            "0 of 0 activations guided; there is no ReLU that a gradient gets through; "
            f"not counted: ReLU (2) where a function without slope ({name}) lets no gradient through"
        )
    x = torch.rand(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(3))
    for method in ("saliency", "inputxgradient", "integrated_gradients", "smoothgrad", "gradcam", "layercam"):
        found = xai.attribute(classifier, x, method, layer="stem", targets=0)
        assert not found.values.any()
        assert found.notice() == (
            f"Blank because a function without slope ({name}) lies on every way from the pixels to the score, so that "
            "every gradient is zero; choose a method without gradients, such as rise or occlusion."
        )
    above = xai.attribute(classifier, x, "gradcam", layer="above", targets=0)  # the step lies below this layer
    assert bool(above.values.any()) or "every contribution is negative" in above.notice()
    assert "slope" not in xai.attribute(classifier, x, "occlusion", window=4, stride=4, targets=0).notice()


def test_beside_a_step_only_what_passes_a_gradient_is_counted() -> None:
    classifier = classifier_of(Stepped(torch.round, lambda before, after: before + after))
    coverage = xai.applicability(classifier, "guided_backprop")
    assert (coverage.status, coverage.done, coverage.total) == ("full", 1, 1)
    assert "not counted: ReLU (1) where a function without slope (round) lets no gradient" in coverage.sentence
    found = xai.attribute(classifier, torch.rand(1, 3, SIZE, SIZE), "saliency", targets=0)
    assert found.values.any()
    assert found.facts["blank"] == [""]


# --- layers that are suggested ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", OFF_THE_WAY)
def test_a_layer_is_suggested_only_where_it_gives_maps_of_the_picture(case: str) -> None:
    classifier = classifier_of(OFF_THE_WAY[case])
    assert [each.path for each in classifier.layers()] == ["stem"]
    assert [each.path for each in classifier.stages()] == ["stem"]
    with pytest.raises(LayerError, match=r"layer 'sid' is not in this network; near it are stem"):
        classifier.layer("sid")
    found = xai.attribute(classifier, torch.rand(1, 3, SIZE, SIZE), "gradcam", layer="stem")
    assert found.values.shape == (1, 10, 10)
    joined = classifier_of(Branches(lambda h, side: h + side))
    assert [each.path for each in joined.layers()] == ["stem", "side"]


def test_the_default_layer_is_none_of_a_dead_branch() -> None:
    net = classifier_of(OFF_THE_WAY["not used"]).module.net
    assert last_block(net, trace(net, net, (SIZE, SIZE), torch.device("cpu")), 2) == "stem"


def test_layers_of_a_network_without_any_gradient_are_all_listed() -> None:
    net = Branches(lambda h, side: (h + side).detach())
    assert [each.path for each in classifier_of(net).layers()] == ["stem", "side"]
