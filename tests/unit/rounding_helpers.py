"""Small networks of several kinds, in float32 and with drawn weights, for tests of what rounding may decide."""

from __future__ import annotations

import torch
from torch import nn
from torchvision.models import ConvNeXt, SwinTransformer, VisionTransformer
from torchvision.models.convnext import CNBlockConfig

from tests.conftest import make_tiny
from xai.models.classifier import Classifier, InputModel
from xai.models.layers import CHANNELS_LAST, SEQUENCE, Tokens

LABELS = ("a", "b", "c")


def _classifier(net: nn.Module, size: int, layer: str, tokens: Tokens | None = None) -> Classifier:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in net.named_parameters():
            if "norm" in name or ".ln" in name or (name.endswith(("1.weight", "2.weight")) and value.dim() == 1):
                continue  # a LayerNorm as it begins: scale 1, shift 0, so that the channels' mean is zero
            value.copy_(torch.randn(value.shape, generator=generator) * (0.3 if value.dim() > 1 else 0.1))
    module = InputModel(net, (0.5,) * 3, (0.5,) * 3, tokens).eval().requires_grad_(False)
    title = type(net).__name__
    return Classifier(
        title, title, module, LABELS, (size, size), layer, title, torch.device("cpu"), "random:0", tokens=tokens
    )


def vit() -> Classifier:
    """Two blocks over a class token and a 4 x 4 grid; explained behind a LayerNorm."""
    net = VisionTransformer(32, 8, num_layers=2, num_heads=2, hidden_dim=12, mlp_dim=24, num_classes=3)
    return _classifier(net, 32, "encoder.layers.encoder_layer_1.ln_1", Tokens(SEQUENCE, (4, 4), prefix=1))


def swin() -> Classifier:
    """Two stages of shifted windows; explained behind the last LayerNorm."""
    net = SwinTransformer([4, 4], 12, [2, 2], [2, 2], [4, 4], num_classes=3, stochastic_depth_prob=0.0)
    return _classifier(net, 64, "permute", Tokens(CHANNELS_LAST))


def convnext() -> Classifier:
    """Two stages of one block each."""
    net = ConvNeXt([CNBlockConfig(8, 16, 1), CNBlockConfig(16, None, 1)], num_classes=3, layer_scale=1.0)
    return _classifier(net, 64, "features.3")


NETWORKS = {"cnn": make_tiny, "vit": vit, "swin": swin, "convnext": convnext}
