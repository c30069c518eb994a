"""`curves`: insertion and deletion of several maps of the same images at once, and the pictures behind a curve."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from xai.errors import InputError
from xai.metrics.engine import Asker, Mixer, rank_pixels, shuffles, within, without_order
from xai.metrics.protocol import CurveProtocol, area, check_precision, describe, get_protocol
from xai.metrics.substrate import check_substrate, substrate
from xai.models.batching import check_batch
from xai.models.classifier import Classifier
from xai.params import Parameters
from xai.public import public
from xai.types import Curve, Protocol, Run, class_indices, resolve_target

CURVES = ("insertion", "deletion")

GROUP = {"cpu": 16, "cuda": 64}
"""Images whose pictures and ranks lie on the device together, by device type."""

Targets = int | Sequence[int] | Tensor | None


@dataclass(frozen=True)
class CurveParams(Parameters):
    """What a person can choose about a curve; substrate "" is the protocol's own."""

    protocol: str = "rise"
    substrate: str = ""
    precision: str = "float32"


@dataclass(frozen=True, eq=False)
class CurveSet:
    """Curves of several maps over the same N images.

    target (N,) int64; confidence (N,): its probability on the whole image. curves: map's name -> metric -> Curve.
    passes: images that went through the network.
    """

    target: Tensor
    confidence: Tensor
    curves: Mapping[str, Mapping[str, Curve]]
    passes: int


@dataclass(frozen=True)
class _Plan:
    """The request, checked: substrates by metric, and their distinct names in order."""

    protocol: CurveProtocol
    metrics: tuple[str, ...]
    substrates: tuple[str, ...]
    counts: tuple[int, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.substrates))

    def ends(self, images: int) -> int:
        """Forward passes of the first and last positions, which all maps share; flat colours are asked once, apart."""
        return images * (2 if "blur" in self.names else 1)

    def passes(self, images: int, maps: int) -> int:
        """Forward passes of `images` images."""
        return self.ends(images) + len(self.metrics) * maps * images * (len(self.counts) - 2)


@public
def curves(
    classifier: Classifier,
    x: Tensor,
    maps: Mapping[str, Tensor],
    protocol: str = "rise",
    metrics: Sequence[str] = CURVES,
    targets: Targets = None,
    substrates: Mapping[str, str] | None = None,
    precision: str = "float32",
    run: Run | None = None,
    batch: int | None = None,
) -> CurveSet:
    """Insertion and deletion of every map of x (N,3,H,W) in [0, 1], in full batches.

    maps: name -> (N,H,W), signed, higher is more relevant. protocol: "study", "rise" or "rise-row". targets: class
    index, one for all or one an image; None: the class predicted on the clean image. substrates: metric -> "blur",
    "mean", "black" or "#rrggbb" where the protocol's own is not wanted. batch: images a forward pass.

    A constant map puts no pixel before another: it has no curve, its y, probability and auc are NaN. Pixels of equal
    relevance are taken in an order drawn from the run's seed and the image, the same for all maps of the image.

    Raises `InputError` (images, maps, targets, names), `UnknownNameError` (protocol) and `Cancelled`.
    """
    plan = _plan(classifier.check(x), maps, protocol, metrics, substrates or {})
    check_batch(batch, classifier.device)
    asker = Asker(classifier, check_precision(precision), batch)
    run = dataclasses.replace(run or Run(), device=classifier.device)
    given = None if targets is None else resolve_target(torch.empty(len(x), _classes(classifier)), as_tensor(targets))
    flat = {name: _flat_ends(asker, name, x, run) for name in plan.names if name != "blur"}
    total = plan.passes(len(x), len(maps))
    group = GROUP.get(classifier.device.type, 16)
    parts: list[tuple[Tensor, Tensor]] = []
    for start in range(0, len(x), group):
        piece = slice(start, start + group)
        some = torch.stack([values[piece] for values in maps.values()])
        wanted = None if given is None else given[piece]
        parts.append(
            _group(asker, plan, x[piece], some, wanted, flat, within(run, plan.passes(start, len(maps)), total))
        )
    probability = torch.cat([part for part, _ in parts], dim=2)  # (Q,M,N,S)
    whole = probability[0, 0, :, -1 if plan.metrics[0] == "insertion" else 0]  # of the whole image, the same for all
    probability = without_order(torch.stack(list(maps.values())).to(probability.device), probability)
    size = (int(x.shape[-2]), int(x.shape[-1]))
    said = [
        describe(metric, plan.protocol, size, name, precision, given is not None, classifier.output)
        for metric, name in zip(plan.metrics, plan.substrates, strict=True)
    ]
    found = {
        name: {metric: _curve(plan, metric, probability[q, m], said[q]) for q, metric in enumerate(plan.metrics)}
        for m, name in enumerate(maps)
    }
    return CurveSet(torch.cat([target for _, target in parts]), whole, found, total + len(flat))


