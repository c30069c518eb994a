"""The fast gradient sign method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from xai.attacks._spec import ATTACKS, NORMS, AttackSpec
from xai.attacks._steps import LOSSES, Ball, ascend, objective, one_of
from xai.attacks.call import attack
from xai.models.classifier import Classifier, InputModel
from xai.registry import Source
from xai.types import AttackResult, Run


@dataclass(frozen=True)
class FGSM:
    """x + epsilon * sign(grad_x L), clamped to [0, 1]; L the cross-entropy of the label (its negative if targeted)."""

    norm: Literal["linf", "l2"] = "linf"
    targeted: bool = False
    loss: Literal["cross_entropy", "margin"] = "cross_entropy"

    def __post_init__(self) -> None:
        one_of("norm", self.norm, NORMS)
        one_of("loss", self.loss, LOSSES)

    def __call__(
        self, module: InputModel, x: Tensor, label: Tensor, epsilon: Tensor, group: Tensor, run: Run
    ) -> tuple[Tensor, Tensor]:
        """x (N,3,H,W), label (N,), epsilon (N,) -> adversarial (N,3,H,W) in the ball and the box, logits (N,K)."""
        del group
        run.check()
        leaf = x.clone().requires_grad_()
        with torch.enable_grad():
            value = objective(module(leaf), label, self.targeted, self.loss)
            (gradient,) = torch.autograd.grad(value.sum(), leaf)
        moved = Ball.around(x, epsilon, self.norm).project(ascend(x, gradient, epsilon, self.norm))
        with torch.no_grad():
            return moved, module(moved)


def fgsm(
    classifier: Classifier,
    x: Tensor,
    labels: int | Sequence[int] | Tensor | None = None,
    epsilon: float | Sequence[float] | Tensor = 8 / 255,
    norm: Literal["linf", "l2"] = "linf",
    targeted: bool = False,
    run: Run | None = None,
) -> AttackResult:
    """FGSM on x (N,3,H,W) in [0, 1]; see `xai.attacks.pgd` for the arguments."""
    return attack(classifier, x, "fgsm", FGSM(norm, targeted), labels=labels, epsilon=epsilon, run=run)


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
