"""Occlusion."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from xai.errors import InputError
from xai.explain._cam import each_image
from xai.explain._perturb import Fill, check_fill, colour_of
from xai.explain.spec import METHODS, MethodSpec
from xai.models.batching import in_batches
from xai.models.classifier import Classifier, InputModel
from xai.params import Parameters
from xai.registry import Source
from xai.types import Explained, Run, resolve_target, rounding


def starts(length: int, window: int, stride: int) -> list[int]:
    """Where windows begin along a side: 0, stride, 2 stride ..., the last one moved flush with the end of the side.

    Every window has its full size, and every pixel is covered. Raises `InputError` for a window wider than the side.
    """
    if window > length:
        raise InputError(f"window is {window} px, more than the image's {length} px; give a smaller window.")
    return [min(k * stride, length - window) for k in range(math.ceil((length - window) / stride) + 1)]


def covers(begin: list[int], window: int, length: int, like: Tensor) -> Tensor:
    """1 where a window lies over a pixel, else 0: (windows, length)."""
    first = torch.tensor(begin, device=like.device)[:, None]
    place = torch.arange(length, device=like.device)
    return ((place >= first) & (place < first + window)).to(like.dtype)


@dataclass(frozen=True)
class Occlusion(Parameters):
    """How far the class's logit falls when a square is painted over: y_c(x) - y_c(x with the square filled).

    A pixel's value is the mean over the windows that cover it, in logits: positive where hiding speaks against the
    class, negative where it helps. The logit is taken because a confident probability hardly moves.

    window: side of the square, stride: its step, both in pixels of the network's input. fill: colour of the square.
    """

    window: int = field(default=32, metadata={"min": 1, "max": 4096})
    stride: int = field(default=16, metadata={"min": 1, "max": 4096})
    fill: Fill = "mean"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fill(self.fill)
        if self.stride > self.window:
            raise InputError(
                f"stride is {self.stride} px; give 1 to window ({self.window}), so that no pixel is missed."
            )

    def grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """How fine the map is: the windows' places in an image of `size` (H,W), though every pixel has a value."""
        tops, lefts = (starts(side, self.window, self.stride) for side in size)
        return (len(tops), len(lefts))

    def __call__(self, module: InputModel, x: Tensor, target: Tensor | None, run: Run) -> Explained:
        """x (N,3,H,W) in [0, 1] -> signed values (N,H,W) in logits."""
        with torch.no_grad():
            return each_image(lambda one, chosen, part: self._one(module, one, chosen, part), x, target, run)

    def _one(self, module: InputModel, x: Tensor, target: Tensor | None, run: Run) -> Explained:
        height, width = x.shape[-2:]
        tops, lefts = (starts(side, self.window, self.stride) for side in (height, width))
        colour = colour_of(module, x, self.fill)[0]
        logits = module(x)
        chosen = resolve_target(logits, target)
        score = logits[0, chosen[0]]

        def work(start: int, stop: int) -> Tensor:
            hidden = x.repeat(stop - start, 1, 1, 1)
            for image, index in zip(hidden, range(start, stop), strict=True):
                top, left = tops[index // len(lefts)], lefts[index % len(lefts)]
                image[:, top : top + self.window, left : left + self.window] = colour
            drop: Tensor = score - module(hidden)[:, chosen[0]]
            return drop

        total = len(tops) * len(lefts)
        drops = torch.cat([found for _, _, found in in_batches(work, total, run, "occluded passes")])
        down, across = covers(tops, self.window, height, drops), covers(lefts, self.window, width, drops)
        summed = down.T @ drops.view(len(tops), len(lefts)) @ across  # (H,W)
        times = down.sum(0)[:, None] * across.sum(0)
        floor = rounding(logits.abs().amax(1))
        return Explained((summed / times)[None], logits, chosen, {"windows": [total]}, floor)


def passes(classifier: Classifier, explainer: Any) -> int:
    """One pass for the logits and one a window."""
    sides = (len(starts(side, explainer.window, explainer.stride)) for side in classifier.input_size)
    return 1 + math.prod(sides)


METHODS.add(
    MethodSpec(
        name="occlusion",
        title="Occlusion",
        family="perturbation",
        by_gradient=False,
        rank=50,
        source=Source(
            "Zeiler & Fergus, Visualizing and Understanding Convolutional Networks, ECCV 2014",
            "https://arxiv.org/abs/1311.2901",
        ),
        explainer=Occlusion,
        summary="How far the class score falls when a square of the image is hidden.",
        signed=True,
        passes=passes,
        caution="A painted square is itself something to see: other colours and sizes give other maps.",
    )
)
