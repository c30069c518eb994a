"""ConvNeXts (torchvision): convolutions arranged like a transformer; (N,C,h,w) between blocks."""

from __future__ import annotations

from xai.models._torchvision import FAMILIES, torchvision_spec
from xai.models.spec import MODELS, ModelSpec
from xai.registry import Source


def convnext_spec(name: str, weights: str = "", title: str = "", rank: int = 100) -> ModelSpec:
    """The spec of torchvision's convnext_tiny, _small, _base or _large; the default layer is the last stage."""
    return torchvision_spec(
        name,
        title or name,
        rank,
        Source("Liu et al., A ConvNet for the 2020s, CVPR 2022", "https://arxiv.org/abs/2201.03545"),
        "features.7",
        weights=weights,
    )


FAMILIES["convnext"] = convnext_spec
MODELS.add(convnext_spec("convnext_tiny", title="ConvNeXt-T", rank=32))
