"""An average of the generator over its training, with what an average of parameters alone gets wrong put right."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import TypeVar

import torch
from torch import Tensor, nn

from xai.gan.layers import spectral_norms

N = TypeVar("N", bound=nn.Module)


def averaged(net: N) -> N:
    """A copy of `net` to keep the average in: frozen, in eval mode."""
    return copy.deepcopy(net).requires_grad_(False).eval()


def decay_at(step: int, decay: float) -> float:
    """The decay at a step: (1 + step) / (10 + step) until `decay` is reached, so that the start is soon forgotten."""
    return min(decay, (1 + step) / (10 + step))


@torch.no_grad()
def update(average: nn.Module, net: nn.Module, decay: float) -> None:
    """Parameters: average = decay * average + (1 - decay) * net. Buffers are copied.

    Buffers are batch norm's statistics, which a copy that only averages parameters would leave at 0 and 1, and spectral
    norm's u and v, whose average would be no singular vectors of anything.
    """
    kept: list[Tensor] = list(average.parameters())
    torch._foreach_lerp_(kept, [parameter.detach() for parameter in net.parameters()], 1 - decay)
    for mine, theirs in zip(average.buffers(), net.buffers(), strict=True):
        mine.copy_(theirs)


@torch.no_grad()
def settled(average: N, batches: Iterable[tuple[Tensor, Tensor]]) -> N:
    """A copy of the average that is ready for sampling: u, v and batch norm's statistics are those of its own weights.

    The statistics copied from the trained network belong to other weights than the averaged ones; they are measured
    anew over `batches` of (z, y), each batch counting the same. The average itself is left as it was.
    """
    ready = copy.deepcopy(average)
    for spectral_norm, weight in spectral_norms(ready):
        spectral_norm.settle(weight)
    norms = [module for module in ready.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over the batches
        norm.train()
    for z, y in batches:
        ready(z, y)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return ready.eval()
