"""Eigen-CAM."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from xai.devices import double
from xai.explain._cam import before_relu, cam_coverage, maps_at
from xai.explain.spec import METHODS, MethodSpec
from xai.models.batching import in_batches
from xai.models.classifier import InputModel, find_layer
from xai.models.hooks import look_at
from xai.params import Parameters
from xai.registry import Source
from xai.types import Explained, Run, resolve_target, rounding

ACTIVITY = 1e-4
"""Least spread of the channels' mean, as a share of the channels' own, for it to say where the layer is active."""

DECIDED = 0.01
"""Least size of what decides (correlation, skewness, share between two components) that rounding does not turn over."""


def first_component(maps: Tensor) -> tuple[Tensor, str]:
    """Projection of each position on the first principal component of the channels, (C,h,w) -> (h,w), and a note.

    M (h*w,C) is centred over the positions and the map is M v, v the eigenvector of M'M with the largest eigenvalue.
    Of v and -v the one is taken whose map correlates with the mean over the channels: where the layer is active. Behind
    a LayerNorm that mean is the same everywhere; there the map with the positive skewness is taken, whose few strongest
    positions are positive: what stands out. The note says where neither decides, or where two components are equally
    strong; "" elsewhere. Computed in float64 from the smaller of M'M (C,C) and M M' (h*w,h*w).
    """
    rows = double(maps).flatten(1)  # (C,P)
    rows = rows - rows.mean(1, keepdim=True)
    if rows.shape[0] <= rows.shape[1]:
        sizes, vectors = torch.linalg.eigh(rows @ rows.T)
        found: Tensor = vectors[:, -1] @ rows  # (P,)
    else:
        sizes, vectors = torch.linalg.eigh(rows.T @ rows)
        found = vectors[:, -1] * sizes[-1].clamp(min=0).sqrt()
    lean = _lean(found, rows)
    found = found if lean >= 0 else -found
    note = ""
    if abs(lean) < DECIDED:
        note = "Undecided: its sign. Nothing tells which side of the component stands out, so bright and dark may swap."
    elif len(sizes) > 1 and float(sizes[-1] - sizes[-2]) < DECIDED * float(sizes[-1]):
        note = "Undecided: two components vary equally, so a tiny change of the pixels may bring the other one."
    return found.to(maps).view(maps.shape[1:]), note


def _lean(found: Tensor, rows: Tensor) -> float:
    """Which of the component (P,) and its negative to take, -1 to 1 or a skewness; rows (C,P) are centred."""
    activity, size = rows.mean(0), found.norm()
    if float(activity.norm()) > ACTIVITY * float(rows.square().mean(0).sum().sqrt()):
        return float(found @ activity / (size * activity.norm()))
    return float((found / size).pow(3).sum() * len(found) ** 0.5) if float(size) > 0 else 0.0


@dataclass(frozen=True)
class EigenCAM(Parameters):
    """L = ReLU of the first principal component of the layer's maps; layer None is the network's default layer.

    The paper leaves the maps uncentred, and its map then is mostly their mean; pytorch-grad-cam centres them, and so
    does this. An eigenvector has no sign of its own: see `first_component` for the choice. facts: note where it
    is open.
    """

    layer: str | None = None

    def __call__(self, module: InputModel, x: Tensor, target: Tensor | None, run: Run) -> Explained:
        """x (N,3,H,W) in [0, 1] -> values (N,h,w) at the layer's resolution, not negative, the same for every class."""
        path = self.layer or ""
        find_layer(module.net, path)

        notes: dict[int, str] = {}

        def work(start: int, stop: int) -> tuple[Tensor, ...]:
            activation, logits, _ = look_at(module, module.net, path, x[start:stop])
            maps = maps_at(module, path, activation)
            found = [first_component(each) for each in maps]
            notes.update(enumerate((note for _, note in found), start))
            floor = rounding(maps.abs().amax((1, 2, 3)) * maps.shape[1] ** 0.5, 10.0)
            return torch.stack([each for each, _ in found]), logits, floor

        found = [part for _, _, part in in_batches(work, len(x), run, "principal components")]
        signed, logits, floor = (torch.cat(column) for column in zip(*found, strict=True))
        facts = {**before_relu(signed), "note": [notes[index] for index in range(len(x))]}
        return Explained(signed.clamp(min=0), logits, resolve_target(logits, target), facts, floor)


METHODS.add(
    MethodSpec(
        name="eigencam",
        title="Eigen-CAM",
        family="cam",
        by_gradient=False,
        rank=15,
        source=Source("Muhammad & Yeasin, Eigen-CAM, IJCNN 2020", "https://arxiv.org/abs/2008.00299"),
        explainer=EigenCAM,
        summary="Where the feature maps vary together most, whatever the class.",
        per_class=False,
        coverage=cam_coverage,
        caution="Does not depend on the class: it shows what stands out to the network, not why it chose this class.",
    )
)
