"""What gradient attacks share: objectives, norm balls, random starts, and the loop that keeps the best iterate."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from xai.errors import InputError
from xai.models.classifier import InputModel
from xai.types import Run

TINY = 1e-12
LOSSES = ("cross_entropy", "margin")
KEEPS = ("best", "last")


def one_of(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise `InputError` unless `value` is one of `choices`."""
    if value not in choices:
        raise InputError(f"{name} {value!r} is not known; use {' or '.join(choices)}.")


def margin(logits: Tensor, label: Tensor, targeted: bool) -> Tensor:
    """How far the attack has got, (N,): above 0 exactly where it succeeds.

    Untargeted: max_{j != y} z_j - z_y. Targeted: z_t - max_{j != t} z_j. In logits, so it does not saturate.
    """
    own = logits.gather(1, label[:, None])[:, 0]
    rest = logits.scatter(1, label[:, None], -math.inf).amax(1)
    reached: Tensor = own - rest if targeted else rest - own
    return reached


def objective(logits: Tensor, label: Tensor, targeted: bool, loss: str) -> Tensor:
    """What the attack climbs, (N,): cross-entropy (its negative when targeted), or the margin."""
    if loss == "margin":
        return margin(logits, label, targeted)
    entropy: Tensor = F.cross_entropy(logits, label, reduction="none")
    signed: Tensor = -entropy if targeted else entropy
    return signed


def expand(values: Tensor) -> Tensor:
    """(N,) -> (N,1,1,1)."""
    return values.view(-1, 1, 1, 1)


def l2_norm(delta: Tensor) -> Tensor:
    """Euclidean norm over all pixels and channels, (N,), in float64."""
    norms: Tensor = torch.linalg.vector_norm(delta.flatten(1), dim=1, dtype=torch.float64)
    return norms


@dataclass(frozen=True, eq=False)
class Ball:
    """The ball of radius epsilon (N,) around x (N,3,H,W), cut by the box [0, 1]: low and high (N,3,H,W) bound it.

    It holds exactly: what rounding to x's dtype would put outside is moved inside.
    """

    norm: str
    x: Tensor
    epsilon: Tensor
    low: Tensor
    high: Tensor

    @classmethod
    def around(cls, x: Tensor, epsilon: Tensor, norm: str) -> Ball:
        """The ball of this norm, "linf" or "l2"."""
        if norm != "linf":
            return cls(norm, x, epsilon, torch.zeros_like(x), torch.ones_like(x))
        exact, radius = x.double(), expand(epsilon).double()
        low, high = (exact - radius).clamp_(min=0), (exact + radius).clamp_(max=1)
        bounds = low.to(x.dtype), high.to(x.dtype)
        bits = {2: torch.int16, 4: torch.int32, 8: torch.int64}[x.element_size()]
        # Numbers from 0 on are ordered as their bits are: one more or less is the next number inside.
        bounds[0].view(bits).add_(bounds[0] < low)
        bounds[1].view(bits).sub_((bounds[1] > high).to(bits))
        return cls(norm, x, epsilon, *bounds)

    def __getitem__(self, rows: Tensor) -> Ball:
        """The balls of some samples."""
        return Ball(self.norm, self.x[rows], self.epsilon[rows], self.low[rows], self.high[rows])

    def project(self, moved: Tensor) -> Tensor:
        """The nearest point to `moved` in the ball, then in the box.

        Clamping to the box moves every pixel towards x, so the ball still holds after it.
        """
        if self.norm == "linf":
            return torch.clamp(moved, self.low, self.high)
        delta = moved - self.x
        scale, give = (self.epsilon / l2_norm(delta).clamp(min=TINY)).clamp(max=1), 1e-7
        while True:
            found = torch.clamp(self.x + delta * expand(scale.to(delta)), self.low, self.high)
            outside = l2_norm(found.double() - self.x.double()) > self.epsilon  # by rounding
            if not bool(outside.any()):
                return found
            scale, give = torch.where(outside, scale * (1 - give), scale), min(4 * give, 0.5)


