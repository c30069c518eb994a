"""How a network is trained: everything that decides the numbers, apart from the data."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from xai.errors import InputError
from xai.models.heads import HEADS
from xai.params import check_bounds
from xai.training.augment import AUGMENTATIONS

TRAINABLE = ("frozen", "last_block", "all")
"""frozen: the head only. last_block: the head and the layers at the resolution of the last maps. all: everything."""

SCHEDULES = ("constant", "cosine", "step")
CLASS_WEIGHTS = ("none", "balanced")
PRECISIONS = ("float32", "bf16", "fp16")

LARGEST_SEED = 2**31 - 1

STEPS = 3
"""Levels of the schedule "step": the rate is divided by 10 after each third of the epochs."""


@dataclass(frozen=True)
class Recipe:
    """Adam on the cross-entropy.

    epochs, batch (images a step), learning_rate; schedule: constant, cosine (to 0 over the epochs), step. A schedule is
    that of all epochs: a finished run that learns on to 2n goes on with the rate that epoch n + 1 of 2n has, which is
    higher again, and so does not end as 2n epochs in one go do. l2: factor of the sum of squares of the head's hidden
    kernels in the loss, as study 4's layers have it. weight_decay: decoupled (AdamW), on everything that is trained.
    class_weights: none, or balanced: N / (K n_k). patience: end after so many epochs without a lower validation loss
    and keep the best epoch's weights; 0: neither. augment: names of `AUGMENTATIONS`, in order. precision: bf16 and fp16
    are mixed precision. trainable and head: see `TRAINABLE` and `xai.models.heads.HEADS`. Raises `InputError` for a
    value that is none of these.
    """

    epochs: int = field(default=30, metadata={"min": 1, "max": 100_000})
    batch: int = field(default=32, metadata={"min": 1, "max": 4096})
    learning_rate: float = 1e-3
    schedule: str = "constant"
    l2: float = 1e-4
    weight_decay: float = 0.0
    class_weights: str = "none"
    patience: int = field(default=0, metadata={"min": 0, "max": 100_000})
    augment: tuple[str, ...] = ()
    precision: str = "float32"
    trainable: str = "frozen"
    head: str = "linear"
    seed: int = field(default=0, metadata={"min": 0, "max": LARGEST_SEED})

    def __post_init__(self) -> None:
        check_bounds(self)
        for name in ("l2", "weight_decay"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise InputError(f"{name} is {getattr(self, name)}; give 0 or more.")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise InputError(f"learning_rate is {self.learning_rate}; give a number above 0.")
        choices = {
            "schedule": SCHEDULES,
            "class_weights": CLASS_WEIGHTS,
            "precision": PRECISIONS,
            "trainable": TRAINABLE,
            "head": HEADS,
        }
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise InputError(f"{name} {getattr(self, name)!r} is not known; use {', '.join(known)}.")
        for name in self.augment:
            if name not in AUGMENTATIONS:
                raise InputError(f"augmentation {name!r} is not known; choose from {', '.join(AUGMENTATIONS)}.")

    def rate(self, epoch: int) -> float:
        """The learning rate of `epoch`, counted from 1."""
        if self.schedule == "cosine":
            return self.learning_rate * 0.5 * (1 + math.cos(math.pi * (epoch - 1) / self.epochs))
        if self.schedule == "step":
            return float(self.learning_rate * 0.1 ** (STEPS * (epoch - 1) // self.epochs))
        return self.learning_rate

    @property
    def features_do(self) -> bool:
        """Whether what the frozen part gives is the same in every epoch, so that once is enough."""
        return self.trainable == "frozen" and not self.augment

    def words(self) -> list[str]:
        """Options of `train` that ask for it: head and epochs, and what is not as usual."""
        found = ["--head", self.head, "--epochs", str(self.epochs)]
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name not in ("head", "epochs") and value != each.default:
                text = ",".join(value) if isinstance(value, tuple) else str(value)
                found += [f"--{each.name.replace('_', '-')}", text]
        return found

    def plain(self) -> dict[str, Any]:
        """As JSON and checkpoints keep it."""
        return {**asdict(self), "augment": list(self.augment)}
