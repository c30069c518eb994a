"""Projected gradient descent, L-infinity and L2, with restarts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from xai.attacks.call import attack
from xai.attacks.spec import ATTACKS, AttackSpec, Loss, Moved
from xai.attacks.steps import Best, Climb, climb, random_start
from xai.errors import InputError
from xai.models.classifier import Classifier, InputModel
from xai.params import Parameters
from xai.public import public
from xai.registry import Source
from xai.types import AttackResult, Run

PAPER = Source(
    "Madry et al., Towards Deep Learning Models Resistant to Adversarial Attacks, ICLR 2018",
    "https://arxiv.org/abs/1706.06083",
)


@dataclass(frozen=True)
class PGD(Parameters):
    """x^{t+1} = Proj(x^t + a * direction(grad_x L)), Proj onto the ball of radius epsilon and the box [0, 1].

    norm "linf": direction = sign(gradient); "l2": gradient / its norm. step_size a: in pixel units; None takes
    2.5 * epsilon / steps for each sample. loss L: "cross-entropy", or "margin": the best other logit minus the label's
    own (Carlini & Wagner 2017, f_6, without the cut at 0). It does not saturate, and stands in at each step where the
    cross-entropy does. keep: "best" keeps the iterate of the largest margin over all steps and restarts, "last" the
    last one of the best restart. stop_when_done: no further steps or restarts for a sample that has reached the aim.
    """

    norm: Literal["linf", "l2"] = "linf"
    steps: int = field(default=10, metadata={"min": 1, "max": 10_000})
    step_size: float | None = None
    restarts: int = field(default=1, metadata={"min": 1, "max": 1000})
    start_at_random: bool = True
    targeted: bool = False
    loss: Loss = "cross-entropy"
    keep: Literal["best", "last"] = "best"
    stop_when_done: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.step_size is not None and not 0 < self.step_size < math.inf:
            raise InputError(f"step_size is {self.step_size}; it must be above 0 and finite.")
        if self.restarts > 1 and not self.start_at_random:
            raise InputError(f"restarts is {self.restarts}, but without start_at_random all are alike; use 1.")

    def __call__(self, module: InputModel, x: Tensor, label: Tensor, epsilon: Tensor, group: Tensor, run: Run) -> Moved:
        """x (N,3,H,W), label (N,), epsilon (N,): the iterate that is kept, inside the ball and the box."""
        step = torch.full_like(epsilon, self.step_size) if self.step_size else 2.5 * epsilon / self.steps
        how = Climb(self.norm, self.targeted, self.loss, self.steps, self.keep, self.stop_when_done)
        best: Best | None = None
        rows = torch.arange(len(x), device=x.device)
        for restart in range(self.restarts):
            if best is not None and self.stop_when_done:
                rows = (best.margin <= 0).nonzero()[:, 0]
                if not len(rows):
                    break
            images, radius, groups = x[rows], epsilon[rows], group[rows.to(group.device)]
            start = random_start(images, groups, radius, self.norm, run, restart) if self.start_at_random else images
            part = run.part(restart * self.steps, self.steps, self.restarts * self.steps)
            found = climb(module, images, start, label[rows], radius, step[rows], how, part)
            best = found if best is None else best.with_better(found, rows)
        assert best is not None  # there is at least one restart
        return Moved(best.images, best.logits, best.saturated, best.blind)


@public
def pgd(
    classifier: Classifier,
    x: Tensor,
    labels: int | Sequence[int] | Tensor | None = None,
    epsilon: float | Sequence[float] | Tensor = 8 / 255,
    steps: int = 10,
    step_size: float | None = None,
    norm: Literal["linf", "l2"] = "linf",
    targeted: bool = False,
    restarts: int = 1,
    seed: int = 0,
    run: Run | None = None,
    loss: Loss = "cross-entropy",
) -> AttackResult:
    """PGD on x (N,3,H,W) in [0, 1]; epsilon in pixel units, one for all or one per sample.

    labels: the class to leave (None: the predicted one), or, with `targeted`, the class to reach. step_size: None is
    2.5 epsilon / steps. loss: what is climbed, "cross-entropy" or "margin"; see `PGD`. Raises `InputError`.
    """
    how = PGD(norm=norm, steps=steps, step_size=step_size, targeted=targeted, restarts=restarts, loss=loss)
    return attack(classifier, x, "pgd", how, labels=labels, epsilon=epsilon, seed=seed, run=run)


ATTACKS.add(
    AttackSpec(
        name="pgd",
        title="PGD",
        rank=20,
        source=PAPER,
        params=PGD,
        summary="Climbs the loss step by step and projects back into the ball after each step.",
        passes=lambda params: params.restarts * (3 * params.steps + 1) + 1,  # type: ignore[attr-defined]
    )
)
