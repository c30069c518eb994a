"""LRP's rules by matrices in float64, conservation, and the network that is only watched."""

from __future__ import annotations

import copy
import gc
import threading
import weakref

import pytest
import torch
from torch import Tensor, nn

from tests.unit._lrp_reference import (
    BY_MATRIX,
    NETS,
    Dense,
    E,
    Plain,
    Residual,
    by_matrix,
    explain,
    matrix,
    pixels,
    randomise,
    unaccounted,
    wrapped,
)
from xai.explain._lrp import rules as rules_of
from xai.explain._lrp.ops import Composite, Rules
from xai.explain._lrp.weights import Norm, Weights, store_of
from xai.explain.lrp import COMPOSITES, LRP, propagate
from xai.models.classifier import InputModel
from xai.models.hooks import ModuleState
from xai.types import Run


@pytest.mark.parametrize("composite", COMPOSITES)
@pytest.mark.parametrize("target", [0, 1, 2])
@pytest.mark.parametrize("name", BY_MATRIX)
def test_a_network_by_matrices(composite: str, target: int, name: str) -> None:
    net = randomise(NETS[name]().double().eval(), 3)
    x = pixels(2, 3, 8, 8)
    found = explain(wrapped(net), x, target, composite=composite)
    for image, values in zip(x, found.values, strict=True):
        expected = BY_MATRIX[name](net, image, target, composite)
        torch.testing.assert_close(values, expected, rtol=1e-7, atol=1e-9 * float(expected.abs().max()))


