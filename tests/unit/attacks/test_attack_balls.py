"""Where an attack may go: the ball and the box hold to the last bit, after rounding too; starts and steps in it."""

from __future__ import annotations

import pytest
import torch

from tests.conftest import make_tiny
from tests.unit.attack_helpers import images
from xai.attacks import attack
from xai.attacks.call import to_levels
from xai.attacks.fgsm import FGSM
from xai.attacks.pgd import PGD
from xai.attacks.spec import ATTACKS
from xai.attacks.steps import Ball, ascend, random_start
from xai.models.classifier import Classifier
from xai.types import Run


@pytest.mark.parametrize("spec", list(ATTACKS), ids=lambda spec: spec.name)
@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("targeted", [False, True])
def test_ball_and_box_hold_before_and_after_rounding(spec: object, norm: str, targeted: bool) -> None:
    classifier, x = make_tiny(), images()
    x[:, :, :8] = 0.0  # pixels at both ends of the box
    x[:, :, 8:16] = 1.0
    epsilon = torch.tensor([0.0, 0.5 / 255, 2 / 255, 16 / 255]) if norm == "linf" else torch.tensor([0, 0.3, 1, 4.0])
    labels = 2 if targeted else None
    params = spec.params(norm=norm, targeted=targeted)
    found = attack(classifier, x, spec.name, params, labels=labels, epsilon=epsilon)
    assert found.adversarial.min() >= 0
    assert found.adversarial.max() <= 1
    measured = found.linf if norm == "linf" else found.l2
    assert bool((measured <= epsilon * (1 + 1e-5) + 1e-7).all())
    rounded = (found.levels.double() - (x.double() * 255).round()) / 255
    size = rounded.abs().flatten(1).amax(1) if norm == "linf" else rounded.flatten(1).norm(dim=1)
    assert bool((size <= epsilon.double() * (1 + 1e-6)).all())
    assert torch.equal(found.adversarial[0], x[0])  # epsilon 0 is the identity, exactly
    assert torch.equal(found.levels[0].float() / 255, x[0])


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_ball_holds_to_the_last_bit(tiny: Classifier, norm: str) -> None:
    x = torch.rand(6, 3, 64, 64, generator=torch.Generator().manual_seed(2)) ** 3  # all scales of float32
    epsilon = torch.tensor([0.01, 0.1, 1, 3.7, 5, 40]) / (255 if norm == "linf" else 10)
    for params in (PGD(norm=norm, steps=3), PGD(norm=norm, steps=1, keep="last"), FGSM(norm=norm)):
        found = attack(tiny, x, "pgd", params, epsilon=epsilon)
        delta = (found.adversarial.double() - x.double()).flatten(1)
        size = delta.abs().amax(1) if norm == "linf" else delta.norm(dim=1)
        assert bool((size <= epsilon.double()).all()), (size - epsilon.double()).tolist()
        assert bool(((found.linf if norm == "linf" else found.l2) <= epsilon).all())
        assert bool((size > 0.9 * epsilon).all())


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_projection_ends_inside_to_the_last_bit(norm: str) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(512, 3, 1, 1, generator=generator) ** 6  # few pixels of all scales: nothing averages out
    epsilon = 0.05 + 0.3 * torch.rand(512, generator=generator)
    moved = x + torch.randn(x.shape, generator=generator).abs()
    delta = (Ball.around(x, epsilon, norm).project(moved).double() - x.double()).flatten(1)
    size = delta.abs().amax(1) if norm == "linf" else delta.norm(dim=1)
    assert bool((size <= epsilon.double()).all())
    assert float((size / epsilon).max()) > 1 - 1e-6


def test_rounding_by_hand() -> None:
    clean = torch.tensor([100.0, 100.0, 0.0, 255.0]).reshape(1, 1, 2, 2) / 255
    moved = torch.tensor([102.4, 97.6, 2.2, 252.9]).reshape(1, 1, 2, 2) / 255
    linf = to_levels(moved, clean, torch.tensor([2.4 / 255]), "linf")
    assert linf.flatten().tolist() == [102, 98, 2, 253]
    l2 = to_levels(moved, clean, torch.tensor([4.0 / 255]), "l2")
    assert l2.flatten().tolist() == [102, 98, 2, 253]
    small = to_levels(clean + 0.5 / 255, clean, torch.tensor([0.5 / 255]), "linf")
    assert small.flatten().tolist() == [100, 100, 0, 255]  # no level lies within half a level


def test_rounding_in_the_l2_ball_keeps_the_attack() -> None:
    generator = torch.Generator().manual_seed(0)
    clean = torch.randint(40, 216, (1, 3, 64, 64), generator=generator).float() / 255
    delta = torch.randn(clean.shape, generator=generator)
    for epsilon in (0.5, 1.0, 2.0):
        radius = torch.tensor([epsilon])
        levels = to_levels(clean + delta / delta.norm() * epsilon, clean, radius, "l2")
        kept = (levels.double() - (clean.double() * 255).round()) / 255
        assert 0.9 * epsilon <= float(kept.norm()) <= epsilon
        assert float((kept * delta).sum() / kept.norm() / delta.norm()) > 0.9  # still in the attack's direction


@pytest.mark.parametrize("gain", [1e-30, 1e30])
def test_l2_steps_have_their_length_whatever_the_gradient(gain: float) -> None:
    gradient = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * gain
    moved = ascend(torch.zeros_like(gradient), gradient, torch.tensor([0.25]), "l2")
    assert float(moved.norm()) == pytest.approx(0.25)
    assert bool((ascend(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8), torch.tensor([0.25]), "l2") == 0).all())


def test_l2_starts_are_uniform_in_the_ball_and_share_their_direction() -> None:
    middle, groups = torch.full((400, 3, 2, 2), 0.5), torch.arange(400)
    near, far = (
        (random_start(middle, groups, torch.full((400,), radius), "l2", Run(), 0) - middle) / radius
        for radius in (0.1, 0.2)
    )
    torch.testing.assert_close(near, far, atol=1e-5, rtol=0)
    share = far.flatten(1).norm(dim=1) ** 12  # of the ball's volume that lies further in: uniform in [0, 1]
    assert float(share.max()) <= 1 + 1e-4
    assert float(share.mean()) == pytest.approx(0.5, abs=0.05)
    assert float(share.square().mean()) == pytest.approx(1 / 3, abs=0.05)
    assert float(far.mean(0).abs().max()) < 0.06