def _plan(
    x: Tensor, maps: Mapping[str, Tensor], protocol: str, metrics: Sequence[str], substrates: Mapping[str, str]
) -> _Plan:
    chosen_protocol = get_protocol(protocol)
    if not maps:
        raise InputError("there is no map to measure; give at least one.")
    wrong = [metric for metric in (*metrics, *substrates) if metric not in CURVES]
    if wrong or not metrics:
        raise InputError(f"metric {wrong[0] if wrong else ''!r} is no curve; use {' or '.join(CURVES)}.")
    for name, values in maps.items():
        check_maps(values, x, name)
    names = tuple(check_substrate(substrates.get(m) or chosen_protocol.substrate(m)) for m in metrics)
    return _Plan(chosen_protocol, tuple(metrics), names, chosen_protocol.counts((x.shape[-2], x.shape[-1])))


def check_maps(maps: Tensor, x: Tensor, name: str = "maps") -> None:
    """Raise `InputError` unless maps are (N,H,W) for x (N,3,H,W), and finite."""
    wanted = (x.shape[0], *x.shape[-2:])
    if tuple(maps.shape) != wanted:
        raise InputError(
            f"{name} has shape {tuple(maps.shape)} for images {tuple(x.shape)}; give {wanted}, as Attribution.maps()."
        )
    if not bool(torch.isfinite(maps).all()):
        raise InputError(f"{name} holds values that are not finite; the explanation overflowed.")


def as_tensor(targets: int | Sequence[int] | Tensor) -> Tensor:
    """Targets as a tensor of whole numbers."""
    return class_indices(targets)


def _classes(classifier: Classifier) -> int:
    return len(classifier.labels)


def on_device(asker: Asker, x: Tensor) -> Tensor:
    """x on the classifier's device, in its floating-point type."""
    return x.to(asker.classifier.device, asker.classifier.module.mean.dtype)


def _group(
    asker: Asker, plan: _Plan, x: Tensor, maps: Tensor, target: Tensor | None, flat: Mapping[str, Tensor], run: Run
) -> tuple[Tensor, Tensor]:
    """Probabilities (Q,M,n,S) and targets (n,) of a few images, on the CPU. maps (M,n,H,W); flat: see `_flat_ends`."""
    ties = shuffles(x, run.seed)
    x = on_device(asker, x)
    behind = {name: substrate(name, x, asker.classifier.module.mean) for name in plan.names}
    whole = asker.all_logits(x, run, "whole images")
    if target is None:  # always the class that the network predicts in float32
        exact = dataclasses.replace(asker, precision="float32")
        target = (whole if asker == exact else exact.all_logits(x, run)).argmax(1)
    target = target.to(x.device)
    ends = {"": asker.chosen(whole, target)}
    for name in plan.names:
        blurred = name == "blur"
        logits = asker.all_logits(behind[name], within(run, len(x))) if blurred else flat[name].expand(len(x), -1)
        ends[name] = asker.chosen(logits, target)
    mixer = _mixer(plan, x, behind, rank_pixels(maps.to(x.device), ties))
    inner = asker.interior(mixer, target, within(run, plan.ends(len(x))), "insertion and deletion")
    return _with_ends(plan, inner, ends).cpu(), target.cpu()


def _flat_ends(asker: Asker, name: str, x: Tensor, run: Run) -> Tensor:
    """Logits (1,K) of a picture of one colour, which is the same for every image."""
    mean = asker.classifier.module.mean
    return asker.logits(substrate(name, on_device(asker, x[:1]), mean).contiguous(), run)


def _mixer(plan: _Plan, x: Tensor, behind: Mapping[str, Tensor], ranks: Tensor) -> Mixer:
    pictures = torch.stack([x, *behind.values()]).permute(0, 1, 3, 4, 2).contiguous()  # (P,n,H,W,3)
    place = {name: index for index, name in enumerate(behind, 1)}
    # Insertion shows the image where pixels have been ranked first, deletion what stands for missing ones.
    pairs = [
        (0, place[name]) if metric == "insertion" else (place[name], 0)
        for metric, name in zip(plan.metrics, plan.substrates, strict=True)
    ]
    return Mixer(
        pictures,
        ranks,
        torch.tensor(pairs, device=x.device),
        torch.tensor(plan.counts, dtype=torch.int32, device=x.device),
    )


