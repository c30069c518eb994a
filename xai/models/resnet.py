"""ResNet50 (torchvision)."""

from xai.models._torchvision import torchvision_spec
from xai.models.spec import MODELS
from xai.registry import Source

MODELS.add(
    torchvision_spec(
        "resnet50",
        "ResNet50",
        20,
        Source("He et al., Deep Residual Learning, CVPR 2016", "https://arxiv.org/abs/1512.03385"),
        "layer4",
    )
)
