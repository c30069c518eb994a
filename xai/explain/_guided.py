"""Rectifiers with another backward, for guided backprop and the deconvnet, in this thread alone.

A `torch.overrides.TorchFunctionMode` meets every rectifier of a forward, module or functional, in-place or not, and
puts in its place one whose value is the same and whose backward is (y = f(x), g the gradient that arrives at y)

    guided:     R = g 1[g > 0] 1[0 < x]        ReLU6: 1[0 < x < 6]
    deconvnet:  R = g 1[g > 0]                 ReLU6 too: it has no upper gate, as a signal has no upper bound

With `extension` the activations that take a rectifier's place (Hardswish, SiLU, GELU, ...) get the nearest thing, which
no paper defines: guided R = f'(x) g 1[g > 0] 1[x > 0], deconvnet R = g 1[g > 0]. Both equal the above for f = ReLU.
Everything else (pooling, normalisation, skips, gates) keeps its own gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode

from xai.explain._gradient import Scored, joined, one_gradient, targets_of
from xai.models.batching import in_batches
from xai.models.census import GATES, RECTIFIER_LIKE, RECTIFIERS, census, is_inplace, kind_of, listed
from xai.models.classifier import Classifier, InputModel
from xai.types import Coverage, Explained, Run

SIX = 6.0


@dataclass
class Switch:
    """Whether backwards through a guided forward are guided; off gives the plain gradient of the same graph.

    changed: noted by the guided backwards, one tensor of flags an activation: where it hands on anything but the plain
    gradient, (N,) by image, or () for all images where its first dimension is not theirs.
    """

    on: bool = True
    changed: list[Tensor] = field(default_factory=list)

    def note(self, changed: Tensor) -> None:
        """Keep that an activation handed on something else at the places that are True."""
        self.changed.append(changed.flatten(1).any(1) if changed.dim() > 1 else changed)

    def plainly(self, count: int) -> list[str]:
        """For each of `count` images a sentence where no activation changed anything, "" elsewhere."""
        found = torch.zeros(count, dtype=torch.bool)
        for each in self.changed:
            found |= each.cpu() if len(each) == count else each.any().cpu()
        return ["" if changed else PLAIN for changed in found.tolist()]


PLAIN = "No activation stopped any signal for this image and this class, so this is the plain gradient."


class GuidedMode(TorchFunctionMode):
    """Within it, this thread's rectifiers get the guided (or, with `deconvnet`, the deconvnet's) backward."""

    def __init__(self, *, deconvnet: bool = False, extension: bool = False, switch: Switch | None = None) -> None:
        super().__init__()
        self._deconvnet = deconvnet
        self._extension = extension
        self._switch = switch or Switch()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        kind = kind_of(func, args, kwargs)
        if kind in RECTIFIERS:
            x = args[0] if args else kwargs["input"]
            limit = SIX if kind == "relu6" else None
            if self._deconvnet:
                return _DeconvnetRectifier.apply(x, limit, is_inplace(func, kwargs), self._switch)
            return _GuidedRectifier.apply(x, limit, is_inplace(func, kwargs), self._switch)
        if self._extension and kind in RECTIFIER_LIKE:
            return self._extended(func, args, kwargs)
        return func(*args, **kwargs)

    def _extended(self, func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor:
        x = cast(Tensor, args[0] if args else kwargs["input"])
        rest = args[1:]
        options = {key: value for key, value in kwargs.items() if key != "input"}
        inplace = is_inplace(func, kwargs)

        def activate(value: Tensor) -> Tensor:
            # An in-place form gets a copy to rewrite, so that what the rules keep stays as it was.
            result: Tensor = func(value.clone() if inplace else value, *rest, **options)
            return result

        source = x.clone() if inplace else x
        y: Tensor
        if self._deconvnet:
            y = _DeconvnetLike.apply(source, activate, self._switch)
        else:
            y = activate(_PassWherePositive.apply(source, self._switch))
            if y.requires_grad:
                y.register_hook(self._rectify)  # type: ignore[no-untyped-call]
        return x.copy_(y) if inplace else y

    def _rectify(self, gradient: Tensor) -> Tensor:
        if not self._switch.on:
            return gradient
        self._switch.note(gradient < 0)
        return gradient.relu()


def _rectified(x: Tensor, limit: float | None, inplace: bool) -> Tensor:
    if limit is None:
        return x.relu_() if inplace else x.relu()
    return x.clamp_(0, limit) if inplace else x.clamp(0, limit)


class _GuidedRectifier(torch.autograd.Function):
    """Keeps the output alone: x and y have the same gate, so in-place is as good."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, limit: float | None, inplace: bool, switch: Switch) -> Tensor:
        y = _rectified(x, limit, inplace)
        if inplace:
            ctx.mark_dirty(y)
        ctx.save_for_backward(y)
        ctx.limit, ctx.switch = limit, switch
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (y,) = ctx.saved_tensors
        if ctx.limit is None:
            passed = torch.ops.aten.threshold_backward(gradient, y, 0)
        else:
            passed = torch.ops.aten.hardtanh_backward(gradient, y, 0.0, ctx.limit)
        if not ctx.switch.on:
            return passed, None, None, None
        ctx.switch.note(passed < 0)
        return passed.relu_(), None, None, None