def _with_ends(plan: _Plan, inner: Tensor, ends: Mapping[str, Tensor]) -> Tensor:
    """inner (Q,M,n,S-2) with its first and last position, which all maps share: ends is substrate or "" -> (n,)."""
    joined = []
    for q, (metric, name) in enumerate(zip(plan.metrics, plan.substrates, strict=True)):
        first, last = (ends[name], ends[""]) if metric == "insertion" else (ends[""], ends[name])
        shape = (*inner.shape[1:3], 1)
        joined.append(torch.cat([first[:, None].expand(shape), inner[q], last[:, None].expand(shape)], -1))
    return torch.stack(joined)


def _curve(plan: _Plan, metric: str, probability: Tensor, said: Protocol) -> Curve:
    y = drop(probability) if metric == "deletion" and plan.protocol.drop else probability
    return Curve(
        metric=metric,
        x=torch.tensor(plan.counts, dtype=torch.float64) / plan.counts[-1],
        y=y,
        auc=area(y, plan.counts, plan.protocol),
        higher_is_better=plan.protocol.better_up(metric),
        protocol=said,
        probability=probability,
    )


def drop(probability: Tensor) -> Tensor:
    """D(t) = max(0, p(0) - p(t)) / p(0) for p (...,S); 0 where p(0) is 0, since nothing is left to drop."""
    start = probability[..., :1]
    fall = (start - probability).clamp(min=0)
    return torch.where(start == 0, 0.0, fall / torch.where(start == 0, 1, start))  # NaN stays NaN


@public
def pictures_at(
    classifier: Classifier,
    x: Tensor,
    map_: Tensor,
    fractions: Sequence[float],
    metric: str = "insertion",
    protocol: str = "rise",
    substrate_name: str = "",
    seed: int = 0,
) -> Tensor:
    """The pictures (F,3,H,W) in [0, 1] that the network sees once each of `fractions` of the pixels has changed.

    x (3,H,W) or (1,3,H,W); map_ (H,W). Exactly what `curves` shows the network at the same fraction and seed.
    """
    x = x[None] if x.dim() == 3 else x
    plan = _plan(classifier.check(x), {"map": map_[None]}, protocol, (metric,), {metric: substrate_name})
    bad = [fraction for fraction in fractions if not 0 <= fraction <= 1]
    if bad:
        raise InputError(f"fraction is {bad[0]}; give a share of the pixels from 0 to 1.")
    behind = substrate(plan.substrates[0], x, classifier.module.mean.to(x))
    pictures = torch.stack([x, behind]).permute(0, 1, 3, 4, 2)
    counts = torch.tensor([round(f * plan.counts[-1]) for f in fractions], dtype=torch.int32)
    pairs = torch.tensor([(0, 1) if metric == "insertion" else (1, 0)])
    zero = torch.zeros(len(counts), dtype=torch.int64)
    mixer = Mixer(pictures, rank_pixels(map_[None, None], shuffles(x, seed)), pairs, counts)
    return mixer.mix(zero, zero, zero, torch.arange(len(counts))).contiguous()


@public
def picture_at(
    classifier: Classifier,
    x: Tensor,
    map_: Tensor,
    fraction: float,
    metric: str = "insertion",
    protocol: str = "rise",
    substrate_name: str = "",
    seed: int = 0,
) -> Tensor:
    """One picture (3,H,W) of `pictures_at`."""
    return pictures_at(classifier, x, map_, [fraction], metric, protocol, substrate_name, seed)[0]


@public
def precision_error(
    classifier: Classifier,
    x: Tensor,
    maps: Mapping[str, Tensor],
    protocol: str = "rise",
    run: Run | None = None,
    targets: Targets = None,
    substrates: Mapping[str, str] | None = None,
) -> dict[str, float]:
    """Largest difference of an AUC between bf16 and float32 on these images, by metric: what bf16 costs here.

    Maps without an order have no AUC and are left out; NaN where no other is there.
    """
    exact = curves(classifier, x, maps, protocol, targets=targets, substrates=substrates, run=run)
    rough = curves(
        classifier, x, maps, protocol, targets=exact.target, substrates=substrates, precision="bf16", run=run
    )
    found = {}
    for metric in CURVES:
        apart = torch.cat([rough.curves[name][metric].auc - exact.curves[name][metric].auc for name in maps])
        known = apart[~apart.isnan()].abs()
        found[metric] = float(known.max()) if len(known) else math.nan
    return found
