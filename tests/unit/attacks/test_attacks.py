"""Attacks against torchattacks, against a linear network whose optimum is known, and their promises by number."""

from __future__ import annotations

import threading

import pytest
import torch
import torchattacks
from torch import Tensor, nn

from tests.conftest import make_tiny
from tests.unit.attack_helpers import EPS, certain, images, linear, short_of_memory
from xai import attribute, load_image
from xai.attacks import attack, fgsm, pgd, sweep
from xai.attacks.call import bisect_smallest, bisections
from xai.attacks.fgsm import FGSM
from xai.attacks.pgd import PGD
from xai.attacks.spec import ATTACKS
from xai.attacks.steps import Climb, climb, l2_norm, margin, random_start
from xai.errors import Cancelled, InputError
from xai.models.classifier import Classifier
from xai.outputs import Output
from xai.settings import ASSETS
from xai.types import Run


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_linear_network_reaches_the_known_optimum(norm: str) -> None:
    classifier, x = linear(), torch.full((1, 3, 2, 2), 0.5)
    label = int(classifier.predict(x).argmax())
    weight = classifier.module.net.weight
    direction = (weight[1 - label] - weight[label]).reshape(1, 3, 2, 2)
    unit = direction.sign() if norm == "linf" else direction / direction.norm()
    expected = x + 0.1 * unit  # nothing meets the box from the middle of it
    for params in (PGD(norm=norm, steps=20, step_size=0.05, start_at_random=False), FGSM(norm=norm)):
        name = "pgd" if isinstance(params, PGD) else "fgsm"
        found = attack(classifier, x, name, params, epsilon=0.1)
        torch.testing.assert_close(found.adversarial, expected, atol=1e-6, rtol=0)


def test_margin_by_hand() -> None:
    logits = torch.tensor([[3.0, 1.0, 2.5], [0.0, 5.0, 1.0]])
    label = torch.tensor([0, 2])
    assert margin(logits, label, targeted=False, output=Output.SOFTMAX).tolist() == [-0.5, 4.0]
    assert margin(logits, label, targeted=True, output=Output.SOFTMAX).tolist() == [0.5, -4.0]
    assert margin(logits, label, targeted=False, output=Output.SIGMOID).tolist() == [-3.0, -1.0]
    assert margin(logits, label, targeted=True, output=Output.SIGMOID).tolist() == [3.0, 1.0]


