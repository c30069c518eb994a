"""Looking inside a shared network without leaving anything behind.

`ModuleState` compares a module before and after; `cut_at` runs a forward whose graph begins at one layer; `capture`
keeps copies of layer outputs. Hooks act only in the thread that set them, and copies live in locals of the caller.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from xai.errors import LayerError, ModuleStateError

_HOOK_TABLES = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_state_dict_hooks",
)


@dataclass(frozen=True)
class ModuleState:
    """Everything about a module that a method could change: submodules, hooks, flags, parameters."""

    modules: tuple[tuple[str, nn.Module, bool, tuple[tuple[int, ...], ...]], ...]
    tensors: tuple[tuple[str, Tensor, bool, int, int], ...]

    @classmethod
    def of(cls, module: nn.Module) -> ModuleState:
        """Take the state of `module`; cheap (no tensor is read)."""
        modules = tuple(
            (name, sub, sub.training, tuple(tuple(getattr(sub, table)) for table in _HOOK_TABLES))
            for name, sub in module.named_modules()
        )
        named = [*module.named_parameters(), *module.named_buffers()]
        tensors = tuple((name, t, t.requires_grad, t._version, t.data_ptr()) for name, t in named)
        return cls(modules, tensors)

    def restore_and_check(self, module: nn.Module) -> None:
        """Put hooks and flags back; raise `ModuleStateError` naming what had been changed.

        Does not hide another exception: Python chains the two.
        """
        changed: list[str] = []
        now = dict(module.named_modules())
        if [(n, id(m)) for n, m, _, _ in self.modules] != [(n, id(m)) for n, m in now.items()]:
            changed.append("submodules")
        for name, sub, training, hooks in self.modules:
            if sub.training != training:
                sub.training = training
                changed.append(f"training flag of {name or 'the module'}")
            for table, keys in zip(_HOOK_TABLES, hooks, strict=True):
                live: dict[int, Any] = getattr(sub, table)
                if tuple(live) != keys:
                    for key in [k for k in live if k not in keys]:
                        del live[key]
                    changed.append(f"{table[1:]} of {name or 'the module'}")
        fresh = dict([*module.named_parameters(), *module.named_buffers()])
        for name, tensor, requires_grad, version, pointer in self.tensors:
            if tensor.requires_grad != requires_grad:
                tensor.requires_grad_(requires_grad)
                changed.append(f"requires_grad of {name}")
            if tensor.grad is not None:
                tensor.grad = None
                changed.append(f"grad of {name}")
            if fresh.get(name) is not tensor or tensor._version != version or tensor.data_ptr() != pointer:
                changed.append(f"values of {name}")
        if changed:
            raise ModuleStateError(f"a call changed the shared network: {', '.join(changed[:5])}.")


def _first_tensor(path: str, output: object) -> Tensor:
    if not isinstance(output, Tensor):
        raise LayerError(f"layer {path!r} gives a {type(output).__name__}, not one tensor; choose another layer.")
    return output


@contextmanager
def capture(net: nn.Module, paths: Sequence[str], *, grad: bool = False) -> Iterator[dict[str, Tensor]]:
    """Within it, forwards of this thread put a copy of each layer's output into the yielded dict.

    Copies are clones, because a later in-place operation (ReLU after DenseNet's norm5, ResNet's bn3) rewrites the
    storage. With `grad`, the kept tensor is part of the graph; otherwise it is detached.
    """
    kept: dict[str, Tensor] = {}
    owner = threading.get_ident()

    def keep(path: str, output: object) -> Tensor | None:
        if threading.get_ident() != owner:
            return None
        tensor = _first_tensor(path, output)
        if not grad:
            kept[path] = tensor.detach().clone()
            return None
        kept[path] = tensor
        return tensor.clone()

    handles = [
        net.get_submodule(path).register_forward_hook(lambda _m, _i, out, path=path: keep(path, out)) for path in paths
    ]
    try:
        yield kept
    finally:
        for handle in handles:
            handle.remove()


def cut_at(module: nn.Module, net: nn.Module, path: str, x: Tensor) -> tuple[Tensor, Tensor]:
    """One forward whose graph starts at layer `path` of `net`: (activation, logits).

    Everything before the layer runs without a graph; the activation is a leaf, so that a gradient of the logits with
    respect to it costs only the part above the layer. The activation (N,C,h,w) is a copy that no in-place operation
    touches. A layer that runs several times in one forward is cut at its last run.
    """
    kept: list[Tensor] = []
    owner = threading.get_ident()

    def cut(_module: nn.Module, _inputs: object, output: object) -> Tensor | None:
        if threading.get_ident() != owner:
            return None
        torch.set_grad_enabled(True)
        leaf = _first_tensor(path, output).detach().requires_grad_()
        kept.append(leaf)
        return leaf.clone()

    handle = net.get_submodule(path).register_forward_hook(cut)
    try:
        with torch.no_grad():  # leaving it puts the thread's grad mode back
            logits = module(x)
    finally:
        handle.remove()
    if not kept:
        raise LayerError(f"layer {path!r} does not run in this network's forward; choose another layer.")
    return kept[-1], logits
