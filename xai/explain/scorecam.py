"""Score-CAM."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from xai.explain._cam import before_relu, cam_coverage, channels_at, each_image, maps_at
from xai.explain._perturb import blend, colour_of
from xai.explain.spec import METHODS, MethodSpec
from xai.models.batching import in_batches
from xai.models.classifier import Classifier, InputModel, find_layer
from xai.models.hooks import look_at
from xai.params import Parameters
from xai.registry import Source
from xai.types import Explained, Run, resolve_target, rounding


def masks_from(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """norm(up(A_k)): maps (B,h,w), none of them constant -> masks (B,1,H,W) that reach from 0 to 1.

    Upsampled first (bilinear, `align_corners=False`), then scaled by the upsampled map's own minimum and maximum.
    """
    large = F.interpolate(maps[:, None], size, mode="bilinear", align_corners=False)
    low, high = torch.aminmax(large.flatten(1), dim=1)
    return (large - low.view(-1, 1, 1, 1)) / (high - low).view(-1, 1, 1, 1)


@dataclass(frozen=True)
class ScoreCAM(Parameters):
    """L = ReLU(sum_k w_k A_k) with w = softmax over k of y_c(x * norm(up(A_k))), y_c the logit of the class.

    The product is with the normalised image, which in pixels means: blended with the mean colour where the mask is low.
    A map that is constant over the image, but for rounding, has no norm; its mask is zero everywhere, so its score is
    that of an image of the mean colour (one pass serves them all). The paper subtracts one score from all, which the
    softmax undoes.

    channels: score only the so many maps that vary most over the image (largest standard deviation) and leave the
    others out of the softmax and the sum; None takes all, as the paper does.
    """

    layer: str | None = None
    channels: int | None = field(default=None, metadata={"min": 1, "max": 65_536})

    def __call__(self, module: InputModel, x: Tensor, target: Tensor | None, run: Run) -> Explained:
        """x (N,3,H,W) in [0, 1] -> values (N,h,w) at the layer's resolution, not negative."""
        path = self.layer or ""
        find_layer(module.net, path)
        with torch.no_grad():
            return each_image(lambda one, chosen, part: self._one(module, path, one, chosen, part), x, target, run)

    def _one(self, module: InputModel, path: str, x: Tensor, target: Tensor | None, run: Run) -> Explained:
        activation, logits, _ = look_at(module, module.net, path, x)
        chosen = resolve_target(logits, target)
        maps = self._picked(maps_at(module, path, activation)[0])
        scores, scored = self._scores(module, x, int(chosen), maps, run)
        signed = torch.einsum("k,khw->hw", scores.softmax(0), maps)[None]
        facts = {**before_relu(signed), "scored": [scored]}
        return Explained(signed.clamp(min=0), logits, chosen, facts, rounding(maps.abs().amax())[None])

    def _picked(self, maps: Tensor) -> Tensor:
        if self.channels is None or self.channels >= len(maps):
            return maps
        spread = maps.flatten(1).std(1, correction=0)
        return maps[spread.topk(self.channels).indices.sort().values]

    def _scores(self, module: InputModel, x: Tensor, target: int, maps: Tensor, run: Run) -> tuple[Tensor, int]:
        """y_c for each of the maps (K,h,w) as a mask: (K,), and how many of them needed a pass of their own."""
        colour = colour_of(module, x)
        low, high = torch.aminmax(maps.flatten(1), dim=1)
        varied = (high - low > rounding(torch.maximum(high.abs(), low.abs()))).nonzero()[:, 0]
        size = (x.shape[-2], x.shape[-1])
        scores = maps.new_empty(len(maps))
        if len(varied) < len(maps):
            scores.fill_(module(colour.expand_as(x))[0, target])

        def work(start: int, stop: int) -> Tensor:
            logits: Tensor = module(blend(x, masks_from(maps[varied[start:stop]], size), colour))
            return logits[:, target]

        for start, stop, found in in_batches(work, len(varied), run, "masked passes"):
            scores[varied[start:stop]] = found.to(scores.dtype)
        return scores, len(varied)


def passes(classifier: Classifier, explainer: Any) -> int:
    """One pass for the logits, one a map, one for the maps that are constant (fewer where many are)."""
    channels = channels_at(classifier, explainer)
    return 2 + min(channels, explainer.channels or channels)


METHODS.add(
    MethodSpec(
        name="scorecam",
        title="Score-CAM",
        family="cam",
        by_gradient=False,
        rank=16,
        source=Source("Wang et al., Score-CAM, CVPR Workshops 2020", "https://arxiv.org/abs/1910.01279"),
        explainer=ScoreCAM,
        summary="Weights each feature map by the class score of the image seen through it, without gradients.",
        coverage=cam_coverage,
        passes=passes,
    )
)
