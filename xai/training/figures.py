"""Figures of a classification: confusion matrix, rates by class, curves, calibration, thresholds, with their intervals.

Maths that scikit-learn has is scikit-learn's; specificity, calibration and the threshold table are worked out here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xai.errors import InputError
from xai.public import public
from xai.stats.intervals import LEVEL, auc_interval, wilson

BINS = 10
"""Bins of the calibration, of equal width."""

THRESHOLDS = 101
"""Thresholds of the table, from 0 to 1."""

FEW = 30
"""Images below which a figure gets a caution beside its interval."""

Ends = tuple[float, float]
"""The low and the high end of a 95 % interval."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

PROTOCOL: Mapping[str, str] = MappingProxyType(
    {
        "accuracy": "share of images whose most probable class is the label; higher is better",
        "loss": "mean cross-entropy in nats, without the L2 term; lower is better",
        "precision": "TP / (TP + FP) of a class; null where nothing was taken for it",
        "recall": "TP / (TP + FN) of a class (sensitivity); null where it has no image",
        "specificity": "TN / (TN + FP) of a class; null where all images are of it",
        "f1": "2 TP / (2 TP + FP + FN) of a class",
        "auc": "area under the ROC curve; two classes: of the second class, more: mean of each class against the rest",
        "average_precision": "step-wise area under the precision-recall curve; two classes: of the second class, more: "
        "mean of each class against the rest",
        "ece": f"expected calibration error: over {BINS} equal bins of the winning probability, the mean distance "
        "between it and the accuracy, weighted by images; lower is better",
        "intervals": "95 %, over other images of the same kind, for this network: Wilson's for accuracy, precision, "
        "recall and specificity; F1 from Wilson's of TP / (TP + FP + FN); AUC by Newcombe's method 5 (2006); average "
        "precision as a share of the class's images, Wilson's; means over classes: of precision and recall as of "
        "independent classes, of the AUC by DeLong's covariance on the logit scale, of the others the means of the "
        "ends, which is wide",
    }
)
"""How each number is made."""


@dataclass(frozen=True)
class ClassFigures:
    """One class against the rest; None where there is nothing to divide by. intervals: by the figure's name."""

    name: str
    support: int
    precision: float | None
    recall: float | None
    specificity: float | None
    f1: float | None
    auc: float | None
    average_precision: float | None
    intervals: Mapping[str, Ends | None]


@dataclass(frozen=True)
class Bin:
    """One bar of a calibration diagram: of the images whose winning probability is in (low, high]."""

    low: float
    high: float
    count: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True)
class Figures:
    """Everything at a glance. confusion: rows are labels, columns predictions. macro: means over classes.

    intervals: of accuracy, AUC, average precision and, named "macro_...", of the means over classes.
    """

    classes: tuple[str, ...]
    count: int
    confusion: tuple[tuple[int, ...], ...]
    accuracy: float
    loss: float
    by_class: tuple[ClassFigures, ...]
    macro: Mapping[str, float | None]
    auc: float | None
    average_precision: float | None
    ece: float
    bins: tuple[Bin, ...]
    intervals: Mapping[str, Ends | None]

    def plain(self) -> dict[str, Any]:
        """As JSON holds it, with the protocol."""
        return {**asdict(self), "protocol": dict(PROTOCOL)}


@public
def figures(labels: Sequence[int] | Ints, probabilities: Any, classes: Sequence[str]) -> Figures:
    """All figures of labels (N,) and probabilities (N,K) for `classes`.

    Raises `InputError` for shapes that do not fit, no image, or rows that are no probabilities.
    """
    from sklearn.metrics import confusion_matrix

    y, p = _checked(labels, probabilities, len(classes))
    predicted = p.argmax(1)
    matrix = confusion_matrix(y, predicted, labels=range(len(classes)))
    by_class = tuple(_of_class(name, index, matrix, y, p) for index, name in enumerate(classes))
    names = ("precision", "recall", "specificity", "f1", "auc", "average_precision")
    macro = {name: _mean([getattr(each, name) for each in by_class]) for name in names}
    pair = len(classes) == 2
    bins = calibration(y, p)
    ends = {f"macro_{name}": _mean_ends(by_class, name) for name in names}
    ends["macro_auc"] = _mean_auc_ends(y, p) or ends["macro_auc"]
    right = int((predicted == y).sum())
    intervals = {
        "accuracy": share_ends(right, len(y)),
        **{name: by_class[1].intervals[name] if pair else ends[f"macro_{name}"] for name in names[-2:]},
        **ends,
    }
    return Figures(
        classes=tuple(classes),
        count=len(y),
        confusion=tuple(tuple(int(value) for value in row) for row in matrix),
        accuracy=right / len(y),
        loss=float(-np.log(np.clip(p[np.arange(len(y)), y], np.finfo(np.float64).tiny, 1)).mean()),
        by_class=by_class,
        macro=macro,
        auc=by_class[1].auc if pair else macro["auc"],
        average_precision=by_class[1].average_precision if pair else macro["average_precision"],
        ece=sum(each.count * abs((each.confidence or 0) - (each.accuracy or 0)) for each in bins) / len(y),
        bins=bins,
        intervals=intervals,
    )


