"""MobileNetV3-Large (torchvision)."""

from xai.models._torchvision import torchvision_spec
from xai.models.spec import MODELS
from xai.registry import Source

MODELS.add(
    torchvision_spec(
        "mobilenet_v3_large",
        "MobileNetV3-Large",
        23,
        Source("Howard et al., Searching for MobileNetV3, ICCV 2019", "https://arxiv.org/abs/1905.02244"),
        "features.16",
    )
)
