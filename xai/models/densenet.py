"""DenseNets (torchvision), with the final ReLU as a layer that can be explained."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.densenet import DenseNet

from xai.models._torchvision import FAMILIES, torchvision_spec
from xai.models.spec import MODELS, ModelSpec
from xai.registry import Source

# growth rate, layers of each dense block, channels of the stem
_SHAPES: Mapping[str, tuple[int, tuple[int, int, int, int], int]] = {
    "densenet121": (32, (6, 12, 24, 16), 64),
    "densenet161": (48, (6, 12, 36, 24), 96),
    "densenet169": (32, (6, 12, 32, 32), 64),
    "densenet201": (32, (6, 12, 48, 32), 64),
}


class ReluDenseNet(DenseNet):  # type: ignore[misc]  # torchvision has no types
    """torchvision's DenseNet whose last ReLU is the module `features.relu5`, not a function after `features`.

    The same numbers; but there is a layer to name, and nothing is written over that a gradient still needs.
    """

    def __init__(self, name: str, num_classes: int) -> None:
        growth, blocks, stem = _SHAPES[name]
        super().__init__(growth, blocks, stem, num_classes=num_classes)
        self.features.add_module("relu5", nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        """x (N,3,H,W) normalised -> logits (N,K)."""
        pooled = F.adaptive_avg_pool2d(self.features(x), (1, 1))
        logits: Tensor = self.classifier(pooled.flatten(1))
        return logits


def _rename(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    # The published file has `norm.1`, `conv.2` where the module has `norm1`, `conv2`.
    pattern = re.compile(r"^(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\.(?:weight|bias|running_mean|running_var))$")
    return {pattern.sub(r"\1\2", key): value for key, value in state.items()}


def densenet_spec(name: str, weights: str = "", title: str = "", rank: int = 100) -> ModelSpec:
    """The spec of one of torchvision's four DenseNets."""
    return torchvision_spec(
        name,
        title or name,
        rank,
        Source("Huang et al., Densely Connected Convolutional Networks, CVPR 2017", "https://arxiv.org/abs/1608.06993"),
        "features.relu5",
        build=lambda num_classes=1000: ReluDenseNet(name, num_classes),
        adapt=_rename,
        weights=weights,
    )


FAMILIES["densenet"] = densenet_spec
MODELS.add(densenet_spec("densenet121", title="DenseNet121", rank=22))
