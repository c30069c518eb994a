"""The bias audit: does a network decide by what it should? Groups, explanations, interventions, and a verdict.

Known ground truth makes it an experiment: images whose cue is swapped and nothing else say what the cue does to the
answer. Sources: Sagawa et al., Distributionally robust neural networks, ICLR 2020 (groups and the worst of them);
Pearl, Causality, 2009 (interventions); Geirhos et al., Shortcut learning in deep neural networks, 2020.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from xai.errors import InputError
from xai.explain._spec import METHODS
from xai.explain.call import attribute, check_applies
from xai.metrics.energy import energy
from xai.models.classifier import Classifier
from xai.outputs import Output
from xai.provenance import versions
from xai.public import public
from xai.statistics import Interval, bootstrap_mean, compare, less, wilson
from xai.studies._bias_subjects import Subjects, Swap
from xai.studies._bias_verdict import verdict
from xai.types import Run

BATCH = 32
"""Images a forward pass, and of one call of a method."""

ALIGNED = (
    "Aligned: the cue has the value that goes with the class; in one's own data, the group is more frequent in the "
    "class than in the other classes, conflicting: less frequent. Neither is told where the data do not show (95 %) "
    "that classes differ in their groups."
)

NOTHING = Interval(math.nan, math.nan, math.nan, 0)
"""The mean of no image."""

PROTOCOL = (
    "Accuracy and flips: share of images with its 95 % Wilson interval. Gap: best less worst group (picked on the same "
    "images, so somewhat large where groups are alike), fall: aligned less conflicting, with Newcombe's 95 % interval. "
    f"{ALIGNED} Moved: mean change of the probability of the "
    "class first predicted. Reliance: mean fall of the probability of the class that the cue's value speaks for (where "
    "nobody knows it, of the class first predicted) when it is swapped; 1 decides alone, 0 plays no role. Shares: "
    "positive mass of the map of the predicted class inside the region, less the region's share of the area, paired by "
    "image; blank maps are left out. Means with 95 % percentile bootstrap intervals over images (2000 resamples)."
)


@dataclass(frozen=True)
class Group:
    """One class with one value of the cue: the share of its images that is classified right."""

    label: str
    value: str
    aligned: bool
    accuracy: Interval


@dataclass(frozen=True)
class Reliance:
    """What swapping one factor does, over the images that have a counterfactual.

    flips: share whose answer changes. moved: mean of p(class first predicted) before less after. score: see `PROTOCOL`.
    """

    factor: str
    flips: Interval
    flipped: int
    moved: Interval
    score: Interval


@dataclass(frozen=True)
class Share:
    """Explanation inside a region over the images that show it: its share, the area's, and the paired difference.

    blank: maps among them that point nowhere; they have no share and are left out.
    """

    method: str
    region: str
    share: Interval
    chance: Interval
    beyond: Interval
    above: int
    blank: int

    @property
    def title(self) -> str:
        """What tables call `beyond`: "Grad-CAM on the head, beyond chance"."""
        return f"{METHODS.get(self.method).title} on the {self.region}, beyond chance"


@dataclass(frozen=True)
class Audit:
    """All findings on one network. rows: per image key, group, prediction and probabilities, as plain values."""

    cue: str
    images: int
    synthetic: bool
    how: str
    classes: tuple[str, ...]
    groups: tuple[Group, ...]
    aligned: Interval | None
    conflicting: Interval | None
    reliance: tuple[Reliance, ...]
    shares: tuple[Share, ...]
    verdict: str
    rows: tuple[Mapping[str, Any], ...]
    provenance: Mapping[str, Any]

    @property
    def worst(self) -> Group:
        """The group with the lowest accuracy."""
        return min(self.groups, key=lambda group: group.accuracy.mean)

    @property
    def gap(self) -> float:
        """Best less worst group, in shares of 1."""
        return self.gap_interval.mean

    @property
    def gap_interval(self) -> Interval:
        """Best less worst group, see `less`."""
        return less(max((group.accuracy for group in self.groups), key=lambda one: one.mean), self.worst.accuracy)

    @property
    def fall(self) -> Interval | None:
        """Accuracy where the cue agrees less that where it conflicts; None where either is missing."""
        return less(self.aligned, self.conflicting) if self.aligned and self.conflicting else None

    def by_factor(self, factor: str) -> Reliance | None:
        """What swapping `factor` does; None where it was not swapped."""
        return next((each for each in self.reliance if each.factor == factor), None)

    def share(self, region: str) -> Share | None:
        """The share of the first method's explanation in a region; None where it was not measured."""
        return next((each for each in self.shares if each.region == region), None)

    def compared(self) -> tuple[Share, ...]:
        """The shares that tables of several networks tell: in the animal or object, and in what the cue lies in."""
        names = dict.fromkeys(("head", "animal", "fur", "object", "background", self.cue))
        return tuple(each for name in names if (each := self.share(name)))

    def plain(self) -> dict[str, Any]:
        """As JSON holds it; NaN (an interval over one image) as null."""
        found: dict[str, Any] = _finite(asdict(self))
        return {
            **found,
            "worst": found["groups"][self.groups.index(self.worst)],
            "gap": self.gap,
            "gap_interval": asdict(self.gap_interval),
            "fall": asdict(self.fall) if self.fall else None,
            "protocol": PROTOCOL,
        }

    @classmethod
    def of(cls, saved: Mapping[str, Any]) -> Audit:
        """The audit as `plain` wrote it; the verdict is told anew from its numbers, in the words of today."""
        found = cls(
            **{name: saved[name] for name in ("cue", "images", "synthetic", "how", "provenance")},
            verdict="",
            classes=tuple(saved["classes"]),
            groups=tuple(Group(**{**each, "accuracy": _interval(each["accuracy"])}) for each in saved["groups"]),
            aligned=None if saved["aligned"] is None else _interval(saved["aligned"]),
            conflicting=None if saved["conflicting"] is None else _interval(saved["conflicting"]),
            reliance=tuple(Reliance(**_intervals(each, "flips", "moved", "score")) for each in saved["reliance"]),
            shares=tuple(Share(**_intervals(each, "share", "chance", "beyond")) for each in saved["shares"]),
            rows=tuple(saved["rows"]),
        )
        return replace(found, verdict=verdict(found))


