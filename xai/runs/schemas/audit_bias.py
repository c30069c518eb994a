"""The files of a bias audit: of a study on drawn pets, or of own images."""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

from xai.runs.schemas.parts import Left, Number
from xai.runs.schemas.train import EpochRow


class Level(TypedDict):
    """A mean with its interval and the level of that; low and high None where there is none."""

    mean: float
    low: Number
    high: Number
    n: int
    level: float


class Unless(TypedDict):
    """A mean with its interval; all None where every map is blank."""

    mean: Number
    low: Number
    high: Number
    n: int
    level: float


class Trained(TypedDict):
    """One training of a study."""

    rho: Number
    seed: int
    arm: Literal["biased", "balanced", "weights", "jitter", "grey"]
    model: str


class DrawnTrained(Trained):
    """One training of a study on drawn pets."""

    cue: str


class Group(TypedDict):
    """A group's accuracy."""

    label: str
    value: str
    aligned: bool
    accuracy: Level


class Reliance(TypedDict):
    """What swapping a factor does."""

    factor: str
    flips: Level
    flipped: int
    moved: Level
    score: Level


class Share(TypedDict):
    """How much of a map lies on a region."""

    method: str
    region: str
    share: Unless
    chance: Unless
    beyond: Unless
    above: int
    blank: int


class Row(TypedDict):
    """A test image of an audit."""

    key: str
    label: int
    group: str
    aligned: bool
    predicted: int
    probability: float


class Made(TypedDict):
    """What an audit was made with."""

    model: str
    weights: str
    fingerprint: str
    threads: NotRequired[int]


class AuditOf(TypedDict):
    """An audit of a network."""

    cue: str
    images: int
    synthetic: bool
    how: str
    classes: list[str]
    groups: list[Group]
    aligned: Level | None
    conflicting: Level | None
    reliance: list[Reliance]
    shares: list[Share]
    verdict: str
    rows: list[Row]
    provenance: Made


class Point(TypedDict):
    """A training with its audit."""

    experiment: Trained
    audit: AuditOf


class Shared(TypedDict):
    """A training whose planted cue agrees in one share of the images."""

    rho: float
    seed: int


class SweepPoint(TypedDict):
    """A training of a sweep with its audit."""

    experiment: Shared
    audit: AuditOf


class Detected(TypedDict):
    """What a method shows of a cue."""

    cue: str
    method: str
    correlation: Level
    word: Literal["trusted", "some", "none", "reversed"]


class Reading(TypedDict):
    """What a method shows of one network."""

    network: str
    cue: str
    method: str
    mass: float
    area: float
    reliance: float


class Detector(TypedDict):
    """Which methods reveal a shortcut."""

    protocol: str
    rows: list[Detected]
    readings: list[Reading]


class DrawnBase(TypedDict):
    """The network of a study on drawn pets."""

    experiment: DrawnTrained
    curves: list[EpochRow]
    audit: AuditOf


class OwnBase(TypedDict):
    """The network of an audit of own images."""

    experiment: None
    network: NotRequired[str]
    curves: list[EpochRow]
    audit: AuditOf


class DrawnRequest(TypedDict):
    """What a study on drawn pets was asked for."""

    per_group: int


class OwnAsked(TypedDict):
    """What an audit of own images was asked for."""

    data: str
    model: str
    weights: str
    images: int | None
    seed: int
    groups: str
    masks: str
    view: Literal["crop", "whole"]


class BiasSummary(TypedDict):
    """summary.json of an audit, what its two sorts share."""

    kind: str
    protocol: str
    data: str
    sweep: list[SweepPoint]
    mend: list[Point]
    detector: Detector | None
    left_out: NotRequired[list[Left]]


class DrawnSummary(BiasSummary):
    """Of a study on drawn pets."""

    request: DrawnRequest
    command: str
    base: DrawnBase


class OwnSummary(BiasSummary):
    """Of an audit of own images."""

    request: OwnAsked
    base: OwnBase


class BiasConfig(TypedDict):
    """config.json of an audit."""

    kind: str
    data_fingerprint: NotRequired[str]
