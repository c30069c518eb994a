"""The files of a training of a generator."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

from xai.runs.schemas.parts import Left


class Step(TypedDict):
    """The averaged losses of a training of a generator at a step, or what it says of its samples ("look")."""

    kind: Literal["loss", "look"]
    step: int
    kid: NotRequired[float]
    kid_name: NotRequired[str]
    distance_ratio: NotRequired[float]
    seconds: NotRequired[float]


class GanSummary(TypedDict):
    """summary.json of a training of a generator."""

    data: str
    synthetic: bool
    steps: int
    seconds: float
    last_look: dict[str, Any]
    plateau: dict[str, Any] | None
    batch_parts: int
    warning: str
    left_out: NotRequired[list[Left]]


class GanConfig(TypedDict):
    """config.json of a training of a generator."""

    kind: str
    look: NotRequired[int]
