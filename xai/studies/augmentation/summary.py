"""What the finished units of the augmentation study say: curves, sizes, verdict, attention, and their files."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from xai.data.spec import DataSet
from xai.errors import InputError, WeightsError
from xai.gan.saved import Generator
from xai.metrics import METRICS
from xai.models.provenance import versions
from xai.runs.folder import RunFolder
from xai.stats.crossed import crossed_mean
from xai.stats.intervals import Interval, bootstrap_mean, compare
from xai.studies.augmentation.arm import HEAD_RATE, MEASURES, TRADITIONAL, Found, Looked, Unit
from xai.studies.augmentation.data import Shares
from xai.studies.augmentation.tested import Tested, Units, before_the_end, chosen_ratio, mean_validation, plain
from xai.training import AUGMENTATIONS
from xai.types import Run

SHOWN = 4
"""Images of each kind in the figure of attention."""

SETS = ("real", "generated")

CROSSED = "seeds and images"
"""What an interval of the attention is over where every pair counts."""


def summarise(
    request: Mapping[str, Any],
    data: DataSet,
    generators: Sequence[Generator],
    shares: Shares,
    found: Units,
    command: str,
) -> dict[str, Any]:
    """Everything that a page, the terminal and a reader need; JSON-able.

    The networks that chose a ratio do not tell what it brings: verdict and attention are of those tested anew.
    """
    seeds = request["seeds"]
    choosing = {unit: each for unit, each in found.items() if unit.seed < seeds}
    others = {unit: each for unit, each in found.items() if unit.seed >= seeds}
    first, anew = (Tested.of(some, shares.test.labels, begin) for some, begin in ((choosing, 0), (others, seeds)))
    told = {p: anew if (p, "real", 0) in anew.arms else first for p in request["percents"]}
    ratios = {
        p: chosen_ratio(choosing, p)
        for p in sorted(request["percents"], reverse=True)
        if any(key[:2] == (p, "synthetic") for key in first.arms)
    }
    verdicts = [_verdict(p, ratio, told[p]) for p, ratio in ratios.items()]
    whole = told[100].arms
    attention = _attention(whole[100, "real", 0], whole[100, "synthetic", ratios[100]]) if ratios else []
    one = next(iter(found.values()))
    return {
        "kind": "augment",
        "protocol": _protocol(request, shares, found, generators),
        "data": request["data"],
        "data_name": data.name,
        "data_fingerprint": data.fingerprint,
        "data_synthetic": data.synthetic,
        "classes": list(data.classes),
        "images": {name: len(getattr(shares, name).keys) for name in ("pool", "validation", "test")},
        "left_out": [asdict(each) for each in data.problems],
        "unseen": shares.unseen,
        "generators": [{"fingerprint": each.fingerprint, **_known(each)} for each in generators],
        "model": one.facts["model"],
        "title": one.facts["title"],
        "arms": [each.row(key) for each in (first, anew) for key in each.arms],
        "curves": [each.curve(key) for each in (first, anew) for key in each.arms],
        "chosen": {str(p): ratio for p, ratio in ratios.items()},
        "told_by_seeds": [told[100].begin + place for place in range(seeds)],
        "verdicts": verdicts,
        "verdict": verdicts[0]["sentence"] if verdicts else "no synthetic arm was asked for",
        "attention": attention,
        "finding": _finding(attention) if ratios else "",
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
    size, seeds = int(shares.test.images.shape[-1]), request["seeds"]
    intervals = (
        "Intervals: 95 % each, over seeds and test images (Student's t on both variances); differences are paired by "
        "both."
        if seeds > 1
        else "Accuracies of one seed have no interval."
    )
    others = f"{len(shares.validation.keys)} other real images"
    chooses = "synthetic" in request["arms"] and len(request["ratios"]) > 1
    choice = f"ratios are chosen on {others}" if chooses else f"there was no choice, and {others} are for validation"
    words = [
        f"Every arm: {request['steps']:,} steps of Adam ({request['learning_rate']:g}, falling as a cosine), "
        f"{request['batch']} images each, {seeds} seed{'s' * (seeds > 1)}, the last step's weights. Test: "
        f"{len(shares.test.keys)} real images. {shares.unseen} Nothing is chosen on them: {choice}. All "
        f"images are brought to {size} px first. {intervals}",
        "Synthetic at 0 % is real only.",
    ]
    if any(unit.arm in ("traditional", "both") for unit in found):
        words.append(f"Traditional: {', '.join(AUGMENTATIONS[name].title for name in TRADITIONAL)}.")
    if any(unit.arm == "pretrained" for unit in found):
        title = next(each.facts["title"] for unit, each in found.items() if unit.arm == "pretrained")
        words.append(f"Pre-trained: {title} with ImageNet weights, a new head learns (at {HEAD_RATE:g}).")
    if any(unit.seed >= seeds for unit in found):
        words.append(
            f"The networks that chose a ratio (seeds from 0) do not tell what it brings: verdict and attention are of "
            f"{seeds} other{'s' * (seeds > 1)}, tested anew (seeds from {seeds})."
        )
        if len(request["percents"]) > 1 and not request["everywhere"]:
            words.append("Verdicts on shares of the real images are of seeds from 0, which chose nothing there.")
    if any(unit.ratio for unit in found):
        words.append("No interval speaks of another training of the generator.")
    if generators and len(request["percents"]) > 1:
        words.append(
            "The generator saw all the real training images: on a share of them it brings what the others taught it"
            f"{'' if request['everywhere'] else ', at the ratio that was chosen on all of them'}."
        )
    names = ("steps", "batch", "learning_rate", "seeds", "rounds", "ratios", "percents", "method")
    settings = {name: request[name] for name in names}
    return {"name": "augmentation study", "settings": settings, "sentence": " ".join(words)}


def _verdict(percent: int, ratio: int, tested: Tested) -> dict[str, Any]:
    """Synthetic at the chosen ratio against real only, on the test images."""
    augmented, base = (percent, "synthetic", ratio), (percent, "real", 0)
    difference = tested.difference(augmented)
    by_image = compare(tested.right[augmented][:, :, -1].mean(0), tested.right[base][:, :, -1].mean(0))
    kept = mean_validation(tested.arms[augmented]) > mean_validation(tested.arms[base])
    return {
        "percent": percent,
        "ratio": ratio,
        "difference": plain(difference),
        "sentence": verdict_sentence(difference, ratio, kept),
        "images": by_image.sentence,
        "validation_prefers": "synthetic" if kept else "real only",
    }


def verdict_sentence(difference: Interval, ratio: int, kept: bool) -> str:
    """The answer in a line. kept: validation, too, prefers the synthetic arm to real images alone."""
    if math.isnan(difference.low):
        return f"{difference.mean:+.1f} points at {ratio} %; one seed says nothing about others, so there is no verdict"
    claim = "a gain" if difference.low > 0 else "a loss" if difference.high < 0 else "no gain shown"
    said = (
        f"{claim}: estimated {difference.mean:+.1f} points, plausible from {difference.low:+.1f} to "
        f"{difference.high:+.1f}, at {ratio} %"
    )
    return said if kept else f"{said}; on validation images the mean is higher without synthetic images"


RISE = 1.0
"""Points of the mean curve over the last quarter from which an arm without an interval of its rise is undertrained."""


def rises(summary: Mapping[str, Any], row: Mapping[str, Any]) -> Mapping[str, Any]:
    """How test accuracy changed over the last quarter of an arm's steps, in points; from the mean curve, without an
    interval, where the summary is older than that.
    """
    if "rise" in row:
        found: Mapping[str, Any] = row["rise"]
        return found
    names = ("percent", "arm", "ratio", "anew")
    curve = next(each for each in summary["curves"] if all(each[name] == row[name] for name in names))
    place = before_the_end(curve["step"])
    return {"mean": curve["mean"][-1] - curve["mean"][place], "low": None, "high": None}


def undertrained(summary: Mapping[str, Any], row: Mapping[str, Any]) -> bool:
    """Whether an arm's test accuracy still rises at the last step, so that more steps may change what it shows."""
    rise = rises(summary, row)
    return bool(rise["mean"] >= RISE if rise["low"] is None else rise["low"] > 0)


