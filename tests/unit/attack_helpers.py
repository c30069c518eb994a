"""What the tests of attacks share."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.conftest import make_tiny
from xai.models.classifier import Classifier, InputModel

EPS = 8 / 255


def short_of_memory(most: int) -> Classifier:
    """The tiny classifier on a device that holds `most` images at a time."""
    classifier = make_tiny()
    forward = classifier.module.net.forward

    def limited(x: Tensor) -> Tensor:
        if len(x) > most:
            raise torch.OutOfMemoryError("too many")
        return forward(x)

    classifier.module.net.forward = limited  # type: ignore[method-assign]
    return classifier


class Linear(nn.Module):
    """Two logits of a 3 x 2 x 2 image: w_0 . x and w_1 . x, times a gain."""

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__()
        weight = torch.randn(2, 12, generator=torch.Generator().manual_seed(3)) * gain
        self.weight = nn.Parameter(weight)

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.weight.T


def linear(gain: float = 1.0) -> Classifier:
    module = InputModel(Linear(gain), (0.0,) * 3, (1.0,) * 3).eval().requires_grad_(False)
    return Classifier("linear", "Linear", module, ("a", "b"), (2, 2), "", "0", torch.device("cpu"), "random:0")


def images(count: int = 4, size: int = 64) -> Tensor:
    levels = torch.randint(0, 256, (count, 3, size, size), generator=torch.Generator().manual_seed(1))
    return levels.float() / 255


def certain(gain: float = 1e4) -> Classifier:
    """The tiny network, so sure of everything that its softmax is exactly 1."""
    classifier = make_tiny()
    forward = classifier.module.net.forward
    classifier.module.net.forward = lambda x: gain * forward(x)  # type: ignore[method-assign]
    return classifier
