"""What the attention methods share: the weights of every attention layer, seen without touching the module."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from xai.models.classifier import Classifier, InputModel
from xai.models.layers import SEQUENCE
from xai.types import Coverage


class AttentionWeights(TorchFunctionMode):
    """Within it, every multi-head attention of this thread also computes its weights, kept in `found`.

    Each is (N,heads,T,T), rows sum to 1, part of the graph; row i says from where token i takes its values. The mode
    is thread-local: other people's forwards on the same module are not seen and not changed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Tensor] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Ask multi-head attention for its weights, head by head; leave everything else alone."""
        del types
        if func is not F.multi_head_attention_forward:
            return func(*args, **(kwargs or {}))
        asked = {**(kwargs or {}), "need_weights": True, "average_attn_weights": False}
        output, weights = func(*args, **asked)
        self.found.append(weights)
        return output, weights


def attention_coverage(classifier: Classifier, explainer: Any) -> Coverage:
    """These methods need global self-attention over a class token and a grid of patches."""
    del explainer
    tokens = classifier.tokens
    if tokens is None:
        return Coverage("refused", limits=(f"{classifier.title} has no attention layers: it is made of convolutions",))
    if tokens.layout != SEQUENCE or tokens.prefix < 1:
        return Coverage(
            "refused",
            limits=(
                f"{classifier.title} attends within shifted windows and has no class token, so there is no one "
                "attention map from the answer to the patches",
            ),
        )
    count = sum(isinstance(layer, torch.nn.MultiheadAttention) for layer in classifier.module.net.modules())
    if not count:
        return Coverage("refused", limits=(f"{classifier.title} has no attention layer that gives its weights",))
    return Coverage("full", "attention layers", count, count, (f"{tokens.sentence}, followed through every block",))


def to_grid(module: InputModel, from_class_token: Tensor) -> Tensor:
    """Relevance of all tokens (N,T) to the class token -> that of the patches on their grid (N,h,w)."""
    assert module.tokens is not None  # attention_coverage has refused networks without tokens
    h, w = module.tokens.grid
    return from_class_token[:, module.tokens.prefix :].reshape(-1, h, w)
