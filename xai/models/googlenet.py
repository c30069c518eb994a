"""GoogLeNet (torchvision), without its auxiliary heads."""

from collections.abc import Mapping

from torch import Tensor, nn
from torchvision.models import googlenet

from xai.models._torchvision import torchvision_spec
from xai.models.spec import MODELS
from xai.registry import Source


def _build(num_classes: int = 1000) -> nn.Module:
    # transform_input: the ImageNet weights come from TensorFlow and expect (x - 0.5) / 0.5, made from the usual
    # normalisation inside the network.
    net: nn.Module = googlenet(
        weights=None, num_classes=num_classes, aux_logits=False, transform_input=True, init_weights=True
    )
    return net


def _without_heads(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    return {key: value for key, value in state.items() if not key.startswith(("aux1.", "aux2."))}


MODELS.add(
    torchvision_spec(
        "googlenet",
        "GoogLeNet",
        21,
        Source("Szegedy et al., Going Deeper with Convolutions, CVPR 2015", "https://arxiv.org/abs/1409.4842"),
        "inception5b",
        build=_build,
        adapt=_without_heads,
        notes=("without its two auxiliary heads",),
    )
)
