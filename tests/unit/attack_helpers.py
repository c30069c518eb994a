"""What the tests of attacks share."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.conftest import make_tiny
from xai.models.classifier import Classifier


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
