"""What a fine-tuning trains on what."""

from __future__ import annotations

from dataclasses import dataclass, field

from xai.data.together import TOGETHER
from xai.training.recipe import Recipe


@dataclass(frozen=True)
class TransferRequest:
    """What is trained on what. Everything here is part of the run; resuming asks for the same, or for more epochs.

    data: a folder, a zip or sample:NAME of labelled images. model and weights: what it begins with. split: share of the
    images for training. folds: with 2 or more, that many networks, each validated on its own part. Folders called
    train, validation and test are used as they are, whatever `split` says. view: what of an image is seen, as
    `Classifier.preprocess` has it. groups: what stays on one side of the split, as `xai.data.groups.groups_by` has it,
    "" for nothing. copies: of `xai.data.together.COPIES`, where copies of one picture go.
    """

    data: str
    model: str = "efficientnet_lite0"
    weights: str = "imagenet"
    recipe: Recipe = field(default_factory=Recipe)
    split: float = 0.8
    folds: int = 0
    layout: str = "auto"
    view: str = "crop"
    groups: str = ""
    copies: str = TOGETHER
