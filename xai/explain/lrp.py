"""Layer-wise relevance propagation (LRP)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from xai.devices import double
from xai.errors import InputError
from xai.explain._gradient import joined, targets_of
from xai.explain._lrp.ops import BOX, EPSILON, FLAT, GAMMA, ZPLUS, Composite, Counts, NoRuleError, Rules
from xai.explain._lrp.record import Recorder
from xai.explain._lrp.weights import WeightStore, store_of
from xai.explain.spec import METHODS, PIXEL, MethodSpec
from xai.models.batching import in_batches
from xai.models.census import RECTIFIERS, TITLES
from xai.models.classifier import Classifier, InputModel
from xai.params import Parameters
from xai.registry import Source
from xai.types import Coverage, Explained, Run, resolve_target

CompositeName = Literal["epsilon-plus-flat", "epsilon-gamma-box", "epsilon", "alpha1-beta0"]
COMPOSITES: Mapping[str, Composite] = {
    "epsilon-plus-flat": Composite(first=FLAT, conv=ZPLUS, dense=EPSILON),
    "epsilon-gamma-box": Composite(first=BOX, conv=GAMMA, dense=EPSILON),
    "epsilon": Composite(first=EPSILON, conv=EPSILON, dense=EPSILON),
    "alpha1-beta0": Composite(first=ZPLUS, conv=ZPLUS, dense=ZPLUS),
}
MAX_EPSILON = 10.0
MAX_GAMMA = 1000.0
SAME_LOGITS = 1e-4
"""How far the recorded forward's logits may be from the network's, as a share of the largest."""


@dataclass(frozen=True)
class LRP(Parameters):
    """The class logit, handed back layer by layer to the pixels, each layer dividing what it got among its inputs.

    It starts from R = y_c, the logit itself (before softmax; it may be negative, which turns the signs). A composite
    says which rule divides where (the formulas are in `_lrp_rules`):

    composite            layer at the pixels   convolutions   fully connected
    epsilon-plus-flat    flat                  z-plus         epsilon      smooth maps, few negative values
    epsilon-gamma-box    z-box                 gamma          epsilon      finer maps, signed
    epsilon              epsilon               epsilon        epsilon      noisy: close to gradient times input
    alpha1-beta0         z-plus                z-plus         z-plus       never negative, hardly depends on the class

    epsilon: share of a layer's rms output that is added to the denominators of the epsilon rule. gamma: extra weight of
    positive contributions in the gamma rule; 0 is the epsilon rule, infinity the z-plus rule.

    Batch norms merge into the layer in front of them, eps included; where there is none (DenseNet) relevance is divided
    between the input and the norm's constant. Sums and average pools divide in proportion to the contributions, max
    pools give all to the winner, concatenations split. Activations with f(0) = 0 pass relevance on: established for
    ReLU and ReLU6, an extension for Hardswish, SiLU and others. The gate of a squeeze-and-excitation block is held
    constant. The pixels' normalisation, GoogLeNet's rescaled channels and padding in front of the first layer pass
    relevance on; z-box takes its bounds from the pixel values 0 and 1 sent through them.

    Biases take part: sum(R) + bias_share * y_c + stabiliser_share * y_c = y_c, up to rounding. What counts as absorbed
    by biases: the share b_j of each denominator in the epsilon rule, b+_j in z-plus, b_j + gamma b+_j (b-_j where
    z_j < 0) in gamma, the constant's share in the shift rule; biases are those after merging. In trained networks
    with many merged norms they take most: read such a map for where it points, not for its sum. Without biases in
    the z-plus rule the ratio is larger and the maps are worse (EfficientNet-Lite0, four photographs side by side: .79
    instead of .87 of the positive relevance lies on the photograph of the class).

    facts, per image: score (y_c), relevance_sum, ratio = relevance_sum / score, bias_share, stabiliser_share (None
    where the score is 0). Relevance of outputs to which nothing contributes counts with the stabilisers: all of it
    under alpha1-beta0 for a class whose last weights are negative. The flat rule spreads evenly under each kernel, so a
    stem of stride 2 leaves a fine grid in the map. The network is only watched while it runs, never changed, so threads
    do not meet.
    """

    composite: CompositeName = "epsilon-plus-flat"
    epsilon: float = field(default=1e-6, metadata={"min": 0.0, "max": MAX_EPSILON})
    gamma: float = field(default=0.25, metadata={"min": 0.0, "max": MAX_GAMMA})

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.composite not in get_args(CompositeName):
            raise InputError(f"composite {self.composite!r} is not known; use {', '.join(get_args(CompositeName))}.")

    def __call__(self, module: InputModel, x: Tensor, target: Tensor | None, run: Run) -> Explained:
        """x (N,3,H,W) in [0, 1] -> values (N,3,H,W), signed, in logits. Raises `NotApplicableError`."""
        asked = targets_of(target, len(x))
        rules = Rules(COMPOSITES[self.composite], self.epsilon, self.gamma, store_of(module))

        def work(start: int, stop: int) -> tuple[Tensor, ...]:
            return propagate(module, x[start:stop], asked(start, stop), rules)

        parts = joined([found for _, _, found in in_batches(work, len(x), run, "LRP")])
        values, logits, chosen, biases, stabilisers = parts
        score = double(logits.gather(1, chosen[:, None])[:, 0])
        summed = double(values).sum((1, 2, 3))
        facts = {
            "score": score.tolist(),
            "relevance_sum": summed.tolist(),
            "ratio": _shares(summed, score),
            "bias_share": _shares(biases, score),
            "stabiliser_share": _shares(stabilisers, score),
        }
        return Explained(values, logits, chosen, facts)


def _shares(part: Tensor, score: Tensor) -> list[float | None]:
    return [p / s if s else None for p, s in zip(part.tolist(), score.tolist(), strict=True)]


def propagate(module: InputModel, x: Tensor, target: Tensor | None, rules: Rules) -> tuple[Tensor, ...]:
    """x (N,3,H,W) -> relevance (N,3,H,W), logits (N,K), target (N,), what biases took (N,), and stabilisers (N,)."""
    with torch.no_grad():
        recorder, logits, _ = record(module, x, rules)
        chosen = resolve_target(logits, target)[:, None]
        start = torch.zeros_like(logits).scatter_(1, chosen, logits.gather(1, chosen))
        end = recorder.value(logits)
        assert end is not None  # `record` saw to it
        relevance, ledger = recorder.tape.relevance(end, start, rules)
    return relevance, logits, chosen[:, 0], ledger.bias, ledger.stabiliser


def record(module: InputModel, x: Tensor, rules: Rules) -> tuple[Recorder, Tensor, Counts]:
    """One forward, recorded: (recorder, logits (N,K), counts). Raises `NotApplicableError` where there is no rule."""
    recorder = Recorder(rules)
    pixels = recorder.start(x.detach())
    with recorder:
        logits = module(pixels)
    end = recorder.value(logits)
    if end is None:
        raise NoRuleError("its logits do not depend on the pixels")
    if logits.dim() != 2:
        raise NoRuleError("it needs a network that gives one row of logits for each image")
    return recorder, logits, recorder.tape.finish(end)


def lrp_coverage(classifier: Classifier, explainer: Any) -> Coverage:
    """What is merged, split, held constant and passed, from one forward on noise that is kept; or the reason."""
    del explainer
    if "lrp" not in classifier._memo:
        classifier._memo["lrp"] = _examine(classifier)
    found: Coverage = classifier._memo["lrp"]
    return found


def _examine(classifier: Classifier) -> Coverage:
    rules = Rules(COMPOSITES["epsilon-plus-flat"], 0.0, 0.0, WeightStore())
    with classifier.lease() as module, torch.no_grad():
        noise = torch.rand((1, 3, *classifier.input_size), generator=torch.Generator("cpu").manual_seed(0))
        noise = noise.to(device=classifier.device, dtype=module.mean.dtype)
        try:
            _, logits, counts = record(module, noise, rules)
        except NoRuleError as error:
            return Coverage("refused", limits=(error.reason,))
        plain = module(noise)
        if float((plain - logits).abs().max()) > SAME_LOGITS * float(plain.abs().max()):
            return Coverage("refused", limits=("it rewrites activations that are in use elsewhere",))
    return described(counts)


def described(counts: Counts) -> Coverage:
    """Counts in words; limited where something beyond ReLU networks with merged norms is needed."""
    merged, norms = counts.norms
    extended = {kind: number for kind, number in counts.activations.items() if kind not in RECTIFIERS}
    said = [
        (norms, f"{merged} of {norms} batch norms merged"),
        (norms - merged, f"{norms - merged} that no layer precedes share relevance with their constants"),
        (counts.sums, f"{counts.sums} sums split"),
        (counts.joins, f"{counts.joins} concatenations split"),
        (counts.gates, f"{counts.gates} gates held constant"),
        *((number, f"{TITLES[kind]} ({number}) passes relevance, an extension") for kind, number in extended.items()),
    ]
    limited = norms > merged or counts.gates or extended
    limits = tuple(sentence for number, sentence in said if number)
    return Coverage("limited" if limited else "full", "layers get relevance", *counts.layers, limits)


PASSES = {EPSILON: 3, ZPLUS: 4, GAMMA: 5}
"""Cost by the convolutions' rule, in forward passes; measured (`benchmarks/lrp.py`)."""


def lrp_passes(classifier: Classifier, explainer: LRP) -> int:
    """The recorded forward, another for the denominators, and one or two passes back."""
    del classifier
    return PASSES[COMPOSITES[explainer.composite].conv]


METHODS.add(
    MethodSpec(
        name="lrp",
        title="LRP",
        family="relevance",
        rank=40,
        source=Source(
            "Bach et al., On Pixel-Wise Explanations for Non-Linear Classifier Decisions by Layer-Wise Relevance "
            "Propagation, PLoS ONE 2015",
            "https://doi.org/10.1371/journal.pone.0130140",
        ),
        explainer=LRP,
        unit=PIXEL,
        summary="The class score, divided layer by layer among what made it, down to single pixels.",
        signed=True,
        coverage=lrp_coverage,
        passes=lrp_passes,
        caution=(
            "Read where it points rather than how much: in trained networks the biases take most of the score "
            "(bias_share says how much), and what reaches the pixels is divided by rules that were chosen, not learned."
        ),
    )
)