class _DeconvnetRectifier(torch.autograd.Function):
    """Rectifies the signal that comes back, whatever the forward was; keeps its output to compare with the gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, limit: float | None, inplace: bool, switch: Switch) -> Tensor:
        y = _rectified(x, limit, inplace)
        if inplace:
            ctx.mark_dirty(y)
        ctx.save_for_backward(y)
        ctx.limit, ctx.switch = limit, switch
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (y,) = ctx.saved_tensors
        open_ = y > 0 if ctx.limit is None else (y > 0) & (y < ctx.limit)
        ctx.switch.note(torch.where(open_, gradient < 0, gradient > 0))
        return gradient.relu(), None, None, None


class _DeconvnetLike(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, call: Callable[[Tensor], Tensor], switch: Switch) -> Tensor:
        ctx.switch = switch
        return call(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        ctx.switch.note(gradient != 0)  # an activation of this kind has a slope of 1 almost nowhere
        return gradient.relu(), None, None


class _PassWherePositive(torch.autograd.Function):
    """x -> x; R = g 1[x > 0]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, switch: Switch) -> Tensor:
        ctx.save_for_backward(x)
        ctx.switch = switch
        return x.view_as(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        if not ctx.switch.on:
            return gradient, None
        ctx.switch.note((x <= 0) & (gradient != 0))
        return torch.ops.aten.threshold_backward(gradient, x, 0), None


def guided_gradient(
    module: InputModel,
    x: Tensor,
    target: Tensor | None,
    run: Run,
    note: str,
    *,
    deconvnet: bool = False,
    extension: bool = False,
) -> Explained:
    """The gradient of the class score to the pixels (N,3,H,W) through a guided forward.

    facts: "note", for each image a sentence where it equals the plain gradient, "" elsewhere.
    """
    chosen_for = targets_of(target, len(x))

    def work(start: int, stop: int) -> tuple[Scored, list[str]]:
        switch = Switch()
        mode = GuidedMode(deconvnet=deconvnet, extension=extension, switch=switch)
        found = one_gradient(module, x[start:stop], chosen_for(start, stop), mode)
        return found, switch.plainly(stop - start)

    parts = [found for _, _, found in in_batches(work, len(x), run, note)]
    gradient, logits, chosen = joined([found for found, _ in parts])
    return Explained(gradient, logits, chosen, {"note": [each for _, notes in parts for each in notes]})


def guided_coverage(classifier: Classifier, explainer: Any) -> Coverage:
    """How many of the activations between the pixels and the score get another backward; refused where none does.

    `explainer.extension` says whether the activations that are no rectifiers take part.
    """
    whole = census(classifier)
    found = whole.passing
    like, gates = found.of(RECTIFIER_LIKE), found.of(GATES)
    activations = (*RECTIFIERS, *RECTIFIER_LIKE)
    beside = {kind: whole.aside[kind] for kind in activations if kind in whole.aside}
    still = {kind: whole.still[kind] for kind in activations if kind in whole.still}
    done = found.activations if explainer.extension else found.count(*RECTIFIERS)
    limits = []
    if not done:
        where = " that a gradient gets through" if still else " between the pixels and the score" if beside else ""
        limits.append(f"there is no ReLU{where}, only {listed(like)}" if like else f"there is no ReLU{where}")
        if like:
            limits.append("extension=True guides the others too, which goes beyond the paper")
    elif like and explainer.extension:
        limits.append(f"for {listed(like)} an extension of the rule, which is defined for ReLU")
    elif like:
        limits.append(f"{listed(like)} {'is' if len(like) == 1 else 'are'} passed plainly")
    if gates and done:
        limits.append(f"{listed(gates)} keep{'s' if len(gates) == 1 else ''} the plain gradient")
    if beside:
        limits.append(f"not counted: {listed(beside)} in a branch that does not join the pixels to the score")
    if still:
        limits.append(f"not counted: {listed(still)} where {whole.no_slope} lets no gradient through")
    status = "refused" if not done else "limited" if like else "full"
    return Coverage(status, "activations guided", done, found.activations, tuple(limits))
