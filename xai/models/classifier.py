"""The classifier: a network with its own preprocessing, labels and lease."""

from __future__ import annotations

import copy
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as TF

from xai.devices import double, memory_format
from xai.errors import InputError, LayerError, ModuleStateError
from xai.models.hooks import ModuleState
from xai.models.layers import MAPS, SEQUENCE, LayerInfo, Tokens, find_layer, stages, trace
from xai.outputs import Output, pair
from xai.public import ordinary, public
from xai.types import Run

__all__ = ["VIEWS", "Classifier", "InputModel", "LayerInfo", "Preset", "Tokens", "check_view", "find_layer"]

VIEWS = ("crop", "whole")

LONGEST = 16
"""Longest side, in short sides, that is resized: of a longer image only the middle can reach the centre crop."""


def check_view(view: str) -> None:
    """Raise `InputError` unless `view` is one of `VIEWS`."""
    if view not in VIEWS:
        raise InputError(f"view {view!r} is not known; use {' or '.join(VIEWS)}.")


@dataclass(frozen=True)
class Preset:
    """How an image becomes network input: resize the short side, crop the centre, then (x - mean) / std."""

    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    resize: int = 256
    crop: int = 224
    interpolation: InterpolationMode = InterpolationMode.BILINEAR


class InputModel(nn.Module):
    """RGB in [0, 1] to logits: normalisation, then `net`, in the memory format of the device.

    output: what the logits mean. single: `net` has one output z, of which the logits (-z, z) of no and yes are made.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        net: nn.Module,
        mean: Sequence[float],
        std: Sequence[float],
        tokens: Tokens | None = None,
        output: Output = Output.SOFTMAX,
        single: bool = False,
    ) -> None:
        super().__init__()
        self.net = net
        self.output = Output.SIGMOID if single else output
        self.single = single
        self.tokens = tokens  # how a transformer's layers hold their maps
        dtype = next((p.dtype for p in net.parameters() if p.is_floating_point()), torch.get_default_dtype())
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(values, dtype=dtype).view(1, -1, 1, 1), persistent=False)

    def outputs(self, classes: int) -> int:
        """How many outputs `net` has for so many classes."""
        return 1 if self.single else classes

    def forward(self, x: Tensor) -> Tensor:
        """x (N,3,H,W) in [0, 1] -> logits (N,K)."""
        x = (x - self.mean) / self.std  # in the layout that x came in: three channels innermost are slow to normalise
        logits: Tensor = self.net(x.contiguous(memory_format=memory_format(x.device)))
        return pair(logits) if self.single else logits


@dataclass(frozen=True, eq=False)
class Classifier:
    """What `load_model` returns. `module` takes RGB in [0, 1], normalises inside, and gives logits (N,K).

    Every forward goes through `lease()`. Parameters are frozen and the module stays in eval mode. `weights` says where
    they come from: "imagenet", "imagenet:ENTRY", "random:SEED", "file:NAME" or "run:ID". `random` is true where the
    answers mean nothing. tokens: how a transformer's layers hold their maps, None for convolutional networks.
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
    tokens: Tokens | None = None
    _lock: Any = field(default_factory=threading.RLock, repr=False)
    _memo: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def output(self) -> Output:
        """What the logits mean: "softmax" (one of the classes) or "sigmoid" (each class for itself)."""
        return self.module.output

    @property
    def random(self) -> bool:
        """True where the weights are untrained, so that every page can say so."""
        return self.weights.startswith("random")

    @property
    def damaged(self) -> str:
        """What an earlier call changed for good, or ""; a damaged classifier is not leased again."""
        return str(self._memo.get("damaged", ""))

    @contextmanager
    def lease(self, run: Run | None = None) -> Iterator[InputModel]:
        """The module in eval mode, for one thread at a time; on leaving it is checked to be as it was.

        A network that somebody has put into training mode is put back into eval mode, with a warning, and the caller's
        inference mode is left (see `xai.public.ordinary`).
        Waiting polls `run`, so that a page or a job that is cancelled stops waiting. Re-entrant in one thread. Raises
        `ModuleStateError` if hooks, flags, parameters or submodules were changed; hooks and flags are put back, and
        where values are lost the classifier is not leased again. An exception inside the lease comes out as it is,
        with what was changed as a note.
        """
        while not self._lock.acquire(timeout=0.05):
            if run is not None:
                run.check()
        try:
            if self.damaged:
                raise ModuleStateError(
                    f"{self.title} is not used again, because {self.damaged} Load it anew with load_model."
                )
            if any(each.training for each in self.module.modules()):
                warnings.warn(f"{self.title} was in training mode; it is back in eval mode.", stacklevel=3)
                self.module.eval()
            before = ModuleState.of(self.module)
            try:
                with ordinary():
                    yield self.module
            except BaseException as error:
                try:
                    self._leave(before)
                except ModuleStateError as changed:
                    error.add_note(str(changed))
                raise
            self._leave(before)
        finally:
            self._lock.release()

    def _leave(self, before: ModuleState) -> None:
        try:
            before.restore_and_check()
        except ModuleStateError as changed:
            try:
                before.restore_and_check()
            except ModuleStateError:  # hooks and flags are back, so what is left cannot be put back
                self._memo["damaged"] = str(changed)
            raise

    def private(self, run: Run | None = None) -> Classifier:
        """The same classifier on a copy of the network, with a lease of its own.

        For long work that nobody else should wait for; it costs the weights' memory once more while it lives.
        """
        with self.lease(run) as module:
            return replace(self, module=copy.deepcopy(module), _lock=threading.RLock(), _memo={})

    @public
    def layer(self, path: str | None = None) -> nn.Module:
        """The submodule at `path` (the default layer for None); raises `LayerError` with near paths that give maps."""
        path = path or self.default_layer
        try:
            return find_layer(self.module.net, path)
        except LayerError:
            return find_layer(self.module.net, path, self.layers(tokens=True))  # raises again, now with what gives maps

    def layers(self, tokens: bool = False, aside: bool = False) -> tuple[LayerInfo, ...]:
        """Every layer between the pixels and the score that gives maps larger than 1x1, in order of execution.

        Those that give (N,C,h,w); with `tokens` also those of transformers that `to_maps` can turn into it, with
        `aside` also those in branches that do not join the pixels to the score.
        """
        found = tuple(each.info for each in self._trace() if each.joined or aside)
        return found if tokens else tuple(info for info in found if info.layout == MAPS)

    def stages(self, tokens: bool = False) -> tuple[LayerInfo, ...]:
        """At most 12 layers for a layer explorer: where resolution or channels change, ending at the default layer."""
        seen = [each for each in self._trace() if tokens or each.info.layout == MAPS]
        return stages(self.module.net, seen, self.default_layer)

    def _trace(self) -> tuple[Any, ...]:
        if "trace" not in self._memo:
            with self.lease() as module:
                self._memo["trace"] = trace(module, module.net, self.input_size, self.device, self.tokens)
        seen: tuple[Any, ...] = self._memo["trace"]
        return seen

    @public
    def search(self, text: str, limit: int = 20) -> tuple[tuple[int, str], ...]:
        """Classes whose name holds `text` (case does not matter) as (index, name), at most `limit`.

        A number finds the class of that index first. Names that begin with the text come before names with a word that
        does, and these before the rest.
        """
        wanted = " ".join(text.casefold().split())
        ranked = []
        for index, label in enumerate(self.labels):
            name = label.casefold()
            if wanted == str(index):
                rank = 0
            elif name.startswith(wanted):
                rank = 1
            elif f" {wanted}" in name:
                rank = 2
            elif wanted in name:
                rank = 3
            else:
                continue
            ranked.append((rank, index))
        return tuple((index, self.labels[index]) for _, index in sorted(ranked)[:limit])

    @public
    def top(self, logits: Tensor, k: int = 5) -> list[list[tuple[int, str, float]]]:
        """For each row of logits (N,K): its k most probable classes as (index, name, probability), best first."""
        if logits.dim() != 2 or logits.shape[1] != len(self.labels):
            raise InputError(f"logits has shape {tuple(logits.shape)}; give (N, {len(self.labels)}).")
        logits = double(logits.detach())
        indices = logits.topk(min(k, len(self.labels))).indices  # many probabilities may be rounded to 1
        rows = zip(indices.tolist(), self.output.probabilities(logits).gather(1, indices).tolist(), strict=True)
        return [[(i, self.labels[i], p) for i, p in zip(*row, strict=True)] for row in rows]

    @public
    def preprocess(self, image: Image.Image | Sequence[Image.Image], view: str = "crop") -> Tensor:
        """What the network sees, as (N,3,H,W) float32 in [0, 1] on the CPU.

        `view="crop"`: short side to the preset's resize, then the centre crop. `view="whole"`: the whole image resized
        to the input size, so that nothing is cut off (the aspect ratio changes).
        """
        images = [image] if isinstance(image, Image.Image) else list(image)
        if not images:
            raise InputError("there is no image to preprocess; give at least one.")
        return torch.stack([self._one(each.convert("RGB"), view) for each in images])

    def _one(self, image: Image.Image, view: str) -> Tensor:
        how = self.preset.interpolation
        middle, resized = self._steps(image.size, view)
        if middle != (0, 0, *image.size):
            image = image.crop(middle)
        image = TF.resize(image, [resized[1], resized[0]], how)
        pixels: Tensor = TF.pil_to_tensor(TF.center_crop(image, list(self.input_size)))
        return pixels.float() / 255

    def _steps(self, size: tuple[int, int], view: str) -> tuple[tuple[int, int, int, int], tuple[int, int]]:
        """(part of the image that is resized, (width, height) that it is resized to) before the centre crop."""
        check_view(view)
        width, height = size
        if view == "whole":
            return (0, 0, width, height), (self.input_size[1], self.input_size[0])
        limit = LONGEST * min(size)
        left, top = (max(0, side - limit) // 2 for side in size)
        width, height = width - 2 * left, height - 2 * top
        short = round(self.preset.resize * self.input_size[0] / self.preset.crop)
        long = int(short * max(width, height) / min(width, height))  # torchvision's rounding
        return (left, top, left + width, top + height), (short, long) if width <= height else (long, short)

    @public
    def view_box(self, size: tuple[int, int], view: str = "crop") -> tuple[float, float, float, float]:
        """Where the network looks in an image of `size` (width, height): (left, top, right, bottom) in its pixels."""
        (left, top, right, bottom), (width, height) = self._steps(size, view)
        scale_x, scale_y = (right - left) / width, (bottom - top) / height
        x, y = int(round((width - self.input_size[1]) / 2)), int(round((height - self.input_size[0]) / 2))  # noqa: RUF046
        return (
            left + x * scale_x,
            top + y * scale_y,
            left + (x + self.input_size[1]) * scale_x,
            top + (y + self.input_size[0]) * scale_y,
        )

    @public
    def predict(self, x: Tensor, run: Run | None = None) -> Tensor:
        """Logits (N,K) on the CPU for x (N,3,H,W) in [0, 1]."""
        x = self.to_input(x)
        with self.lease(run) as module, torch.no_grad():
            logits: Tensor = module(x)
        return logits.float().cpu()

    def to_input(self, x: Tensor) -> Tensor:
        """x checked, detached, on the classifier's device and in its dtype."""
        x = self.check(x).detach().to(self.device, self.module.mean.dtype)
        return x.clone() if x.is_inference() else x  # no gradient can be taken to a tensor of inference mode

    def check(self, x: Tensor) -> Tensor:
        """x itself if it is (N,3,H,W) floating point and finite in [0, 1]; raises `InputError` otherwise."""
        if not isinstance(x, Tensor):
            raise InputError(f"x is a {type(x).__name__}; give a tensor, as preprocess(image) returns it.")
        if x.dim() != 4 or x.shape[1] != 3 or 0 in x.shape:
            raise InputError(f"x has shape {tuple(x.shape)}; give (N, 3, H, W) with N >= 1.")
        if not x.is_floating_point():
            raise InputError(f"x has dtype {x.dtype}; give floating point values in [0, 1].")
        if self.tokens is not None and self.tokens.layout == SEQUENCE and tuple(x.shape[-2:]) != self.input_size:
            raise InputError(
                f"x is {x.shape[-2]} x {x.shape[-1]}; {self.title} takes {self.input_size[0]} x {self.input_size[1]} "
                "only (its grid is fixed)."
            )
        low, high = (float(v) for v in torch.aminmax(x.detach()))
        if low != low or high != high:
            raise InputError("x holds values that are not a number (NaN); give pixels in [0, 1].")
        if not (low >= -1e-6 and high <= 1 + 1e-6):
            raise InputError(f"x ranges from {low:.3g} to {high:.3g}; give pixels in [0, 1] (the model normalises).")
        return x