def calibration(labels: Ints, probabilities: Floats, bins: int = BINS) -> tuple[Bin, ...]:
    """Winning probability against accuracy in `bins` bins of equal width."""
    confidence = probabilities.max(1)
    right = probabilities.argmax(1) == labels
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    found = []
    for index in range(bins):
        inside = place == index
        some = bool(inside.any())
        found.append(
            Bin(
                index / bins,
                (index + 1) / bins,
                int(inside.sum()),
                float(confidence[inside].mean()) if some else None,
                float(right[inside].mean()) if some else None,
            )
        )
    return tuple(found)


def roc(labels: Sequence[int] | Ints, scores: Any, positive: int = 1) -> dict[str, list[float]]:
    """The ROC curve of a class's probability, (N,): false positive rate, true positive rate, threshold."""
    from sklearn.metrics import roc_curve

    truth, p = _binary(labels, scores, positive)
    x, y, thresholds = roc_curve(truth, p)
    return {"x": x.tolist(), "y": y.tolist(), "threshold": np.clip(thresholds, 0, 1).tolist()}


def precision_recall(labels: Sequence[int] | Ints, scores: Any, positive: int = 1) -> dict[str, list[float]]:
    """The precision-recall curve of a class's probability, (N,): recall, precision, threshold (the last is 1)."""
    from sklearn.metrics import precision_recall_curve

    truth, p = _binary(labels, scores, positive)
    precision, recall, thresholds = precision_recall_curve(truth, p)
    return {"x": recall.tolist(), "y": precision.tolist(), "threshold": [*thresholds.tolist(), 1.0]}


def at_threshold(labels: Sequence[int] | Ints, scores: Any, threshold: float) -> dict[str, float | int | None]:
    """Two classes: every count and rate if class 1 is said from probability `threshold` on."""
    truth, p = _binary(labels, scores, 1)
    said = p >= threshold
    tp, fp = int((said & truth).sum()), int((said & ~truth).sum())
    fn, tn = int((~said & truth).sum()), int((~said & ~truth).sum())
    return {
        "threshold": float(threshold),
        "tp": tp,
        "fp": fp,
        "tn": tn,
        "fn": fn,
        "accuracy": (tp + tn) / len(p),
        "precision": _over(tp, tp + fp),
        "recall": _over(tp, tp + fn),
        "specificity": _over(tn, tn + fp),
        "f1": _over(2 * tp, 2 * tp + fp + fn),
    }


def rate_ends(tp: int, fp: int, tn: int, fn: int) -> dict[str, Ends | None]:
    """Intervals of accuracy, precision, recall, specificity and F1 from the counts of one class against the rest."""
    jaccard = share_ends(tp, tp + fp + fn)  # F1 = 2 J / (1 + J) rises with it
    return {
        "accuracy": share_ends(tp + tn, tp + fp + tn + fn),
        "precision": share_ends(tp, tp + fp),
        "recall": share_ends(tp, tp + fn),
        "specificity": share_ends(tn, tn + fp),
        "f1": None if jaccard is None else (2 * jaccard[0] / (1 + jaccard[0]), 2 * jaccard[1] / (1 + jaccard[1])),
    }


def share_ends(hits: float, of: int) -> Ends | None:
    """The ends of a share's Wilson interval; None of nothing."""
    if not of:
        return None
    found = wilson(min(hits, of), of)  # a sum of shares can be above by its last bit
    return found.low, found.high


def caution(images: int) -> str:
    """What to keep in mind where so few images are measured; "" where they are enough."""
    if images >= FEW:
        return ""
    low = wilson(images, images).low
    one = "1 validation image" if images == 1 else f"{images} validation images"
    return f"Only {one}: even if all are right, that still fits an accuracy of {low:.0%}."


def threshold_table(labels: Sequence[int] | Ints, scores: Any, count: int = THRESHOLDS) -> list[dict[str, Any]]:
    """`at_threshold` for `count` thresholds from 0 to 1: what a slider moves through."""
    return [at_threshold(labels, scores, index / (count - 1)) for index in range(count)]


