"""What the finished units of the augmentation study say: curves, sizes, verdict, attention, and their files."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from xai.crossed import crossed_band, crossed_mean
from xai.data._spec import DataSet
from xai.errors import InputError, WeightsError
from xai.gan.saved import Generator
from xai.metrics import METRICS
from xai.provenance import versions
from xai.runs import RunFolder
from xai.statistics import Interval, bootstrap_mean, compare
from xai.studies._augmentation_arm import HEAD_RATE, MEASURES, TRADITIONAL, Found, Looked, Unit
from xai.studies._augmentation_data import Shares
from xai.training import AUGMENTATIONS
from xai.types import Run

SHOWN = 4
"""Images of each kind in the figure of attention."""

TITLES = {
    "real": "real only",
    "traditional": "real + traditional",
    "synthetic": "real + synthetic",
    "both": "real + traditional + synthetic",
    "pretrained": "pre-trained",
}

SETS = ("real", "generated")

CROSSED = "seeds and images"
"""What an interval of the attention is over where every pair counts."""

Units = Mapping[Unit, Found]


def arm_title(unit: Unit) -> str:
    """What a legend calls an arm."""
    return f"{TITLES[unit.arm]}{f', {unit.ratio} %' if unit.ratio else ''}"


def arms_of(found: Units) -> dict[tuple[int, str, int], list[Found]]:
    """The units of each (percent, arm, ratio), by seed."""
    arms: dict[tuple[int, str, int], list[Found]] = {}
    for unit in sorted(found, key=lambda each: each.seed):
        arms.setdefault((unit.percent, unit.arm, unit.ratio), []).append(found[unit])
    return arms


def chosen_ratio(found: Units, percent: int) -> int:
    """The ratio with the best mean accuracy on validation images; of equal ones the smallest. Test is not looked at."""
    means = {
        ratio: sum(each.validation for each in units) / len(units)
        for (share, arm, ratio), units in arms_of(found).items()
        if share == percent and arm == "synthetic"
    }
    return min(means, key=lambda ratio: (-means[ratio], ratio))


def summarise(
    request: Mapping[str, Any],
    data: DataSet,
    generators: Sequence[Generator],
    shares: Shares,
    found: Units,
    command: str,
) -> dict[str, Any]:
    """Everything that a page, the terminal and a reader need; JSON-able."""
    arms = arms_of(found)
    right = {key: _right(units, shares.test.labels) for key, units in arms.items()}
    rows = [_row(key, units, right, arms) for key, units in arms.items()]
    ratios = {p: chosen_ratio(found, p) for p in request["percents"] if any(k[:2] == (p, "synthetic") for k in arms)}
    small = {p: ratios[100] for p in request["percents"] if p not in ratios and 100 in ratios}
    verdicts = [_verdict(p, {**ratios, **small}[p], arms, right) for p in sorted({**ratios, **small}, reverse=True)]
    attention = _attention(arms[100, "real", 0], arms[100, "synthetic", ratios[100]]) if 100 in ratios else []
    first = next(iter(found.values()))
    return {
        "kind": "augment",
        "protocol": _protocol(request, shares, found, generators),
        "data": request["data"],
        "data_name": data.name,
        "data_fingerprint": data.fingerprint,
        "data_synthetic": data.synthetic,
        "classes": list(data.classes),
        "images": {name: len(getattr(shares, name).keys) for name in ("pool", "validation", "test")},
        "unseen": shares.unseen,
        "generators": [{"fingerprint": each.fingerprint, **_known(each)} for each in generators],
        "model": first.facts["model"],
        "title": first.facts["title"],
        "arms": rows,
        "curves": [_curve(key, units, shares.test.labels) for key, units in arms.items()],
        "chosen": {str(p): ratio for p, ratio in {**ratios, **small}.items()},
        "verdicts": verdicts,
        "verdict": verdicts[0]["sentence"] if verdicts else "no synthetic arm was asked for",
        "attention": attention,
        "finding": _finding(attention),
        "seconds": sum(each.facts["seconds"] for each in found.values()),
        "command": command,
        "versions": versions(),
    }


def _known(made: Generator) -> dict[str, Any]:
    names = ("data_name", "steps", "seed", "train_images", "train_fingerprint", "command")
    return {name: made.facts[name] for name in names if name in made.facts}


def _protocol(
    request: Mapping[str, Any], shares: Shares, found: Units, generators: Sequence[Generator]
) -> dict[str, Any]:
    size = int(shares.test.images.shape[-1])
    words = [
        f"Every arm: {request['steps']:,} steps of Adam ({request['learning_rate']:g}, falling as a cosine), "
        f"{request['batch']} images each, {request['seeds']} seeds, the last step's weights. Test: "
        f"{len(shares.test.keys)} real images. {shares.unseen} Nothing is chosen on them: ratios are chosen on "
        f"{len(shares.validation.keys)} other real images. All images are brought to {size} px first. Intervals: 95 % "
        "each, over seeds and test images (Student's t on both variances); differences are paired by both.",
        f"Traditional: {', '.join(AUGMENTATIONS[name].title for name in TRADITIONAL)}.",
        "Synthetic at 0 % is real only.",
    ]
    if any(unit.arm == "pretrained" for unit in found):
        title = next(each.facts["title"] for unit, each in found.items() if unit.arm == "pretrained")
        words.append(f"Pre-trained: {title} with ImageNet weights, a new head learns (at {HEAD_RATE:g}).")
    if any(unit.ratio for unit in found):
        words.append(
            "A ratio is chosen by the networks that are tested: with other seeds a gain may be smaller. No interval "
            "speaks of another training of the generator."
        )
    if generators and len(request["percents"]) > 1:
        words.append(
            "The generator saw all the real training images: on a share of them it brings what the others taught it"
            f"{'' if request['everywhere'] else ', at the ratio that was chosen on all of them'}."
        )
    names = ("steps", "batch", "learning_rate", "seeds", "rounds", "ratios", "percents", "method")
    settings = {name: request[name] for name in names}
    return {"name": "augmentation study", "settings": settings, "sentence": " ".join(words)}


def _right(units: Sequence[Found], labels: Tensor) -> Tensor:
    """Whether each test image is named rightly in each round: (seeds, images, rounds) float64."""
    return torch.stack([(each.tensors["test"].long() == labels).double().T for each in units])


def _row(
    key: tuple[int, str, int],
    units: Sequence[Found],
    right: Mapping[tuple[int, str, int], Tensor],
    arms: Mapping[tuple[int, str, int], Sequence[Found]],
) -> dict[str, Any]:
    """One arm in numbers; its difference from real only of the same share, in points."""
    percent, arm, ratio = key
    facts = units[0].facts
    base = (percent, "real", 0)
    difference = None if key == base or base not in arms else crossed_mean(100 * (right[key] - right[base])[:, :, -1])
    return {
        "percent": percent,
        "arm": arm,
        "ratio": ratio,
        "title": arm_title(units[0].unit),
        "network": facts["title"],
        "real": facts["real"],
        "synthetic": facts["synthetic"],
        "validation": 100 * sum(each.validation for each in units) / len(units),
        "test": _share(crossed_mean(100 * right[key][:, :, -1])),
        "difference": None if difference is None else _plain(difference),
        "seeds": [100 * each.facts["test_accuracy"][-1] for each in units],
        "train": 100 * sum(each.facts["train_accuracy"][-1] for each in units) / len(units),
        "seconds": sum(each.facts["seconds"] for each in units),
    }


def _curve(key: tuple[int, str, int], units: Sequence[Found], labels: Tensor) -> dict[str, Any]:
    band = crossed_band(100 * _right(units, labels))
    return {
        "percent": key[0],
        "arm": key[1],
        "ratio": key[2],
        "title": arm_title(units[0].unit),
        "step": units[0].facts["step"],
        "mean": band.mean.tolist(),
        "low": _numbers(band.low.clamp(0, 100)),
        "high": _numbers(band.high.clamp(0, 100)),
    }


def _verdict(
    percent: int,
    ratio: int,
    arms: Mapping[tuple[int, str, int], Sequence[Found]],
    right: Mapping[tuple[int, str, int], Tensor],
) -> dict[str, Any]:
    """Synthetic at the chosen ratio against real only, on the test images."""
    augmented, base = (percent, "synthetic", ratio), (percent, "real", 0)
    difference = crossed_mean(100 * (right[augmented] - right[base])[:, :, -1])
    by_image = compare(right[augmented][:, :, -1].mean(0), right[base][:, :, -1].mean(0))
    kept = _mean(arms[augmented]) > _mean(arms[base])
    return {
        "percent": percent,
        "ratio": ratio,
        "difference": _plain(difference),
        "sentence": verdict_sentence(difference, ratio, kept),
        "images": by_image.sentence,
        "validation_prefers": "synthetic" if kept else "real only",
    }


def verdict_sentence(difference: Interval, ratio: int, kept: bool) -> str:
    """The answer in a line. kept: validation, too, prefers the synthetic arm to real images alone."""
    said = f"{difference.mean:+.1f} points"
    if math.isnan(difference.low):
        return f"{said} at {ratio} %; one seed says nothing about others, so there is no verdict"
    said += f" [{difference.low:.1f}, {difference.high:.1f}] at {ratio} %"
    if difference.low <= 0 <= difference.high:
        said = f"no gain: {said}"
    elif difference.high < 0:
        said = f"a loss: {said}"
    return said if kept else f"{said}; validation prefers no synthetic image"


def _mean(units: Sequence[Found]) -> float:
    return sum(each.validation for each in units) / len(units)


def _attention(base: Sequence[Found], other: Sequence[Found]) -> list[dict[str, Any]]:
    """Each measure of both networks' maps, per image, paired: all images, those both name rightly, and wrongly."""
    rows = []
    for kind in SETS:
        if f"{kind}.predicted" not in base[0].tensors:
            continue
        labels = base[0].tensors[f"{kind}.label"].long()
        pairs = list(zip(base, other, strict=True))
        right = [(a.tensors[f"{kind}.predicted"] == labels, b.tensors[f"{kind}.predicted"] == labels) for a, b in pairs]
        shown = torch.stack([~(a.tensors[f"{kind}.blank"] | b.tensors[f"{kind}.blank"]) for a, b in pairs])
        cases = {
            "all": torch.ones_like(shown),
            "right": torch.stack([a & b for a, b in right]),
            "wrong": torch.stack([~a & ~b for a, b in right]),
        }
        for case, holds in cases.items():
            kept = holds & shown
            for measure in MEASURES:
                name = f"{kind}.{measure}"
                if name in base[0].tensors and bool(kept.any()):
                    values = [torch.stack([each.tensors[name].double() for each in some]) for some in (base, other)]
                    rows.append({"set": kind, "case": case, **_paired(values[0], values[1], kept, measure)})
    return rows


