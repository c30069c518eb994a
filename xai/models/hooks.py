"""Looking inside a shared network without leaving anything behind.

`ModuleState` compares a module before and after; `cut_at` runs a forward whose graph begins at one layer; `capture`
keeps copies of layer outputs. Hooks act only in the thread that set them, and copies live in locals of the caller.
"""

from __future__ import annotations

import operator
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

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

_tables_of = operator.itemgetter(*_HOOK_TABLES)


class _Facts(NamedTuple):
    """What is compared, flat and in one order, so that the usual answer (nothing changed) is a few list comparisons.

    One entry a module: training flag; class, own forward and in-place flag; children; keys of parameters and buffers;
    hooks, one {module: keys} a table. One entry a tensor: identity, grad flag, version, address, and whether it holds a
    gradient.
    """

    training: list[bool]
    behaviour: list[tuple[type, Any, Any]]
    children: list[tuple[tuple[str, int], ...]]
    keys: list[tuple[str, ...]]
    hooks: list[dict[int, tuple[int, ...]]]
    identity: list[int]
    requires_grad: list[bool]
    version: list[int]
    address: list[int]
    graded: list[bool]

    @classmethod
    def of(cls, modules: Sequence[nn.Module], tensors: Sequence[Tensor]) -> _Facts:
        return cls(
            [m.training for m in modules],
            [(m.__class__, m.__dict__.get("forward"), m.__dict__.get("inplace")) for m in modules],
            [tuple((key, id(child)) for key, child in m._modules.items()) if m._modules else () for m in modules],
            [(*m._parameters, *m._buffers) for m in modules],
            _hooks(modules),
            [id(t) for t in tensors],
            [t.requires_grad for t in tensors],
            [t._version for t in tensors],
            [t.data_ptr() for t in tensors],
            [t.grad is not None for t in tensors],
        )


def _hooks(modules: Sequence[nn.Module]) -> list[dict[int, tuple[int, ...]]]:
    """For each table, {place of a module: keys of its hooks}, of those that have some."""
    found: list[dict[int, tuple[int, ...]]] = [{} for _ in _HOOK_TABLES]
    for place, module in enumerate(modules):
        tables = _tables_of(module.__dict__)
        if any(tables):
            for keys, table in zip(found, tables, strict=True):
                if table:
                    keys[place] = tuple(table)
    return found


def _walk(module: nn.Module) -> tuple[nn.Module, ...]:
    """Every submodule once; `module.modules()` does the same in several times the time, and every call pays for it."""
    seen = {id(module): module}
    left = [module]
    while left:
        for child in left.pop()._modules.values():
            if child is not None and id(child) not in seen:
                seen[id(child)] = child
                left.append(child)
    return tuple(seen.values())


def _tensors(modules: Sequence[nn.Module]) -> list[Tensor]:
    """Parameters and buffers of each module in turn."""
    return [t for m in modules for table in (m._parameters, m._buffers) for t in table.values() if t is not None]


@dataclass(frozen=True)
class ModuleState:
    """Everything about a module that a method could change: submodules, hooks, flags, parameters and buffers."""

    modules: tuple[nn.Module, ...]
    tensors: tuple[Tensor, ...]
    facts: _Facts

    @classmethod
    def of(cls, module: nn.Module) -> ModuleState:
        """Take the state of `module`; cheap (one walk, no tensor is read)."""
        modules = _walk(module)
        tensors = tuple(_tensors(modules))
        return cls(modules, tensors, _Facts.of(modules, tensors))

    def restore_and_check(self) -> None:
        """Put hooks and flags back; raise `ModuleStateError` naming what had been changed.

        Does not hide another exception: Python chains the two.
        """
        now = _Facts.of(self.modules, _tensors(self.modules))
        if now == self.facts:
            return
        names = {id(m): name or "the module" for name, m in self.modules[0].named_modules()}
        changed: list[str] = []
        for index, module in enumerate(self.modules):
            where = names.get(id(module), "a module that was removed")
            changed += [f"{what} of {where}" for what in self._restore_module(index, module, now)]
        changed += self._restore_tensors(now)
        changed = changed or ["parameters or buffers changed places"]
        raise ModuleStateError(f"a call changed the shared network: {', '.join(changed[:5])}.")

    def _restore_module(self, index: int, module: nn.Module, now: _Facts) -> Iterator[str]:
        was = self.facts
        if now.children[index] != was.children[index]:
            yield "submodules"
        if now.keys[index] != was.keys[index]:
            yield "parameters or buffers"
        if module.training != was.training[index]:
            module.training = was.training[index]
            yield "training flag"
        if now.behaviour[index] != was.behaviour[index]:
            for name, value in zip(("__class__", "forward", "inplace"), was.behaviour[index], strict=True):
                if value is not None:
                    setattr(module, name, value)
                else:
                    module.__dict__.pop(name, None)
            yield "class, forward or in-place flag"
        for table, keys in zip(_HOOK_TABLES, was.hooks, strict=True):
            live: dict[int, Any] = getattr(module, table)
            before = keys.get(index, ())
            if tuple(live) != before:
                for key in [k for k in live if k not in before]:
                    del live[key]
                yield table[1:]

    def _restore_tensors(self, now: _Facts) -> Iterator[str]:
        was, live = self.facts, set(now.identity)
        names: dict[int, str] = {}
        for name, tensor in [*self.modules[0].named_parameters(), *self.modules[0].named_buffers()]:
            names[id(tensor)] = name
        for index, tensor in enumerate(self.tensors):
            where = names.get(id(tensor), "a tensor that was replaced")
            if id(tensor) not in live or (tensor._version, tensor.data_ptr()) != (
                was.version[index],
                was.address[index],
            ):
                yield f"values of {where}"
            if tensor.requires_grad != was.requires_grad[index]:
                tensor.requires_grad_(was.requires_grad[index])
                yield f"requires_grad of {where}"
            if tensor.grad is not None and not was.graded[index]:
                tensor.grad = None
                yield f"grad of {where}"


