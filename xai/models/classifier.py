"""The classifier: a network with its own preprocessing, labels and lease."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as TF

from xai.errors import InputError, LayerError
from xai.hooks import ModuleState
from xai.types import Run

VIEWS = ("crop", "whole")


@dataclass(frozen=True)
class Preset:
    """How an image becomes network input: resize the short side, crop the centre, then (x - mean) / std."""

    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    resize: int = 256
    crop: int = 224
    interpolation: InterpolationMode = InterpolationMode.BILINEAR


class InputModel(nn.Module):
    """RGB in [0, 1] to logits: normalisation, then `net`. Runs in channels_last, which is faster on CPU and CUDA."""

    mean: Tensor
    std: Tensor

    def __init__(self, net: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """x (N,3,H,W) in [0, 1] -> logits (N,K)."""
        x = (x - self.mean) / self.std  # in the layout that x came in: three channels innermost are slow to normalise
        logits: Tensor = self.net(x.contiguous(memory_format=torch.channels_last))
        return logits


@dataclass(frozen=True)
class LayerInfo:
    """A layer whose output is a stack of maps: path in the network, type, channels and resolution (h, w)."""

    path: str
    type: str
    channels: int
    size: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Classifier:
    """What `load_model` returns. `module` takes RGB in [0, 1], normalises inside, and gives logits (N,K).

    Every forward goes through `lease()`. Parameters are frozen and the module stays in eval mode. `weights` says where
    they come from: "imagenet", "random:SEED", "file:NAME" or "run:ID". `random` is true where the answers mean nothing.
    """

    name: str
    title: str
    module: InputModel
    labels: tuple[str, ...]
    input_size: tuple[int, int]
    default_layer: str
    fingerprint: str
    device: torch.device
    weights: str
    preset: Preset = field(default_factory=Preset)
    notes: tuple[str, ...] = ()
    _lock: Any = field(default_factory=threading.RLock, repr=False)
    _memo: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def random(self) -> bool:
        """True where the weights are untrained, so that every page can say so."""
        return self.weights.startswith("random")

    @contextmanager
    def lease(self, run: Run | None = None) -> Iterator[InputModel]:
        """The module, for one thread at a time; on leaving it is checked to be as it was.

        Waiting polls `run`, so that a page or a job that is cancelled stops waiting. Re-entrant in one thread. Raises
        `ModuleStateError` if hooks, flags, parameters or submodules were changed (hooks and flags are put back).
        """
        while not self._lock.acquire(timeout=0.05):
            if run is not None:
                run.check()
        try:
            before = ModuleState.of(self.module)
            try:
                yield self.module
            finally:
                before.restore_and_check()
        finally:
            self._lock.release()

    def layer(self, path: str | None = None) -> nn.Module:
        """The submodule at `path` (the default layer for None); raises `LayerError` with near paths."""
        return find_layer(self.module.net, path or self.default_layer)

    def layers(self) -> tuple[LayerInfo, ...]:
        """Every layer whose output is a stack of maps larger than 1x1, in order of execution."""
        if "layers" not in self._memo:
            with self.lease():
                self._memo["layers"] = trace_layers(self.module, self.input_size, self.device)
        layers: tuple[LayerInfo, ...] = self._memo["layers"]
        return layers

    def preprocess(self, image: Image.Image | Sequence[Image.Image], view: str = "crop") -> Tensor:
        """What the network sees, as (N,3,H,W) float32 in [0, 1] on the CPU.

        `view="crop"`: short side to the preset's resize, then the centre crop. `view="whole"`: the whole image resized
        to the input size, so that nothing is cut off (the aspect ratio changes).
        """
        if view not in VIEWS:
            raise InputError(f"view {view!r} is not known; use {' or '.join(VIEWS)}.")
        images = [image] if isinstance(image, Image.Image) else list(image)
        if not images:
            raise InputError("there is no image to preprocess; give at least one.")
        return torch.stack([self._one(each.convert("RGB"), view) for each in images])

    def _one(self, image: Image.Image, view: str) -> Tensor:
        how = self.preset.interpolation
        if view == "whole":
            image = TF.resize(image, list(self.input_size), how)
        else:
            scale = self.input_size[0] / self.preset.crop
            image = TF.center_crop(TF.resize(image, [round(self.preset.resize * scale)], how), list(self.input_size))
        pixels: Tensor = TF.pil_to_tensor(image)
        return pixels.float() / 255

    def predict(self, x: Tensor, run: Run | None = None) -> Tensor:
        """Logits (N,K) on the CPU for x (N,3,H,W) in [0, 1]."""
        with self.lease(run) as module, torch.no_grad():
            logits: Tensor = module(self.check(x).to(self.device))
        return logits.float().cpu()

    def check(self, x: Tensor) -> Tensor:
        """x itself if it is (N,3,H,W) floating point and finite in [0, 1]; raises `InputError` otherwise."""
        if x.dim() != 4 or x.shape[1] != 3 or x.shape[0] == 0:
            raise InputError(f"x has shape {tuple(x.shape)}; give (N, 3, H, W) with N >= 1.")
        if not x.is_floating_point():
            raise InputError(f"x has dtype {x.dtype}; give floating point values in [0, 1].")
        low, high = (float(v) for v in torch.aminmax(x.detach()))
        if not (low >= -1e-6 and high <= 1 + 1e-6):
            raise InputError(f"x ranges from {low:.3g} to {high:.3g}; give pixels in [0, 1] (the model normalises).")
        return x


def find_layer(net: nn.Module, path: str) -> nn.Module:
    """The submodule of `net` at `path`; raises `LayerError` that suggests near paths."""
    import difflib

    try:
        if not path:
            raise AttributeError
        return net.get_submodule(path)
    except AttributeError:
        names = [name for name, _ in net.named_modules() if name]
        near = difflib.get_close_matches(path, names, n=3, cutoff=0.4) or names[-3:]
        raise LayerError(f"layer {path!r} is not in this network; near it are {', '.join(near)}.") from None


def trace_layers(module: InputModel, size: tuple[int, int], device: torch.device) -> tuple[LayerInfo, ...]:
    """One forward on a grey image, noting every submodule whose output is (1,C,h,w) with h and w above 1."""
    found: list[LayerInfo] = []
    seen: set[str] = set()

    def note(path: str, layer: nn.Module, output: object) -> None:
        if isinstance(output, Tensor) and output.dim() == 4 and min(output.shape[-2:]) > 1 and path not in seen:
            seen.add(path)
            h, w = output.shape[-2:]
            found.append(LayerInfo(path, type(layer).__name__, int(output.shape[1]), (int(h), int(w))))

    handles = [
        layer.register_forward_hook(lambda m, _i, out, path=path: note(path, m, out))
        for path, layer in module.net.named_modules()
        if path
    ]
    try:
        with torch.no_grad():
            module(torch.full((1, 3, *size), 0.5, device=device, dtype=module.mean.dtype))
    finally:
        for handle in handles:
            handle.remove()
    return tuple(found)