def _paired(base: Tensor, other: Tensor, kept: Tensor, measure: str) -> dict[str, Any]:
    """base, other, kept (seeds, images): means over the seeds that count, image by image, then over images.

    Where every pair counts, the interval is over seeds and images; else over images, their seeds averaged.
    """
    images = kept.any(0)
    weight = kept[:, images].double()
    means = [(each[:, images] * weight).sum(0) / weight.sum(0) for each in (base, other)]
    whole = bool(kept[:, images].all())
    difference = (other - base)[:, images]
    interval = crossed_mean(difference) if whole else bootstrap_mean(means[1] - means[0])
    return {
        "measure": measure,
        "title": METRICS.get(measure).title,
        "baseline": float(means[0].mean()),
        "augmented": float(means[1].mean()),
        "difference": _plain(interval),
        "over": CROSSED if whole else "images, their seeds averaged",
        "images": int(images.sum()),
        "pairs": int(kept.sum()),
        "left_out": int(kept.numel() - kept.sum()),
    }


def _finding(attention: Sequence[Mapping[str, Any]]) -> str:
    """Does synthetic data narrow the attention? In a sentence, of real test images."""
    row = next((r for r in attention if (r["set"], r["case"], r["measure"]) == ("real", "all", "area")), None)
    if row is None:
        return ""
    d = row["difference"]
    over = "" if row["over"] == CROSSED else f" ({row['over']})"
    said = (
        f"On real test images half of the map's energy lies on {100 * row['baseline']:.1f} % of the image without "
        f"synthetic data and on {100 * row['augmented']:.1f} % with it: {100 * d['mean']:+.1f} points"
    )
    if d["low"] is None:
        return f"{said}; one seed says nothing about others."
    told = "narrower" if d["high"] < 0 else "wider" if d["low"] > 0 else "no difference shown"
    return f"{said} [{100 * d['low']:.1f}, {100 * d['high']:.1f}]{over}, {told}."


