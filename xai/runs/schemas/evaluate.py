"""The files of an evaluation."""

from __future__ import annotations

from typing import Any, TypedDict

from xai.runs.schemas.parts import Left


class EvaluateConfig(TypedDict):
    """config.json of an evaluation."""

    kind: str
    recipe: dict[str, Any]


class EvaluateSummary(TypedDict):
    """summary.json of an evaluation."""

    data: str
    synthetic: bool
    refused: list[dict[str, str]]
    left_out: list[Left]