@pytest.mark.parametrize("rule", ["epsilon", "z-plus", "gamma"])
@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("kind", ["dense", "conv", "depthwise"])
def test_a_layer_by_matrices(rule: str, signed: bool, kind: str) -> None:
    generator = torch.Generator().manual_seed(5)
    draw = lambda *shape: torch.randn(shape, generator=generator, dtype=torch.float64)  # noqa: E731
    shape: tuple[int, ...]
    at: rules_of.Geometry
    if kind == "dense":
        at, weight, shape = rules_of.Dense(), draw(7, 6), (6,)
    else:
        groups = 4 if kind == "depthwise" else 1
        at, weight, shape = rules_of.Conv((2, 1), (1, 0), (1, 2), groups), draw(4, 4 // groups, 3, 3), (4, 6, 7)
    bias = draw(len(weight))
    x = draw(2, *shape) if signed else draw(2, *shape).abs()
    z = at.forward(x, weight) + at.spread(bias)
    relevance = draw(*z.shape)
    w, ledger = Weights(weight, bias), rules_of.Ledger(2, torch.device("cpu"))
    if rule == "epsilon":
        found = rules_of.epsilon_rule(at, x, z, w, relevance, 0.3, ledger)
    elif rule == "z-plus":
        found = rules_of.positive_rule(at, *rules_of.signs(x, signed), w, bias.clamp(min=0), relevance, ledger)
    else:
        found = rules_of.gamma_rule(at, x, z, w, relevance, 0.7, ledger, signed=signed, clipped=False)
    full = matrix(lambda t: at.forward(t, weight) + at.spread(bias), shape)
    for index in range(2):
        expected = by_matrix(rule, *full, x[index].flatten(), relevance[index].flatten(), epsilon=0.3, gamma=0.7)
        torch.testing.assert_close(found[index].flatten(), expected, rtol=1e-9, atol=1e-9)
    kept = found.flatten(1).sum(1) + ledger.bias + ledger.stabiliser
    torch.testing.assert_close(kept, relevance.flatten(1).sum(1), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("signed", [True, False])
def test_gamma_before_a_rectifier_needs_less_and_is_the_same(signed: bool) -> None:
    generator = torch.Generator().manual_seed(2)
    draw = lambda *shape: torch.randn(shape, generator=generator, dtype=torch.float64)  # noqa: E731
    at, w = rules_of.Conv((1, 1), (1, 1), (1, 1), 1), Weights(draw(5, 3, 3, 3), draw(5))
    x = draw(2, 3, 6, 6) if signed else draw(2, 3, 6, 6).abs()
    z = at.forward(x, w.weight) + at.spread(w.bias)  # type: ignore[arg-type]
    relevance = draw(*z.shape) * (z > 0)
    ledgers = [rules_of.Ledger(2, torch.device("cpu")) for _ in range(2)]
    both = [
        rules_of.gamma_rule(at, x, z, w, relevance, 0.25, ledger, signed=signed, clipped=clipped)
        for ledger, clipped in zip(ledgers, (True, False), strict=True)
    ]
    torch.testing.assert_close(*both, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(ledgers[0].bias, ledgers[1].bias)


def test_gamma_lies_between_epsilon_and_z_plus() -> None:
    layers = [
        nn.Conv2d(3, 4, 3),
        nn.ReLU(),
        nn.Conv2d(4, 6, 3),
        nn.ReLU(),
        nn.MaxPool2d(4),
        nn.Flatten(),
        nn.Linear(6, 3),
    ]
    module, x = wrapped(randomise(nn.Sequential(*layers), 4)), pixels(2, 3, 8, 8)
    for gamma, name, close in ((0.0, "epsilon", 1e-4), (1000.0, "z-plus", 2e-2)):
        values = explain(module, x, 1, composite="epsilon-gamma-box", gamma=gamma).values
        rules = Rules(Composite("box", name, "epsilon"), E, 0.25, store_of(module))
        expected = propagate(module, x, torch.tensor([1, 1]), rules)[0]
        assert float((values - expected).abs().max() / expected.abs().max()) < close


def test_a_sum_is_split_in_proportion_and_average_pools_too() -> None:
    # y = 3 a + (-1) a' with the same pixel: contributions 3 x and -x of 2 x; the split leaves 1.5 R and -0.5 R
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = nn.Conv2d(3, 1, 1, bias=False), nn.Conv2d(3, 1, 1, bias=False)
            self.seen: list[Tensor] = []

        def forward(self, x: Tensor) -> Tensor:
            return (self.left(x) + self.right(x)).mean((2, 3))

    net = Sum()
    net.left.weight.data[:] = torch.tensor([3.0, 0.0, 0.0]).view(1, 3, 1, 1)
    net.right.weight.data[:] = torch.tensor([0.0, -1.0, 0.0]).view(1, 3, 1, 1)
    module = InputModel(net, (0, 0, 0), (1, 1, 1)).double().eval().requires_grad_(False)
    x = torch.tensor([[1.0, 2.0], [1.0, 1.0], [0.3, 0.3]]).double().view(1, 3, 1, 2)
    found = explain(module, x, 0, composite="epsilon")
    # pixels give (3 - 1) / 2 = 1 and (6 - 1) / 2 = 2.5 of the score 3.5
    expected = torch.tensor([[1.5, 3.0], [-0.5, -0.5], [0.0, 0.0]]).double().view(1, 3, 1, 2)
    torch.testing.assert_close(found.values, expected, rtol=1e-5, atol=1e-6)
    assert found.facts["score"] == pytest.approx([3.5])


def test_a_batch_norm_that_cannot_merge_shares_with_its_constant() -> None:
    # one pixel: y = u + t. u = 3, t = -1 keeps all; u = 2, t = 2 keeps half; u = -1, t = 3 keeps nothing
    for u, t, kept in ((3.0, -1.0, 1.0), (2.0, 2.0, 0.5), (-1.0, 3.0, 0.0), (-3.0, 1.0, 1.0), (-2.0, -2.0, 0.5)):
        ledger = rules_of.Ledger(1, torch.device("cpu"))
        out, shift = torch.full((1, 1, 1, 1), u + t).double(), torch.full((1, 1, 1), t).double()
        relevance = torch.full((1, 1, 1, 1), 10.0).double()
        found = rules_of.shift_rule(out, shift, relevance, ledger, clipped=False)
        assert float(found) == pytest.approx(10 * kept, rel=1e-5)
        assert float(ledger.bias) == pytest.approx(10 * (1 - kept), rel=1e-5, abs=1e-9)


def test_merging_includes_the_norms_eps() -> None:
    norm = Norm(torch.tensor([1.0]), torch.tensor([3.0]), torch.tensor([4.0]), torch.tensor([5.0]), eps=1.0)
    merged = Weights.of(torch.tensor([[2.0]]), torch.tensor([7.0]), norm)
    # scale 4 / sqrt(3 + 1) = 2, so w = 4, b = (7 - 1) 2 + 5
    assert (float(merged.weight), float(merged.bias)) == (4.0, 17.0)  # type: ignore[arg-type]


# Conservation -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("composite", COMPOSITES)
@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("target", [0, 1, 2])
def test_relevance_biases_and_stabilisers_are_the_score(composite: str, name: str, target: int) -> None:
    module = wrapped(randomise(NETS[name](), 6))
    found = explain(module, pixels(3, 3, 8, 8), target, composite=composite, epsilon=0.01)
    assert max(unaccounted(found)) < 1e-6
    logits = module(pixels(3, 3, 8, 8))
    torch.testing.assert_close(torch.tensor(found.facts["score"]).double(), logits[:, target])
    torch.testing.assert_close(found.values.sum((1, 2, 3)), torch.tensor(found.facts["relevance_sum"]).double())
    if composite != "alpha1-beta0":  # there, a class with negative weights alone keeps everything at the last layer
        assert all(share != 0 for share in found.facts["bias_share"])  # these networks have biases everywhere


@pytest.mark.parametrize("name", ["plain", "dense", "gated"])
def test_without_biases_all_relevance_arrives(name: str) -> None:
    net = randomise(NETS[name](), 6)
    for module in net.modules():
        for part in ("bias", "running_mean"):
            if getattr(module, part, None) is not None:
                getattr(module, part).data.zero_()
    found = explain(wrapped(net), pixels(3, 3, 8, 8), 1)
    assert found.facts["bias_share"] == [0.0] * 3
    assert found.facts["ratio"] == pytest.approx([1.0] * 3, abs=1e-4)


# Batches, threads, the shared module ------------------------------------------------------------------------------


def test_a_batch_is_its_images_one_by_one() -> None:
    module, x = wrapped(randomise(Residual(), 2)), pixels(5, 3, 8, 8)
    target = torch.tensor([0, 2, 1, 1, 0])
    for composite in COMPOSITES:
        together = LRP(composite)(module, x, target, Run())  # type: ignore[arg-type]
        for index in range(5):
            alone = LRP(composite)(module, x[index : index + 1], target[index : index + 1], Run())  # type: ignore[arg-type]
            torch.testing.assert_close(alone.values[0], together.values[index], rtol=1e-9, atol=1e-12)
            assert alone.facts["bias_share"][0] == pytest.approx(together.facts["bias_share"][index])


def test_threads_on_one_module_give_the_same_bytes_and_leave_nothing() -> None:
    module = wrapped(randomise(Dense(), 2), torch.float32)
    before = ModuleState.of(module)
    x = pixels(2, 3, 16, 16, dtype=torch.float32)
    jobs = [(composite, target) for composite in COMPOSITES for target in (0, 1, 2)]
    serial = {job: explain(copy.deepcopy(module), x, job[1], composite=job[0]).values for job in jobs}
    wrong: list[object] = []

    def work(offset: int) -> None:
        for step in range(2 * len(jobs)):
            job = jobs[(step + 5 * offset) % len(jobs)]
            if not torch.equal(explain(module, x, job[1], composite=job[0]).values, serial[job]):
                wrong.append(job)

    threads = [threading.Thread(target=work, args=(offset,)) for offset in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    before.restore_and_check()


def test_merged_weights_follow_the_network_and_go_with_it() -> None:
    net = randomise(Plain(), 2)
    module, x = wrapped(net), pixels(1, 3, 8, 8)
    first = explain(module, x, 0).values
    store = store_of(module)
    assert store_of(module) is store
    assert torch.equal(explain(module, x, 0).values, first)
    with torch.no_grad():
        net.bn2.running_var.mul_(3.0)  # type: ignore[operator, union-attr]
        net.conv3.weight.add_(0.2)  # type: ignore[operator, union-attr]
    second = explain(module, x, 0).values
    assert torch.equal(second, explain(copy.deepcopy(module), x, 0).values)
    assert not torch.equal(second, first)
    watched = weakref.ref(module)
    del module, net
    gc.collect()
    assert watched() is None
