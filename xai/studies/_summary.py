"""The headline figures of a result, as JSON holds them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from xai.provenance import versions
from xai.studies.faithfulness import Faithfulness, Score


def summarise(result: Faithfulness) -> dict[str, Any]:
    """Headline figures, each with its protocol, as JSON: mean, interval, rank and the comparison with random order."""
    metrics = {}
    for metric in result.metrics:
        metrics[metric] = {
            "higher_is_better": result.better_up(metric),
            "scores": [
                {**_score(score), "protocol": result.protocol(score.network, metric).sentence}
                for score in result.scores(metric)
            ],
        }
    return {
        "images": len(result.images),
        "rows": result.table.num_rows,
        "versions": versions(),
        "left_out": [asdict(problem) for problem in result.problems],
        "refused": [asdict(each) for each in result.refused],
        "protocol": {metric: asdict(result.protocol(result.networks[0], metric)) for metric in result.metrics},
        "accuracy": {
            network: None if (share := result.correct(network)) is None else _finite(asdict(share))
            for network in result.networks
        },
        "metrics": metrics,
    }


def _score(score: Score) -> dict[str, Any]:
    against = score.against
    return {
        "network": score.network,
        "method": score.method,
        "baseline": score.baseline,
        "rank": score.rank,
        **_finite(asdict(score.mean)),
        "against_random": None
        if against is None
        else {
            "difference": _finite(asdict(against.difference)),
            "wins": against.wins,
            "losses": against.losses,
            "ties": against.ties,
            "p": against.p if against.p == against.p else None,
        },
    }


def _finite(values: Mapping[str, Any]) -> dict[str, Any]:
    """NaN as null: one image has no interval."""
    return {key: None if isinstance(value, float) and value != value else value for key, value in values.items()}
