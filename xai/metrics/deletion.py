"""Deletion: how soon the class is lost when pixels are taken away, most relevant first."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from xai.metrics.curves import CurveParams, Targets, curves
from xai.metrics.protocol import get_protocol
from xai.metrics.spec import METRICS, MetricSpec
from xai.models.classifier import Classifier
from xai.public import public
from xai.registry import Source
from xai.types import Curve, Run


@dataclass(frozen=True)
class Deletion(CurveParams):
    """Parameters of deletion."""


@public
def deletion(
    classifier: Classifier,
    x: Tensor,
    maps: Tensor,
    protocol: str = "rise",
    targets: Targets = None,
    substrate: str | None = None,
    precision: str = "float32",
    run: Run | None = None,
) -> Curve:
    """Deletion curves of x (N,3,H,W) in [0, 1] for maps (N,H,W), after the top fraction t was taken away.

    Protocols `rise` and `rise-row`: p(t), LOWER is better. Protocol `study`: D(t) = max(0, p(0) - p(t)) / p(0), HIGHER
    is better; `probability` then holds p(t). Removed pixels become `substrate` (the protocols' own is the mean colour).
    AUC in [0, 1]. See `curves` for the arguments and errors.
    """
    chosen = {"deletion": substrate} if substrate else None
    found = curves(classifier, x, {"maps": maps}, protocol, ("deletion",), targets, chosen, precision, run)
    return found.curves["maps"]["deletion"]


def _measure(
    classifier: Classifier, x: Tensor, maps: Tensor, params: Deletion, targets: Targets = None, run: Run | None = None
) -> Curve:
    return deletion(classifier, x, maps, params.protocol, targets, params.substrate, params.precision, run)


METRICS.add(
    MetricSpec(
        name="deletion",
        title="Deletion",
        kind="curve",
        rank=1,
        source=Source("Petsiuk, Das & Saenko, RISE, BMVC 2018", "https://arxiv.org/abs/1806.07421"),
        params=Deletion,
        better_up=lambda params: get_protocol(params.protocol).better_up("deletion"),
        bounds=(0.0, 1.0),
        reads="Mean confidence (or its drop, by protocol) while the most relevant pixels are taken away first.",
        measure=_measure,
    )
)
