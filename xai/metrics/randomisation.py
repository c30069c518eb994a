"""Randomisation check: does the map change when the network's weights are shuffled?"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from xai.metrics.spec import METRICS, MetricSpec, always
from xai.params import Parameters
from xai.public import public
from xai.registry import Source
from xai.stats.similarity import spearman
from xai.types import Protocol, Scores


@dataclass(frozen=True)
class Randomisation(Parameters):
    """absolute: compare |map|, which hides a mere change of sign."""

    absolute: bool = False


@public
def randomisation(trained: Tensor, shuffled: Tensor, absolute: bool = False) -> Scores:
    """Spearman's rank correlation of a trained network's maps with those of shuffled weights: (N,H,W) x 2 -> (N,).

    Near 1 the map does not depend on what the network has learnt, so lower is better. NaN where either is constant.
    Raises `InputError` for shapes that differ. Source: Adebayo et al., Sanity checks for saliency maps, NeurIPS 2018.
    """
    a, b = (trained.abs(), shuffled.abs()) if absolute else (trained, shuffled)
    said = Protocol(
        "randomisation",
        {"metric": "randomisation", "value": "Spearman", "absolute": absolute, "higher_is_better": False},
        f"Rank correlation of the {'absolute ' if absolute else ''}maps before and after shuffling the weights; near 1 "
        "the map does not depend on what was learnt; lower is better. A constant map has no score.",
    )
    return Scores("randomisation", spearman(a, b).float().cpu(), False, said)


METRICS.add(
    MetricSpec(
        name="randomisation",
        title="Randomisation check",
        kind="pair",
        rank=40,
        source=Source(
            "Adebayo et al., Sanity Checks for Saliency Maps, NeurIPS 2018", "https://arxiv.org/abs/1810.03292"
        ),
        params=Randomisation,
        better_up=always(False),
        bounds=(-1.0, 1.0),
        reads="How alike the maps of the trained and of the shuffled network are.",
        measure=lambda trained, shuffled, params: randomisation(trained, shuffled, params.absolute),
    )
)
