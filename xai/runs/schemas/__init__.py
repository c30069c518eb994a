"""What the JSON files of each kind of run hold, as far as pages and commands read it; `xai.schema` compares.

Keys that newer versions have added are `NotRequired`: a run of an older version stays readable. A kind that is not here
is shown by its settings alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xai.runs.schemas.audit_bias import BiasConfig, DrawnSummary, OwnSummary
from xai.runs.schemas.augment import AugmentSummary, UnitRow
from xai.runs.schemas.evaluate import EvaluateConfig, EvaluateSummary
from xai.runs.schemas.gan import GanConfig, GanSummary, Step
from xai.runs.schemas.parts import Config
from xai.runs.schemas.train import TrainConfig, TrainRow, TrainSummary

__all__ = ["CONFIGS", "METRICS", "SUMMARIES", "Config"]

CONFIGS: Mapping[str, Any] = {
    "train": TrainConfig,
    "audit-bias": BiasConfig,
    "gan": GanConfig,
    "evaluate": EvaluateConfig,
}

SUMMARIES: Mapping[str, Any] = {
    "train": TrainSummary,
    "audit-bias": DrawnSummary | OwnSummary,
    "augment": AugmentSummary,
    "gan": GanSummary,
    "evaluate": EvaluateSummary,
}

METRICS: Mapping[str, Any] = {"train": TrainRow, "gan": Step, "augment": UnitRow}
"""What each line of metrics.jsonl holds."""
