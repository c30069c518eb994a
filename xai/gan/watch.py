"""Is it collapsing? How far apart a class's images are, generated against real."""

from __future__ import annotations

import torch
from torch import Tensor

from xai.errors import InputError

COLLAPSED = 0.4
"""Below this share of the real images' distance a training is said to collapse; the target is 0.7."""

MOST = 64
"""Images of a class that are compared, all with all."""


def intra_class_distance(images: Tensor, labels: Tensor) -> float:
    """Mean root-mean-square pixel distance of two images of one class, averaged over classes.

    images (N,3,H,W) in [0, 1], labels (N,): for each class the first 64 images, d(a, b) = sqrt(mean((a - b)^2)) over
    all pairs. 0: every class is one image. Raises `InputError` where no class has two images.
    """
    means = []
    for label in torch.unique(labels):
        rows = images[labels == label][:MOST].flatten(1).double()
        count = len(rows)
        if count > 1:
            total = torch.cdist(rows, rows).sum() / rows.shape[1] ** 0.5
            means.append(float(total) / (count * (count - 1)))
    if not means:
        raise InputError("no class has two images; give at least two of one class.")
    return sum(means) / len(means)


def collapse_warning(ratio: float) -> str:
    """ "" where the samples are as different from one another as they should be; otherwise one sentence."""
    if ratio >= COLLAPSED:
        return ""
    return (
        f"the samples of a class are {ratio:.2f} times as far apart as real ones, below {COLLAPSED}: the generator is "
        "collapsing; give more data or a smaller class weight, or stop."
    )
