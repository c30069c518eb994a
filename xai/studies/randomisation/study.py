"""The model-parameter randomisation check: does a method's map change when the network's weights are shuffled?

From the layer that gives the logits down to the pixels, block after block loses what it learned; the explanation of the
same class is made again each time and compared with the one of the trained network. A method whose map stays as it
was draws something that the weights do not decide: edges, for instance. Source: Adebayo et al., Sanity Checks for
Saliency Maps, NeurIPS 2018 (cascading randomisation), https://arxiv.org/abs/1810.03292.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from xai.explain.call import attribute
from xai.explain.spec import METHODS
from xai.models.classifier import Classifier
from xai.public import public
from xai.stats.similarity import is_constant, spearman, ssim
from xai.studies.randomisation.stages import WeightStage, chosen_stages, shuffle, weight_stages
from xai.types import Attribution, Protocol, Run

THRESHOLD = 0.5
"""Mean rank correlation in the upper half of the stages from which a map counts as hardly changed."""


@dataclass(frozen=True, eq=False)
class RandomisationResult:
    """What N maps did while S stages were shuffled, from the top of the network down; each stage adds to those before.

    stages: names, S of them, the logits' block first. spearman: rank correlation of the signed maps with those of the
    trained network, spearman_abs: of their sizes, ssim: structural similarity of their sizes, each scaled to its own
    maximum; all (S,N). maps (S+1,N,H,W): the trained network's first. target (N,): the class that is explained
    throughout. probability (S+1,N): what the network gives it. overflowed (S,N) bool: the shuffled network gave no
    finite map; it counts as blank. A blank map has no correlation: NaN.

    score (N,): the higher of both rank correlations, each averaged over the upper half of the stages; by then the
    network has long forgotten the class, so an explanation of the class has to be another one. Stages with a blank map
    are left out; NaN where no stage is left. changes: the score's mean over the images that have one is below
    `THRESHOLD`; None where none has.
    """

    method: str
    stages: tuple[str, ...]
    spearman: Tensor
    spearman_abs: Tensor
    ssim: Tensor
    maps: Tensor
    target: Tensor
    probability: Tensor
    overflowed: Tensor
    score: Tensor
    changes: bool | None
    verdict: str
    protocol: Protocol
    provenance: Mapping[str, Any]


@public
def randomisation_check(
    classifier: Classifier,
    x: Tensor,
    method: str = "gradcam",
    targets: int | Sequence[int] | Tensor | None = None,
    layer: str | None = None,
    stages: Sequence[str] | None = None,
    seed: int = 0,
    run: Run | None = None,
    **params: Any,
) -> RandomisationResult:
    """Explain x (N,3,H,W) in [0, 1] by `method` while the weights are shuffled, stage by stage.

    The class stays the one asked for, or that the trained network predicts. Each weight tensor's entries are permuted,
    which keeps its distribution and destroys what was learned. stages: paths of modules, the first shuffled first; the
    default is up to 12 blocks of the network in reversed order of execution. The classifier itself is never touched:
    its module is copied. Same seed, same result; the method's own random numbers are the same at every stage.

    Raises what `attribute` raises, and `InputError` for a stage without weights.
    """
    run = run or Run(seed=seed)
    private = classifier.private(run)
    if stages is None:
        order = weight_stages(private.module, private.input_size)[::-1]
    else:
        order = chosen_stages(private.module, stages)
    places = len(order) + 1
    found = [attribute(private, x, method, targets, layer, run=_share(run, 0, places, "trained"), **params)]
    for place, stage in enumerate(order, start=1):
        note = f"{stage.name} shuffled"
        run.report(100 * place, 100 * places, note)
        # A new module each time: what is remembered about a module's weights must not outlive them.
        private = _shuffled(private, stage, run)
        part = _share(run, place, places, note)
        found.append(attribute(private, x, method, found[0].target, layer, run=part, **params))
    run.report(100 * places, 100 * places)
    return _result(found, order, run)


def _shuffled(classifier: Classifier, stage: WeightStage, run: Run) -> Classifier:
    private = classifier.private(run)
    shuffle(private.module, stage, run)
    return dataclasses.replace(
        private,
        fingerprint=f"{classifier.fingerprint.partition('+')[0]}+shuffled",
        weights=f"{classifier.weights.partition(', ')[0]}, shuffled down to {stage.name}",
    )


def _share(run: Run, place: int, places: int, note: str) -> Run:
    """A run that tells its progress as a hundred parts of one of `places`."""

    def tell(done: int, total: int, inner: str) -> None:
        run.on_progress(100 * place + 100 * done // max(total, 1), 100 * places, f"{note}: {inner}" if inner else note)

    return dataclasses.replace(run, on_progress=tell)


def _result(found: Sequence[Attribution], order: Sequence[WeightStage], run: Run) -> RandomisationResult:
    maps = torch.stack([each.maps() for each in found])
    finite = torch.isfinite(maps).all(-1).all(-1)
    maps = torch.where(finite[..., None, None], maps, 0)
    sizes = _scaled(maps.abs())
    signed = torch.stack([spearman(each, maps[0]) for each in maps[1:]])
    unsigned = torch.stack([spearman(each, sizes[0]) for each in sizes[1:]])
    blank = is_constant(maps)
    alike = torch.stack([ssim(each, sizes[0], data_range=1.0) for each in sizes[1:]])
    alike = torch.where(blank[1:] | blank[0], math.nan, alike)
    chosen = found[0].target
    upper = (len(order) + 1) // 2
    means = torch.stack([signed[:upper].nanmean(0), unsigned[:upper].nanmean(0)])
    score = torch.where(means.isnan().all(0), math.nan, means.nan_to_num(-math.inf).amax(0))
    known = score[~score.isnan()]
    changes = float(known.mean()) < THRESHOLD if len(known) else None
    lost = int(signed[:upper].isnan().sum())
    return RandomisationResult(
        method=found[0].method,
        stages=tuple(stage.name for stage in order),
        spearman=signed,
        spearman_abs=unsigned,
        ssim=alike,
        maps=maps,
        target=chosen,
        probability=torch.stack([each.probabilities().gather(1, chosen[:, None])[:, 0] for each in found]),
        overflowed=~finite[1:],
        score=score,
        changes=changes,
        verdict=_verdict(
            METHODS.get(found[0].method).title, changes, means.nanmean(1).tolist(), upper, len(order), lost, len(score)
        ),
        protocol=_protocol(len(order), run.seed),
        provenance=found[0].provenance,
    )


def _scaled(sizes: Tensor) -> Tensor:
    """Each map by its own maximum, as a picture of it is: (...,H,W) in [0, 1]."""
    peak = sizes.amax((-2, -1), keepdim=True)
    return sizes / torch.where(peak > 0, peak, 1)


def _verdict(
    title: str, changes: bool | None, means: Sequence[float], upper: int, stages: int, lost: int, images: int
) -> str:
    """The finding in one sentence, with the rule it follows; lost: comparisons in the upper stages with a blank map."""
    if changes is None:
        return (
            f"{title}: undecided. The trained network's map, or that of each of the upper {upper} of {stages} stages, "
            "is blank, and a blank map has no correlation."
        )
    left = f" {lost} of {upper * images} comparisons there have a blank map and are left out." if lost else ""
    finding = "changes when the weights are shuffled" if changes else "hardly depends on the weights"
    return (
        f"{title}: the map {finding} (rank correlation with the trained network's map in the upper {upper} of {stages} "
        f"stages: {means[0]:.2f} signed, {means[1]:.2f} in size; the higher one, image by image, is on average "
        f"{'below' if changes else 'not below'} {THRESHOLD}).{left}"
    )


def _protocol(stages: int, seed: int) -> Protocol:
    settings = {"stages": stages, "order": "top down, cascading", "shuffle": "entries of each tensor", "seed": seed}
    return Protocol(
        "randomisation",
        settings,
        f"Cascading randomisation from the logits down in {stages} stages; the entries of each weight tensor, and of "
        f"the normalisations' statistics, are permuted (seed {seed}); Spearman and SSIM (11 x 11 Gaussian window) "
        "against the trained network's map at the input size, for the same class. A blank map has no score.",
    )
