"""What a classifier's logits mean: one of the classes (softmax), or each class for itself (sigmoid).

Everything that turns logits into probabilities, a loss or a decision does it here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import StrEnum

import torch
import torch.nn.functional as F
from torch import Tensor

from xai.errors import InputError

NO_YES = ("no", "yes")
"""The classes of a network with one output, unless they are named."""


class Output(StrEnum):
    """How logits (...,K) become probabilities (...,K).

    SOFTMAX: exactly one class is right; the probabilities add up to 1. SIGMOID: each class is a question of its own,
    answered yes from probability 0.5 (logit 0) on; none, one or several may be right. A network with one output z is
    SIGMOID with the two logits (-z, z): the classes no and yes, whose probabilities are 1 - sigmoid(z) and sigmoid(z).

    The predicted class is, for both, the class of the largest logit.
    """

    SOFTMAX = "softmax"
    SIGMOID = "sigmoid"

    @classmethod
    def of(cls, name: str) -> Output:
        """The output called `name`; raises `InputError`."""
        if name not in tuple(cls):
            raise InputError(f"output {name!r} is not known; use {' or '.join(cls)}.")
        return cls(name)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Logits (...,K) -> probabilities (...,K)."""
        return logits.softmax(-1) if self is Output.SOFTMAX else logits.sigmoid()

    def probability(self, logits: Tensor, target: Tensor) -> Tensor:
        """Probability of one class a row: logits (N,K), target (N,) -> (N,)."""
        return self.probabilities(logits).gather(1, target[:, None])[:, 0]

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy of one class a row, -log of its probability: logits (N,K), target (N,) -> (N,)."""
        if self is Output.SOFTMAX:
            return F.cross_entropy(logits, target, reduction="none")
        return F.softplus(-logits.gather(1, target[:, None])[:, 0])

    def margin(self, logits: Tensor, target: Tensor) -> Tensor:
        """How far the decision is in favour of one class, in logits: (N,K), (N,) -> (N,).

        Above 0 exactly where the network decides for the class. SOFTMAX: z_t - max_{j != t} z_j. SIGMOID: z_t, the
        distance from probability 0.5. It does not saturate.
        """
        own = logits.gather(1, target[:, None])[:, 0]
        if self is Output.SIGMOID:
            return own
        return own - logits.scatter(1, target[:, None], -math.inf).amax(1)

    def answer(self, logits: Tensor, labels: Sequence[str]) -> str:
        """What the network says by logits (K,): the class of the largest one, or "none" where it decides for none."""
        place = int(logits.argmax())
        return "none" if self is Output.SIGMOID and float(logits[place]) < 0 else labels[place]

    @property
    def decision(self) -> str:
        """When the network decides for a class, in words."""
        if self is Output.SOFTMAX:
            return "the network decides for the class of the largest probability"
        return "the network decides for each class from probability 0.5 on"


def pair(z: Tensor) -> Tensor:
    """One output as the logits of no and yes: z (N,1) -> (-z, z) (N,2)."""
    return torch.cat([-z, z], 1)
