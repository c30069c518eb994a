"""Eigen-CAM."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from xai.batching import in_batches
from xai.explain._cam import before_relu, cam_coverage, maps_at
from xai.explain._spec import METHODS, MethodSpec
from xai.hooks import look_at
from xai.models.classifier import InputModel, find_layer
from xai.registry import Source
from xai.types import Explained, Run, resolve_target


def first_component(maps: Tensor) -> Tensor:
    """The projection of each position on the first principal component of the channels: (C,h,w) -> (h,w).

    M (h*w,C) is centred over the positions and the map is M v, v the eigenvector of M'M with the largest eigenvalue.
    Of v and -v the one is taken whose map does not correlate negatively with the mean over the channels. Computed in
    float64 from the smaller of M'M (C,C) and M M' (h*w,h*w).
    """
    rows = maps.flatten(1).double()  # (C,P)
    rows = rows - rows.mean(1, keepdim=True)
    if rows.shape[0] <= rows.shape[1]:
        found: Tensor = torch.linalg.eigh(rows @ rows.T).eigenvectors[:, -1] @ rows  # (P,)
    else:
        sizes, vectors = torch.linalg.eigh(rows.T @ rows)
        found = vectors[:, -1] * sizes[-1].clamp(min=0).sqrt()
    if float(found @ rows.mean(0)) < 0:
        found = -found
    return found.to(maps.dtype).view(maps.shape[1:])


@dataclass(frozen=True)
class EigenCAM:
    """L = ReLU of the first principal component of the layer's maps; layer None is the network's default layer.

    The paper leaves the maps uncentred, and its map then is mostly their mean; pytorch-grad-cam centres them, and so
    does this. An eigenvector has no sign of its own: see `first_component` for the choice.
    """

    layer: str | None = None

    def __call__(self, module: InputModel, x: Tensor, target: Tensor | None, run: Run) -> Explained:
        """x (N,3,H,W) in [0, 1] -> values (N,h,w) at the layer's resolution, not negative, the same for every class."""
        path = self.layer or ""
        find_layer(module.net, path)

        def work(start: int, stop: int) -> tuple[Tensor, Tensor]:
            activation, logits, _ = look_at(module, module.net, path, x[start:stop])
            maps = maps_at(module, path, activation)
            return torch.stack([first_component(each) for each in maps]), logits

        found = [part for _, _, part in in_batches(work, len(x), run, "principal components")]
        signed, logits = (torch.cat(column) for column in zip(*found, strict=True))
        return Explained(signed.clamp(min=0), logits, resolve_target(logits, target), before_relu(signed))


METHODS.add(
    MethodSpec(
        name="eigencam",
        title="Eigen-CAM",
        family="cam",
        rank=15,
        source=Source("Muhammad & Yeasin, Eigen-CAM, IJCNN 2020", "https://arxiv.org/abs/2008.00299"),
        explainer=EigenCAM,
        summary="Where the feature maps vary together most, whatever the class.",
        per_class=False,
        coverage=cam_coverage,
        caution="Does not depend on the class: it shows what stands out to the network, not why it chose this class.",
    )
)
