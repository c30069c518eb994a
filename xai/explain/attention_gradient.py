"""Gradient-weighted attention."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from xai.explain._attention import AttentionWeights, attention_coverage, to_grid, used_of
from xai.explain.spec import METHODS, MethodSpec
from xai.models.batching import in_batches
from xai.models.classifier import Classifier, InputModel
from xai.params import Parameters
from xai.registry import Source
from xai.types import Explained, Run, one_each, resolve_target


def relevance(weights: list[Tensor], gradients: list[Tensor]) -> Tensor:
    """R <- R + E_h[(grad A * A)^+] R from R = I, layer by layer: (N,heads,T,T) each -> (N,T,T)."""
    size = weights[0].shape[-1]
    total = torch.eye(size, dtype=weights[0].dtype, device=weights[0].device).expand(len(weights[0]), -1, -1)
    for each, gradient in zip(weights, gradients, strict=True):
        total = total + (gradient * each).clamp(min=0).mean(1) @ total
    return total


@dataclass(frozen=True)
class AttentionGradient(Parameters):
    """What attention carries to the class token from each patch, counted where it raises the class score.

    R <- R + E_h[(dy_c/dA * A)^+] R over the layers, starting from the identity; the map is the class token's row. This
    is the self-attention rule of the paper's method for transformers with one stream.
    """

    def __call__(self, module: InputModel, x: Tensor, target: Tensor | None, run: Run) -> Explained:
        """x (N,3,H,W) in [0, 1] -> values (N,h,w) on the grid of patches, not negative."""
        chosen = one_each(target, len(x)) if target is not None else None

        def work(start: int, stop: int) -> tuple[Tensor, Tensor, Tensor]:
            part = x[start:stop].detach().requires_grad_()  # what makes the attention weights part of a graph
            with torch.enable_grad(), AttentionWeights() as seen:
                logits = module(part)
            picked = resolve_target(logits, None if chosen is None else chosen[start:stop])
            score = logits.gather(1, picked[:, None]).sum()
            slopes = torch.autograd.grad(score, [used_of(each) for each in seen.found])
            gradients = [slope.view_as(each) for slope, each in zip(slopes, seen.found, strict=True)]
            weights = [each.detach() for each in seen.found]
            return to_grid(module, relevance(weights, gradients)[:, 0]), logits.detach(), picked

        found = [part for _, _, part in in_batches(work, len(x), run, "gradient-weighted attention")]
        values, logits, picked = (torch.cat(column) for column in zip(*found, strict=True))
        return Explained(values, logits, picked)


def passes(classifier: Classifier, explainer: object) -> int:
    """A forward and a backward."""
    del classifier, explainer
    return 3


METHODS.add(
    MethodSpec(
        name="attention_gradient",
        title="Gradient-weighted attention",
        family="attention",
        rank=61,
        source=Source(
            "Chefer et al., Generic Attention-model Explainability, ICCV 2021", "https://arxiv.org/abs/2103.15679"
        ),
        explainer=AttentionGradient,
        summary="Which patches attention brings to the answer, counted where that raises the class score.",
        coverage=attention_coverage,
        passes=passes,
    )
)
