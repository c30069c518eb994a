"""The headline figures of a result, as JSON holds them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from xai.metrics.curves import CURVES
from xai.models.provenance import versions
from xai.studies.faithfulness.result import WHITE_NOISE, Faithfulness, Score


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
        "without_order": list(result.without_order),
        "against_random": result.about_random,
        "given_away": list(result.given_away),
        "nothing_shown": [
            {"network": network, "metric": metric, **_finite(asdict(bare.mean)), "given_away": bare.given}
            for network in result.networks
            for metric in CURVES
            for bare in (result.bare(network, metric),)
        ],
        "white_noise": WHITE_NOISE if "random" in result.recipe.everything else "",
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
        "without_score": score.missing,
        **_finite(asdict(score.mean)),
        "against_random": None
        if against is None
        else {
            "grid": list(against.grid),
            "draws": against.draws,
            "random": _finite(asdict(against.random)),
            "difference": _finite(asdict(against.paired.difference)),
            "wins": against.paired.wins,
            "losses": against.paired.losses,
            "ties": against.paired.ties,
            "p": against.paired.p if against.paired.p == against.paired.p else None,
            "smallest_possible_p": against.paired.least_p,
            "verdict": against.verdict,
        },
    }


def _finite(values: Mapping[str, Any]) -> dict[str, Any]:
    """NaN as null: one image has no interval."""
    return {key: None if isinstance(value, float) and value != value else value for key, value in values.items()}
