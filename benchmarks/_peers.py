"""Networks as a peer's user has them: parameters that want gradients, contiguous memory, normalised input."""

from __future__ import annotations

import contextlib
import copy
import io
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

from xai.models.classifier import Classifier, InputModel


def as_peers_have_it(classifier: Classifier, x: Tensor) -> tuple[nn.Module, Tensor]:
    """A copy of the bare network, and x normalised for it."""
    module = classifier.module
    net = copy.deepcopy(module.net).requires_grad_(True).to(memory_format=torch.contiguous_format)
    return net, ((x - module.mean) / module.std).contiguous()


def floor_of(module: InputModel, sizes: list[int], x: Tensor) -> Callable[[], None]:
    """Bare forward passes over batches of these sizes, without a graph, made of x's first images."""
    batches = [x[:1].repeat(size, 1, 1, 1) for size in sizes]

    def work() -> None:
        with torch.no_grad():
            for batch in batches:
                module(batch)

    return work


def quietly(work: Callable[[], object]) -> Callable[[], object]:
    """`work` without its warnings and progress bars."""

    def run() -> object:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            return work()

    return run
