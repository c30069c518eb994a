"""Two classifications of the same images: how much their figures differ, with paired intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import torch

from xai.errors import InputError
from xai.stats.intervals import LEVEL, Interval, bootstrap_mean, paired_shares
from xai.training.figures import Floats, Ints, influence, placements
from xai.words import counted

PROTOCOL = (
    "differences over the same images, with paired 95 % intervals: accuracy by Tango's score interval (1998), AUC by "
    "DeLong's covariance (1988), of more than two classes the mean of each against the rest, loss by a bootstrap over "
    "images; an interval that holds 0 shows no difference"
)


@dataclass(frozen=True)
class Difference:
    """First less second over the same n images. auc: None where a class has no image, or all."""

    n: int
    accuracy: Interval
    loss: Interval
    auc: Interval | None

    def verdict(self, first: str, second: str) -> str:
        """Which of two is more accurate, where that is shown."""
        found = self.accuracy
        points = (
            f"{100 * found.mean:+.1f} points [{100 * found.low:+.1f}, {100 * found.high:+.1f}] "
            f"on {counted(self.n, 'image')}"
        )
        if found.low > 0:
            return f"{first} is more accurate than {second}: {points}."
        if found.high < 0:
            return f"{second} is more accurate than {first}: {points}."
        return f"No difference in accuracy is shown between {first} and {second}: {points}."


def difference(labels: Sequence[int] | Ints, first: Any, second: Any, seed: int = 0) -> Difference:
    """How two networks' probabilities (N,K) for the same labelled images (N,) differ.

    Raises `InputError` for shapes that do not fit.
    """
    y = np.asarray(labels, np.int64)
    p, q = (np.asarray(each, np.float64) for each in (first, second))
    if y.ndim != 1 or len(y) == 0 or p.shape != q.shape or p.ndim != 2 or len(p) != len(y):
        raise InputError(f"labels are {y.shape}, probabilities {p.shape} and {q.shape}; give those of the same images.")
    hit = [each.argmax(1) == y for each in (p, q)]
    accuracy = paired_shares(int((hit[0] & ~hit[1]).sum()), int((hit[1] & ~hit[0]).sum()), len(y))
    tiny = np.finfo(np.float64).tiny
    losses = [-np.log(np.clip(each[np.arange(len(y)), y], tiny, 1)) for each in (p, q)]
    loss = bootstrap_mean(torch.from_numpy(losses[0] - losses[1]), seed)
    return Difference(len(y), accuracy, loss, _auc(y, p, q))


def _auc(y: Ints, p: Floats, q: Floats) -> Interval | None:
    """The difference of the AUC with DeLong's interval; None where a class lacks images, or has too few."""
    classes = [1] if p.shape[1] == 2 else list(range(p.shape[1]))
    total, parts = 0.0, np.zeros(len(y))
    for k in classes:
        truth = y == k
        if min(truth.sum(), (~truth).sum()) < 2:
            return None
        (one, a), (two, b) = (placements(truth, each[:, k]) for each in (p, q))
        total += (one - two) / len(classes)
        parts += influence(truth, a - b) / len(classes)
    half = NormalDist().inv_cdf((1 + LEVEL) / 2) * float(np.sqrt((parts**2).sum()))
    return Interval(total, total - half, total + half, len(y))
