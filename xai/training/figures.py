"""Figures of a classification: confusion matrix, rates by class, curves, calibration, thresholds.

Maths that scikit-learn has is scikit-learn's; specificity, calibration and the threshold table are worked out here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xai.errors import InputError

BINS = 10
"""Bins of the calibration, of equal width."""

THRESHOLDS = 101
"""Thresholds of the table, from 0 to 1."""

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
    }
)
"""How each number is made."""


@dataclass(frozen=True)
class ClassFigures:
    """One class against the rest; None where there is nothing to divide by."""

    name: str
    support: int
    precision: float | None
    recall: float | None
    specificity: float | None
    f1: float | None
    auc: float | None
    average_precision: float | None


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
    """Everything at a glance. confusion: rows are labels, columns predictions. macro: means over classes."""

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

    def plain(self) -> dict[str, Any]:
        """As JSON holds it, with the protocol."""
        return {**asdict(self), "protocol": dict(PROTOCOL)}


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
    return Figures(
        classes=tuple(classes),
        count=len(y),
        confusion=tuple(tuple(int(value) for value in row) for row in matrix),
        accuracy=float((predicted == y).mean()),
        loss=float(-np.log(np.clip(p[np.arange(len(y)), y], np.finfo(np.float64).tiny, 1)).mean()),
        by_class=by_class,
        macro=macro,
        auc=by_class[1].auc if pair else macro["auc"],
        average_precision=by_class[1].average_precision if pair else macro["average_precision"],
        ece=sum(each.count * abs((each.confidence or 0) - (each.accuracy or 0)) for each in bins) / len(y),
        bins=bins,
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
    return ClassFigures(
        name=name,
        support=tp + fn,
        precision=_over(tp, tp + fp),
        recall=_over(tp, tp + fn),
        specificity=_over(tn, tn + fp),
        f1=_over(2 * tp, 2 * tp + fp + fn),
        auc=float(roc_auc_score(truth, p[:, index])) if both else None,
        average_precision=float(average_precision_score(truth, p[:, index])) if both else None,
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


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
