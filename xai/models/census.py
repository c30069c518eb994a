"""What a network is made of, counted while it runs: every nonlinearity, module or functional, and what joins them.

A forward under a `torch.overrides.TorchFunctionMode` meets `nn.ReLU`, `F.relu`, `torch.relu_` and `Tensor.relu` alike.
The mode is thread-local and is off inside its own handler, so an outer function (nn.ReLU6 -> F.hardtanh -> ATen) counts
once. `kind_of` is the one place that says which function is which nonlinearity; the guided methods use it too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from xai.models.classifier import Classifier

TITLES: Mapping[str, str] = MappingProxyType(
    {
        "relu": "ReLU",
        "relu6": "ReLU6",
        "hardswish": "Hardswish",
        "silu": "SiLU",
        "gelu": "GELU",
        "mish": "Mish",
        "elu": "ELU",
        "selu": "SELU",
        "celu": "CELU",
        "leaky_relu": "LeakyReLU",
        "rrelu": "RReLU",
        "prelu": "PReLU",
        "softplus": "Softplus",
        "sigmoid": "Sigmoid",
        "hardsigmoid": "Hardsigmoid",
        "tanh": "Tanh",
        "hardtanh": "Hardtanh",
        "clamp": "Clamp",
        "glu": "GLU",
        "softmax": "Softmax",
        "attention": "Attention",
    }
)
"""How a kind of nonlinearity is written in sentences."""

RECTIFIERS = ("relu", "relu6")
"""Zero below zero: what guided backprop and the deconvnet are defined for."""

RECTIFIER_LIKE = (
    "hardswish", "silu", "gelu", "mish", "elu", "selu", "celu", "leaky_relu", "rrelu", "prelu", "softplus"
)  # fmt: skip
"""Activations that take a rectifier's place: near the identity far above zero, small or damped below."""

GATES = ("sigmoid", "hardsigmoid", "tanh", "hardtanh", "clamp", "glu", "softmax", "attention")
"""Bounded functions and weightings: they scale or squash, and no rule for a rectifier speaks about them."""

_SAME = {
    "max_pool1d_with_indices": "max_pool1d",
    "max_pool2d_with_indices": "max_pool2d",
    "max_pool3d_with_indices": "max_pool3d",
    "adaptive_max_pool2d_with_indices": "adaptive_max_pool2d",
    "log_softmax": "softmax",
    "scaled_dot_product_attention": "attention",
    "multi_head_attention_forward": "attention",
    "concat": "cat",
    "concatenate": "cat",
    "addmm": "linear",
    "clamp_min": "clamp",
    "clip": "clamp",
    "bmm": "matmul",
    "mm": "matmul",
    "multiply": "mul",
}
_COUNTED = {
    *TITLES,
    *("max_pool1d", "max_pool2d", "max_pool3d", "adaptive_max_pool2d"),
    *("avg_pool2d", "adaptive_avg_pool2d", "mean"),
    *("conv1d", "conv2d", "conv3d", "conv_transpose2d", "linear", "matmul"),
    *("batch_norm", "layer_norm", "group_norm", "instance_norm"),
    *("add", "mul", "cat"),
}


@dataclass(frozen=True)
class Census:
    """Calls of one forward pass by kind, in order of first call.

    add and mul count tensor with tensor only. Attention that a network writes out itself (Swin) shows as matmul and
    softmax; fused attention as "attention", whose inside is not counted again.
    """

    counts: Mapping[str, int]

    def count(self, *kinds: str) -> int:
        """Calls of these kinds together."""
        return sum(self.counts.get(kind, 0) for kind in kinds)

    def of(self, kinds: Sequence[str]) -> Mapping[str, int]:
        """The counts above zero among `kinds`."""
        return {kind: self.counts[kind] for kind in kinds if kind in self.counts}

    @property
    def activations(self) -> int:
        """Rectifiers and what takes their place; gates are not among them."""
        return self.count(*RECTIFIERS, *RECTIFIER_LIKE)


def census(classifier: Classifier) -> Census:
    """Count one forward pass on a grey image; kept with the classifier, so the pass is paid once."""
    if "census" not in classifier._memo:
        counter = _Counter()
        with classifier.lease() as module, torch.no_grad():
            x = torch.full((1, 3, *classifier.input_size), 0.5, device=classifier.device, dtype=module.mean.dtype)
            with counter:
                module(x)
        classifier._memo["census"] = Census(MappingProxyType(dict(counter.counts)))
    found: Census = classifier._memo["census"]
    return found


class _Counter(TorchFunctionMode):
    """Counts the calls of this thread by kind."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        kind = kind_of(func, args, kwargs)
        if kind is not None:
            self.counts[kind] += 1
        return func(*args, **kwargs)


def kind_of(func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> str | None:
    """The kind of a torch function call as a handler of `__torch_function__` sees it, None for what is not counted.

    By the function's name, without the underscores of in-place and private forms: `torch.relu_`, `Tensor.relu`,
    `F.relu` are "relu". Clamping to [0, inf) is "relu", to [0, 6] "relu6", however it is written.
    """
    name = getattr(func, "__name__", "").strip("_")
    kind = _SAME.get(name, name)
    if kind in ("hardtanh", "clamp", "threshold"):
        return _clamp_kind(kind, name, args, kwargs)
    if kind in ("add", "mul") and not all(isinstance(each, Tensor) for each in args[:2]):
        return None
    return kind if kind in _COUNTED else None


def _clamp_kind(kind: str, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str | None:
    def given(place: int, key: str, default: object = None) -> object:
        return args[place] if len(args) > place else kwargs.get(key, default)

    if kind == "threshold":
        return "relu" if given(1, "threshold") == 0 and given(2, "value") == 0 else None
    if kind == "hardtanh":
        low, high = given(1, "min_val", -1.0), given(2, "max_val", 1.0)
    else:
        low, high = given(1, "min"), None if name == "clamp_min" else given(2, "max")
    if isinstance(low, Tensor) or isinstance(high, Tensor) or low != 0:
        return kind
    return {None: "relu", 6: "relu6"}.get(high, kind)  # type: ignore[call-overload, no-any-return]


def is_inplace(func: Callable[..., Any], kwargs: Mapping[str, Any]) -> bool:
    """True where the call rewrites its first argument: `relu_`, or `inplace=True`."""
    name = getattr(func, "__name__", "")
    return bool(kwargs.get("inplace", False)) or (name.endswith("_") and not name.endswith("__"))