def ascend(current: Tensor, gradient: Tensor, step: Tensor, norm: str) -> Tensor:
    """One step of length `step` (N,) along the steepest direction of the norm: sign, or the unit gradient."""
    if norm == "linf":
        return current + gradient.sign().mul_(expand(step))  # in the layout of `current`: see InputModel.forward
    # Scaled to at most 1 before squaring, so that a gradient of 1e-30 has a direction too; a zero one has none.
    largest = expand(gradient.abs().flatten(1).amax(1))
    scaled = gradient / torch.where(largest > 0, largest, 1)
    return current + expand((step / l2_norm(scaled).clamp(min=TINY)).to(scaled)) * scaled


def random_start(x: Tensor, group: Tensor, epsilon: Tensor, norm: str, run: Run, restart: int) -> Tensor:
    """A start inside each ball: uniform in the cube (linf); a uniform direction at a uniform-in-volume radius (l2).

    Drawn once per group on the CPU and scaled by each sample's epsilon, so that one image at many epsilons starts in
    one direction, on every device alike.
    """
    noise: dict[int, Tensor] = {}
    for key in set(group.tolist()):
        generator = run.generator("attack start", restart, key)
        if norm == "linf":
            noise[key] = torch.rand(x.shape[1:], generator=generator) * 2 - 1
        else:
            direction = torch.randn(x.shape[1:], generator=generator)
            radius = torch.rand((), generator=generator) ** (1 / direction.numel())
            noise[key] = direction / direction.norm() * radius
    unit = torch.stack([noise[key] for key in group.tolist()]).to(x)
    return (x + unit * expand(epsilon)).clamp_(0, 1)


@dataclass(frozen=True)
class Climb:
    """How to climb: `step` (N,) pixel units, `steps`, and what is kept."""

    norm: str
    targeted: bool
    loss: str
    steps: int
    keep: str
    stop_when_done: bool


@dataclass(frozen=True, eq=False)
class Best:
    """The iterate that is kept for each sample: images (N,3,H,W), logits (N,K), margin (N,)."""

    images: Tensor
    logits: Tensor
    margin: Tensor

    @classmethod
    def of(cls, images: Tensor, logits: Tensor, label: Tensor, targeted: bool) -> Best:
        """These images with their logits."""
        return cls(images, logits, margin(logits, label, targeted))

    def with_better(self, other: Best, index: Tensor, force: bool = False) -> Best:
        """For each row of `other`, which is sample `index` (ascending), the one of the larger margin.

        force: the other, whatever its margin.
        """
        rows = torch.ones_like(index, dtype=torch.bool) if force else other.margin > self.margin[index]
        if len(index) == len(self.margin) and bool(rows.all()):
            return other
        where = index[rows]
        return Best(
            self.images.index_copy(0, where, other.images[rows]),
            self.logits.index_copy(0, where, other.logits[rows]),
            self.margin.index_copy(0, where, other.margin[rows]),
        )


def climb(
    module: InputModel, x: Tensor, start: Tensor, label: Tensor, epsilon: Tensor, length: Tensor, how: Climb, run: Run
) -> Best:
    """Projected gradient ascent from `start`; the last iterate is looked at too, with one more forward pass.

    `keep="best"`: the iterate of the largest margin seen, the last one included; `keep="last"`: the last iterate, as in
    the paper. With `stop_when_done`, samples whose margin is above 0 are not computed further.
    """
    ball = Ball.around(x, epsilon, how.norm)
    current = ball.project(start)
    best: Best | None = None
    active = torch.arange(len(x), device=x.device)
    for step in range(how.steps):
        run.report(step, how.steps)
        leaf = current.detach().requires_grad_()
        with torch.enable_grad():
            logits = module(leaf)
            (gradient,) = torch.autograd.grad(objective(logits, label, how.targeted, how.loss).sum(), leaf)
        found = Best.of(current, logits.detach(), label, how.targeted)
        best = found if best is None else best.with_better(found, active)
        done = found.margin > 0
        if how.stop_when_done and bool(done.any()):
            parts = (active, current, gradient, label, length)
            active, current, gradient, label, length = (each[~done] for each in parts)
            ball = ball[~done]
            if not len(active):
                return best
        current = ball.project(ascend(current, gradient, length, how.norm))
    assert best is not None  # there is at least one step
    with torch.no_grad():
        found = Best.of(current, module(current), label, how.targeted)
    return best.with_better(found, active, force=how.keep == "last")
