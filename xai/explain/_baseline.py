"""What the baselines share: the forward pass that gives their maps a prediction to stand beside."""

from __future__ import annotations

import torch
from torch import Tensor

from xai.models.batching import in_batches
from xai.models.classifier import InputModel
from xai.types import Explained, Run, resolve_target


def with_logits(values: Tensor, module: InputModel, x: Tensor, target: Tensor | None, run: Run) -> Explained:
    """`values` (N,h,w) as they are, with the logits and targets of x (N,3,H,W)."""

    def work(start: int, stop: int) -> Tensor:
        with torch.no_grad():
            part: Tensor = module(x[start:stop])
        return part

    logits = torch.cat([part for _, _, part in in_batches(work, len(x), run, "predictions")])
    return Explained(values, logits, resolve_target(logits, target))