def undertrained_sentence(summary: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """Which of the arms are undertrained, in a sentence; "" for none."""
    told, bare = [], False
    for row in rows:
        if undertrained(summary, row):
            rise = rises(summary, row)
            bare = bare or rise["low"] is None
            ends = "" if rise["low"] is None else f" [{rise['low']:.1f}, {rise['high']:.1f}]"
            share = f" on {row['percent']} %" if row["percent"] != 100 else ""
            told.append(f"{row['title']}{share} {rise['mean']:+.1f} points{ends}")
    if not told:
        return ""
    return (
        f"Undertrained, so more steps may change the answer: accuracy still rose over the last quarter of the steps "
        f"({'; '.join(told)})."
    ) + " A rise without an interval is that of the mean curve." * bare


def compared(summary: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The verdict's arms: real images alone, and with synthetic ones at the chosen ratio, of the seeds that tell."""
    whole = [row for row in summary["arms"] if row["percent"] == 100]
    anew = any(row["anew"] for row in whole)
    wanted = {("real", 0), ("synthetic", summary["chosen"].get("100"))}
    return [row for row in whole if row["anew"] == anew and (row["arm"], row["ratio"]) in wanted]


def retold(summary: Mapping[str, Any]) -> dict[str, Any]:
    """The summary with its verdicts told from their numbers, in the words of today."""
    verdicts = []
    for each in summary["verdicts"]:
        given = each["difference"]
        low, high = (math.nan if given[name] is None else float(given[name]) for name in ("low", "high"))
        value = Interval(given["mean"], low, high, given["n"])
        sentence = verdict_sentence(value, each["ratio"], each["validation_prefers"] == "synthetic")
        verdicts.append({**each, "sentence": sentence})
    first = verdicts[0]["sentence"] if verdicts else summary["verdict"]
    return {**summary, "verdicts": verdicts, "verdict": first}


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
            "all": shown.all(0).expand_as(shown),  # an image with a blank map is left out whole: seeds stay crossed
            "right": torch.stack([a & b for a, b in right]),
            "wrong": torch.stack([~a & ~b for a, b in right]),
        }
        for case, holds in cases.items():
            kept = holds & shown
            for measure in MEASURES:
                name = f"{kind}.{measure}"
                if name not in base[0].tensors:
                    continue
                values = [torch.stack([each.tensors[name].double() for each in some]) for some in (base, other)]
                if bool((kept & ~(values[0].isnan() | values[1].isnan())).any()):
                    rows.append({"set": kind, "case": case, **_paired(values[0], values[1], kept, measure)})
    return rows


def _paired(base: Tensor, other: Tensor, kept: Tensor, measure: str) -> dict[str, Any]:
    """base, other, kept (seeds, images): means over the seeds that count, image by image, then over images.

    A map without a score (NaN) counts for none of its measure's rows.
    Where every pair counts, the interval is over seeds and images; else over images, their seeds averaged.
    """
    kept = kept & ~(base.isnan() | other.isnan())
    base, other = (torch.where(kept, each, 0.0) for each in (base, other))
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
        "difference": plain(interval),
        "over": CROSSED if whole else "images, their seeds averaged",
        "images": int(images.sum()),
        "pairs": int(kept.sum()),
        "left_out": int(kept.numel() - kept.sum()),
    }


