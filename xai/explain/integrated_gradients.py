"""Integrated gradients."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from xai.devices import double
from xai.errors import InputError
from xai.explain._gradient import logits_of, part_of, targets_of, weighted_gradients
from xai.explain.spec import METHODS, PIXEL, MethodSpec
from xai.models.classifier import Classifier, InputModel
from xai.params import Parameters
from xai.registry import Source
from xai.types import Explained, Run, resolve_target

Baseline = Literal["black", "mean", "white", "blur"]
BLUR = 0.05
"""Standard deviation of the blurred baseline, as a share of the shorter side (11 px at 224)."""
MAX_STEPS = 1000


@dataclass(frozen=True)
class IntegratedGradients(Parameters):
    """R = (x - x0) * integral over t in [0, 1] of dy_c/dx at x0 + t (x - x0), pixels in [0, 1].

    steps: points on the straight line, placed and weighted by the Gauss-Legendre rule, which is exact for polynomials
    of degree 2 steps - 1 and never evaluates the ends. baseline x0: "black", "white", "mean" (the data set's mean
    colour, zero after normalisation), or "blur" (the image under a Gaussian of 1/20 of its shorter side).

    Completeness: sum(R) = y_c(x) - y_c(x0) for the exact integral. The facts give both sides and the gap, per image.
    """

    steps: int = field(default=32, metadata={"min": 1, "max": MAX_STEPS})
    baseline: Baseline = "black"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.baseline not in get_args(Baseline):
            raise InputError(f"baseline {self.baseline!r} is not known; use {', '.join(get_args(Baseline))}.")

    def __call__(self, module: InputModel, x: Tensor, target: Tensor | None, run: Run) -> Explained:
        """x (N,3,H,W) in [0, 1] -> values (N,3,H,W), signed, in logits."""
        count, start = len(x), baseline_of(module, x, self.baseline)
        asked = targets_of(target, count)(0, count)
        ends, total = count + len(start), count * (self.steps + 1) + len(start)
        logits = logits_of(module, torch.cat([x, start]), part_of(run, 0, total), "integrated gradients: ends")
        chosen = resolve_target(logits[:count], asked)
        start_logits = logits[count:].expand(count, -1)
        path, start = x - start, start.expand_as(x)
        nodes, weights = gauss_legendre(self.steps)
        gradient = weighted_gradients(
            module,
            lambda step, images: torch.add(start[images], path[images], alpha=nodes[step]),
            weights,
            chosen,
            part_of(run, ends, total),
            "integrated gradients",
        )
        values = path * gradient
        risen = double((logits[:count] - start_logits).gather(1, chosen[:, None])[:, 0])
        summed = double(values).sum((1, 2, 3))
        facts = {
            "attribution_sum": summed.tolist(),
            "score_difference": risen.tolist(),
            "completeness_gap": (summed - risen).tolist(),
        }
        return Explained(values, logits[:count], chosen, facts)


def baseline_of(module: InputModel, x: Tensor, name: str) -> Tensor:
    """Where the path begins: (1,3,H,W) for a colour, (N,3,H,W) for the blurred images."""
    if name == "blur":
        return blurred(x, BLUR * min(x.shape[-2:]))
    if name == "mean":
        return module.mean.to(x).expand(1, *x.shape[1:])
    return torch.full_like(x[:1], 1.0 if name == "white" else 0.0)


def blurred(x: Tensor, sigma: float) -> Tensor:
    """x (N,3,H,W) under a Gaussian of `sigma` pixels, cut at three sigma, edges reflected."""
    radius = min(max(1, round(3 * sigma)), min(x.shape[-2:]) - 1)
    offsets = torch.arange(-radius, radius + 1, dtype=x.dtype, device=x.device)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = (kernel / kernel.sum()).expand(x.shape[1], 1, -1)
    padded = F.pad(x, [radius] * 4, mode="reflect")
    rows = F.conv2d(padded, kernel[..., None], groups=x.shape[1])
    return F.conv2d(rows, kernel[:, :, None], groups=x.shape[1]).clamp(0, 1)


def gauss_legendre(steps: int) -> tuple[list[float], list[float]]:
    """Nodes and weights of the Gauss-Legendre rule on [0, 1]; the weights sum to 1."""
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    return ((nodes + 1) / 2).tolist(), (weights / 2).tolist()


def passes(classifier: Classifier, explainer: Any) -> int:
    """Forward and backward at each step (3), and a forward at both ends of the path."""
    del classifier
    return 3 * int(explainer.steps) + 2


METHODS.add(
    MethodSpec(
        name="integrated_gradients",
        title="Integrated gradients",
        family="gradient",
        rank=35,
        source=Source(
            "Sundararajan et al., Axiomatic Attribution for Deep Networks, ICML 2017",
            "https://arxiv.org/abs/1703.01365",
        ),
        explainer=IntegratedGradients,
        unit=PIXEL,
        summary="What each pixel adds to the class score on the way from a baseline to the image; adds up exactly.",
        signed=True,
        passes=passes,
    )
)
