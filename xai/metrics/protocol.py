"""Protocols of insertion and deletion: how many pixels a step, what replaces them, what is averaged.

Scores of different protocols do not compare: deletion's direction is even opposite in two of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from xai.devices import double
from xai.errors import InputError, UnknownNameError
from xai.metrics.engine import TIES
from xai.outputs import Output
from xai.public import public
from xai.registry import Source
from xai.types import Protocol

PRECISIONS = ("float32", "bf16")

_RISE = Source("Petsiuk, Das & Saenko, RISE, BMVC 2018", "https://arxiv.org/abs/1806.07421")
_STUDY = Source(
    "Reference study 1: faithfulness of Grad-CAM, five fractions, deletion as normalised drop in confidence", ""
)


@dataclass(frozen=True)
class CurveProtocol:
    """How insertion and deletion are measured.

    rows: image rows' worth of pixels a step (8 rows are 1792 pixels at 224 px), or 0 where `fractions` are given.
    drop: deletion is D(t) = max(0, p(0) - p(t)) / p(0), higher is better; otherwise it is p(t), lower is better.
    substrates: what stands for missing pixels, for insertion and for deletion.
    """

    name: str
    title: str
    source: Source
    drop: bool
    substrates: tuple[str, str]
    rows: int = 0
    fractions: tuple[float, ...] = ()

    def counts(self, size: tuple[int, int]) -> tuple[int, ...]:
        """Pixels changed at each position, from 0 to H*W, for an image of `size` (H,W); the last step may be short."""
        total = size[0] * size[1]
        if self.fractions:
            return tuple(round(fraction * total) for fraction in self.fractions)
        return (*range(0, total, self.rows * size[1]), total)

    def better_up(self, metric: str) -> bool:
        """Whether a higher AUC is better."""
        return metric == "insertion" or self.drop

    def substrate(self, metric: str) -> str:
        """What stands for missing pixels unless another is chosen."""
        return self.substrates[0 if metric == "insertion" else 1]


PROTOCOLS: dict[str, CurveProtocol] = {
    protocol.name: protocol
    for protocol in (
        CurveProtocol(
            "study", "Study 1", _STUDY, drop=True, substrates=("blur", "mean"), fractions=(0.0, 0.25, 0.5, 0.75, 1.0)
        ),
        CurveProtocol("rise", "RISE, as evaluated", _RISE, drop=False, substrates=("blur", "mean"), rows=8),
        CurveProtocol("rise-row", "RISE, row by row", _RISE, drop=False, substrates=("blur", "mean"), rows=1),
    )
}


@public
def get_protocol(name: str) -> CurveProtocol:
    """The protocol called `name`; raises `UnknownNameError`."""
    try:
        return PROTOCOLS[name]
    except KeyError:
        raise UnknownNameError(f"protocol {name!r} is not known; use {', '.join(PROTOCOLS)}.") from None


def check_precision(precision: str) -> str:
    """`precision` itself; raises `InputError` for one that there is not."""
    if precision not in PRECISIONS:
        raise InputError(f"precision {precision!r} is not known; use {' or '.join(PRECISIONS)}.")
    return precision


def area(y: Tensor, counts: tuple[int, ...], protocol: CurveProtocol) -> Tensor:
    """AUC (...,) of y (...,S), in float64.

    RISE: (sum - first/2 - last/2) / (S - 1), every step counted alike, its shorter last one too. Fractions: the
    trapezoid rule over [0, 1].
    """
    y = double(y)
    if protocol.fractions:
        return torch.trapezoid(y, torch.tensor(counts, dtype=torch.float64, device=y.device) / counts[-1], dim=-1)
    return (y.sum(-1) - y[..., 0] / 2 - y[..., -1] / 2) / (y.shape[-1] - 1)


def describe(
    metric: str,
    protocol: CurveProtocol,
    size: tuple[int, int],
    substrate: str,
    precision: str,
    given: bool,
    output: Output = Output.SOFTMAX,
) -> Protocol:
    """The protocol as it travels with a curve: settings for files, one sentence for figures."""
    counts = protocol.counts(size)
    target = "class asked for" if given else "class predicted on the clean image"
    value = "max(0, p(0) - p(t)) / p(0)" if metric == "deletion" and protocol.drop else "p(t)"
    steps = (
        f"{counts[1]} pixels a step"
        if protocol.rows
        else f"fractions {', '.join(f'{f:g}' for f in protocol.fractions)}"
    )
    verb = "Insertion from" if metric == "insertion" else "Deletion to"
    direction = "higher" if protocol.better_up(metric) else "lower"
    return Protocol(
        name=protocol.name,
        settings={
            "metric": metric,
            "protocol": protocol.name,
            "substrate": substrate,
            "pixels_a_step": counts[1] if protocol.rows else None,
            "fractions": [count / counts[-1] for count in counts] if not protocol.rows else None,
            "points": len(counts),
            "size": list(size),
            "value": value,
            "score": f"{output} probability of the {target}",
            "auc": "trapezoid over [0, 1]" if protocol.fractions else "(sum - first/2 - last/2) / (points - 1)",
            "higher_is_better": protocol.better_up(metric),
            "ties": TIES,
            "without_order": "no score",
            "precision": precision,
        },
        sentence=(
            f"{verb} {substrate}, {steps}, {len(counts)} points; {value}, p = {output} of the {target}; {direction} is "
            f"better ({protocol.title}{', bf16' if precision == 'bf16' else ''}). Pixels of equal relevance in random "
            "order, drawn by the seed; a constant map has no score."
        ),
    )
