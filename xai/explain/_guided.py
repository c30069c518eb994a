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
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode

from xai.models.census import GATES, RECTIFIER_LIKE, RECTIFIERS, TITLES, census, is_inplace, kind_of
from xai.models.classifier import Classifier
from xai.types import Coverage

SIX = 6.0


@dataclass
class Switch:
    """Whether backwards through a guided forward are guided; off gives the plain gradient of the same graph."""

    on: bool = True


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
                return _DeconvnetRectifier.apply(x, limit, is_inplace(func, kwargs))
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
            y = _DeconvnetLike.apply(source, activate)
        else:
            y = activate(_PassWherePositive.apply(source, self._switch))
            if y.requires_grad:
                switch = self._switch
                y.register_hook(lambda gradient: gradient.relu() if switch.on else gradient)  # type: ignore[no-untyped-call]
        return x.copy_(y) if inplace else y


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
        return (passed.relu_() if ctx.switch.on else passed), None, None, None


class _DeconvnetRectifier(torch.autograd.Function):
    """Rectifies the signal that comes back, and keeps nothing of the forward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, limit: float | None, inplace: bool) -> Tensor:
        y = _rectified(x, limit, inplace)
        if inplace:
            ctx.mark_dirty(y)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return gradient.relu(), None, None


class _DeconvnetLike(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, call: Callable[[Tensor], Tensor]) -> Tensor:
        return call(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return gradient.relu(), None


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
        return (torch.ops.aten.threshold_backward(gradient, x, 0) if ctx.switch.on else gradient), None


def guided_coverage(classifier: Classifier, explainer: Any) -> Coverage:
    """How many activations get another backward; refused where none does.

    `explainer.extension` says whether the activations that are no rectifiers take part.
    """
    found = census(classifier)
    like, gates = found.of(RECTIFIER_LIKE), found.of(GATES)
    done = found.activations if explainer.extension else found.count(*RECTIFIERS)
    limits = []
    if not done:
        limits.append(f"there is no ReLU, only {_listed(like)}" if like else "there is no ReLU")
        if like:
            limits.append("extension=True guides the others too, which goes beyond the paper")
    elif like and explainer.extension:
        limits.append(f"for {_listed(like)} an extension of the rule, which is defined for ReLU")
    elif like:
        limits.append(f"{_listed(like)} {'is' if len(like) == 1 else 'are'} passed plainly")
    if gates and done:
        limits.append(f"{_listed(gates)} keep{'s' if len(gates) == 1 else ''} the plain gradient")
    status = "refused" if not done else "limited" if like else "full"
    return Coverage(status, "activations guided", done, found.activations, tuple(limits))


def _listed(counts: Mapping[str, int]) -> str:
    names = [f"{TITLES[kind]} ({number})" for kind, number in counts.items()]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
