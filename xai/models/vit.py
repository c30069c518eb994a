"""Vision transformers (torchvision): a class token and a grid of patches."""

from __future__ import annotations

import torchvision
from torch import nn

from xai.models._torchvision import FAMILIES, preset_of, torchvision_spec, weights_of
from xai.models.classifier import Tokens
from xai.models.layers import SEQUENCE
from xai.models.spec import MODELS, ModelSpec
from xai.registry import Source

_LAYERS = {"b": 12, "l": 24, "h": 32}


def vit_spec(name: str, weights: str = "", title: str = "", rank: int = 100) -> ModelSpec:
    """The spec of torchvision's vit_b_16, vit_b_32, vit_l_16, vit_l_32 or vit_h_14.

    The grid is fixed by the image size, which some weight entries set to 384 or 518. The default layer is the first
    norm of the last block: the logits read the class token alone, so that behind the last attention no patch has a
    gradient any more.
    """
    size = preset_of(weights_of(name, weights)).crop
    _, kind, patch = name.split("_")
    cells = size // int(patch)

    def build(num_classes: int = 1000) -> nn.Module:
        net: nn.Module = torchvision.models.get_model(name, num_classes=num_classes, image_size=size)
        return net

    tokens = Tokens(SEQUENCE, (cells, cells), prefix=1)
    return torchvision_spec(
        name,
        title or name,
        rank,
        Source("Dosovitskiy et al., An Image is Worth 16x16 Words, ICLR 2021", "https://arxiv.org/abs/2010.11929"),
        f"encoder.layers.encoder_layer_{_LAYERS[kind] - 1}.ln_1",
        build=build,
        notes=(f"tokens: {tokens.sentence}",),
        weights=weights,
        tokens=tokens,
    )


FAMILIES["vit_"] = vit_spec
MODELS.add(vit_spec("vit_b_16", title="ViT-B/16", rank=30))
