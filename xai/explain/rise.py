"""RISE."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from xai.errors import InputError
from xai.explain._cam import each_image
from xai.explain._perturb import blend, colour_of
from xai.explain.spec import METHODS, MethodSpec
from xai.models.batching import in_batches
from xai.models.classifier import Classifier, InputModel
from xai.params import Parameters
from xai.registry import Source
from xai.types import Explained, Run, resolve_target

DRAWN = 4096
"""Grids whose random numbers are in memory together."""


def mask_maker(
    count: int, cells: int, p: float, like: Tensor, generator: torch.Generator
) -> Callable[[int, int], Tensor]:
    """masks(start, stop) -> (stop - start,1,H,W) in [0, 1], for the H, W, dtype and device of `like` (N,3,H,W).

    A grid of cells x cells, each on with probability p, is upsampled bilinearly (`align_corners=False`) to
    (cells + 1) * ceil(H / cells) pixels and cropped to H at a random offset below ceil(H / cells); the width likewise.
    Only grids and offsets are drawn beforehand and kept. As the upsampling is linear and separable, a mask is
    rows @ grid @ columns, the rows being those of the upsampling matrix from the offset on: no larger image is made.
    """
    # In pieces of the one random sequence: as numbers, many large grids would need four times their memory.
    pieces = [min(DRAWN, count - start) for start in range(0, count, DRAWN)]
    grids = torch.cat([torch.rand(each, cells, cells, generator=generator) < p for each in pieces]).to(like.device)
    sides = []
    for length in like.shape[-2:]:
        step = math.ceil(length / cells)
        unit = torch.eye(cells, dtype=like.dtype, device=like.device)[None]
        matrix = F.interpolate(unit, (cells + 1) * step, mode="linear", align_corners=False)[0].T  # (up, cells)
        offsets = torch.randint(step, (count, 1), generator=generator)
        sides.append((matrix, offsets.to(like.device), torch.arange(length, device=like.device)))
    (down, tops, rows), (across, lefts, columns) = sides

    def masks(start: int, stop: int) -> Tensor:
        upper, left = down[tops[start:stop] + rows], across[lefts[start:stop] + columns]
        found = upper @ grids[start:stop].to(like) @ left.mT  # (B,H,W)
        return found[:, None]

    return masks


@dataclass(frozen=True)
class RISE(Parameters):
    """S = 1 / (N p) sum_n f_c(x * M_n) M_n, f_c the probability of the class, M_n random smooth masks.

    The product is with the normalised image: in pixels, a blend with the mean colour. The masks depend on the seed
    alone, so all images of a call are seen through the same ones.

    masks: N; the paper takes 4000 for VGG16 and 8000 for ResNet50, which is minutes on a CPU; the noise of the map
    falls with sqrt(N). cells: cells of a mask's grid along each side (paper: 7). p: share of cells that stay (0.5).
    """

    masks: int = field(default=1000, metadata={"min": 1, "max": 100_000})
    cells: int = field(default=7, metadata={"min": 2, "max": 64})
    p: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.p < 1:
            raise InputError(f"p is {self.p}; give a share between 0 and 1.")

    def grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """How fine the map is: the masks' cells, though every pixel has a value."""
        return (self.cells, self.cells)

    def __call__(self, module: InputModel, x: Tensor, target: Tensor | None, run: Run) -> Explained:
        """x (N,3,H,W) in [0, 1] -> values (N,H,W), not negative: about the probability where a pixel is kept."""
        if self.cells > min(x.shape[-2:]):
            raise InputError(f"cells is {self.cells}, more than the image's {min(x.shape[-2:])} px; give fewer.")
        make = mask_maker(self.masks, self.cells, self.p, x, run.generator("rise"))
        with torch.no_grad():
            return each_image(lambda one, chosen, part: self._one(module, make, one, chosen, part), x, target, run)

    def _one(
        self, module: InputModel, make: Callable[[int, int], Tensor], x: Tensor, target: Tensor | None, run: Run
    ) -> Explained:
        logits = module(x)
        chosen = resolve_target(logits, target)
        colour = colour_of(module, x)
        total = torch.zeros(x.shape[-2] * x.shape[-1], dtype=x.dtype, device=x.device)

        def work(start: int, stop: int) -> tuple[Tensor, Tensor]:
            masks = make(start, stop)
            answer: Tensor = module(blend(x, masks, colour))
            return masks, module.output.probabilities(answer)[:, chosen[0]]

        for _, _, (masks, probability) in in_batches(work, self.masks, run, "masked passes"):
            total += probability.to(total.dtype) @ masks.flatten(1)
        values = total.view(1, *x.shape[-2:]) / (self.masks * self.p)
        return Explained(values, logits, chosen, {"masks": [self.masks]})


def passes(classifier: Classifier, explainer: Any) -> int:
    """One pass for the logits and one a mask."""
    del classifier
    return 1 + int(explainer.masks)


METHODS.add(
    MethodSpec(
        name="rise",
        title="RISE",
        family="perturbation",
        by_gradient=False,
        rank=51,
        source=Source("Petsiuk et al., RISE, BMVC 2018", "https://arxiv.org/abs/1806.07421"),
        explainer=RISE,
        summary="Looks at the image through many random masks and averages those through which the class is seen.",
        passes=passes,
        from_lowest=True,
        caution="A random estimate: other seeds give somewhat other maps, fewer masks noisier ones.",
    )
)
