"""Inception v3 (torchvision), without its auxiliary head."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torchvision.models import inception_v3

from xai.models._torchvision import FAMILIES, torchvision_spec
from xai.models.spec import ModelSpec
from xai.registry import Source


def _build(num_classes: int = 1000) -> nn.Module:
    # transform_input: as in GoogLeNet, the ImageNet weights expect (x - 0.5) / 0.5.
    net: nn.Module = inception_v3(
        weights=None, num_classes=num_classes, aux_logits=False, transform_input=True, init_weights=False
    )
    return net


def _without_head(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    return {key: value for key, value in state.items() if not key.startswith("AuxLogits.")}


def inception_spec(name: str, weights: str = "") -> ModelSpec:
    """The spec of torchvision's inception_v3, which is loaded by name but not listed."""
    return torchvision_spec(
        name,
        name,
        100,
        Source("Szegedy et al., Rethinking the Inception Architecture, CVPR 2016", "https://arxiv.org/abs/1512.00567"),
        "Mixed_7c",
        build=_build,
        adapt=_without_head,
        notes=("without its auxiliary head",),
        weights=weights,
    )


FAMILIES["inception"] = inception_spec
