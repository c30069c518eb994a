"""Layers whose output can be shown as a stack of maps: found by one traced forward, with the resolution of each.

Convolutional networks give (N,C,h,w). Transformers keep the same maps differently: Swin and the inside of ConvNeXt as
(N,h,w,C), ViT as a sequence (N,T,C) whose first tokens may stand for no place. `to_maps` turns each into (N,C,h,w).
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node
from torchvision.ops import StochasticDepth
from torchvision.ops.misc import Permute

from xai.errors import LayerError
from xai.models.graph import node_of, way_to

MAPS, CHANNELS_LAST, SEQUENCE = "maps", "channels last", "sequence"
"""Layouts of a layer's output: (N,C,h,w), (N,h,w,C), (N,T,C)."""

STAGES = 12
"""The most layers that `stages` lists."""

_POOLS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.FractionalMaxPool2d)
_SILENT = (nn.Dropout, nn.Dropout2d, nn.Identity, StochasticDepth)
"""What passes its input on when a network answers: no layer worth naming."""

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_WINDOWED = ("PartitionAttentionLayer",)
"""Modules (MaxViT) inside which four dimensions are windows, not places; their own output is maps again."""


@dataclass(frozen=True)
class LayerInfo:
    """A layer whose output is a stack of maps: path in the network, type, channels, resolution (h, w) and layout."""

    path: str
    type: str
    channels: int
    size: tuple[int, int]
    layout: str = MAPS


@dataclass(frozen=True)
class Tokens:
    """How a transformer holds its maps: `layout` as above; in a sequence, `prefix` tokens come before the `grid`."""

    layout: str
    grid: tuple[int, int] = (0, 0)
    prefix: int = 0

    @property
    def sentence(self) -> str:
        """One line for pages and reports."""
        if self.layout == CHANNELS_LAST:
            return "channels-last maps (N, h, w, C)"
        first = {0: "", 1: "class token first, "}.get(self.prefix, f"{self.prefix} tokens first, ")
        return f"{first}{self.grid[0]} x {self.grid[1]} grid"


@dataclass(frozen=True)
class _Seen:
    """A layer at its last run: `tensor` numbers the output object, so that a container and its last child share it.

    joined: whether it joins the pixels to the score; of a network without any gradient, every layer does.
    """

    info: LayerInfo
    tensor: int
    pool: bool
    joined: bool = True


def to_maps(output: Tensor, layout: str, tokens: Tokens | None = None) -> Tensor:
    """A layer's output as (N,C,h,w), a view where that is possible; raises `LayerError` where the shape does not fit.

    layout: `LayerInfo.layout`. tokens: `Classifier.tokens`, needed for a sequence, whose first tokens are left out.
    """
    if layout == MAPS and output.dim() == 4:
        return output
    if layout == CHANNELS_LAST and output.dim() == 4:
        return output.permute(0, 3, 1, 2)
    if layout == SEQUENCE and output.dim() == 3 and tokens is not None:
        h, w = tokens.grid
        if output.shape[1] == tokens.prefix + h * w:
            return output[:, tokens.prefix :].transpose(1, 2).reshape(len(output), -1, h, w)
    raise LayerError(f"an output of shape {tuple(output.shape)} is not {layout}; choose another layer.")


def layout_at(net: nn.Module, path: str, output: Tensor, tokens: Tokens | None) -> str:
    """The layout of `output`, which the layer at `path` gave: by its dimensions, then by the layer's type."""
    layer = net.get_submodule(path)
    if output.dim() == 3:
        return SEQUENCE
    if tokens is None or tokens.layout != CHANNELS_LAST or isinstance(layer, nn.Conv2d | nn.BatchNorm2d):
        return MAPS
    return MAPS if isinstance(layer, Permute) and tuple(layer.dims) == (0, 3, 1, 2) else CHANNELS_LAST


def by_channel(output: Tensor, layout: str, tokens: Tokens | None = None) -> Tensor:
    """A view of a layer's output whose second dimension is the channel; writing to it writes to `output`."""
    if layout == SEQUENCE:
        return output[:, tokens.prefix if tokens else 0 :].transpose(1, 2)
    return output.movedim(-1, 1) if layout == CHANNELS_LAST else output


def find_layer(net: nn.Module, path: str, layers: Sequence[LayerInfo] = ()) -> nn.Module:
    """The submodule of `net` at `path`; raises `LayerError` that suggests near paths among `layers`."""
    try:
        if not path:
            raise AttributeError
        return net.get_submodule(path)
    except AttributeError:
        raise LayerError(f"layer {path!r} is not in this network; {near_layers(path, layers)}.") from None


def near_layers(path: str, layers: Sequence[LayerInfo]) -> str:
    """What to do about a wrong layer, as the end of a sentence: up to three of `layers`, which all give maps."""
    names = [layer.path for layer in layers]
    near = difflib.get_close_matches(path, names, n=3, cutoff=0.4) or names[-3:]
    return f"near it are {', '.join(near)}" if near else "choose another layer"


def find_head(net: nn.Module, classes: int) -> str:
    """Path of the last linear layer or convolution with `classes` outputs; "" where there is none."""
    found = ""
    for path, layer in net.named_modules():
        outputs = {nn.Linear: "out_features", nn.Conv2d: "out_channels"}.get(type(layer), "")
        if outputs and getattr(layer, outputs) == classes:
            found = path
    return found


