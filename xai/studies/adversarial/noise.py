"""The control beside an attack: random noise of the norm that the attack measured."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from xai.types import AttackResult, Run, pixel_digest

SLACK = 1e-3
"""Share of the attack's norm that the noise may lack by rounding; where it lacks more, that is said."""


def noise_of_equal_norm(x: Tensor, result: AttackResult, norm: str, run: Run) -> Tensor:
    """The control: x (N,3,H,W) plus random noise of the norm that the attack measured, in the box [0, 1].

    linf: every pixel moves by that norm, up or down at random (the other way where the box is in the way). l2: a
    Gaussian direction of that length, or as near to it as the box lets it come: see `shortfall`. The direction depends
    on the seed and the image's pixels alone: it is one for all epsilons of an image, and another for every other image.
    """
    noisy = []
    for index, image in enumerate(result.clean):
        generator = run.generator("noise control", pixel_digest(image))
        if norm == "linf":
            size = result.linf[index]
            sign = torch.randint(0, 2, image.shape, generator=generator).float() * 2 - 1
            moved = image + size * sign
            blocked = (moved < 0) | (moved > 1)
            noisy.append(torch.where(blocked, image - size * sign, moved).clamp(0, 1))
        else:
            noisy.append(_of_length(image, torch.randn(image.shape, generator=generator), float(result.l2[index])))
    return torch.stack(noisy).to(x.dtype)


def noise_norm(clean: Tensor, noisy: Tensor, norm: str) -> Tensor:
    """(E,N): the norm of noisy (E,N,3,H,W) - clean (N,3,H,W)."""
    order = math.inf if norm == "linf" else 2.0
    added = [(each - clean).double().flatten(1) for each in noisy]
    return torch.stack([torch.linalg.vector_norm(each, order, 1) for each in added]).float()


def shortfall(attack: Tensor, noise: Tensor, norm: str) -> str:
    """One sentence with both norms (E,N) where the noise's falls short by more than rounding, else ""."""
    short = noise < (1 - SLACK) * attack
    if not bool(short.any()):
        return ""
    epsilons, images = short.shape
    over = f" and on {int(short.any(0).sum())} of {images} images" if images > 1 else ""
    worst = torch.where(short, noise / attack, torch.inf).argmin()
    return (
        f"The noise is weaker than the attack at {int(short.any(1).sum())} of {epsilons} epsilons{over}: in the worst "
        f"case the box [0, 1] lets it reach an {'L-infinity' if norm == 'linf' else 'L2'} norm of "
        f"{float(noise.flatten()[worst]):.4g}, where the attack has {float(attack.flatten()[worst]):.4g}."
    )


def _of_length(image: Tensor, direction: Tensor, length: float) -> Tensor:
    """image + s * direction, clamped to [0, 1], with s such that the clamped change has `length`."""

    def reached(scale: float) -> float:
        return float(((image + scale * direction).clamp(0, 1) - image).norm())

    low, high = 0.0, length / float(direction.norm())
    while high < 1e6 and reached(high) < length:  # the box is in the way; at 1e6 every pixel is at its end
        high *= 2
    for _ in range(40):  # bisection: the clamped length grows with s
        middle = (low + high) / 2
        if reached(middle) < length:
            low = middle
        else:
            high = middle
    return (image + low * direction).clamp(0, 1)
