"""What a metric file registers: facts about a metric as data, and its parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from xai.registry import Registry, Source

KINDS = ("curve", "model", "mask", "map", "pair")
"""What a metric needs beside the maps: "curve" and "model" ask the network again, "mask" where the object is, "map"
nothing, "pair" a second map."""


@dataclass(frozen=True)
class MetricSpec:
    """A metric by name.

    params: its frozen dataclass; `measure(...)` takes one. better_up(params): whether higher is better, which for
    deletion depends on the protocol. bounds: lowest and highest value there can be. reads: one sentence on what a
    value says.
    """

    name: str
    title: str
    kind: str
    rank: int
    source: Source
    params: Callable[..., Any]
    better_up: Callable[[Any], bool]
    bounds: tuple[float, float]
    reads: str
    measure: Callable[..., Any]


METRICS: Registry[MetricSpec] = Registry("metric", "xai.metrics")


def always(up: bool) -> Callable[[Any], bool]:
    """Direction of a metric that has one whatever its parameters."""
    return lambda params: up
