"""What the attention methods share: the weights of every attention layer, seen without touching the module."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from xai.models.census import census, grey_pass, listed
from xai.models.classifier import Classifier, InputModel
from xai.models.graph import node_of, way_to
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
    """These methods need global self-attention over a class token and a grid of patches, from one forward that is kept.

    Counted is the attention between the pixels and the score, however it is written; the weights can be read where it
    is `torch.nn.MultiheadAttention`.
    """
    del explainer
    if "attention" not in classifier._memo:
        classifier._memo["attention"] = _examine(classifier)
    found: Coverage = classifier._memo["attention"]
    return found


def _examine(classifier: Classifier) -> Coverage:
    found, tokens = census(classifier), classifier.tokens
    written = found.of(("attention", "softmax"))
    aside = {kind: found.aside[kind] for kind in ("attention", "softmax") if kind in found.aside}
    if not written:
        beside = f"; {listed(aside)} is in a branch that does not join them" if aside else ""
        return _refused(f"there is no attention between the pixels and the score{beside}")
    if tokens is None or tokens.layout != SEQUENCE or tokens.prefix < 1:
        return _refused(
            f"it has {listed(written)}, but not over a class token and one grid of patches, so there is no one "
            "attention map from the answer to the patches"
        )
    with AttentionWeights() as seen:
        pixels, logits = grey_pass(classifier)
    way = way_to(logits, pixels)
    length = tokens.prefix + tokens.grid[0] * tokens.grid[1]
    usable = sum(each.shape[-2:] == (length, length) and node_of(used_of(each)) in way for each in seen.found)
    if not usable:
        return _refused(
            f"it has {listed(written)} between the pixels and the score, but gives its weights nowhere: they can "
            "be read from torch.nn.MultiheadAttention over all tokens only"
        )
    if usable < len(seen.found):
        return _refused(
            f"{usable} of {len(seen.found)} attention layers lie between the pixels and the score and run over all "
            f"{length} tokens; the others cannot be followed"
        )
    total = found.count("attention", "softmax")
    limits = [f"{tokens.sentence}, followed through every block"]
    if total > usable:
        limits = [tokens.sentence, f"the other {total - usable} softmax or attention steps give no weights"]
    return Coverage("full" if usable == total else "limited", "attention layers", usable, total, tuple(limits))


def _refused(sentence: str) -> Coverage:
    return Coverage("refused", limits=(sentence,))


def used_of(weights: Tensor) -> Tensor:
    """What a network goes on with: attention hands its weights out as a view of it, which no score depends on."""
    return weights if weights._base is None else weights._base


def to_grid(module: InputModel, from_class_token: Tensor) -> Tensor:
    """Relevance of all tokens (N,T) to the class token -> that of the patches on their grid (N,h,w)."""
    assert module.tokens is not None  # attention_coverage has refused networks without tokens
    h, w = module.tokens.grid
    return from_class_token[:, module.tokens.prefix :].reshape(-1, h, w)
