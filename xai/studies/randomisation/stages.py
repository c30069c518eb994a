"""The blocks of a network in order of execution, and shuffling the weights of one of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from xai.errors import InputError
from xai.models.classifier import InputModel
from xai.types import Run

MOST = 12
"""Stages that a network is divided into at most."""

FEWEST = 6
"""Blocks are opened (a `features` sequence into its parts) until there are this many, where they can be."""

LARGE = 2**24
"""Entries up to which a tensor is permuted as a whole; beyond are only the widest linear layers (VGG's first)."""

_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)


@dataclass(frozen=True)
class WeightStage:
    """A stretch of the network: `tensors` are names of parameters and buffers in `net`."""

    name: str
    tensors: tuple[str, ...]


@dataclass(frozen=True)
class _Unit:
    """A module that runs and the tensors that are its own (or belong to a part of it that never runs by itself)."""

    path: str
    tensors: tuple[str, ...]
    norm: bool


@dataclass(frozen=True)
class _Group:
    """Units that follow one another; `paths` name what they are in the network."""

    paths: tuple[str, ...]
    units: tuple[_Unit, ...]

    def __add__(self, other: _Group) -> _Group:
        return _Group(self.paths + other.paths, self.units + other.units)


def weight_stages(module: InputModel, size: tuple[int, int]) -> tuple[WeightStage, ...]:
    """At most `MOST` stages of `module.net` in order of execution, found by one forward on a grey image.

    Top-level blocks; where there are fewer than `FEWEST`, the longest is opened into its parts. A normalisation belongs
    to the block before it. Where there are more than `MOST`, neighbours with the fewest layers are joined.
    """
    groups = [_Group(("",), tuple(_units(module, size)))]
    while len(_fold(groups)) < FEWEST:
        longest = max(
            (len(group.units), -place) for place, group in enumerate(groups) if len(group.units) > 1 or not place
        )
        place = -longest[1]
        parts = _open(groups[place])
        if parts == [groups[place]]:
            break
        groups = [*groups[:place], *parts, *groups[place + 1 :]]
    groups = _fold(groups)
    while len(groups) > MOST:  # the last block, which gives the logits, stays by itself
        place = min(range(len(groups) - 2), key=lambda i: len(groups[i].units) + len(groups[i + 1].units))
        groups = [*groups[:place], groups[place] + groups[place + 1], *groups[place + 2 :]]
    return tuple(
        WeightStage(_named(group.paths), tuple(name for unit in group.units for name in unit.tensors))
        for group in groups
    )


def chosen_stages(module: InputModel, paths: Sequence[str]) -> tuple[WeightStage, ...]:
    """Stages by the paths of modules, in the order given; raises `InputError` for none, or one without weights."""
    if not paths:
        raise InputError("stages is empty; give paths of modules, or None for the network's blocks.")
    names = list(_tensors(module.net))
    stages = []
    for path in paths:
        tensors = tuple(name for name in names if name == path or name.startswith(f"{path}."))
        if not tensors:
            raise InputError(f"stage {path!r} has no weights in this network; give paths of its modules.")
        stages.append(WeightStage(path, tensors))
    return tuple(stages)


def shuffle(module: InputModel, stage: WeightStage, run: Run) -> None:
    """Permute the entries of each tensor of `stage`, in place, by `run.generator("shuffle", name)`.

    Every tensor keeps its distribution (mean, spread, the positive variances of a batch norm) and loses what was
    learned: which entry stands where. A tensor of more than `LARGE` entries is permuted row by row, each output's
    weights over its inputs, because one permutation of it would take several times its memory.
    """
    tensors = _tensors(module.net)
    with torch.no_grad():
        for name in stage.tensors:
            tensor, generator = tensors[name], run.generator("shuffle", name)
            flat = tensor.contiguous().view(1 if tensor.numel() <= LARGE else len(tensor), -1)
            for row in flat:
                run.check()
                row.copy_(row[torch.randperm(row.numel(), generator=generator).to(row.device)])
            if flat.data_ptr() != tensor.data_ptr():  # `contiguous` made a copy: the tensor lay in another order
                tensor.copy_(flat.view(tensor.shape))


def _tensors(net: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers of floating point, by name; a tensor shared by two modules once."""
    named = [*net.named_parameters(), *net.named_buffers()]
    return {name: tensor for name, tensor in named if tensor.is_floating_point()}


def _units(module: InputModel, size: tuple[int, int]) -> list[_Unit]:
    """Modules with tensors of their own in order of first execution."""
    net = module.net
    order: dict[str, int] = {}

    def note(path: str) -> None:
        order.setdefault(path, len(order))

    handles = [sub.register_forward_pre_hook(lambda _m, _x, path=path: note(path)) for path, sub in net.named_modules()]
    try:
        with torch.no_grad():
            module(torch.full((1, 3, *size), 0.5, device=module.mean.device, dtype=module.mean.dtype))
    finally:
        for handle in handles:
            handle.remove()
    owned: dict[str, list[str]] = {}
    for name in _tensors(net):
        path = name.rpartition(".")[0]
        while path not in order:  # attention reads its output layer's weights without running it
            path = path.rpartition(".")[0]
        owned.setdefault(path, []).append(name)
    return [
        _Unit(path, tuple(owned[path]), isinstance(net.get_submodule(path), _NORMS))
        for path in sorted(owned, key=lambda path: order[path])
    ]


def _open(group: _Group) -> list[_Group]:
    """The group's parts by the next name of their path; its own tensors go with the part that follows."""
    if len(group.paths) != 1:
        return [group]
    prefix = f"{group.paths[0]}." if group.paths[0] else ""
    parts: dict[str, list[_Unit]] = {}
    own: list[_Unit] = []
    for unit in group.units:
        rest = unit.path.removeprefix(prefix) if unit.path.startswith(prefix) else ""
        if not rest:
            own.append(unit)
            continue
        parts.setdefault(prefix + rest.split(".")[0], []).extend([*own, unit])
        own = []
    if not parts:
        return [group]
    if own:
        parts[next(reversed(parts))].extend(own)
    return [_Group((path,), tuple(units)) for path, units in parts.items()]


def _fold(groups: list[_Group]) -> list[_Group]:
    """Groups that are a lone normalisation join the group before them."""
    folded: list[_Group] = []
    for group in groups:
        if folded and len(group.units) == 1 and group.units[0].norm:
            folded[-1] = folded[-1] + group
        else:
            folded.append(group)
    return folded


def _named(paths: tuple[str, ...]) -> str:
    shown = [path or "the network" for path in paths]
    return ", ".join(shown) if len(shown) < 3 else f"{shown[0]} to {shown[-1]}"
