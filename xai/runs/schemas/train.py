"""The files of a training."""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

from xai.runs.schemas.parts import Ends, Left, Number


class Recipe(TypedDict):
    """How a network is trained."""

    epochs: int
    batch: int
    learning_rate: float
    schedule: str
    patience: int
    augment: list[str]
    trainable: str
    head: str
    seed: int


class TrainConfig(TypedDict):
    """config.json of a training."""

    kind: str
    data: str
    model: str
    weights: str
    split: float
    folds: int
    view: Literal["crop", "whole"]
    recipe: Recipe
    base_fingerprint: str
    data_layout: str
    data_fingerprint: str


class EpochRow(TypedDict):
    """An epoch of a training."""

    epoch: int
    train_loss: float
    train_accuracy: float
    validation_loss: float
    validation_accuracy: float
    seconds: float
    learning_rate: NotRequired[float]


class TrainRow(EpochRow):
    """A line of a training's metrics.jsonl."""

    fold: int


class Sides(TypedDict):
    """Images of the parts."""

    training: int
    validation: int


class Kept(TypedDict):
    """The figures inside a training's summary."""

    confusion: list[list[int]]


class Without(TypedDict):
    """Accuracy without copies."""

    images: int
    accuracy: float
    interval: tuple[float, float]


class Seen(TypedDict):
    """What copies do to the figures of a test folder."""

    repeated: int
    without: Without | None


class Copies(TypedDict):
    """What copies of one picture do to the figures."""

    looked: bool
    sets: int
    images: int
    repeated: int
    kept: Literal["given", "anywhere", "together"]
    without: Without | None
    test: NotRequired[Seen | None]


class Groups(TypedDict):
    """How groups were made."""

    told: str
    divided: int


class FoldRow(TypedDict):
    """A fold's headline figures."""

    fold: int
    images: int
    accuracy: float
    loss: float
    auc: Number
    macro_f1: Number
    epochs: int


class Spread(TypedDict):
    """A figure over the folds."""

    mean: float
    deviation: float
    folds: int


class Tested(TypedDict):
    """The headline figures of a test folder."""

    images: int
    accuracy: float
    loss: float
    auc: Number
    intervals: NotRequired[dict[str, Ends]]


class Seconds(TypedDict):
    """How long a training took."""

    all: float


class TrainProtocol(TypedDict):
    """How a training was validated."""

    validation: str


class TrainSummary(TypedDict):
    """summary.json of a training."""

    kind: str
    data: str
    data_sentence: str
    synthetic: bool
    classes: list[str]
    images_by_class: dict[str, int]
    model: str
    weights: str
    random_base: bool
    recipe: Recipe
    device: str
    threads: int
    versions: dict[str, str]
    left_out: list[Left]
    accuracy: float
    loss: float
    auc: Number
    average_precision: Number
    ece: float
    macro_precision: Number
    macro_recall: Number
    macro_specificity: Number
    macro_f1: Number
    epochs: int
    kept_epoch: int
    stopped_early: bool
    last_epochs: list[EpochRow]
    parameters: int
    trained_parameters: int
    images: Sides
    seconds: Seconds
    figures: Kept
    folds: list[FoldRow]
    over_folds: dict[str, Spread]
    protocol: TrainProtocol
    repeated: NotRequired[int]
    copies: NotRequired[Copies]
    groups: NotRequired[Groups]
    test: NotRequired[Tested]
    intervals: NotRequired[dict[str, Ends]]
