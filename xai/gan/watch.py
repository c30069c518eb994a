"""Is it collapsing? How far apart a class's images are, generated against real."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from xai.errors import InputError

COLLAPSED = 0.4
"""Below this share of the real images' distance a training is said to collapse; the target is 0.7."""

FLAT = 0.05
"""Share of the way from the first to the best KID that may be left on the quality plateau."""

MOST = 64
"""Images of a class that are compared, all with all."""


def intra_class_distance(images: Tensor, labels: Tensor, others: Tensor | None = None) -> float:
    """Mean root-mean-square pixel distance of two images of one class, averaged over classes.

    images (N,3,H,W) in [0, 1] or uint8, labels (N,): for each class the first 64 images, over all pairs
    d(a, b) = sqrt(mean((a - b)^2)). 0: every class is one image. others (M,): labels of what this is compared with; a
    class that has not two of those has no say here either, so that both averages are over the same classes. Raises
    `InputError` where no class has two images.
    """
    means = []
    for label in torch.unique(labels):
        if others is not None and int((others == label).sum()) < 2:
            continue
        rows = images[torch.nonzero(labels == label)[:MOST, 0]].flatten(1)
        rows = (rows.float() / 255 if rows.dtype == torch.uint8 else rows).double()
        count = len(rows)
        if count > 1:
            total = torch.cdist(rows, rows).sum() / rows.shape[1] ** 0.5
            means.append(float(total) / (count * (count - 1)))
    if not means:
        raise InputError("no class has two images; give at least two of one class.")
    return sum(means) / len(means)


def real_distance(images: Tensor, labels: Tensor, others: Tensor | None = None) -> float:
    """`intra_class_distance` of real images, which others are divided by; raises `InputError` where it is 0."""
    distance = intra_class_distance(images, labels, others)
    if distance == 0:
        raise InputError("the training images of every class are equal to one another; give different ones.")
    return distance


def looks(rows: Iterable[Mapping[str, Any]], kind: str = "look") -> list[Mapping[str, Any]]:
    """The looks among the rows of metrics.jsonl, one a step: a killed training takes some of them twice.

    kind: "loss" for the averages of the losses, which it takes twice too.
    """
    return list({row["step"]: row for row in rows if row.get("kind") == kind}.values())


def plateau(found: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The look at which the quality plateau was reached; None while KID still falls, as far as is known.

    It is the first with KID <= best + `FLAT` (first - best), over looks with "kid"; the last one proves nothing.
    """
    if not found:
        return None
    kids = [float(row["kid"]) for row in found]
    bound = min(kids) + FLAT * (kids[0] - min(kids))
    place = next(place for place, value in enumerate(kids) if value <= bound)
    return found[place] if 0 < place < len(kids) - 1 else None


def collapse_warning(ratio: float) -> str:
    """ "" where the samples are as different from one another as they should be; otherwise one sentence."""
    if ratio >= COLLAPSED:
        return ""
    return (
        f"the samples of a class are {ratio:.2f} times as far apart as real ones, below {COLLAPSED}: the generator is "
        "collapsing; give more data or a smaller class weight, or stop."
    )
