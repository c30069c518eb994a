"""VGG16 and VGG19 (torchvision)."""

from xai.models._torchvision import torchvision_spec
from xai.models.spec import MODELS
from xai.registry import Source

_PAPER = Source("Simonyan & Zisserman, Very Deep Convolutional Networks, ICLR 2015", "https://arxiv.org/abs/1409.1556")

# The default layer is the ReLU after the last convolution, before the last max-pool: 14 x 14 maps.
MODELS.add(torchvision_spec("vgg16", "VGG16", 10, _PAPER, "features.29"))
MODELS.add(torchvision_spec("vgg19", "VGG19", 11, _PAPER, "features.35"))
