"""What a model file registers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

from torch import Tensor, nn

from xai.models.classifier import Preset, Tokens
from xai.registry import Registry, Source


@dataclass(frozen=True)
class ModelSpec:
    """An architecture that can be loaded by name.

    build(num_classes=K): the network with freshly initialised weights. imagenet(): its ImageNet state dict, verified,
    or `WeightsError`. default_layer: output of the last convolutional block; "" has it found by a traced forward.
    embedded: its ImageNet weights come with the installation. weights_file: their file's name. adapt: renames in a
    loaded state dict. notes: what differs from the paper's network. tokens: how a transformer's layers hold their maps.
    variant(NAME): the same with another ImageNet entry, its own preset and labels; None where there is one entry only.
    """

    name: str
    title: str
    rank: int
    source: Source
    build: Callable[..., nn.Module]
    default_layer: str
    preset: Preset
    imagenet: Callable[[], Mapping[str, Tensor]]
    labels: Callable[[], tuple[str, ...]]
    embedded: bool = False
    weights_file: str = ""
    adapt: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]] = dict
    notes: tuple[str, ...] = ()
    tokens: Tokens | None = None
    variant: Callable[[str], ModelSpec] | None = None

    @property
    def pretrained(self) -> bool:
        """Whether there are ImageNet weights of it at all."""
        return self.embedded or bool(self.weights_file)


MODELS: Registry[ModelSpec] = Registry("model", "xai.models")


@cache
def imagenet_labels() -> tuple[str, ...]:
    """The 1,000 ImageNet-1k class names in index order, as torchvision ships them."""
    from torchvision.models import ResNet50_Weights

    return tuple(ResNet50_Weights.IMAGENET1K_V1.meta["categories"])
