"""Attention rollout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from xai.errors import InputError
from xai.explain._attention import AttentionWeights, attention_coverage, to_grid
from xai.explain.spec import METHODS, MethodSpec
from xai.models.batching import in_batches
from xai.models.classifier import InputModel
from xai.params import Parameters
from xai.registry import Source
from xai.types import Explained, Run, resolve_target

HEADS = ("mean", "max", "min")


def rollout(weights: list[Tensor], heads: str = "mean") -> Tensor:
    """Product over the layers of A + I with rows scaled to sum 1: weights (N,heads,T,T) each -> (N,T,T).

    A is the heads' mean, maximum or minimum; for the mean, whose rows sum to 1, that is (A + I) / 2. Entry (i,j): how
    much of token i's value comes from token j of the first layer, if values were only mixed.
    """
    total: Tensor | None = None
    for each in weights:
        joined = {"mean": each.mean(1), "max": each.amax(1), "min": each.amin(1)}[heads]
        mixed = joined + torch.eye(each.shape[-1], dtype=each.dtype, device=each.device)
        mixed = mixed / mixed.sum(-1, keepdim=True)
        total = mixed if total is None else mixed @ total
    assert total is not None  # a network without attention layers is refused before
    return total


@dataclass(frozen=True)
class AttentionRollout(Parameters):
    """How much of the class token's value comes from each patch: row 0 of the product of (A + I) / 2 over the layers.

    heads: how the heads of a layer are joined; the paper takes their mean.
    """

    heads: Literal["mean", "max", "min"] = "mean"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.heads not in HEADS:
            raise InputError(f"heads is {self.heads!r}; choose from {', '.join(HEADS)}.")

    def __call__(self, module: InputModel, x: Tensor, target: Tensor | None, run: Run) -> Explained:
        """x (N,3,H,W) in [0, 1] -> values (N,h,w) on the grid of patches, not negative, the same for every class."""

        def work(start: int, stop: int) -> tuple[Tensor, Tensor]:
            with torch.no_grad(), AttentionWeights() as seen:
                logits = module(x[start:stop])
            return to_grid(module, rollout(seen.found, self.heads)[:, 0]), logits

        found = [part for _, _, part in in_batches(work, len(x), run, "attention rollout")]
        values, logits = (torch.cat(column) for column in zip(*found, strict=True))
        return Explained(values, logits, resolve_target(logits, target))


METHODS.add(
    MethodSpec(
        name="attention_rollout",
        title="Attention rollout",
        family="attention",
        by_gradient=False,
        rank=60,
        source=Source(
            "Abnar & Zuidema, Quantifying Attention Flow in Transformers, ACL 2020", "https://arxiv.org/abs/2005.00928"
        ),
        explainer=AttentionRollout,
        summary="From which patches the class token's value was mixed together, through all layers.",
        per_class=False,
        from_lowest=True,
        coverage=attention_coverage,
        caution="Does not depend on the class: it follows where attention goes, not what speaks for this class.",
    )
)
