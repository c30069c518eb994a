"""What gradient attacks share: objectives, norm balls, random starts, and the loop that keeps the best iterate."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from xai.devices import double
from xai.models.classifier import InputModel
from xai.outputs import Output
from xai.types import Run

TINY = 1e-12


def margin(logits: Tensor, label: Tensor, targeted: bool, output: Output) -> Tensor:
    """How far the attack has got, (N,): above 0 exactly where it succeeds.

    Untargeted: max_{j != y} z_j - z_y. Targeted: z_t - max_{j != t} z_j. In logits, so it does not saturate. For
    sigmoids -z_y and z_t: the decision about that class at probability 0.5, whatever the other classes do.
    """
    reached = output.margin(logits, label)
    return reached if targeted else -reached


def objective(logits: Tensor, label: Tensor, targeted: bool, loss: str, output: Output) -> tuple[Tensor, Tensor]:
    """What the attack climbs, (N,), and where the margin stands in for a saturated cross-entropy, (N,) bool.

    loss "cross-entropy" (its negative where targeted) or "margin". Where the probability of the class to leave rounds
    to exactly 1, the cross-entropy has no gradient in that class's logit, and mostly none at all.
    """
    gap = margin(logits, label, targeted, output)
    if loss == "margin":
        return gap, torch.zeros_like(label, dtype=torch.bool)
    entropy = output.loss(logits, label)
    certain = output.probability(logits.detach(), label) == 1
    saturated = certain & (gap.detach() <= 0)  # a class to reach that is certain is reached
    return torch.where(saturated, gap, -entropy if targeted else entropy), saturated


@dataclass(frozen=True, eq=False)
class Slope:
    """The gradient of the objective at some pixels: logits (N,K), gradient (N,3,H,W), saturated and blind (N,) bool.

    blind: the gradient is exactly zero although the aim is not reached.
    """

    logits: Tensor
    gradient: Tensor
    saturated: Tensor
    blind: Tensor

    @classmethod
    def at(cls, module: InputModel, x: Tensor, label: Tensor, targeted: bool, loss: str) -> Slope:
        """One forward and one backward pass to the pixels x (N,3,H,W)."""
        leaf = x.detach().requires_grad_()
        with torch.enable_grad():
            logits = module(leaf)
            value, saturated = objective(logits, label, targeted, loss, module.output)
            (gradient,) = torch.autograd.grad(value.sum(), leaf)
        logits = logits.detach()
        flat = gradient.abs().amax((1, 2, 3)) == 0
        return cls(logits, gradient, saturated, flat & (margin(logits, label, targeted, module.output) <= 0))


def expand(values: Tensor) -> Tensor:
    """(N,) -> (N,1,1,1)."""
    return values.view(-1, 1, 1, 1)


def l2_norm(delta: Tensor) -> Tensor:
    """Euclidean norm over all pixels and channels, (N,), in float64, on `exact_device`."""
    norms: Tensor = torch.linalg.vector_norm(double(delta).flatten(1), dim=1)
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
        exact, radius = double(x), double(expand(epsilon))
        low, high = (exact - radius).clamp_(min=0), (exact + radius).clamp_(max=1)
        bounds = low.to(x.dtype), high.to(x.dtype)
        bits = {2: torch.int16, 4: torch.int32, 8: torch.int64}[x.element_size()]
        # Numbers from 0 on are ordered as their bits are: one more or less is the next number inside.
        bounds[0].view(bits).add_(bounds[0] < low)
        bounds[1].view(bits).sub_((bounds[1] > high).to(bits))
        return cls(norm, x, epsilon, *(each.to(x.device) for each in bounds))

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
        exact, radius = double(self.x), double(self.epsilon)
        scale, give = (radius / l2_norm(delta).clamp(min=TINY)).clamp(max=1), 1e-7
        while True:
            found = torch.clamp(self.x + delta * expand(scale.to(delta)), self.low, self.high)
            outside = l2_norm(double(found) - exact) > radius  # by rounding
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
    return current + expand((double(step) / l2_norm(scaled).clamp(min=TINY)).to(scaled)) * scaled


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
    """The iterate that is kept for each sample: images (N,3,H,W), logits (N,K), margin (N,).

    saturated, blind (N,) bool: of any iterate that was looked at, kept or not; see `Moved`.
    """

    images: Tensor
    logits: Tensor
    margin: Tensor
    saturated: Tensor
    blind: Tensor

    @classmethod
    def of(
        cls,
        images: Tensor,
        logits: Tensor,
        label: Tensor,
        targeted: bool,
        output: Output,
        slope: Slope | None = None,
    ) -> Best:
        """These images with their logits, and what was seen of their slope."""
        no = torch.zeros_like(label, dtype=torch.bool)
        seen = (slope.saturated, slope.blind) if slope else (no, no)
        return cls(images, logits, margin(logits, label, targeted, output), *seen)

    def with_better(self, other: Best, index: Tensor, force: bool = False) -> Best:
        """For each row of `other`, which is sample `index` (ascending), the one of the larger margin.

        force: the other, whatever its margin.
        """
        rows = torch.ones_like(index, dtype=torch.bool) if force else other.margin > self.margin[index]
        saturated = self.saturated.index_copy(0, index, self.saturated[index] | other.saturated)
        blind = self.blind.index_copy(0, index, self.blind[index] | other.blind)
        if len(index) == len(self.margin) and bool(rows.all()):
            return Best(other.images, other.logits, other.margin, saturated, blind)
        where = index[rows]
        return Best(
            self.images.index_copy(0, where, other.images[rows]),
            self.logits.index_copy(0, where, other.logits[rows]),
            self.margin.index_copy(0, where, other.margin[rows]),
            saturated,
            blind,
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
        slope = Slope.at(module, current, label, how.targeted, how.loss)
        gradient = slope.gradient
        found = Best.of(current, slope.logits, label, how.targeted, module.output, slope)
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
        found = Best.of(current, module(current), label, how.targeted, module.output)
    return best.with_better(found, active, force=how.keep == "last")
