"""The losses: hinge with soft margins, reconstruction, and the class."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from xai.gan.features import Lite0Maps

MARGIN = 0.8
"""The hinge's margin is drawn between this and 1, one draw a logit."""


def hinge_real(logits: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """mean relu(m - D(x)), m = U(.8, 1); m = 1 without a generator."""
    return F.relu(_margin(logits, generator) - logits).mean()


def hinge_fake(logits: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """mean relu(m + D(G(z))), m as in `hinge_real`."""
    return F.relu(_margin(logits, generator) + logits).mean()


def generator_loss(logits: Tensor) -> Tensor:
    """-mean D(G(z))."""
    return -logits.mean()


def _margin(logits: Tensor, generator: torch.Generator | None) -> Tensor:
    if generator is None:
        return torch.ones_like(logits)
    return (MARGIN + (1 - MARGIN) * torch.rand(logits.shape, generator=generator)).to(logits)


def reconstruction(parts: Sequence[tuple[Tensor, Tensor]], perceptual: Lite0Maps | None) -> Tensor:
    """Sum over (reconstruction, original) pairs, each a mean over images and pixels, of |a - b| and, with features, of
    the squared distance of unit feature vectors, averaged over places and stages.

    The features are EfficientNet-Lite0's; the paper has VGG16's (LPIPS), which are not to be had offline.
    """
    total = torch.zeros((), device=parts[0][0].device)
    for made, wanted in parts:
        total = total + F.l1_loss(made, wanted)
        if perceptual is not None:
            with torch.no_grad():
                targets = perceptual(wanted)
            for a, b in zip(perceptual(made), targets, strict=True):
                distance = (F.normalize(a, dim=1) - F.normalize(b, dim=1)).square().sum(1).mean()
                total = total + distance / len(targets)
    return total


def class_loss(classes: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy of the auxiliary classifier."""
    return F.cross_entropy(classes.float(), y)