def trace(
    module: nn.Module, net: nn.Module, size: tuple[int, int], device: torch.device, tokens: Tokens | None = None
) -> tuple[_Seen, ...]:
    """One forward of `module` on a grey image, noting every submodule of `net` that gives maps larger than 1 x 1.

    In order of execution, each at its last run; a container comes after what it holds.
    """
    found: dict[str, _Seen] = {}
    tracer = _Tracer(found, tokens, tuple(p for p, m in net.named_modules() if type(m).__name__ in _WINDOWED))
    handles = [
        layer.register_forward_hook(lambda m, args, out, path=path: tracer.note(path, m, args, out))
        for path, layer in net.named_modules()
        if path
    ]
    dtype = next((p.dtype for p in net.parameters()), torch.get_default_dtype())
    try:
        with torch.enable_grad():
            pixels = torch.full((1, 3, *size), 0.5, device=device, dtype=dtype).requires_grad_()
            logits = module(pixels.clone())
    finally:
        for handle in handles:
            handle.remove()
    way = way_to(logits, pixels)
    return tuple(replace(each, joined=not way or tracer.nodes[path] in way) for path, each in found.items())


class _Tracer:
    """Follows layouts through one forward: each output carries its layout to the layer that takes it in."""

    def __init__(self, found: dict[str, _Seen], tokens: Tokens | None, windowed: Sequence[str]) -> None:
        self.found = found
        self.tokens = tokens
        self.windowed = windowed
        self.count = 0
        self.nodes: dict[str, Node | None] = {}

    def note(self, path: str, layer: nn.Module, args: Sequence[object], output: object) -> None:
        if not isinstance(output, Tensor) or any(path.startswith(f"{each}.") for each in self.windowed):
            return
        layout, number = getattr(output, "_olhar", ("", 0))
        if not layout:
            self.count += 1
            number, layout = self.count, self.layout(layer, args, output)
            output._olhar = (layout, number)  # type: ignore[attr-defined]  # tensors carry attributes of any name
        try:
            maps = to_maps(output, layout, self.tokens)
        except LayerError:
            return
        size = (int(maps.shape[-2]), int(maps.shape[-1]))
        if min(size) > 1 and not isinstance(layer, _SILENT):
            info = LayerInfo(path, type(layer).__name__, int(maps.shape[1]), size, layout)
            self.found.pop(path, None)
            self.found[path] = _Seen(info, number, isinstance(layer, _POOLS))
            self.nodes[path] = node_of(output)

    def layout(self, layer: nn.Module, args: Sequence[object], output: Tensor) -> str:
        """What the layer's type says, else the layout of what came in, else (N,C,h,w)."""
        if output.dim() == 3:
            return SEQUENCE
        if type(layer) in (nn.Linear, nn.LayerNorm):  # they work on the last dimension
            return CHANNELS_LAST
        if isinstance(layer, nn.Conv2d | nn.BatchNorm2d):
            return MAPS
        given = next((getattr(arg, "_olhar", ("",))[0] for arg in args if isinstance(arg, Tensor)), "") or MAPS
        if isinstance(layer, Permute):
            return {(0, 2, 3, 1): CHANNELS_LAST, (0, 3, 1, 2): MAPS}.get(tuple(layer.dims), given)
        return given if given != SEQUENCE else MAPS


def last_block(net: nn.Module, seen: Sequence[_Seen], classes: int) -> str:
    """The reasoned default: the last maps before the head and its pooling, by the outermost name they have."""
    head = find_head(net, classes)
    before = [each for each in seen if each.joined and each.info.layout == MAPS]
    place = next((i for i, each in enumerate(before) if each.info.path == head), len(before))
    outer = {each.tensor: each for each in before[:place]}  # the last, outermost, name of each output
    pooled = {each.tensor for each in before if each.pool}
    paths = [each.info.path for each in outer.values() if each.tensor not in pooled]
    return paths[-1] if paths else ""


def stages(net: nn.Module, seen: Sequence[_Seen], default: str) -> tuple[LayerInfo, ...]:
    """A short list for a layer explorer, in order of execution: where channels or resolution change, up to `default`.

    Of the top-level blocks with the same channels and resolution the last, a composite one before a bare norm or
    activation. Where that leaves a single one (ViT keeps its resolution), every block. At most `STAGES`, ending at
    the default layer.
    """
    seen = [each for each in seen if each.joined]
    place = next((i for i, each in enumerate(seen) if each.info.path == default), len(seen) - 1)
    if place < 0:
        return ()
    bodies = _bodies(net)
    containers = bodies | {path for path, layer in net.named_modules() if type(layer) in _CONTAINERS}
    outermost = {each.tensor: each.info for each in seen[: place + 1] if each.info.path not in bodies}
    outermost[seen[place].tensor] = seen[place].info
    blocks = {
        each.tensor: outermost[each.tensor]
        for each in seen[: place + 1]
        if not each.pool and each.tensor in outermost and _parents(each.info.path) <= containers
    }
    blocks[seen[place].tensor] = seen[place].info
    groups = [list(group) for _, group in itertools.groupby(blocks.values(), lambda info: (info.channels, info.size))]
    if len(groups) < 2:
        groups = [[info] for info in blocks.values()]
    listed = [_spokesman(net, group) for group in groups[:-1]] + [seen[place].info]
    count = min(STAGES, len(listed))
    step = (len(listed) - 1) / max(1, count - 1)
    return tuple(listed[round(i * step)] for i in range(count))


def _spokesman(net: nn.Module, group: Sequence[LayerInfo]) -> LayerInfo:
    """The last of `group` that is made of other layers, else the last."""
    composite = [info for info in group if any(net.get_submodule(info.path).children())]
    return (composite or group)[-1]


def _parents(path: str) -> set[str]:
    parts = path.split(".")
    return {".".join(parts[:count]) for count in range(1, len(parts))}


def _bodies(net: nn.Module) -> set[str]:
    """Containers that hold most of the network, such as `features`: what they hold counts as top level."""
    total = sum(1 for _ in net.modules())
    return {path for path, layer in net.named_modules() if path and sum(1 for _ in layer.modules()) > total / 2}