def check_methods(methods: Sequence[str], classifier: Classifier | None = None) -> None:
    """Raise before anything is trained or read: `InputError` for no method, `UnknownNameError` for one unknown.

    With a classifier also `NotApplicableError` for one that does not apply to it.
    """
    if not methods:
        raise InputError("there is no method; give at least one.")
    for name in methods:
        METHODS.get(name)
        if classifier is not None:
            check_applies(classifier, name)


@public
def audit(
    classifier: Classifier, subjects: Subjects, methods: Sequence[str] = ("gradcam",), run: Run | None = None
) -> Audit:
    """Audit `classifier` on `subjects`; maps of `methods` explain the predicted class.

    Raises `InputError` and `NotApplicableError` (a method that does not apply), and `Cancelled`.
    """
    run = run or Run()
    steps = 1 + len(subjects.swaps) + len(methods)
    before = _probabilities(classifier, subjects.x, run.part(0, 1, steps, "asking the network"))
    answer = before.argmax(1)
    reliance, after = [], {}
    for index, swap in enumerate(subjects.swaps):
        inner = run.part(1 + index, 1, steps, f"swapping the {swap.factor}")
        after[swap.factor] = _probabilities(classifier, swap.x, inner)
        reliance.append(effect(swap, before[swap.places], after[swap.factor], run.seed))
    shares: list[Share] = []
    for index, method in enumerate(methods if subjects.regions else ()):
        inner = run.part(1 + len(subjects.swaps) + index, 1, steps, f"explaining with {method}")
        shares += explanation_shares(classifier, subjects, method, answer, inner)
    right = answer == subjects.labels
    found = Audit(
        cue=subjects.cue,
        images=len(subjects),
        synthetic=subjects.synthetic,
        how="; ".join(filter(None, (subjects.how, _answers(classifier, before)))),
        classes=tuple(classifier.labels),
        groups=group_accuracy(subjects, right, classifier.labels),
        aligned=_accuracy(right[subjects.aligned]),
        conflicting=_accuracy(right[~subjects.aligned]),
        reliance=tuple(reliance),
        shares=tuple(shares),
        verdict="",
        rows=_rows(subjects, before, after),
        provenance={
            "model": classifier.name,
            "weights": classifier.weights,
            "fingerprint": classifier.fingerprint,
            "output": str(classifier.output),
            "seed": run.seed,
            "device": str(classifier.device),
            "threads": torch.get_num_threads(),
            "versions": versions(),
        },
    )
    return replace(found, verdict=verdict(found))


def group_accuracy(subjects: Subjects, right: Tensor, labels: Sequence[str]) -> tuple[Group, ...]:
    """Accuracy of every class with every value of the cue that it has, with Wilson intervals; right (N,) bool."""
    places: dict[tuple[int, str], list[int]] = {}
    for index, key in enumerate(zip(subjects.labels.tolist(), subjects.groups, strict=True)):
        places.setdefault(key, []).append(index)
    return tuple(
        Group(labels[label], value, bool(subjects.aligned[where[0]]), wilson(int(right[where].sum()), len(where)))
        for (label, value), where in sorted(places.items())
    )