class Plain(nn.Module):
    """Hands the peer a contiguous gradient: its L2 code calls view() on it."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x.flatten(1).view(x.shape))


def peer_pgd(kind: str, model: nn.Module, start_at_random: bool) -> torchattacks.attack.Attack:
    if kind == "linf":
        return torchattacks.PGD(model, eps=EPS, alpha=2 / 255, steps=7, random_start=start_at_random)
    return torchattacks.PGDL2(model, eps=1.0, alpha=0.2, steps=7, random_start=start_at_random)


def peer_images(peer: torchattacks.attack.Attack, x: Tensor, label: Tensor, targeted: bool) -> Tensor:
    if targeted:
        peer.set_mode_targeted_by_function(lambda _images, given: given)
    return peer(x, label)


@pytest.mark.parametrize("kind", ["linf", "l2"])
@pytest.mark.parametrize("start_at_random", [False, True])
@pytest.mark.parametrize("targeted", [False, True])
def test_equal_images_to_torchattacks(kind: str, start_at_random: bool, targeted: bool) -> None:
    classifier, x = make_tiny(), images()
    module = classifier.module
    label = (classifier.predict(x).argmax(1) + targeted) % 5
    torch.manual_seed(5)  # the peer draws its start from the global generator
    theirs = peer_images(peer_pgd(kind, Plain(module).eval(), start_at_random), x, label, targeted)
    start = x
    if start_at_random:
        torch.manual_seed(5)
        if kind == "linf":
            start = (x + torch.empty_like(x).uniform_(-EPS, EPS)).clamp(0, 1)
        else:
            noise = torch.empty_like(x).normal_()
            unit = noise / noise.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
            start = (x + unit * torch.zeros(len(x), 1, 1, 1).uniform_(0, 1) * 1.0).clamp(0, 1)
    radius = torch.full((4,), EPS if kind == "linf" else 1.0)
    step = torch.full((4,), 2 / 255 if kind == "linf" else 0.2)
    how = Climb(kind, targeted, "cross-entropy", 7, "last", False)
    ours = climb(module, x, start, label, radius, step, how, Run()).images
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)


def test_fgsm_equals_torchattacks_and_targets_too() -> None:
    classifier, x = make_tiny(), images()
    label = classifier.predict(x).argmax(1)
    theirs = torchattacks.FGSM(classifier.module, eps=EPS)(x, label)
    torch.testing.assert_close(fgsm(classifier, x, epsilon=EPS).adversarial, theirs, atol=1e-6, rtol=0)
    wanted = (label + 1) % 5
    theirs = peer_images(torchattacks.FGSM(classifier.module, eps=EPS), x, wanted, targeted=True)
    ours = fgsm(classifier, x, labels=wanted, epsilon=EPS, targeted=True).adversarial
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)


@pytest.mark.slow
def test_success_rate_no_lower_than_torchattacks(lite0: Classifier) -> None:
    names = ("chelsea.png", "coffee.png", "rocket.jpg", "china.jpg", "flower.jpg")
    x = lite0.preprocess([load_image(ASSETS / "samples" / name) for name in names])
    epsilon, label = 0.25 / 255, lite0.predict(x).argmax(1)  # small enough that not every picture is turned
    peer = torchattacks.PGD(lite0.module, eps=epsilon, alpha=epsilon / 4, steps=5, random_start=False)
    theirs = margin(lite0.predict(peer(x, label)), label, False, Output.SOFTMAX)
    params = PGD(steps=5, step_size=epsilon / 4, start_at_random=False)
    found = attack(lite0, x, "pgd", params, labels=label, epsilon=epsilon)
    assert int(found.success.sum()) >= int((theirs > 0).sum())
    assert bool((margin(found.logits_after, label, False, Output.SOFTMAX) >= theirs - 1e-4).all())


def test_epsilons_of_one_image_start_in_one_direction() -> None:
    group, radius = torch.tensor([0, 1, 0, 1]), torch.tensor([0.01, 0.01, 0.02, 0.02])
    middle = torch.full((4, 3, 4, 4), 0.5)
    start = random_start(middle, group, radius, "linf", Run(), 0) - middle
    torch.testing.assert_close(start[:2] * 2, start[2:], atol=1e-6, rtol=0)


OVERSHOOTING = [("linf", [64 / 255, 0.5, 1.0]), ("l2", [16.0, 64.0, 120.0])]
"""Norms and epsilons at which one long step in the tiny network does worse than a shorter one."""


@pytest.mark.parametrize(("norm", "epsilons"), OVERSHOOTING)
def test_the_attack_at_an_epsilon_is_the_attack_at_that_epsilon(
    tiny: Classifier, norm: str, epsilons: list[float]
) -> None:
    x, params = images(3), FGSM(norm=norm)  # type: ignore[arg-type]
    alone = [attack(tiny, x, "fgsm", params, epsilon=epsilon) for epsilon in epsilons]
    margins = torch.stack([margin(each.logits_after, each.target, False, Output.SOFTMAX) for each in alone])
    assert bool((margins.diff(dim=0) < 0).all())  # so that the best of the smaller ones would be another picture
    for own, swept, epsilon in zip(alone, sweep(tiny, x, epsilons, "fgsm", params), epsilons, strict=True):
        torch.testing.assert_close(swept.adversarial, own.adversarial, atol=1e-6, rtol=0)
        measured = swept.linf if norm == "linf" else swept.l2
        assert swept.epsilon.tolist() == pytest.approx([epsilon] * 3)
        assert bool((measured <= epsilon).all())
        assert epsilon > epsilons[0] or bool((measured > 0.6 * epsilon).all())


@pytest.mark.parametrize(("norm", "epsilons"), OVERSHOOTING)
def test_the_envelope_keeps_what_a_smaller_ball_found(tiny: Classifier, norm: str, epsilons: list[float]) -> None:
    x, params = images(3), FGSM(norm=norm)  # type: ignore[arg-type]
    alone = attack(tiny, x, "fgsm", params, epsilon=epsilons[0])
    swept = sweep(tiny, x, epsilons, "fgsm", params, envelope=True)
    for result, epsilon in zip(swept, epsilons, strict=True):
        for name in ("adversarial", "levels", "logits_after", "linf", "l2", "success", "survives_png"):
            assert torch.equal(getattr(result, name), getattr(swept[0], name)), name
        assert result.epsilon.tolist() == pytest.approx([epsilon] * 3)
    torch.testing.assert_close(swept[0].adversarial, alone.adversarial, atol=1e-6, rtol=0)


def test_the_envelope_is_monotone(tiny: Classifier) -> None:
    results = sweep(tiny, images(3), [0, 1 / 255, 4 / 255, 16 / 255], params=PGD(steps=3), envelope=True)
    reached = torch.stack([margin(r.logits_after, r.target, False, Output.SOFTMAX) for r in results])
    assert bool((reached.diff(dim=0) >= 0).all())


def test_the_smallest_epsilon_of_a_linear_network_is_found_to_a_tenth_of_a_level() -> None:
    """FGSM turns it from gap / |w_other - w_label|_1 on, exactly, where no pixel meets the box."""
    classifier, x = linear(0.05), 0.4 + 0.2 * torch.rand(20, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    logits, weight = classifier.predict(x), classifier.module.net.weight
    known = (logits[:, 0] - logits[:, 1]).abs() / (weight[0] - weight[1]).abs().sum()
    epsilons = [0, 8 / 255, 64 / 255]
    results = sweep(classifier, x, epsilons, "fgsm", FGSM())
    found = bisect_smallest(classifier, x, results, "fgsm", FGSM())
    turned = torch.stack([r.success for r in results]).any(0)
    assert int(turned.sum()) >= 5
    assert torch.equal(found.isnan(), ~turned)
    over = (found - known)[turned] * 255
    assert bool((over >= -1e-4).all())  # an upper bound
    assert bool((over <= 0.1 + 1e-4).all())
    finer = sweep(classifier, x, [0, 3 / 255, 5.5 / 255, 8 / 255, 30 / 255, 64 / 255], "fgsm", FGSM())
    torch.testing.assert_close(bisect_smallest(classifier, x, finer, "fgsm", FGSM()), found, equal_nan=True)


def test_bisecting_costs_no_more_than_it_says(tiny: Classifier) -> None:
    x, params, epsilons = images(2), PGD(steps=5), [0, 64 / 255]
    told: list[tuple[int, int]] = []
    run = Run(on_progress=lambda done, total, _note: told.append((done, total)))
    assert not bool(
        bisect_smallest(tiny, x, sweep(tiny, x, epsilons, "pgd", params), "pgd", params, run=run).isnan().any()
    )
    assert {total for _, total in told} == {bisections(epsilons, "linf")} == {10}  # 640 tenths of a level
    assert bisections([0, 1 / 255], "linf") == bisections([0.0, 0.1], "l2") == 4
    assert bisections([0, 0.1 / 255], "linf") == 0


@pytest.mark.parametrize("name", ATTACKS.names())
def test_a_saturated_loss_is_said_and_the_margin_climbed_in_its_place(name: str) -> None:
    classifier, x = certain(), images()
    label = classifier.predict(x).argmax(1)
    assert bool((classifier.predict(x).softmax(1).gather(1, label[:, None]) == 1).all())
    peer = torchattacks.PGD(classifier.module, eps=EPS, alpha=2 / 255, steps=5, random_start=False)
    assert torch.equal(peer(x, label), x)  # nothing moves, and nothing says so
    own: dict[str, object] = {"steps": 5, "start_at_random": False} if name == "pgd" else {}
    found, margins = (
        attack(classifier, x, name, ATTACKS.get(name).params(**own, loss=loss), epsilon=EPS)
        for loss in ("cross-entropy", "margin")
    )
    assert found.saturated.tolist() == [True] * 4
    assert margins.saturated.tolist() == found.blind.tolist() == [False] * 4
    assert bool((found.linf > 0.9 * EPS).all())
    first = attack(make_tiny(), x, "fgsm", FGSM(loss="margin"), epsilon=EPS).adversarial
    if name == "fgsm":
        torch.testing.assert_close(found.adversarial, first, atol=1e-6, rtol=0)
    assert bool(
        (
            margin(found.logits_after, label, False, Output.SOFTMAX)
            > margin(classifier.predict(x), label, False, Output.SOFTMAX)
        ).all()
    )
    assert not bool(attack(classifier, x, name, epsilon=0.0).saturated.any())  # nothing is attacked there


def test_a_gradient_of_zero_is_said() -> None:
    classifier, x = make_tiny(), images(2)
    forward = classifier.module.net.forward
    classifier.module.net.forward = lambda x: forward((255 * x).round() / 255)  # type: ignore[method-assign]
    found = pgd(classifier, x, steps=2)
    assert found.blind.tolist() == [True, True]
    assert not bool(pgd(make_tiny(), x, steps=2).blind.any())


def test_a_label_that_is_wrong_already_is_never_a_success(tiny: Classifier) -> None:
    x = images()
    predicted = tiny.predict(x).argmax(1)
    label = predicted.clone()
    label[:2] = (label[:2] + 1) % 5
    for epsilon in (0.0, 64 / 255):
        found = pgd(tiny, x, labels=label, epsilon=epsilon, steps=30)
        assert found.already.tolist() == [True, True, False, False]
        assert found.success.tolist() == found.survives_png.tolist() == [False, False, epsilon > 0, epsilon > 0]
    wanted = (predicted + torch.tensor([0, 1, 1, 1])) % 5
    found = pgd(tiny, x, labels=wanted, epsilon=64 / 255, steps=30, targeted=True)
    assert found.already.tolist() == [True, False, False, False]
    assert found.success.tolist() == [False, True, True, True]


class TwoWay(nn.Module):
    """(z_label - the best other, 0) for logits z: its cross-entropy rises exactly as the margin does."""

    def __init__(self, inner: nn.Module, label: Tensor) -> None:
        super().__init__()
        self.inner, self.label = inner, label

    def forward(self, x: Tensor) -> Tensor:
        rows = []
        for z, y in zip(self.inner(x.flatten(1).view(x.shape)), self.label.tolist(), strict=True):
            rows.append(z[y] - max(z[k] for k in range(len(z)) if k != y))
        return torch.stack([torch.stack(rows), torch.zeros(len(rows))], 1)


@pytest.mark.parametrize("kind", ["linf", "l2"])
@pytest.mark.parametrize("targeted", [False, True])
def test_the_margin_loss_gives_the_images_of_torchattacks_on_a_two_way_network(kind: str, targeted: bool) -> None:
    classifier, x = make_tiny(), images()
    label = (classifier.predict(x).argmax(1) + targeted) % 5
    peer = peer_pgd(kind, TwoWay(classifier.module, label).eval(), False)
    theirs = peer_images(peer, x, torch.zeros(4, dtype=torch.long), targeted)  # class 0 of the two is the label
    params = PGD(
        kind,
        7,
        2 / 255 if kind == "linf" else 0.2,
        start_at_random=False,
        targeted=targeted,
        loss="margin",
        keep="last",
    )
    ours = attack(classifier, x, "pgd", params, labels=label, epsilon=EPS if kind == "linf" else 1.0)
    torch.testing.assert_close(ours.adversarial, theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize("params", [FGSM(), PGD(steps=3, restarts=2), PGD("l2", steps=1)])
def test_the_cost_is_what_is_computed(tiny: Classifier, params: FGSM | PGD, monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[int] = []
    forward, gradient = tiny.module.forward, torch.autograd.grad

    def counted_forward(x: Tensor) -> Tensor:
        passes.append(len(x))
        return forward(x)

    def counted_gradient(output: Tensor, leaf: Tensor) -> tuple[Tensor, ...]:
        passes.append(2 * len(leaf))
        return gradient(output, leaf)

    monkeypatch.setattr(tiny.module, "forward", counted_forward)
    monkeypatch.setattr(torch.autograd, "grad", counted_gradient)
    name = "pgd" if isinstance(params, PGD) else "fgsm"
    attack(tiny, images(2), name, params)
    assert sum(passes) == 2 * (ATTACKS.get(name).passes(params) + 1)  # and one that looks at the clean image


def test_sweep_equals_single_attacks_where_the_larger_ball_wins(tiny: Classifier) -> None:
    x, epsilons = images(2), [2 / 255, 16 / 255]
    params = PGD(steps=4, step_size=1 / 255)
    swept = sweep(tiny, x, epsilons, params=params)
    for epsilon, result in zip(epsilons, swept, strict=True):
        single = attack(tiny, x, "pgd", params, epsilon=epsilon)
        torch.testing.assert_close(result.adversarial, single.adversarial, atol=1e-6, rtol=0)


def test_restarts_and_keeping_the_best_never_hurt(tiny: Classifier) -> None:
    x = images()

    def reached(**params: object) -> Tensor:
        found = attack(tiny, x, "pgd", PGD(steps=4, **params), epsilon=EPS)  # type: ignore[arg-type]
        return margin(found.logits_after, found.target, False, Output.SOFTMAX)

    assert bool((reached(restarts=3) >= reached() - 1e-6).all())
    assert bool((reached(keep="best") >= reached(keep="last") - 1e-6).all())


def test_done_samples_are_left_alone(tiny: Classifier) -> None:
    x, calls = images(), []

    class Counting(nn.Module):
        output = Output.SOFTMAX

        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: Tensor) -> Tensor:
            calls.append(len(x))
            return self.inner(x)

    label = tiny.predict(x).argmax(1)
    label[:2] = (label[:2] + 1) % 5  # already misclassified: nothing to do for these two
    args = (x, label, torch.full((4,), 0.01), torch.arange(4), Run())
    moved = PGD(steps=3, stop_when_done=True, start_at_random=False)(Counting(tiny.module), *args)  # type: ignore[arg-type]
    assert calls == [4, 2, 2, 2]
    assert torch.equal(moved.images[:2], x[:2])
    torch.testing.assert_close(moved.logits, tiny.predict(moved.images), atol=1e-5, rtol=0)
    assert not torch.equal(moved.images[2:], x[2:])


def test_restarts_leave_done_samples_alone(tiny: Classifier) -> None:
    x, calls = images(), []

    class Counting(nn.Module):
        output = Output.SOFTMAX

        def forward(self, x: Tensor) -> Tensor:
            calls.append(len(x))
            return tiny.module(x)

    label = tiny.predict(x).argmax(1)
    label[1:] = (label[1:] + 1) % 5  # only the first is left to do, and an epsilon of 0 never turns it
    params = PGD(steps=1, restarts=3, stop_when_done=True)
    moved = params(Counting(), x, label, torch.zeros(4), torch.arange(4), Run())  # type: ignore[arg-type]
    assert calls == [4, 1, 1, 1, 1, 1]
    assert torch.equal(moved.images, x)


def test_a_batch_that_does_not_fit_is_halved_and_said(tiny: Classifier) -> None:
    x, notes = images(3), []
    run = Run(on_progress=lambda _d, _t, note: notes.append(note))
    epsilons, params = [0.5, 2.0], PGD("l2", steps=2)  # no signs, which flip where a gradient is all but zero
    found = sweep(short_of_memory(2), x, epsilons, params=params, run=run)
    assert any("batches of 1: memory is short" in note for note in notes)  # 6 images, then 3, then 1
    for one, other in zip(found, sweep(tiny, x, epsilons, params=params), strict=True):
        torch.testing.assert_close(one.adversarial, other.adversarial, atol=1e-5, rtol=0)
    with pytest.raises(torch.OutOfMemoryError):
        pgd(short_of_memory(0), x)


def test_double_precision_images_are_taken(tiny: Classifier) -> None:
    x = images(2)
    assert torch.equal(pgd(tiny, x.double(), steps=2).adversarial, pgd(tiny, x, steps=2).adversarial)


def test_saturated_logits_stay_finite_and_the_margin_still_moves() -> None:
    classifier, x = linear(gain=1e6), torch.full((1, 3, 2, 2), 0.5)
    for loss in ("cross-entropy", "margin"):
        found = pgd(classifier, x, epsilon=0.3, steps=5, step_size=0.1, loss=loss)  # type: ignore[arg-type]
        assert bool(torch.isfinite(found.adversarial).all())
        assert bool(found.success.all())


@pytest.mark.parametrize("name", ATTACKS.names())
@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("loss", ["cross-entropy", "margin"])
def test_logits_at_the_end_of_float32_give_numbers(name: str, norm: str, targeted: bool, loss: str) -> None:
    classifier, x = linear(gain=1e37), torch.full((1, 3, 2, 2), 0.5)
    other = 1 - int(classifier.predict(x).argmax())
    params = ATTACKS.get(name).params(norm=norm, targeted=targeted, loss=loss)
    found = attack(classifier, x, name, params, labels=other if targeted else None, epsilon=0.3)
    for values in (found.adversarial, found.logits_after, found.linf, found.l2):
        assert bool(torch.isfinite(values).all())
    assert bool(found.success.all())


def test_same_seed_same_bytes_and_another_seed_another_image(tiny: Classifier) -> None:
    x = images(2)
    first, second, other = (pgd(tiny, x, steps=2, seed=seed).adversarial for seed in (0, 0, 1))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_targeted_reaches_its_class(tiny: Classifier) -> None:
    x = images(2)
    wanted = (tiny.predict(x).argmax(1) + 1) % 5
    found = pgd(tiny, x, labels=wanted, targeted=True, epsilon=64 / 255, steps=30)
    assert torch.equal(found.logits_after.argmax(1), wanted)
    assert bool(found.success.all())


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda c, x: pgd(c, x, epsilon=-0.1), "epsilon is -0.1; it must be 0 or more"),
        (lambda c, x: pgd(c, x, epsilon=[0.1, 0.1, 0.1]), "epsilon has 3 values for 2 images"),
        (lambda c, x: pgd(c, x, epsilon=[0.1, float("inf")]), "epsilon is \\[0.1, inf\\]; give a finite number"),
        (lambda c, x: pgd(c, x, epsilon=8), "epsilon is 8; no pixel can move by more than 1"),
        (lambda c, x: sweep(c, x, [0.1, 1.5]), "epsilon is 1.5; no pixel"),
        (
            lambda c, x: attack(c, x, "pgd", PGD(step_size=float("inf"))),
            "step_size is inf; give a finite number or None",
        ),
        (lambda c, x: attack(c, x, "pgd", PGD(restarts=2, start_at_random=False)), "without start_at_random all"),
        (lambda c, x: pgd(c, x, targeted=True), "a targeted attack needs the class to reach"),
        (lambda c, x: pgd(c, x, labels=7), "target class 7 does not exist"),
        (lambda c, x: pgd(c, x, steps=0), "steps is 0"),
        (lambda c, x: pgd(c, x, norm="l7"), "norm 'l7' is not known"),
        (lambda c, x: sweep(c, x, [0.2, 0.1]), "ascending order"),
        (lambda c, x: pgd(c, x, loss="hinge"), "loss 'hinge' is not known; use cross-entropy or margin"),
        (lambda c, x: fgsm(c, x, loss="cross_entropy"), "loss 'cross_entropy' is not known"),
        (lambda c, x: attack(c, x, "pgd", PGD(keep="first")), "keep 'first' is not known"),
        (lambda c, x: fgsm(c, x, norm="l1"), "norm 'l1' is not known"),
        (lambda c, x: attack(c, x, "pdg"), "did you mean pgd"),
    ],
)
def test_bad_input_gets_one_sentence(tiny: Classifier, call: object, words: str) -> None:
    with pytest.raises(InputError, match=words.replace("(", r"\(")):
        call(tiny, images(2))  # type: ignore[operator]


def test_cancel_is_honoured(tiny: Classifier) -> None:
    with pytest.raises(Cancelled):
        pgd(tiny, images(2), run=Run(cancelled=lambda: True))


def test_beside_explanations_on_one_classifier(tiny: Classifier) -> None:
    x = images(2)
    alone = (pgd(tiny, x, steps=4).adversarial, attribute(tiny, x, "gradcam").values)
    found: dict[int, Tensor] = {}

    def work(index: int) -> None:
        found[index] = pgd(tiny, x, steps=4).adversarial if index % 2 else attribute(tiny, x, "gradcam").values

    threads = [threading.Thread(target=work, args=(index,)) for index in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index in range(6):
        assert torch.equal(found[index], alone[0] if index % 2 else alone[1])
    assert float(l2_norm(alone[0] - x).min()) > 0


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_pgd_by_its_name_is_the_attack_of_that_name(tiny: Classifier, norm: str) -> None:
    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    epsilon = 8 / 255 if norm == "linf" else 1.5
    one, two = pgd(tiny, x, epsilon=epsilon, norm=norm), attack(tiny, x, "pgd", PGD(norm=norm), epsilon=epsilon)
    assert torch.equal(one.adversarial, two.adversarial)
    moved = one.linf if norm == "linf" else one.l2
    assert bool((moved > 0.9 * epsilon).all())  # a step of the other norm's size would stay near the start
