"""The control beside an attack: random noise of the norm that the attack measured."""

from __future__ import annotations

import torch
from torch import Tensor

from xai.types import AttackResult, Run, pixel_digest


def noise_of_equal_norm(x: Tensor, result: AttackResult, norm: str, run: Run) -> Tensor:
    """The control: x (N,3,H,W) plus random noise of the norm that the attack measured, in the box [0, 1].

    linf: every pixel moves by that norm, up or down at random (the other way where the box is in the way). l2: a
    Gaussian direction of that length. The direction depends on the seed and the image's pixels alone: it is one for all
    epsilons of an image, and another for every other image.
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