def examples(looked: Mapping[str, Looked], found: Units, summary: Mapping[str, Any]) -> bytes:
    """Pictures and maps for the figure of attention: the first seed's networks, {real, generated} x {right, wrong}.

    For each network and kind the first `SHOWN` images that it names rightly, and wrongly, in an order drawn by a seed:
    none is picked by hand, nor are all of the first class. Tensors: "KIND.images", "KIND.label", "KIND.place",
    "KIND.NETWORK.maps", ".predicted" and ".probability".
    """
    pairs = {"baseline": found[Unit(100, "real", 0, 0)]}
    if "100" in summary["chosen"]:
        pairs["augmented"] = found[Unit(100, "synthetic", summary["chosen"]["100"], 0)]
    kept: dict[str, Tensor] = {}
    for kind, each in looked.items():
        labels = each.images.labels
        order = torch.randperm(len(labels), generator=Run().generator("examples", kind))
        places: set[int] = set()
        for one in pairs.values():
            right = (one.tensors[f"{kind}.predicted"] == labels)[order]
            for case in (right, ~right):
                places |= set(order[case][:SHOWN].tolist())
        at = torch.tensor([place for place in order.tolist() if place in places], dtype=torch.int64)
        kept |= {f"{kind}.images": each.images.pixels[at], f"{kind}.label": labels[at], f"{kind}.place": at}
        for name, one in pairs.items():
            for what in ("maps", "predicted", "probability"):
                kept[f"{kind}.{name}.{what}"] = one.tensors[f"{kind}.{what}"][at]
    return save({name: value.contiguous() for name, value in kept.items()})


