"""SimpleCNN: four convolutional layers for small pictures, as the study of bias trains it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

from torch import Tensor, nn

from xai.errors import WeightsError
from xai.models.classifier import Preset
from xai.models.spec import MODELS, ModelSpec
from xai.registry import Source

SIZE = 64
"""Side of its input in pixels."""

WIDTHS = (16, 32, 64, 64)
LABELS = ("cat", "dog")


class SimpleCNN(nn.Module):
    """Four 3 x 3 convolutions with ReLU, a max-pool after each of the first three, average pool, linear.

    No batch norm: it would speed the shape up more than the colour, and the study is about what comes first. The last
    maps, `features.10`, are 8 x 8 of 64 channels for an input of 64 px.
    """

    def __init__(self, num_classes: int = len(LABELS)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, width in zip((3, *WIDTHS), WIDTHS, strict=False):
            layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        self.features = nn.Sequential(*layers[:-1])
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(WIDTHS[-1], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """x (N,3,H,W), normalised -> logits (N,K)."""
        logits: Tensor = self.head(self.pool(self.features(x)).flatten(1))
        return logits


def _no_imagenet() -> NoReturn:
    raise WeightsError(
        "SimpleCNN was never trained on ImageNet; train one (python -m xai audit-bias --out RUN) and give its weights, "
        "or choose random weights (random:0), whose answers mean nothing."
    )


def _imagenet() -> Mapping[str, Tensor]:
    _no_imagenet()


MODELS.add(
    ModelSpec(
        name="simple_cnn",
        title="SimpleCNN",
        rank=60,
        source=Source(
            "The network of the bias study: four convolutional layers, two classes", "https://arxiv.org/abs/2004.07780"
        ),
        build=SimpleCNN,
        default_layer="features.10",
        preset=Preset(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25), resize=SIZE, crop=SIZE),
        imagenet=_imagenet,
        labels=lambda: LABELS,
        notes=("for pictures of 64 px; has no ImageNet weights",),
    )
)
