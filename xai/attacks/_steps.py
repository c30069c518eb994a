"""What gradient attacks share: objectives, norm balls, random starts, and the loop that keeps the best iterate."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from xai.batching import DEFAULT_BATCH
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
    """Euclidean norm over all pixels and channels, (N,)."""
    norms: Tensor = torch.linalg.vector_norm(delta.flatten(1), dim=1)
    return norms


def project(x: Tensor, moved: Tensor, epsilon: Tensor, norm: str) -> Tensor:
    """The nearest point to `moved` in the ball of radius `epsilon` (N,) around x, then in the box [0, 1].

    Clamping to the box moves every pixel towards x, so the ball still holds after it.
    """
    if norm == "linf":
        radius = expand(epsilon)
        return torch.clamp(moved, x - radius, x + radius).clamp_(0, 1)
    delta = moved - x
    scale = (epsilon / l2_norm(delta).clamp(min=TINY)).clamp(max=1)
    return (x + delta * expand(scale)).clamp_(0, 1)


def ascend(current: Tensor, gradient: Tensor, step: Tensor, norm: str) -> Tensor:
    """One step of length `step` (N,) along the steepest direction of the norm: sign, or the unit gradient."""
    if norm == "linf":
        return current + expand(step) * gradient.sign()
    # Scaled to at most 1 before squaring, so that a gradient of 1e-30 has a direction too; a zero one has none.
    largest = expand(gradient.abs().flatten(1).amax(1))
    scaled = gradient / torch.where(largest > 0, largest, 1)
    return current + expand(step / l2_norm(scaled).clamp(min=TINY)) * scaled


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
        """For each row of `other`, which is sample `index`, the one of the larger margin (`force`: the other)."""
        rows = torch.ones_like(index, dtype=torch.bool) if force else other.margin > self.margin[index]
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
    current = start.clone()
    best: Best | None = None
    active = torch.arange(len(x), device=x.device)
    for step in range(how.steps):
        run.report(step, how.steps)
        leaf = current[active].requires_grad_()
        with torch.enable_grad():
            logits = module(leaf)
            (gradient,) = torch.autograd.grad(objective(logits, label[active], how.targeted, how.loss).sum(), leaf)
        found = Best.of(leaf.detach(), logits.detach(), label[active], how.targeted)
        best = found if best is None else best.with_better(found, active)
        if how.stop_when_done:
            going = found.margin <= 0
            active, gradient = active[going], gradient[going]
            if not len(active):
                break
        moved = ascend(current[active], gradient, length[active], how.norm)
        current[active] = project(x[active], moved, epsilon[active], how.norm)
    assert best is not None  # there is at least one step
    if len(active):
        with torch.no_grad():
            found = Best.of(current[active], module(current[active]), label[active], how.targeted)
        best = best.with_better(found, active, force=how.keep == "last")
    return best


def in_chunks(total: int, device: torch.device) -> list[slice]:
    """Slices of at most the device's batch size."""
    size = DEFAULT_BATCH.get(device.type, 16)
    return [slice(start, min(start + size, total)) for start in range(0, total, size)]
