"""What the gradient methods share: gradients of the class score to the pixels, in batches that fit the memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from xai.errors import NotApplicableError
from xai.models.batching import in_batches
from xai.models.classifier import Classifier, InputModel
from xai.types import Run, one_each, resolve_target

Scored = tuple[Tensor, Tensor, Tensor]
"""(gradient (N,3,H,W), logits (N,K), target (N,))."""


def three_passes(classifier: Classifier, explainer: Any) -> int:
    """One forward (1) and one backward (2)."""
    del classifier, explainer
    return 3


def class_score(logits: Tensor, target: Tensor | None) -> tuple[Tensor, Tensor]:
    """(sum over images of y_c, target (N,)): summed, because no image's logits depend on another image."""
    chosen = resolve_target(logits, target)
    return logits.gather(1, chosen[:, None]).sum(), chosen


def targets_of(target: Tensor | None, count: int) -> Callable[[int, int], Tensor | None]:
    """Slices of the targets by image; raises `InputError` where their number is not `count`."""
    if target is None:
        return lambda start, stop: None
    each = one_each(target, count)
    return lambda start, stop: each[start:stop]


def input_gradient(module: InputModel, x: Tensor, target: Tensor | None, run: Run, note: str) -> Scored:
    """dy_c/dx, one forward and one backward an image."""
    chosen_for = targets_of(target, len(x))

    def work(start: int, stop: int) -> Scored:
        return one_gradient(module, x[start:stop], chosen_for(start, stop))

    gradient, logits, chosen = joined([found for _, _, found in in_batches(work, len(x), run, note)])
    return gradient, logits, chosen


def slope(score: Tensor, source: Tensor, keep: bool = False) -> Tensor | None:
    """dscore/dsource, None where no differentiable way leads there; `keep` leaves the graph for another one."""
    if not score.requires_grad:
        return None
    return torch.autograd.grad(score, source, retain_graph=keep, allow_unused=True)[0]


def one_gradient(
    module: InputModel, x: Tensor, target: Tensor | None, mode: AbstractContextManager[object] | None = None
) -> Scored:
    """dy_c/dx of one batch, whose forward runs within `mode`."""
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        with mode or nullcontext():
            logits = module(x)
        score, chosen = class_score(logits, target)
    return pixel_slope(score, x), logits.detach(), chosen


def pixel_slope(score: Tensor, x: Tensor) -> Tensor:
    """dscore/dx for pixels x; raises `NotApplicableError` where the score does not depend on them."""
    found = slope(score, x)
    if found is None:
        raise NotApplicableError(
            "this network's score does not depend on the pixels by any differentiable way, so there is no gradient; "
            "choose a method without gradients, such as rise or occlusion."
        )
    return found


def joined(parts: Sequence[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """Batches of tuples to one tuple of whole tensors; a single batch is not copied."""
    return parts[0] if len(parts) == 1 else tuple(torch.cat(column) for column in zip(*parts, strict=True))


def logits_of(module: InputModel, images: Tensor, run: Run, note: str) -> Tensor:
    """Logits (M,K) of images (M,3,H,W), without a graph."""

    def work(start: int, stop: int) -> Tensor:
        with torch.no_grad():
            logits: Tensor = module(images[start:stop])
        return logits

    return torch.cat([part for _, _, part in in_batches(work, len(images), run, note)])


def weighted_gradients(
    module: InputModel,
    points: Callable[[int, slice], Tensor],
    weights: Sequence[float],
    target: Tensor,
    run: Run,
    note: str,
) -> Tensor:
    """sum_k w_k dy_c/dx at `points(k, images)`: (N,3,H,W), steps and images flattened into full batches.

    points(k, images) -> (len(images),3,H,W) for the k-th step of a slice of the N images; target (N,).
    """
    count = len(target)
    total: Tensor | None = None

    def work(start: int, stop: int) -> Tensor:
        parts = segments(start, stop, count)
        part = torch.cat([points(step, images) for step, images in parts]).detach().requires_grad_()
        with torch.enable_grad():
            score, _ = class_score(module(part), torch.cat([target[images] for _, images in parts]))
        return pixel_slope(score, part)

    for start, stop, gradient in in_batches(work, len(weights) * count, run, note):
        if total is None:
            total = gradient.new_zeros((count, *gradient.shape[1:]))
        offset = 0
        for step, images in segments(start, stop, count):  # one after another: the same bytes on every device
            length = images.stop - images.start
            total[images].add_(gradient[offset : offset + length], alpha=weights[step])
            offset += length
    assert total is not None  # weights and target are never empty
    return total


def segments(start: int, stop: int, count: int) -> list[tuple[int, slice]]:
    """The (step, images) that places start..stop of the step-major order (step 0 of all images first) stand for."""
    found = []
    while start < stop:
        step, first = divmod(start, count)
        last = min(count, first + stop - start)
        found.append((step, slice(first, last)))
        start += last - first
    return found


def part_of(run: Run, done: int, total: int) -> Run:
    """A run whose reports count on from `done` towards `total`, for work in several parts."""
    return dataclasses.replace(run, on_progress=lambda d, _t, note: run.on_progress(done + d, total, note))
