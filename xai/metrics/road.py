"""ROAD: remove pixels so that the hole does not show, and see whether the class goes with them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from xai.devices import double
from xai.errors import InputError
from xai.metrics._impute import impute
from xai.metrics.curves import Targets, as_tensor, check_maps, on_device
from xai.metrics.engine import TIES, Asker, rank_pixels, shuffles, within, without_order
from xai.metrics.protocol import check_precision
from xai.metrics.spec import METRICS, MetricSpec
from xai.models.batching import in_batches
from xai.models.classifier import Classifier
from xai.outputs import Output
from xai.params import Parameters
from xai.public import public
from xai.registry import Source
from xai.types import Curve, Protocol, Run, resolve_target

FRACTIONS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
ORDERS = ("most", "least", "combined")


@dataclass(frozen=True)
class Road(Parameters):
    """order: "most" relevant pixels are removed first, "least", or "combined": half of least minus most.

    noise: standard deviation, in [0, 1] pixel units, added to what was imputed.
    """

    order: str = "most"
    noise: float = 0.01
    precision: str = "float32"

    @property
    def better_up(self) -> bool:
        """Confidence should fall when the most relevant pixels go, and stay when the least relevant do."""
        return self.order != "most"


@public
def road(
    classifier: Classifier,
    x: Tensor,
    maps: Tensor,
    order: str = "most",
    fractions: Sequence[float] = FRACTIONS,
    noise: float = 0.01,
    targets: Targets = None,
    precision: str = "float32",
    run: Run | None = None,
) -> Curve:
    """Confidence p after the fraction t of the pixels was removed and imputed from what is left, for each of fractions.

    A fraction is what is REMOVED: .25 with order "most" removes the most relevant quarter. (pytorch-grad-cam calls
    that percentile 75; in Quantus 75 removes three quarters.) y: p(t); for "combined" (p_least(t) - p_most(t)) / 2.
    auc: mean of y over the fractions. Lower is better for "most", higher for the other two. The noise is one field for
    all images and fractions, drawn from the run's seed, so that two maps meet the same noise. Pixels of equal relevance
    are removed in an order drawn from the seed and the image; a constant map has no order, and NaN as y and auc.

    x (N,3,H,W) in [0, 1]; maps (N,H,W). Raises as `xai.metrics.curves`, and for fractions outside (0, 1).
    Source: Rong et al., A consistent and efficient evaluation strategy for attribution methods, ICML 2022.
    """
    check_maps(maps, classifier.check(x))
    params = _checked(Road(order, noise, check_precision(precision)), fractions)
    run = dataclasses.replace(run or Run(), device=classifier.device)
    asker = Asker(classifier, precision)
    pixels = on_device(asker, x)
    given = None if targets is None else as_tensor(targets)
    signs = {"most": (1,), "least": (-1,), "combined": (1, -1)}[order]
    total = len(x) * (1 + len(signs) * len(fractions))
    target = resolve_target(asker.all_logits(pixels, within(run, 0, total), "whole images"), given)
    field = torch.randn(x.shape[1:], generator=run.generator("road"), dtype=torch.float32).to(pixels) * noise
    counts = [round(fraction * maps[0].numel()) for fraction in fractions]
    ties = shuffles(x, run.seed)
    parts = []
    for index, sign in enumerate(signs):
        part = within(run, len(x) * (1 + index * len(fractions)), total)
        ranks = rank_pixels(sign * maps.to(pixels), ties)
        parts.append(_probabilities(asker, pixels, ranks, counts, field, target, part))
    y = without_order(maps, parts[0] if len(parts) == 1 else (parts[1] - parts[0]) / 2)
    return Curve(
        metric="road",
        x=torch.tensor(list(fractions), dtype=torch.float64),
        y=y.cpu(),
        auc=double(y).mean(1).cpu(),
        higher_is_better=params.better_up,
        protocol=_protocol(params, fractions, given is not None, classifier.output),
    )


def _checked(params: Road, fractions: Sequence[float]) -> Road:
    if params.order not in ORDERS:
        raise InputError(f"order {params.order!r} is not known; use {', '.join(ORDERS)}.")
    bad = [fraction for fraction in fractions if not 0 < fraction < 1]
    if bad or not fractions:
        raise InputError(f"fraction is {bad[0] if bad else 'missing'}; give shares to remove between 0 and 1.")
    if not params.noise >= 0:
        raise InputError(f"noise is {params.noise}; give 0 or more, in pixel units of [0, 1].")
    return params


def _probabilities(
    asker: Asker, x: Tensor, ranks: Tensor, counts: Sequence[int], field: Tensor, target: Tensor, run: Run
) -> Tensor:
    """Probability (N,F) of the target with the `counts` first-ranked pixels imputed."""
    shape = (len(x), len(counts))
    limits = torch.tensor(counts, device=x.device, dtype=torch.int32)

    def work(start: int, stop: int) -> Tensor:
        image, step = torch.unravel_index(torch.arange(start, stop, device=x.device), shape)
        gone = (ranks[image] < limits[step][:, None]).view(-1, *x.shape[-2:])
        filled = impute(x[image], ~gone)
        filled = torch.where(gone[:, None], (filled + field).clamp(0, 1), filled)
        return asker.chosen(asker.logits(filled, run), target[image])

    found = in_batches(work, len(x) * len(counts), run, "removed and imputed", asker.size)
    return torch.cat([part for _, _, part in found]).view(shape)


def _protocol(params: Road, fractions: Sequence[float], given: bool, output: Output) -> Protocol:
    target = "class asked for" if given else "class predicted on the clean image"
    what = {"most": "most relevant", "least": "least relevant", "combined": "least minus most relevant, halved"}
    return Protocol(
        name=f"road-{params.order}",
        settings={
            "metric": "road",
            **dataclasses.asdict(params),
            "fractions": list(fractions),
            "fraction_means": "share of the pixels removed",
            "imputation": "noisy linear, eight neighbours",
            "ties": TIES,
            "without_order": "no score",
            "score": f"{output} probability of the {target}",
            "auc": "mean over the fractions",
            "higher_is_better": params.better_up,
        },
        sentence=(
            f"ROAD: {what[params.order]} pixels removed ({', '.join(f'{f:g}' for f in fractions)}) and imputed from "
            f"their neighbours with noise {params.noise:g}; {output} of the {target}; mean over the fractions; "
            f"{'higher' if params.better_up else 'lower'} is better. Pixels of equal relevance in random order, "
            "drawn by the seed; a constant map has no score."
        ),
    )


def _measure(
    classifier: Classifier, x: Tensor, maps: Tensor, params: Road, targets: Targets = None, run: Run | None = None
) -> Curve:
    return road(classifier, x, maps, params.order, FRACTIONS, params.noise, targets, params.precision, run)


METRICS.add(
    MetricSpec(
        name="road",
        title="ROAD",
        kind="curve",
        rank=2,
        source=Source(
            "Rong et al., A Consistent and Efficient Evaluation Strategy for Attribution Methods, ICML 2022",
            "https://arxiv.org/abs/2202.00449",
        ),
        params=Road,
        better_up=lambda params: params.better_up,
        bounds=(-0.5, 1.0),
        reads="Mean confidence after the most relevant pixels were removed without leaving a visible hole.",
        measure=_measure,
    )
)