def _at(net: nn.Module, path: str) -> nn.Module:
    try:
        return net.get_submodule(path)
    except AttributeError:
        raise LayerError(f"layer {path!r} is not in this network; choose another layer.") from None


def _first_tensor(path: str, output: object) -> Tensor:
    if not isinstance(output, Tensor):
        raise LayerError(f"layer {path!r} gives a {type(output).__name__}, not one tensor; choose another layer.")
    return output


@contextmanager
def capture(net: nn.Module, paths: Sequence[str], *, grad: bool = False) -> Iterator[dict[str, Tensor]]:
    """Within it, forwards of this thread put a copy of each layer's output into the yielded dict.

    Copies are clones, because a later in-place operation (ReLU after DenseNet's norm5, ResNet's bn3) rewrites the
    storage. With `grad`, the kept tensor is part of the graph; otherwise it is detached. Of a layer that runs several
    times the last output stays. Raises `LayerError` for a path that does not exist, before any hook is set.
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

    layers = [(path, _at(net, path)) for path in paths]  # all of them before the first hook
    handles = [layer.register_forward_hook(lambda _m, _i, out, path=path: keep(path, out)) for path, layer in layers]
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

    handle = _at(net, path).register_forward_hook(cut)
    try:
        with torch.no_grad():  # leaving it puts the thread's grad mode back
            logits = module(x)
    finally:
        handle.remove()
    if not kept:
        raise LayerError(f"layer {path!r} does not run in this network's forward; choose another layer.")
    return kept[-1], logits


def look_at(module: nn.Module, net: nn.Module, path: str, x: Tensor) -> tuple[Tensor, Tensor, int]:
    """One forward without a graph: (copy of the output of layer `path`, logits, how often the layer ran).

    Of a layer that runs several times the last output is taken, as `cut_at` does.
    """
    kept: list[Tensor] = []
    owner = threading.get_ident()

    def keep(_module: nn.Module, _inputs: object, output: object) -> None:
        if threading.get_ident() == owner:
            kept.append(_first_tensor(path, output).detach().clone())

    handle = _at(net, path).register_forward_hook(keep)
    try:
        with torch.no_grad():
            logits = module(x)
    finally:
        handle.remove()
    if not kept:
        raise LayerError(f"layer {path!r} does not run in this network's forward; choose another layer.")
    return kept[-1], logits, len(kept)


def resume_at(module: nn.Module, net: nn.Module, path: str, x: Tensor, activation: Tensor, runs: int = 1) -> Tensor:
    """Logits of a forward, without a graph, in which run number `runs` of layer `path` gives `activation` (B,C,h,w).

    x holds B images; or one, and then what lies before the layer runs for one image while the rest runs for B. That is
    right as long as whatever bypasses the layer (a skip) meets its output in operations that broadcast over images;
    other networks raise `RuntimeError` or must be told apart by the caller. `activation` may be written over.
    """
    count = 0
    owner = threading.get_ident()

    def replace(_module: nn.Module, _inputs: object, _output: object) -> Tensor | None:
        nonlocal count
        if threading.get_ident() != owner:
            return None
        count += 1
        return activation if count == runs else None

    handle = _at(net, path).register_forward_hook(replace)
    try:
        with torch.no_grad():
            logits: Tensor = module(x)
    finally:
        handle.remove()
    return logits