def _finding(attention: Sequence[Mapping[str, Any]]) -> str:
    """Does synthetic data narrow the attention? In a sentence, of real test images."""
    row = next((r for r in attention if (r["set"], r["case"], r["measure"]) == ("real", "all", "area")), None)
    if row is None:
        return "No finding: of each real test image that was looked at, some network's map is blank."
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
    """Pictures and maps for the figure of attention: {real, generated} x {right, wrong}, of the first seed that tells.

    For each network and kind the first `SHOWN` images that it names rightly, and wrongly, in an order drawn by a seed:
    none is picked by hand, nor are all of the first class. Tensors: "KIND.images", "KIND.label", "KIND.place",
    "KIND.NETWORK.maps", ".predicted" and ".probability".
    """
    seed = summary["told_by_seeds"][0]
    pairs = {"baseline": found[Unit(100, "real", 0, seed)]}
    if "100" in summary["chosen"]:
        pairs["augmented"] = found[Unit(100, "synthetic", summary["chosen"]["100"], seed)]
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
    summary = retold(summary)
    file = path / "artifacts" / "examples.safetensors"
    try:
        return Study(path, summary, load(file.read_bytes()))
    except FileNotFoundError:
        raise InputError(f"{file} is missing; resume the study to make it again.") from None
    except Exception as error:  # safetensors has an error class of its own
        raise WeightsError(f"{file} is damaged ({error}); resume the study to make it again.") from error
