"""The fast gradient sign method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from xai.attacks.call import attack
from xai.attacks.spec import ATTACKS, AttackSpec, Loss, Moved
from xai.attacks.steps import Ball, Slope, ascend
from xai.models.classifier import Classifier, InputModel
from xai.params import Parameters
from xai.public import public
from xai.registry import Source
from xai.types import AttackResult, Run


@dataclass(frozen=True)
class FGSM(Parameters):
    """x + epsilon * sign(grad_x L), clamped to [0, 1].

    loss L: the cross-entropy of the label (its negative if targeted), or "margin": the best other logit minus the
    label's own (Carlini & Wagner 2017, f_6, without the cut at 0). It stands in where the cross-entropy is saturated.
    """

    norm: Literal["linf", "l2"] = "linf"
    targeted: bool = False
    loss: Loss = "cross-entropy"

    def __call__(self, module: InputModel, x: Tensor, label: Tensor, epsilon: Tensor, group: Tensor, run: Run) -> Moved:
        """x (N,3,H,W), label (N,), epsilon (N,): one step from x, inside the ball and the box."""
        del group
        run.check()
        slope = Slope.at(module, x, label, self.targeted, self.loss)
        moved = Ball.around(x, epsilon, self.norm).project(ascend(x, slope.gradient, epsilon, self.norm))
        with torch.no_grad():
            return Moved(moved, module(moved), slope.saturated, slope.blind)


@public
def fgsm(
    classifier: Classifier,
    x: Tensor,
    labels: int | Sequence[int] | Tensor | None = None,
    epsilon: float | Sequence[float] | Tensor = 8 / 255,
    norm: Literal["linf", "l2"] = "linf",
    targeted: bool = False,
    run: Run | None = None,
    loss: Loss = "cross-entropy",
) -> AttackResult:
    """FGSM on x (N,3,H,W) in [0, 1]; see `xai.attacks.pgd` for the arguments."""
    return attack(classifier, x, "fgsm", FGSM(norm, targeted, loss), labels=labels, epsilon=epsilon, run=run)


ATTACKS.add(
    AttackSpec(
        name="fgsm",
        title="FGSM",
        rank=10,
        source=Source(
            "Goodfellow et al., Explaining and Harnessing Adversarial Examples, ICLR 2015",
            "https://arxiv.org/abs/1412.6572",
        ),
        params=FGSM,
        summary="One step of length epsilon along the sign of the loss gradient.",
        passes=lambda params: 5,
    )
)