def _of_class(name: str, index: int, matrix: Ints, y: Ints, p: Floats) -> ClassFigures:
    from sklearn.metrics import average_precision_score, roc_auc_score

    tp = int(matrix[index, index])
    fn, fp = int(matrix[index].sum()) - tp, int(matrix[:, index].sum()) - tp
    tn = int(matrix.sum()) - tp - fn - fp
    truth = y == index
    both = bool(truth.any()) and not bool(truth.all())
    auc = float(roc_auc_score(truth, p[:, index])) if both else None
    area = float(average_precision_score(truth, p[:, index])) if both else None
    intervals = rate_ends(tp, fp, tn, fn)
    del intervals["accuracy"]
    if auc is not None and area is not None:
        found = auc_interval(min(auc, 1.0), tp + fn, fp + tn)
        intervals |= {"auc": (found.low, found.high), "average_precision": share_ends(area * (tp + fn), tp + fn)}
    else:
        intervals |= {"auc": None, "average_precision": None}
    return ClassFigures(
        name=name,
        support=tp + fn,
        precision=_over(tp, tp + fp),
        recall=_over(tp, tp + fn),
        specificity=_over(tn, tn + fp),
        f1=_over(2 * tp, 2 * tp + fp + fn),
        auc=auc,
        average_precision=area,
        intervals=intervals,
    )


def _checked(labels: Sequence[int] | Ints, probabilities: Any, classes: int) -> tuple[Ints, Floats]:
    y = np.asarray(labels, dtype=np.int64)
    p = np.asarray(probabilities, dtype=np.float64)
    if y.ndim != 1 or len(y) == 0 or p.shape != (len(y), classes):
        raise InputError(f"labels are {y.shape} and probabilities {p.shape}; give (N,) and (N, {classes}), N >= 1.")
    if y.min() < 0 or y.max() >= classes:
        raise InputError(f"labels go from {y.min()} to {y.max()}; there are classes 0 to {classes - 1}.")
    if not np.allclose(p.sum(1), 1, atol=1e-3) or p.min() < 0:
        raise InputError("probabilities do not add up to 1 in every row; give the softmax of the logits.")
    return y, p


def _binary(labels: Sequence[int] | Ints, scores: Any, positive: int) -> tuple[NDArray[np.bool_], Floats]:
    truth, p = np.asarray(labels) == positive, np.asarray(scores, dtype=np.float64)
    if p.shape != truth.shape or len(p) == 0:
        raise InputError(f"labels are {truth.shape} and scores {p.shape}; give (N,) of each, N >= 1.")
    return truth, p


def _over(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _mean_ends(by_class: Sequence[ClassFigures], name: str) -> Ends | None:
    """The interval of a figure's mean over the classes that have it; see `PROTOCOL`.

    Precision and recall: the distances to the ends add up as those of independent samples (Zou and Donner 2008), since
    no image counts in two classes. In the others it does; the means of the ends are right however they depend.
    """
    known = [(getattr(each, name), each.intervals[name]) for each in by_class]
    values = [(float(value), ends) for value, ends in known if value is not None and ends is not None]
    if not values:
        return None
    count = len(values)
    if name not in ("precision", "recall"):
        return sum(ends[0] for _, ends in values) / count, sum(ends[1] for _, ends in values) / count
    middle = sum(value for value, _ in values) / count
    below, above = (math.sqrt(sum((value - ends[end]) ** 2 for value, ends in values)) / count for end in (0, 1))
    return middle - below, middle + above


def placements(truth: NDArray[np.bool_], scores: Floats) -> tuple[float, Floats]:
    """(AUC; for each image the share of the other side's images that it is on the right side of, ties counted half)."""
    high, low = np.sort(scores[truth]), np.sort(scores[~truth])
    found = np.empty(len(scores))
    below = np.searchsorted(low, scores[truth], "left") + np.searchsorted(low, scores[truth], "right")
    found[truth] = below / 2 / len(low)
    above = np.searchsorted(high, scores[~truth], "left") + np.searchsorted(high, scores[~truth], "right")
    found[~truth] = 1 - above / 2 / len(high)
    return float(found[truth].mean()), found


def influence(truth: NDArray[np.bool_], placed: Floats) -> Floats:
    """What each image adds to the error of an AUC: the sum of its squares is DeLong's variance (1988)."""
    found = np.zeros(len(placed))
    for side in (truth, ~truth):
        own = placed[side]
        found[side] = (own - own.mean()) / math.sqrt(len(own) * (len(own) - 1))
    return found


def _mean_auc_ends(y: Ints, p: Floats) -> Ends | None:
    """The interval of the mean AUC over classes; None where it cannot be had so: too few images, or all in order."""
    sides = [(y == k, p[:, k]) for k in range(p.shape[1])]
    if any(min(truth.sum(), (~truth).sum()) < 2 for truth, _ in sides):
        return None
    found = [(truth, *placements(truth, scores)) for truth, scores in sides]
    mean = sum(auc for _, auc, _ in found) / len(found)
    parts = np.stack([influence(truth, placed) for truth, _, placed in found])
    error = math.sqrt(float((parts.mean(0) ** 2).sum()))
    if error == 0 or not 0 < mean < 1:
        return None
    middle, half = math.log(mean / (1 - mean)), NormalDist().inv_cdf((1 + LEVEL) / 2) * error / (mean * (1 - mean))
    return 1 / (1 + math.exp(half - middle)), 1 / (1 + math.exp(-half - middle))


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
