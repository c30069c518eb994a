"""What lies between the pixels and the score, counted while a network runs: every nonlinearity and what joins them.

A forward under a `torch.overrides.TorchFunctionMode` meets `nn.ReLU`, `F.relu`, `torch.relu_` and `Tensor.relu` alike.
The mode is thread-local and is off inside its own handler, so an outer function (nn.ReLU6 -> F.hardtanh -> ATen) counts
once. Whether a call lies on the way is read from the autograd graph: its result depends on the pixels, and the logits
depend on its result. `kind_of` is the one place that says which function is which nonlinearity; the guided methods use
it too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import Node
from torch.overrides import TorchFunctionMode

from xai.models.classifier import Classifier
from xai.models.graph import node_of, step_of, way_to

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

POOLS = ("max_pool1d", "max_pool2d", "max_pool3d", "adaptive_max_pool2d")
"""Poolings that pass one value of several on; among equal ones it is the first."""

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
    *POOLS,
    *("avg_pool2d", "adaptive_avg_pool2d", "mean"),
    *("conv1d", "conv2d", "conv3d", "conv_transpose2d", "linear", "matmul"),
    *("batch_norm", "layer_norm", "group_norm", "instance_norm"),
    *("add", "mul", "cat"),
}


@dataclass(frozen=True)
class Census:
    """Calls of one forward pass by kind, in order of first call.

    counts: those between the pixels and the logits. aside: those that ran elsewhere (a side branch whose result is not
    used or that the pixels do not reach, a detached part), which no gradient of the score passes. add and mul count
    tensor with tensor only. Attention that a network writes out itself (Swin) shows as matmul and softmax; fused
    attention as "attention", whose inside is not counted again.

    still: those among `counts` that no gradient gets through on its way to the pixels, because of the `steps` (sign,
    round, ...), functions whose gradient is zero. blocked: such steps lie on every way, so every gradient is zero.
    """

    counts: Mapping[str, int]
    aside: Mapping[str, int] = field(default_factory=dict)
    still: Mapping[str, int] = field(default_factory=dict)
    steps: tuple[str, ...] = ()
    blocked: bool = False

    def count(self, *kinds: str) -> int:
        """Calls of these kinds together."""
        return sum(self.counts.get(kind, 0) for kind in kinds)

    def of(self, kinds: Sequence[str]) -> Mapping[str, int]:
        """The counts above zero among `kinds`."""
        return {kind: self.counts[kind] for kind in kinds if kind in self.counts}

    @property
    def no_slope(self) -> str:
        """The steps for a sentence: "a function without slope (round, sign)"."""
        return f"a function without slope ({', '.join(self.steps)})"

    @property
    def passing(self) -> Census:
        """The same of those that a gradient gets through."""
        left = {kind: number - self.still.get(kind, 0) for kind, number in self.counts.items()}
        return Census({kind: number for kind, number in left.items() if number}, self.aside)

    @property
    def activations(self) -> int:
        """Rectifiers and what takes their place; gates are not among them."""
        return self.count(*RECTIFIERS, *RECTIFIER_LIKE)


def census(classifier: Classifier) -> Census:
    """Count one forward pass on a grey image; kept with the classifier, so the pass is paid once."""
    if "census" not in classifier._memo:
        counter = _Counter()
        with counter:
            pixels, logits = grey_pass(classifier)
        way, live = way_to(logits, pixels), way_to(logits, pixels, over_steps=False)
        counts, aside, still = Counter[str](), Counter[str](), Counter[str]()
        for kind, node in counter.calls:
            (counts if node in way else aside)[kind] += 1
            still[kind] += node in way and node not in live
        steps = tuple(sorted({step_of(node) for node in way} - {""}))
        classifier._memo["census"] = Census(
            MappingProxyType(dict(counts)),
            MappingProxyType(dict(aside)),
            MappingProxyType(dict(+still)),
            steps,
            bool(steps) and not live,
        )
    found: Census = classifier._memo["census"]
    return found


def grey_pass(classifier: Classifier) -> tuple[Tensor, Tensor]:
    """A grey image and its logits (1,K), with the graph back to its pixels."""
    with classifier.lease() as module, torch.enable_grad():
        grey = torch.full((1, 3, *classifier.input_size), 0.5, device=classifier.device, dtype=module.mean.dtype)
        logits: Tensor = module(grey.requires_grad_())
    return grey, logits


def listed(counts: Mapping[str, int]) -> str:
    """Kinds with their numbers as they stand in a sentence: "ReLU (3), SiLU (2) and Softmax (1)"."""
    names = [f"{TITLES[kind]} ({number})" for kind, number in counts.items()]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


class _Counter(TorchFunctionMode):
    """Notes the calls of this thread: kind, and the node of the graph that each made."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, Node | None]] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        kind = kind_of(func, args, kwargs)
        result = func(*args, **kwargs)
        if kind is not None:
            self.calls.append((kind, node_of(result)))
        return result


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
