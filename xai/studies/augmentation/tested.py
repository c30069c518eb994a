"""The arms of the augmentation study as tested: rows, curves and differences, and which ratio validation chooses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from xai.stats.crossed import crossed_band, crossed_mean
from xai.stats.intervals import Interval
from xai.studies.augmentation.arm import Found, Unit

TITLES = {
    "real": "real only",
    "traditional": "real + traditional",
    "synthetic": "real + synthetic",
    "both": "real + traditional + synthetic",
    "pretrained": "pre-trained",
}

Units = Mapping[Unit, Found]

Arm = tuple[int, str, int]
"""Percent, arm, ratio."""


def arm_title(unit: Unit) -> str:
    """What a legend calls an arm."""
    return f"{TITLES[unit.arm]}{f', {unit.ratio} %' if unit.ratio else ''}"


def arms_of(found: Units) -> dict[Arm, list[Found]]:
    """The units of each arm, by seed."""
    arms: dict[Arm, list[Found]] = {}
    for unit in sorted(found, key=lambda each: each.seed):
        arms.setdefault((unit.percent, unit.arm, unit.ratio), []).append(found[unit])
    return arms


def before_the_end(steps: Sequence[int]) -> int:
    """The place of the last round at least a quarter of the steps before the end; the first where there is none."""
    return max((place for place, step in enumerate(steps) if step <= 0.75 * steps[-1]), default=0)


def chosen_ratio(found: Units, percent: int) -> int:
    """The ratio with the best mean accuracy on validation images; of equal ones the smallest. Test is not looked at."""
    means = {
        ratio: mean_validation(units)
        for (share, arm, ratio), units in arms_of(found).items()
        if share == percent and arm == "synthetic"
    }
    return min(means, key=lambda ratio: (-means[ratio], ratio))


def _right(units: Sequence[Found], labels: Tensor) -> Tensor:
    """Whether each test image is named rightly in each round: (seeds, images, rounds) float64."""
    return torch.stack([(each.tensors["test"].long() == labels).double().T for each in units])


@dataclass(frozen=True, eq=False)
class Tested:
    """The networks of the seeds from `begin` on, by arm, and whether each names each test image rightly in each round.

    right: (seeds, images, rounds) float64 by arm.
    """

    arms: Mapping[Arm, Sequence[Found]]
    right: Mapping[Arm, Tensor]
    begin: int

    @classmethod
    def of(cls, found: Units, labels: Tensor, begin: int) -> Tested:
        """From units and the labels (images,) of the test images."""
        arms = arms_of(found)
        return cls(arms, {key: _right(units, labels) for key, units in arms.items()}, begin)

    def known(self, key: Arm) -> dict[str, Any]:
        """What a row and a curve say of an arm."""
        title = arm_title(self.arms[key][0].unit)
        named = {"percent": key[0], "arm": key[1], "ratio": key[2]}
        return {**named, "title": f"{title}, tested anew" if self.begin else title, "anew": self.begin > 0}

    def difference(self, key: Arm) -> Interval:
        """From real images alone of the same share and seeds, in points."""
        return crossed_mean(100 * (self.right[key] - self.right[key[0], "real", 0])[:, :, -1])

    def rise(self, key: Arm) -> Interval:
        """Change of accuracy over the last quarter of the steps, paired by seed and image, in points."""
        right = self.right[key]
        return crossed_mean(100 * (right[:, :, -1] - right[:, :, before_the_end(self.arms[key][0].facts["step"])]))

    def row(self, key: Arm) -> dict[str, Any]:
        """One arm in numbers."""
        units = self.arms[key]
        facts = units[0].facts
        return {
            **self.known(key),
            "network": facts["title"],
            "real": facts["real"],
            "synthetic": facts["synthetic"],
            "validation": 100 * mean_validation(units),
            "test": _share(crossed_mean(100 * self.right[key][:, :, -1])),
            "rise": plain(self.rise(key)),
            "difference": None if key[1] == "real" else plain(self.difference(key)),
            "seeds": [100 * each.facts["test_accuracy"][-1] for each in units],
            "train": 100 * sum(each.facts["train_accuracy"][-1] for each in units) / len(units),
            "seconds": sum(each.facts["seconds"] for each in units),
        }

    def curve(self, key: Arm) -> dict[str, Any]:
        """Test accuracy by step."""
        band = crossed_band(100 * self.right[key])
        return {
            **self.known(key),
            "step": self.arms[key][0].facts["step"],
            "mean": band.mean.tolist(),
            "low": _numbers(band.low.clamp(0, 100)),
            "high": _numbers(band.high.clamp(0, 100)),
        }


def mean_validation(units: Sequence[Found]) -> float:
    """Accuracy on validation images after the last step, mean over seeds; rounded, so that equal ones compare so."""
    return round(sum(each.validation for each in units) / len(units), 9)


def plain(value: Interval) -> dict[str, Any]:
    """An interval as JSON has it."""
    low, high = (None if math.isnan(each) else each for each in (value.low, value.high))
    return {"mean": value.mean, "low": low, "high": high, "n": value.n}


def _share(value: Interval) -> dict[str, Any]:
    """An accuracy in percent: the interval ends where accuracies do."""
    held = plain(value)
    return held if held["low"] is None else {**held, "low": max(0.0, held["low"]), "high": min(100.0, held["high"])}


def _numbers(values: Tensor) -> list[float | None]:
    return [None if value != value else value for value in values.tolist()]
