"""Swin transformers (torchvision): shifted windows on channels-last maps, without a class token."""

from __future__ import annotations

from xai.models._torchvision import FAMILIES, torchvision_spec
from xai.models.classifier import Tokens
from xai.models.layers import CHANNELS_LAST
from xai.models.spec import MODELS, ModelSpec
from xai.registry import Source

_V1 = Source("Liu et al., Swin Transformer, ICCV 2021", "https://arxiv.org/abs/2103.14030")
_V2 = Source("Liu et al., Swin Transformer V2, CVPR 2022", "https://arxiv.org/abs/2111.09883")


def swin_spec(name: str, weights: str = "", title: str = "", rank: int = 100) -> ModelSpec:
    """The spec of torchvision's swin_t, swin_s, swin_b or their V2.

    Blocks give (N,h,w,C); the default layer is the module that turns the last, normed ones into (N,C,h,w).
    """
    tokens = Tokens(CHANNELS_LAST)
    return torchvision_spec(
        name,
        title or name,
        rank,
        _V2 if name.startswith("swin_v2") else _V1,
        "permute",
        notes=(f"tokens: {tokens.sentence}; the default layer gives (N, C, h, w)",),
        weights=weights,
        tokens=tokens,
    )


FAMILIES["swin"] = swin_spec
MODELS.add(swin_spec("swin_t", title="Swin-T", rank=31))
