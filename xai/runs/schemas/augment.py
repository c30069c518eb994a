"""The files of a study of augmentation."""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

from xai.runs.schemas.parts import Left, Mean, Number


class StudySettings(TypedDict):
    """The settings of a study of augmentation."""

    seeds: int
    ratios: list[int]
    method: str


class StudyProtocol(TypedDict):
    """The protocol of a study of augmentation."""

    settings: StudySettings
    sentence: str


class StudyImages(TypedDict):
    """Images of the parts."""

    pool: int
    validation: int
    test: int


class Arm(TypedDict):
    """An arm in numbers."""

    percent: int
    arm: str
    ratio: int
    title: str
    network: str
    real: int
    synthetic: int
    validation: float
    test: Mean
    difference: Mean | None
    seeds: list[float]
    train: float
    anew: NotRequired[bool]


class ArmCurve(TypedDict):
    """An arm's accuracy by step."""

    percent: int
    arm: str
    ratio: int
    title: str
    step: list[int]
    mean: list[float]
    low: list[Number]
    high: list[Number]
    anew: NotRequired[bool]


class StudyVerdict(TypedDict):
    """The answer on a share of the real images."""

    percent: int
    ratio: int
    difference: Mean
    sentence: str
    images: str
    validation_prefers: str


class Attention(TypedDict):
    """A measure of both networks' maps."""

    set: Literal["real", "generated"]
    case: Literal["all", "right", "wrong"]
    measure: str
    title: str
    baseline: float
    augmented: float
    difference: Mean
    over: str
    images: int
    pairs: int
    left_out: int


class Source(TypedDict):
    """A generator of a study."""

    fingerprint: str
    steps: NotRequired[int]
    command: NotRequired[str]


class AugmentSummary(TypedDict):
    """summary.json of a study of augmentation."""

    kind: str
    protocol: StudyProtocol
    data: str
    data_name: str
    data_synthetic: bool
    classes: list[str]
    images: StudyImages
    left_out: NotRequired[list[Left]]
    generators: list[Source]
    model: str
    title: str
    arms: list[Arm]
    curves: list[ArmCurve]
    chosen: dict[str, int]
    told_by_seeds: NotRequired[list[int]]
    verdicts: list[StudyVerdict]
    verdict: str
    attention: list[Attention]
    finding: str
    command: str


class UnitRow(TypedDict):
    """A line of a study's metrics.jsonl."""

    unit: str
    validation: float
    test: float
    seconds: float
