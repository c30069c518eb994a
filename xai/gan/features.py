"""Features that are to be had offline: EfficientNet-Lite0 with its ImageNet weights, named wherever they are used."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from xai.devices import memory_format
from xai.errors import WeightsError
from xai.models.batching import in_batches
from xai.models.classifier import Classifier
from xai.models.efficientnet_lite0 import EfficientNetLite0
from xai.models.store import load_model
from xai.types import Run

SIDE = 128
"""Side to which images are resized before EfficientNet-Lite0 sees them."""

INCEPTION_SIDE = 299


class Extract(Protocol):
    """Images (N,3,H,W) in [0, 1] -> features (N,D)."""

    def __call__(self, x: Tensor) -> Tensor:
        """See the class."""
        ...


@dataclass(frozen=True, eq=False)
class Extractor:
    """A feature extractor with the name that every figure made by it carries.

    fingerprint: of its weights. sentence: what it is, and how images are brought to it.
    """

    name: str
    fingerprint: str
    sentence: str
    extract: Extract

    def __call__(self, x: Tensor, run: Run | None = None, batch: int | None = None) -> Tensor:
        """x (N,3,H,W) in [0, 1] or uint8 -> (N,D) float32 on the CPU."""
        work = in_batches(lambda a, b: self._part(x[a:b]), len(x), run or Run(), f"features {self.name}", batch)
        return torch.cat([features for _, _, features in work])

    @torch.no_grad()
    def _part(self, x: Tensor) -> Tensor:
        return self.extract(x.float() / 255 if x.dtype == torch.uint8 else x).float().cpu()


class Lite0Maps(nn.Module):
    """EfficientNet-Lite0's maps after the stages at strides 4, 8, 16 and 32: x (N,3,H,W) in [-1, 1] -> 24, 40, 112 and
    320 channels.

    Frozen and in eval mode whatever the module around it does; gradients flow to x.
    """

    ENDS = (2, 4, 10, 15)
    CHANNELS = (24, 40, 112, 320)

    def __init__(self, net: EfficientNetLite0, stages: int = 4) -> None:
        super().__init__()
        self.stages = stages
        # not a submodule: it is not saved, averaged, moved to train mode or counted among the parameters
        object.__setattr__(self, "_net", net)

    def forward(self, x: Tensor) -> list[Tensor]:
        """The first `stages` of the maps."""
        net: EfficientNetLite0 = self.__dict__["_net"]
        x = (x + 1) * (255 / 256) - 127 / 128  # [-1, 1] -> [0, 1] -> its own normalisation
        x = net._relu(net._conv_stem(x))
        found: list[Tensor] = []
        for place, block in enumerate(net._blocks):
            x = block(x)
            if place in self.ENDS:
                found.append(x)
                if len(found) == self.stages:
                    break
        return found


def lite0_maps(device: torch.device, stages: int = 4) -> Lite0Maps:
    """`Lite0Maps` on `device`, on a private copy of the network."""
    return Lite0Maps(_folded(_network(load_model("efficientnet_lite0", "imagenet", device).private())), stages)


def _network(classifier: Classifier) -> EfficientNetLite0:
    net = classifier.module.net
    if not isinstance(net, EfficientNetLite0):
        raise WeightsError(f"{classifier.name} is not EfficientNet-Lite0.")
    return net


def _folded(net: EfficientNetLite0) -> EfficientNetLite0:
    """The network with every batch norm merged into the convolution before it: a third of the time is theirs."""
    _merge(net, "_conv_stem", "_bn0")
    for block in net._blocks:
        if block._expands:
            _merge(block, "_expand_conv", "_bn0")
        _merge(block, "_depthwise_conv", "_bn1")
        _merge(block, "_project_conv", "_bn2")
    return net.eval().requires_grad_(False).to(memory_format=memory_format(net._conv_stem.weight.device))


def _merge(module: nn.Module, layer: str, norm: str) -> None:
    conv, bn = getattr(module, layer), getattr(module, norm)
    weight, bias = fuse_conv_bn_weights(
        conv.weight, conv.bias, bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias
    )
    conv.weight, conv.bias = weight, bias
    setattr(module, norm, nn.Identity())


def inception(device: torch.device | str = "cpu") -> Extractor:
    """Pooled features (2048) of torchvision's Inception-v3, images resized to 299 px; where its weights are there.

    Not the TensorFlow Inception that published FIDs are made with: figures do not compare with those. Raises
    `WeightsError` where the weights are missing.
    """
    classifier = load_model("inception_v3", "imagenet", device).private()
    module = classifier.module
    pool: nn.Module = module.net.get_submodule("avgpool")
    found: list[Tensor] = []

    def extract(x: Tensor) -> Tensor:
        x = F.interpolate(x.float().to(classifier.device), (INCEPTION_SIDE,) * 2, mode="bilinear", antialias=True)
        handle = pool.register_forward_hook(lambda _module, _args, output: found.append(output))
        try:
            module(x)
        finally:
            handle.remove()
        return found.pop().flatten(1)

    sentence = (
        f"Inception-v3 of torchvision (ImageNet, {classifier.fingerprint}), pooled features, images resized to "
        f"{INCEPTION_SIDE} px; not the TensorFlow Inception of published FIDs"
    )
    return Extractor(f"InceptionV3-torchvision@{INCEPTION_SIDE}", classifier.fingerprint, sentence, extract)


def lite0(device: torch.device | str = "cpu") -> Extractor:
    """Pooled features (1280) of EfficientNet-Lite0, images resized to 128 px (bilinear, antialiased)."""
    return _lite0(str(device))


@cache
def _lite0(device: str) -> Extractor:
    classifier = load_model("efficientnet_lite0", "imagenet", device).private()
    module = classifier.module
    net = _network(classifier)

    def extract(x: Tensor) -> Tensor:
        x = F.interpolate(x.float().to(classifier.device), (SIDE, SIDE), mode="bilinear", antialias=True)
        x = ((x - module.mean) / module.std).contiguous(memory_format=memory_format(x.device))
        x = net._relu(net._bn0(net._conv_stem(x)))
        features: Tensor = net._relu_head(net._bn1(net._conv_head(net._blocks(x))))
        return features.mean((2, 3))

    sentence = f"EfficientNet-Lite0 (ImageNet, {classifier.fingerprint}), pooled features, images resized to {SIDE} px"
    return Extractor(f"EffNetLite0@{SIDE}", classifier.fingerprint, sentence, extract)
