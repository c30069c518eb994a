"""Weights as relevance rules want them: batch norm merged in, positive part; kept once per network."""

from __future__ import annotations

import threading
import weakref
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class Norm:
    """A batch norm in eval mode: y = (x - mean) / sqrt(var + eps) * weight + bias, per channel."""

    mean: Tensor
    var: Tensor
    weight: Tensor | None
    bias: Tensor | None
    eps: float

    def affine(self) -> tuple[Tensor, Tensor]:
        """(scale, shift), each (C,), of the same map as y = scale x + shift; eps is inside the scale."""
        scale = torch.rsqrt(self.var + self.eps)
        if self.weight is not None:
            scale = scale * self.weight
        shift = -self.mean * scale
        return scale, shift if self.bias is None else shift + self.bias


@dataclass(frozen=True, eq=False)
class Weights:
    """A linear layer y = w x + b, batch norm merged in: weight (D,C,...), bias (D,) or None."""

    weight: Tensor
    bias: Tensor | None

    @classmethod
    def of(cls, weight: Tensor, bias: Tensor | None, norm: Norm | None) -> Weights:
        """The layer with `norm` behind it: w scale, b scale + shift."""
        if norm is None:
            return cls(weight, bias)
        scale, shift = norm.affine()
        return cls(
            weight * scale.view(-1, *[1] * (weight.dim() - 1)),
            shift if bias is None else torch.addcmul(shift, bias, scale),
        )

    @cached_property
    def positive(self) -> Tensor:
        """max(w, 0); kept, because every layer of the z-plus and gamma rules needs it."""
        return self.weight.clamp(min=0)

    @property
    def negative(self) -> Tensor:
        """min(w, 0); not kept, because only layers with signed inputs need it."""
        return self.weight.clamp(max=0)


_Stamp = tuple[tuple[int, int, int], ...]


class WeightStore:
    """The weights of one network in the form that rules want, each made on first use.

    An entry is made again when one of the tensors it came from was written to or replaced. It holds those tensors, so
    that an address in its stamp cannot come to mean another tensor. At most twice the size of the network's weights.
    """

    def __init__(self) -> None:
        self._entries: dict[tuple[int, int], tuple[_Stamp, tuple[Tensor, ...], Weights]] = {}
        self._lock = threading.Lock()

    def get(self, weight: Tensor, bias: Tensor | None, norm: Norm | None) -> Weights:
        """The weights of a layer, its batch norm merged in."""
        parts = (weight, bias, *((norm.mean, norm.var, norm.weight, norm.bias) if norm else ()))
        sources = tuple(part for part in parts if part is not None)
        stamp = tuple((id(t), t._version, t.data_ptr()) for t in sources)
        key = (id(weight), id(norm.mean) if norm else 0)
        with self._lock:
            entry = self._entries.get(key)
            if entry is None or entry[0] != stamp:
                with torch.no_grad():
                    made = Weights.of(weight.detach(), None if bias is None else bias.detach(), norm)
                entry = self._entries[key] = (stamp, sources, made)
            return entry[2]


_stores: weakref.WeakKeyDictionary[nn.Module, WeightStore] = weakref.WeakKeyDictionary()
_stores_lock = threading.Lock()


def store_of(module: nn.Module) -> WeightStore:
    """The store of `module`; it goes when the module goes."""
    with _stores_lock:
        return _stores.setdefault(module, WeightStore())