def effect(swap: Swap, before: Tensor, after: Tensor, seed: int = 0) -> Reliance:
    """Flips, movement and reliance from the probabilities (M,K) of the images before and after the swap."""
    answer = before.argmax(1)
    flipped = int((answer != after.argmax(1)).sum())
    first = (before - after).gather(1, answer[:, None])[:, 0]
    toward = torch.where(swap.toward < 0, answer, swap.toward)
    fall = (before - after).gather(1, toward[:, None])[:, 0]
    count = len(answer)
    return Reliance(
        swap.factor, wilson(flipped, count), flipped, bootstrap_mean(first, seed), bootstrap_mean(fall, seed)
    )


def explanation_shares(
    classifier: Classifier, subjects: Subjects, method: str, target: Tensor, run: Run
) -> tuple[Share, ...]:
    """The positive mass of each map inside every region, against the region's share of the area, paired by image."""
    maps = []
    for start in range(0, len(subjects), BATCH):
        x = subjects.x[start : start + BATCH]
        found = attribute(classifier, x, method, target[start : start + BATCH], run=run.quiet())
        maps.append(found.maps())
        run.report(min(start + BATCH, len(subjects)), len(subjects))
    return shares_of(method, torch.cat(maps), subjects.regions, run.seed)


def shares_of(method: str, maps: Tensor, regions: Mapping[str, Tensor], seed: int = 0) -> tuple[Share, ...]:
    """As `explanation_shares`, from maps (N,H,W). Images without a region, and blank maps, are left out of its row."""
    found = []
    for region, masks in regions.items():
        there = masks.flatten(1).any(1)
        if not bool(there.any()):
            continue
        scores = energy(maps[there], masks[there])
        blank = scores.values.isnan()
        if bool(blank.all()):
            found.append(Share(method, region, NOTHING, NOTHING, NOTHING, 0, int(blank.sum())))
            continue
        share, chance = (each.double()[~blank] for each in (scores.values, scores.facts["chance"]))
        paired = compare(share, chance, seed=seed)
        found.append(
            Share(
                method,
                region,
                bootstrap_mean(share, seed),
                bootstrap_mean(chance, seed),
                paired.difference,
                paired.wins,
                int(blank.sum()),
            )
        )
    return tuple(found)


def _probabilities(classifier: Classifier, x: Tensor, run: Run) -> Tensor:
    """Probabilities (N,K) float64."""
    parts = []
    for start in range(0, len(x), BATCH):
        parts.append(classifier.predict(x[start : start + BATCH], run))
        run.report(min(start + BATCH, len(x)), len(x))
    return classifier.output.probabilities(torch.cat(parts).double())


def _answers(classifier: Classifier, probabilities: Tensor) -> str:
    """What counts as the answer of a network with independent sigmoids; "" for one that answers with one class."""
    if classifier.output is not Output.SIGMOID or classifier.module.single:
        return ""
    none = int((probabilities < 0.5).all(1).sum())
    return (
        "each class has a sigmoid of its own, and the class of the largest probability counts as the answer, also "
        f"where none reaches 0.5 ({none} of {len(probabilities)} images)"
    )


def _accuracy(right: Tensor) -> Interval | None:
    return wilson(int(right.sum()), len(right)) if len(right) else None


def _rows(subjects: Subjects, before: Tensor, after: Mapping[str, Tensor]) -> tuple[Mapping[str, Any], ...]:
    rows: list[dict[str, Any]] = []
    for index, key in enumerate(subjects.keys):
        answer = int(before[index].argmax())
        rows.append(
            {
                "key": key,
                "label": int(subjects.labels[index]),
                "group": subjects.groups[index],
                "aligned": bool(subjects.aligned[index]),
                "predicted": answer,
                "probability": round(float(before[index, answer]), 5),
            }
        )
    for swap in subjects.swaps:
        for place, then in zip(swap.places.tolist(), after[swap.factor], strict=True):
            answer = rows[place]["predicted"]
            rows[place][f"{swap.factor}_predicted"] = int(then.argmax())
            rows[place][f"{swap.factor}_probability"] = round(float(then[answer]), 5)
    return tuple(rows)


def _interval(saved: Mapping[str, Any]) -> Interval:
    ends = {name: float("nan") if saved[name] is None else saved[name] for name in ("mean", "low", "high")}
    return Interval(**ends, n=saved["n"], level=saved["level"])


def _intervals(saved: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {**saved, **{name: _interval(saved[name]) for name in names}}


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and value != value else value
