"""The bias audit: does a network decide by what it should? Groups, explanations, interventions, and a verdict.

Known ground truth makes it an experiment: images whose cue is swapped and nothing else say what the cue does to the
answer. Sources: Sagawa et al., Distributionally robust neural networks, ICLR 2020 (groups and the worst of them);
Pearl, Causality, 2009 (interventions); Geirhos et al., Shortcut learning in deep neural networks, 2020.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from xai.errors import InputError
from xai.explain.call import attribute, check_applies
from xai.explain.spec import METHODS
from xai.metrics.energy import energy
from xai.models.classifier import Classifier
from xai.models.provenance import versions
from xai.outputs import Output
from xai.public import public
from xai.stats.intervals import Interval, bootstrap_mean, compare, wilson
from xai.studies.bias.findings import NOTHING, Audit, Group, Reliance, Share
from xai.studies.bias.subjects import Subjects, Swap
from xai.studies.bias.verdict import verdict
from xai.types import Run

BATCH = 32
"""Images a forward pass, and of one call of a method."""


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


def read_audit(saved: Mapping[str, Any]) -> Audit:
    """The audit as `Audit.plain` wrote it; the verdict is told anew from its numbers, in the words of today."""
    found = Audit.of(saved)
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
