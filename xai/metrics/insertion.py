"""Insertion: how soon the class comes back when pixels are put in, most relevant first."""

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
class Insertion(CurveParams):
    """Parameters of insertion."""


@public
def insertion(
    classifier: Classifier,
    x: Tensor,
    maps: Tensor,
    protocol: str = "rise",
    targets: Targets = None,
    substrate: str | None = None,
    precision: str = "float32",
    run: Run | None = None,
) -> Curve:
    """Insertion curves of x (N,3,H,W) in [0, 1] for maps (N,H,W): p(t) after the top fraction t was put in.

    The start is `substrate` (the protocol's own is a blurred copy). AUC in [0, 1], higher is better. See `curves` for
    the arguments and errors.
    """
    chosen = {"insertion": substrate} if substrate else None
    found = curves(classifier, x, {"maps": maps}, protocol, ("insertion",), targets, chosen, precision, run)
    return found.curves["maps"]["insertion"]


def _measure(
    classifier: Classifier, x: Tensor, maps: Tensor, params: Insertion, targets: Targets = None, run: Run | None = None
) -> Curve:
    return insertion(classifier, x, maps, params.protocol, targets, params.substrate, params.precision, run)


METRICS.add(
    MetricSpec(
        name="insertion",
        title="Insertion",
        kind="curve",
        rank=0,
        source=Source("Petsiuk, Das & Saenko, RISE, BMVC 2018", "https://arxiv.org/abs/1806.07421"),
        params=Insertion,
        better_up=lambda params: get_protocol(params.protocol).better_up("insertion"),
        bounds=(0.0, 1.0),
        reads="Mean confidence while the most relevant pixels are put in first.",
        measure=_measure,
    )
)
