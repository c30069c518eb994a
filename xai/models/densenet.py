"""DenseNet121 (torchvision), with its final ReLU as a layer that can be explained."""

import re
from collections.abc import Mapping

from torch import Tensor, nn
from torchvision.models import densenet121

from xai.models._spec import MODELS
from xai.models._torchvision import torchvision_spec
from xai.registry import Source


def _build(num_classes: int = 1000) -> nn.Module:
    # torchvision applies the last ReLU as a function, so there would be no layer to name. The same ReLU as a module at
    # the end of `features` changes nothing (ReLU twice is ReLU once) and gives `features.relu5`.
    net: nn.Module = densenet121(weights=None, num_classes=num_classes)
    net.get_submodule("features").add_module("relu5", nn.ReLU())
    return net


def _rename(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    # The published file has `norm.1`, `conv.2` where the module has `norm1`, `conv2`.
    pattern = re.compile(r"^(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\.(?:weight|bias|running_mean|running_var))$")
    return {pattern.sub(r"\1\2", key): value for key, value in state.items()}


MODELS.add(
    torchvision_spec(
        "densenet121",
        "DenseNet121",
        22,
        Source("Huang et al., Densely Connected Convolutional Networks, CVPR 2017", "https://arxiv.org/abs/1608.06993"),
        "features.relu5",
        build=_build,
        adapt=_rename,
    )
)