@dataclass(frozen=True, eq=False)
class Study:
    """A finished study, or a shipped one. summary: `summary.json`; pictures: of the figure of attention."""

    path: Path
    summary: Mapping[str, Any]
    pictures: Mapping[str, Tensor]

    def cases(self, network: str, kind: str, case: str) -> list[int]:
        """Places, in the pictures of `kind`, of the first `SHOWN` that `network` names rightly or wrongly."""
        if f"{kind}.{network}.predicted" not in self.pictures:
            return []
        right = self.pictures[f"{kind}.{network}.predicted"] == self.pictures[f"{kind}.label"]
        held = torch.nonzero(right if case == "right" else ~right)[:SHOWN, 0]
        return [int(place) for place in held]


def open_study(path: Path) -> Study:
    """The study in a run folder or a shipped folder. Raises `InputError` where there is none or it is not finished."""
    summary = RunFolder(path).summary()
    if summary.get("kind") != "augment":
        raise InputError(f"{path} holds no finished augmentation study; wait for it, or resume it.")
    file = path / "artifacts" / "examples.safetensors"
    try:
        return Study(path, summary, load(file.read_bytes()))
    except FileNotFoundError:
        raise InputError(f"{file} is missing; resume the study to make it again.") from None
    except Exception as error:  # safetensors has an error class of its own
        raise WeightsError(f"{file} is damaged ({error}); resume the study to make it again.") from error


def _plain(value: Interval) -> dict[str, Any]:
    low, high = (None if math.isnan(each) else each for each in (value.low, value.high))
    return {"mean": value.mean, "low": low, "high": high, "n": value.n}


def _share(value: Interval) -> dict[str, Any]:
    """An accuracy in percent: the interval ends where accuracies do."""
    held = _plain(value)
    return held if held["low"] is None else {**held, "low": max(0.0, held["low"]), "high": min(100.0, held["high"])}


def _numbers(values: Tensor) -> list[float | None]:
    return [None if value != value else value for value in values.tolist()]
