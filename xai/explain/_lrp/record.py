"""Recording a forward for LRP: which torch function is which operation.

A `torch.overrides.TorchFunctionMode` meets every torch function of this thread's forward, module or functional, and
notes those whose inputs depend on the pixels. Nothing on the network is touched or replaced, no hook is set, and the
values are the network's own. An in-place operation gets a new storage for its result, so that what was noted stays.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from xai.explain._lrp.ops import (
    NEEDS_OUTPUT,
    BatchNorm,
    Linear,
    NoRuleError,
    Op,
    Pass,
    Route,
    Rules,
    Share,
    Shift,
    Tape,
    Unknown,
    Value,
)
from xai.explain._lrp.rules import Conv, Dense
from xai.explain._lrp.weights import Norm
from xai.models.census import TITLES, is_inplace, kind_of

Function = Callable[..., Any]

_ACTIVATIONS = {"relu", "relu6", "leaky_relu", "prelu", "elu", "selu", "celu", "hardswish", "silu", "tanh"}
_NOT_NEGATIVE = {"relu", "relu6"}
_GATES = {"sigmoid", "hardsigmoid"}
_ROUTES = {
    *("max_pool2d", "adaptive_max_pool2d", "cat", "concat", "concatenate", "stack", "pad", "dropout", "dropout2d"),
    *("flatten", "reshape", "view", "unflatten", "unsqueeze", "squeeze", "permute", "transpose", "movedim", "expand"),
    *("contiguous", "clone", "to", "float", "double", "__getitem__", "narrow", "select", "chunk", "split", "unbind"),
    *("flip", "roll", "repeat", "pixel_shuffle", "channel_shuffle"),
}
_SHARES = {"avg_pool2d": "pool", "adaptive_avg_pool2d": "pool", "mean": "pool", "sum": "pool", "interpolate": "resize"}
_JOINS = {"cat", "concat", "concatenate", "stack"}
_CONSTANT = {"zeros_like", "ones_like", "full_like", "empty_like", "new_zeros", "new_ones", "new_full", "new_empty"}
_WRITES = {"__setitem__", "__set__"}
_IN_PLACE = {f"__i{name}__" for name in ("add", "sub", "mul", "truediv", "pow", "mod", "floordiv", "matmul")}
_SAME = {
    "truediv": "div",
    "true_divide": "div",
    "subtract": "sub",
    "multiply": "mul",
    "negative": "neg",
    "divide": "div",
}
_NAMES = {
    **TITLES,
    "layer_norm": "LayerNorm",
    "group_norm": "GroupNorm",
    "instance_norm": "InstanceNorm",
    "batch_norm": "batch norm in training mode",
    "matmul": "products of activations",
    "mul": "products of activations",
    "div": "quotients of activations",
    "rdiv": "quotients of activations",
    "sigmoid": "a sigmoid that is no gate",
    "hardsigmoid": "a hardsigmoid that is no gate",
}


class Recorder(TorchFunctionMode):
    """Within it, this thread's torch functions are noted on `tape`, from `start(x)` on.

    rules: they say what has to be kept for the way back.
    """

    def __init__(self, rules: Rules) -> None:
        super().__init__()
        self.rules = rules
        self._values: dict[int, tuple[weakref.ref[Tensor], Value]] = {}
        self.tape = Tape(Value())

    def start(self, x: Tensor) -> Tensor:
        """x (N,3,H,W) itself, now known as the pixels."""
        self.tape.pixels.bounds = (torch.zeros_like(x), torch.ones_like(x))
        return self._track(x, self.tape.pixels)

    def value(self, tensor: object) -> Value | None:
        """What is known of a tensor; None for what does not depend on the pixels."""
        found = self._values.get(id(tensor))
        return found[1] if found is not None and found[0]() is tensor else None

    def _track(self, tensor: Tensor, value: Value) -> Tensor:
        self._values[id(tensor)] = (weakref.ref(tensor), value)
        return tensor

    def emit(self, op: Op, out: Tensor, **known: Any) -> Tensor:
        """Note `op`, whose result is `out`; what the network gets is another name for the same storage."""
        op.output = Value(op, **known)
        for value in op.inputs:
            value.users.append(op)
        self.tape.ops.append(op)
        return self._track(out.detach(), op.output)

    def __torch_function__(
        self, func: Function, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        call = Call(self, func, tuple(args), dict(kwargs or {}))
        if not call.tracked or call.name in _CONSTANT:
            return func(*args, **call.kwargs)
        if call.name in _WRITES:
            raise NoRuleError("it writes into a part of an activation")
        target = args[0] if is_inplace(func, call.kwargs) or call.name in _IN_PLACE else None
        if target is None:
            return call.record()
        call.out_of_place()
        result = call.record()
        target.data = result
        value = self.value(result)
        return target if value is None else self._track(target, value)


class Call:
    """One call of a torch function some of whose arguments depend on the pixels."""

    def __init__(self, recorder: Recorder, func: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.recorder = recorder
        self.func = func
        self.args = args
        self.kwargs = kwargs
        self.name = getattr(func, "__name__", "")
        self.tracked: list[Tensor] = []
        self.fixed = 0
        for argument in (*args, *kwargs.values()):
            for each in argument if isinstance(argument, list | tuple) else (argument,):
                if recorder.value(each) is not None:
                    self.tracked.append(each)
                elif isinstance(each, Tensor):
                    self.fixed += 1

    @property
    def values(self) -> tuple[Value, ...]:
        """What is known of the arguments that depend on the pixels."""
        found = (self.recorder.value(tensor) for tensor in self.tracked)
        return tuple(value for value in found if value is not None)

    def out_of_place(self) -> None:
        """Make it the form that writes nowhere: `add` for `add_` and `__iadd__`, `inplace=False`."""
        if self.kwargs.get("inplace"):
            self.kwargs["inplace"] = False
            return
        name = self.name[3:-2] if self.name in _IN_PLACE else self.name.rstrip("_")
        name = _SAME.get(name, name)
        plain = getattr(Tensor, name, None) or getattr(F, name, None)
        if plain is None:
            raise NoRuleError(f"its in-place operation {self.name} cannot be followed")
        self.func, self.name = plain, name

    def record(self) -> Any:
        """Run it, and note it."""
        base = self.name.strip("_") if self.name.startswith("__") and self.name != "__getitem__" else self.name
        base = base[1:] if base in ("radd", "rmul") else base
        name = _SAME.get(base, base)
        kind = kind_of(self.func, self.args, self.kwargs) or name
        if name in _HANDLERS:
            return _HANDLERS[name](self, *self.args, **self.kwargs)
        if kind in _ACTIVATIONS or kind in _GATES:
            return self.activation(kind)
        if name in _ROUTES and not self.kwargs.get("training"):
            return self.route(name)
        if name in _SHARES:
            return self.share(_SHARES[name])
        return self.unknown(kind)

    def run(self, replace: Mapping[int, Tensor]) -> Any:
        """The function with some tensors, by id, replaced."""

        def put(argument: Any) -> Any:
            if isinstance(argument, list | tuple):
                return type(argument)(put(each) for each in argument)
            return replace.get(id(argument), argument)

        return self.func(*map(put, self.args), **{key: put(value) for key, value in self.kwargs.items()})

    def bounds(self) -> tuple[Tensor, Tensor] | None:
        """What the pixel values 0 and 1 become, where everything came from pixels by affine maps."""
        ends = [value.bounds for value in self.values]
        pairs = [pair for pair in ends if pair is not None]
        if len(pairs) < len(ends):
            return None
        ids = [id(tensor) for tensor in self.tracked]
        low, high = (self.run(dict(zip(ids, side, strict=True))) for side in zip(*pairs, strict=True))
        return torch.minimum(low, high), torch.maximum(low, high)

    def piece(self) -> tuple[Any, tuple[Tensor, ...]]:
        """The result as a piece of graph over its tracked inputs alone, and those."""
        leaves = {id(tensor): tensor.detach().requires_grad_() for tensor in self.tracked}
        with torch.enable_grad():
            return self.run(leaves), tuple(leaves[id(tensor)] for tensor in self.tracked)

    def activation(self, kind: str) -> Any:
        """f(0) = 0: relevance passes. A sigmoid can only be a gate."""
        out = self.func(*self.args, **self.kwargs)
        values = self.values
        if kind in _GATES or len(values) > 1:
            return self.recorder.emit(Unknown(values, _NAMES[kind]), out, gate=kind in _GATES)
        return self.recorder.emit(Pass(values, kind), out, signed=kind not in _NOT_NEGATIVE)

    def route(self, name: str) -> Any:
        """Values move, and keep their relevance."""
        out, leaves = self.piece()
        values = self.values
        known = {"signed": any(value.signed for value in values), "gate": all(value.gate for value in values)}
        if isinstance(out, tuple | list):
            parts = (self.recorder.emit(Route(values, name, leaves, part), part, **known) for part in out)
            return type(out)(parts)
        padded = name == "pad" and bool(self.kwargs.get("value")) and self.kwargs.get("mode", "constant") == "constant"
        op = Route(values, "cat" if name in _JOINS else name, leaves, out, bool(self.fixed) or padded)
        if padded:
            known["signed"] = True
        return self.recorder.emit(op, out, bounds=self.bounds(), **known)

    def share(self, kind: str) -> Any:
        """Sums and averages."""
        out, leaves = self.piece()
        values = self.values
        signed = any(value.signed for value in values) or self.name in ("sub", "rsub")
        return self.recorder.emit(Share(values, kind, leaves, out), out, signed=signed, bounds=self.bounds())

    def unknown(self, kind: str) -> Any:
        """No rule; the tensors in the result are still followed, for a gate may be made of them."""
        if is_inplace(self.func, self.kwargs):
            raise NoRuleError(f"its in-place operation {self.name} cannot be followed")
        out = self.func(*self.args, **self.kwargs)
        title = _NAMES.get(kind, kind)
        if isinstance(out, Tensor):
            return self.recorder.emit(Unknown(self.values, title), out)
        if isinstance(out, tuple | list) and any(isinstance(each, Tensor) for each in out):
            parts = (
                self.recorder.emit(Unknown(self.values, title), each) if isinstance(each, Tensor) else each
                for each in out
            )
            return type(out)(parts)
        return out


def _pair(number: Any) -> tuple[int, int]:
    first, second = number if isinstance(number, list | tuple) else (number, number)
    return int(first), int(second)


def _conv2d(
    call: Call,
    input: Tensor,  # noqa: A002 (the name torch uses)
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Any:
    recorder = call.recorder
    source = recorder.value(input)
    if source is None or len(call.tracked) > 1 or input.dim() != 4:
        return call.unknown("convolution with weights that depend on the image")
    if isinstance(padding, str):
        spans = [d * (k - 1) * (padding == "same") for d, k in zip(_pair(dilation), weight.shape[2:], strict=True)]
        padding = tuple(span // 2 for span in spans)
        if any(span % 2 for span in spans):
            edges = [edge for span in reversed(spans) for edge in (0, span % 2)]
            with recorder:
                input = F.pad(input, edges)  # noqa: A001
            source = recorder.value(input)
            assert source is not None
    geometry = Conv(_pair(stride), _pair(padding), _pair(dilation), groups)
    out = call.func(input, weight, bias, geometry.stride, geometry.padding, geometry.dilation, groups)
    return _linear_op(recorder, source, geometry, input, weight, bias, out)


def _linear(call: Call, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Any:  # noqa: A002
    source = call.recorder.value(input)
    if source is None or len(call.tracked) > 1:
        return call.unknown("matmul")
    return _linear_op(call.recorder, source, Dense(), input, weight, bias, call.func(input, weight, bias))


def _linear_op(
    recorder: Recorder,
    source: Value,
    geometry: Conv | Dense,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    out: Tensor,
) -> Tensor:
    rule = recorder.rules.rule_for(geometry, source.bounds is not None)
    z = out if rule in NEEDS_OUTPUT else None
    return recorder.emit(Linear((source,), geometry, rule, x.detach(), weight, bias, z), out)


def _batch_norm(
    call: Call,
    input: Tensor,  # noqa: A002
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    del input, momentum
    if training or running_mean is None or running_var is None:
        return call.unknown("batch_norm")
    out = call.func(*call.args, **call.kwargs)
    bounds = call.bounds()
    if bounds is not None:  # in front of the first layer it is a normalisation of the pixels
        return call.recorder.emit(Pass(call.values, "scale"), out, bounds=bounds)
    op = BatchNorm(call.values, Norm(running_mean, running_var, weight, bias, eps), None)
    op.keep(out)
    return call.recorder.emit(op, out)


def _add(call: Call, *args: Any, **kwargs: Any) -> Any:
    del args, kwargs
    if len(call.tracked) == 2:
        return call.share("sum")
    out = call.func(*call.args, **call.kwargs)
    bounds = call.bounds()
    if bounds is not None:
        return call.recorder.emit(Pass(call.values, "scale"), out, bounds=bounds)
    (x,) = call.tracked
    if out.shape != x.shape:
        return call.recorder.emit(Unknown(call.values, "constants that are larger than the activation"), out)
    constant = call.run({id(x): torch.zeros_like(x)})
    return call.recorder.emit(Shift(call.values, out, constant), out)


def _multiply(call: Call, first: Any, second: Any = None, **kwargs: Any) -> Any:
    del first, kwargs
    kept = [value for value in call.values if not value.gate]
    if call.name.endswith("div") and call.recorder.value(second) is not None:
        return call.unknown("div")
    out = call.func(*call.args, **call.kwargs)
    if len(call.tracked) == 1 and out.shape == call.tracked[0].shape:
        return call.recorder.emit(Pass(call.values, "scale"), out, bounds=call.bounds())
    shapes = [tensor.shape for tensor, value in zip(call.tracked, call.values, strict=True) if not value.gate]
    if len(kept) == 1 and len(call.tracked) == 2 and shapes == [out.shape]:
        held = tuple(value for value in call.values if value.gate)
        return call.recorder.emit(Pass((kept[0],), "gate", held), out, signed=kept[0].signed)
    return call.recorder.emit(Unknown(call.values, _NAMES["mul"]), out)


_HANDLERS: dict[str, Callable[..., Any]] = {
    "conv2d": _conv2d,
    "linear": _linear,
    "batch_norm": _batch_norm,
    **dict.fromkeys(("add", "sub", "rsub"), _add),
    **dict.fromkeys(("mul", "div", "neg"), _multiply),
}
