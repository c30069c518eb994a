"""Average drop and increase in confidence: what is left of the class where only the map's region is shown."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from xai.metrics.curves import Targets, as_tensor, check_maps, on_device
from xai.metrics.engine import Asker, within, without_order
from xai.metrics.protocol import check_precision
from xai.metrics.spec import METRICS, MetricSpec, always
from xai.metrics.substrate import substrate as behind
from xai.models.classifier import Classifier
from xai.outputs import Output
from xai.params import Parameters
from xai.public import public
from xai.registry import Source
from xai.types import Protocol, Run, Scores, resolve_target

SOURCE = Source("Chattopadhay et al., Grad-CAM++, WACV 2018, section 4.1", "https://arxiv.org/abs/1710.11063")


@dataclass(frozen=True)
class Drop(Parameters):
    """Parameters: what the map's complement becomes, and the precision of the network."""

    substrate: str = "mean"
    precision: str = "float32"


@public
def drop(
    classifier: Classifier,
    x: Tensor,
    maps: Tensor,
    targets: Targets = None,
    substrate: str = "mean",
    precision: str = "float32",
    run: Run | None = None,
) -> Scores:
    """Drop in confidence of each image: max(0, y - y_masked) / y, relative, in [0, 1], lower is better.

    The masked image is b + m (x - b) with m the map's positive part divided by its maximum and b the substrate: with
    the mean colour that is the map times the normalised image. y is the probability of the target. facts:
    "before" y, "after" y_masked. Some peers report the absolute drop y - y_masked; this is the paper's. NaN for a map
    whose positive part is empty or the same everywhere: it shows no region.

    x (N,3,H,W) in [0, 1]; maps (N,H,W). Raises as `xai.metrics.curves`.
    """
    before, after, given = _confidence(classifier, x, maps, targets, substrate, precision, run)
    values = scores_of(before, after, maps)["drop"]
    said = drop_protocol("drop", substrate, precision, given, classifier.output)
    return Scores("drop", values, False, said, {"before": before, "after": after})


@public
def increase(
    classifier: Classifier,
    x: Tensor,
    maps: Tensor,
    targets: Targets = None,
    substrate: str = "mean",
    precision: str = "float32",
    run: Run | None = None,
) -> Scores:
    """1 where the masked image of `drop` has more confidence than the whole one, else 0; its mean is the "increase".

    NaN as in `drop`.
    """
    before, after, given = _confidence(classifier, x, maps, targets, substrate, precision, run)
    values = scores_of(before, after, maps)["increase"]
    said = drop_protocol("increase", substrate, precision, given, classifier.output)
    return Scores("increase", values, True, said, {"before": before, "after": after})


def scores_of(before: Tensor, after: Tensor, maps: Tensor) -> dict[str, Tensor]:
    """Drop and increase (N,) from the confidences (N,) on the whole and the masked images of maps (N,H,W)."""
    fall = torch.where(before > 0, (before - after).clamp(min=0) / torch.where(before > 0, before, 1), 0.0)
    region = maps.clamp(min=0)
    return {"drop": without_order(region, fall), "increase": without_order(region, (after > before).to(before.dtype))}


def confidence_left(
    classifier: Classifier,
    x: Tensor,
    maps: Mapping[str, Tensor],
    target: Tensor,
    substrate: str = "mean",
    precision: str = "float32",
    run: Run | None = None,
) -> dict[str, Tensor]:
    """Probability (N,) of `target` (N,) on the masked images of each map, by name, on the CPU."""
    asker = Asker(classifier, check_precision(precision))
    run = dataclasses.replace(run or Run(), device=classifier.device)
    pixels = on_device(asker, classifier.check(x))
    back = behind(substrate, pixels, classifier.module.mean)
    target = target.to(pixels.device)
    found = {}
    for index, (name, values) in enumerate(maps.items()):
        check_maps(values, x, name)
        part = within(run, index * len(x), len(maps) * len(x))
        positive = values.to(pixels).clamp(min=0)
        peak = positive.amax((1, 2), keepdim=True)
        shown = (positive / torch.where(peak > 0, peak, 1))[:, None]
        found[name] = asker.chosen(
            asker.all_logits(back + shown * (pixels - back), part, "masked images"), target
        ).cpu()
    return found


def _confidence(
    classifier: Classifier, x: Tensor, maps: Tensor, targets: Targets, name: str, precision: str, run: Run | None
) -> tuple[Tensor, Tensor, bool]:
    """Probabilities (N,) of the target on the whole and on the masked image, on the CPU."""
    check_maps(maps, classifier.check(x))
    asker = Asker(classifier, check_precision(precision))
    run = dataclasses.replace(run or Run(), device=classifier.device)
    whole = asker.all_logits(on_device(asker, x), within(run, 0, 2 * len(x)), "whole images")
    target = resolve_target(whole, None if targets is None else as_tensor(targets))
    part = within(run, len(x), 2 * len(x))
    masked = confidence_left(classifier, x, {"maps": maps}, target, name, precision, part)["maps"]
    return asker.chosen(whole, target).cpu(), masked, targets is not None


def drop_protocol(
    metric: str,
    name: str = "mean",
    precision: str = "float32",
    given: bool = False,
    output: Output = Output.SOFTMAX,
) -> Protocol:
    """How `drop` or `increase` is measured, over the substrate `name`; given: the class was asked for."""
    value = "max(0, y - y_masked) / y" if metric == "drop" else "1 where y_masked > y"
    target = "class asked for" if given else "class predicted on the clean image"
    return Protocol(
        name=metric,
        settings={
            "metric": metric,
            "value": value,
            "mask": "positive part / maximum",
            "without_order": "no score",
            "substrate": name,
            "score": f"{output} probability of the {target}",
            "precision": precision,
            "higher_is_better": metric == "increase",
        },
        sentence=(
            f"{value}; the image times the map's positive part (maximum 1) over {name}, {output} of the {target}; "
            f"{'higher' if metric == 'increase' else 'lower'} is better{' (bf16)' if precision == 'bf16' else ''}. "
            "A map whose positive part is empty or constant has no score."
        ),
    )


def _measure_drop(
    classifier: Classifier, x: Tensor, maps: Tensor, params: Drop, targets: Targets = None, run: Run | None = None
) -> Scores:
    return drop(classifier, x, maps, targets, params.substrate, params.precision, run)


def _measure_increase(
    classifier: Classifier, x: Tensor, maps: Tensor, params: Drop, targets: Targets = None, run: Run | None = None
) -> Scores:
    return increase(classifier, x, maps, targets, params.substrate, params.precision, run)


METRICS.add(
    MetricSpec(
        name="drop",
        title="Average drop",
        kind="model",
        rank=10,
        source=SOURCE,
        params=Drop,
        better_up=always(False),
        bounds=(0.0, 1.0),
        reads="Share of the confidence that is lost when only the map's region is shown.",
        measure=_measure_drop,
    )
)
METRICS.add(
    MetricSpec(
        name="increase",
        title="Increase in confidence",
        kind="model",
        rank=11,
        source=SOURCE,
        params=Drop,
        better_up=always(True),
        bounds=(0.0, 1.0),
        reads="Share of images that the network is surer of when only the map's region is shown.",
        measure=_measure_increase,
    )
)
