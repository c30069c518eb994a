"""What a bias audit finds: groups, reliance, shares of the explanation, and how they are written down."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from xai.explain.spec import METHODS
from xai.stats.intervals import Interval, less

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
        """The findings as `plain` wrote them, without a verdict (`xai.studies.bias.audit.read_audit` has it)."""
        return cls(
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
