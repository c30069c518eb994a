"""Layers: the reasoned default, the short list of stages, layouts of transformers, and repeated runs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import get_model

from xai.errors import LayerError
from xai.models.build import _skeleton, untrained_network
from xai.models.classifier import Classifier
from xai.models.layers import (
    CHANNELS_LAST,
    MAPS,
    SEQUENCE,
    LayerInfo,
    Tokens,
    find_head,
    last_block,
    stages,
    to_maps,
    trace,
)
from xai.models.store import model_spec

CPU = torch.device("cpu")


def traced(name: str, classes: int = 1000) -> tuple[nn.Module, tuple]:
    """A network without values, and its trace: shapes are all that is asked for."""
    spec = model_spec(name)
    net = _skeleton(spec, classes).eval()
    return net, trace(net, net, (224, 224), next(net.parameters()).device, spec.tokens)


@pytest.mark.parametrize(
    ("name", "layer", "size"),
    [
        ("vgg16", "features.29", (14, 14)),
        ("vgg19", "features.35", (14, 14)),
        ("resnet50", "layer4", (7, 7)),
        ("googlenet", "inception5b", (7, 7)),
        ("densenet121", "features.relu5", (7, 7)),
        ("mobilenet_v3_large", "features.16", (7, 7)),
        ("efficientnet_lite0", "_relu_head", (7, 7)),
        ("convnext_tiny", "features.7", (7, 7)),
        ("swin_t", "permute", (7, 7)),
        # found by the trace
        ("alexnet", "features.11", (13, 13)),
        ("resnet18", "layer4", (7, 7)),
        ("squeezenet1_1", "features", (13, 13)),
        ("shufflenet_v2_x0_5", "conv5", (7, 7)),
        ("mnasnet0_5", "layers", (7, 7)),
        ("regnet_x_400mf", "trunk_output", (7, 7)),
        ("efficientnet_b0", "features", (7, 7)),
    ],
)
def test_default_layers_are_the_last_maps(name: str, layer: str, size: tuple[int, int]) -> None:
    spec = model_spec(name)
    net, seen = traced(name)
    found = spec.default_layer or last_block(net, seen, 1000)
    assert found == layer
    info = next(each.info for each in seen if each.info.path == found)
    assert (info.size, info.layout) == (size, MAPS)


def test_pooling_is_never_the_default_layer() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4 * 15 * 15, 7))
    assert last_block(net, trace(net, net, (32, 32), CPU), 7) == "1"


def test_a_head_that_is_a_convolution_is_not_the_default_layer() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 7, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert find_head(net, 7) == "2"
    assert last_block(net, trace(net, net, (32, 32), CPU), 7) == "1"


# --- layers -----------------------------------------------------------------------------------------------------------


def test_layers_of_the_tiny_network(tiny: Classifier) -> None:
    assert [(info.path, info.channels, info.size) for info in tiny.layers()] == [
        ("conv1", 8, (32, 32)),
        ("bn1", 8, (32, 32)),
        ("relu1", 8, (32, 32)),
        ("pool", 8, (16, 16)),
        ("conv2", 12, (16, 16)),
        ("bn2", 12, (16, 16)),
        ("relu2", 12, (16, 16)),
    ]


def paths(infos: tuple[LayerInfo, ...]) -> list[str]:
    return [info.path for info in infos]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "efficientnet_lite0",
            "_relu _blocks.0 _blocks.2 _blocks.4 _blocks.7 _blocks.10 _blocks.14 _blocks.15 _relu_head",
        ),
        ("vgg16", "features.3 features.8 features.15 features.22 features.29"),
        ("resnet50", "relu layer1 layer2 layer3 layer4"),
        (
            "googlenet",
            "conv1 conv2 conv3 inception3a inception3b inception4c inception4d inception4e inception5a inception5b",
        ),
        (
            "densenet121",
            "features.relu0 features.denseblock1 features.transition1 features.denseblock2 features.transition2 "
            "features.denseblock3 features.transition3 features.relu5",
        ),
        (
            "mobilenet_v3_large",
            "features.1 features.3 features.6 features.10 features.12 features.15 features.16",
        ),
        ("convnext_tiny", "features.1 features.3 features.5 features.7"),
        ("swin_t", "features.0.0 permute"),
    ],
)
def test_stages_are_short_and_end_at_the_default_layer(name: str, expected: str) -> None:
    net, seen = traced(name, 10)
    default = model_spec(name).default_layer
    assert paths(stages(net, [each for each in seen if each.info.layout == MAPS], default)) == expected.split()


def test_stages_of_transformers_with_their_tokens() -> None:
    net, seen = traced("swin_t")
    assert paths(stages(net, seen, "permute")) == ["features.1", "features.3", "features.5", "permute"]
    net, seen = traced("vit_b_16")
    default = model_spec("vit_b_16").default_layer
    blocks = [f"encoder.layers.encoder_layer_{index}" for index in (0, 1, 2, 3, 4, 6, 7, 8, 9, 10)]
    assert paths(stages(net, seen, default)) == ["conv_proj", *blocks, default]  # 13, of which 12 are listed


def test_stages_end_at_any_default_layer(tiny: Classifier) -> None:
    assert paths(tiny.stages()) == ["relu1", "relu2"]
    assert paths(replace(tiny, default_layer="conv2", _memo={}).stages()) == ["relu1", "conv2"]


def test_a_layer_that_runs_twice_is_listed_as_at_its_last_run() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.act = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 6, 1, stride=2), nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            return self.act(self.second(self.act(self.first(x))))

    net = Twice()
    infos = {each.info.path: each.info for each in trace(net, net, (8, 8), CPU)}
    assert (infos["act"].channels, infos["act"].size) == (6, (4, 4))


def test_unknown_layers_get_near_paths(tiny: Classifier) -> None:
    with pytest.raises(LayerError, match=r"^layer 'relu3' is not in this network; near it are relu"):
        tiny.layer("relu3")


# --- transformers -----------------------------------------------------------------------------------------------------


def test_vit_holds_a_class_token_and_a_grid() -> None:
    spec = model_spec("vit_b_16")
    assert spec.tokens == Tokens(SEQUENCE, (14, 14), prefix=1)
    assert spec.tokens.sentence == "class token first, 14 x 14 grid"
    assert model_spec("vit_b_32").tokens.grid == (7, 7)
    assert spec.variant("IMAGENET1K_SWAG_E2E_V1").tokens.grid == (24, 24)
    with torch.device("meta"):
        net = spec.variant("IMAGENET1K_SWAG_E2E_V1").build(num_classes=10)
    assert net.encoder.pos_embedding.shape[1] == 24 * 24 + 1


def test_tokens_become_maps() -> None:
    tokens = Tokens(SEQUENCE, (2, 3), prefix=1)
    sequence = torch.arange(7.0)[None, :, None].repeat(1, 1, 5)  # token t holds t; the class token holds 0
    maps = to_maps(sequence, SEQUENCE, tokens)
    assert maps.shape == (1, 5, 2, 3)
    assert maps[0, 4].tolist() == [[1, 2, 3], [4, 5, 6]]
    last = torch.arange(6.0).view(1, 2, 3, 1)
    assert to_maps(last, CHANNELS_LAST)[0, 0].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert to_maps(maps, MAPS) is maps
    with pytest.raises(LayerError, match=r"^an output of shape \(1, 8, 5\) is not sequence; choose another layer\.$"):
        to_maps(torch.zeros(1, 8, 5), SEQUENCE, tokens)


def test_swins_layouts_are_told_apart() -> None:
    net = get_model("swin_t", num_classes=5).eval()
    infos = {each.info.path: each.info for each in trace(net, net, (64, 64), CPU, Tokens(CHANNELS_LAST))}
    assert infos["features.0.0"] == LayerInfo("features.0.0", "Conv2d", 96, (16, 16), MAPS)
    assert infos["features.1.1"] == LayerInfo("features.1.1", "SwinTransformerBlock", 96, (16, 16), CHANNELS_LAST)
    assert infos["features.2.reduction"].channels == 192
    assert infos["permute"] == LayerInfo("permute", "Permute", 768, (2, 2), MAPS)


def test_a_vits_default_layer_has_a_gradient_at_the_patches() -> None:
    """Behind the last attention only the class token counts; the default layer lies before it."""
    spec = model_spec("vit_b_32")
    net = untrained_network(spec, 0, 5).eval()
    kept: dict[str, Tensor] = {}

    def keep(path: str, out: Tensor) -> None:
        out.retain_grad()
        kept[path] = out

    last = spec.default_layer.rsplit(".", 1)[0]
    for path in (spec.default_layer, last):
        net.get_submodule(path).register_forward_hook(lambda _m, _i, out, path=path: keep(path, out))
    net(torch.rand(1, 3, 224, 224))[0, 0].backward()
    assert float(kept[spec.default_layer].grad[:, 1:].abs().max()) > 0
    assert float(kept[last].grad[:, 1:].abs().max()) == 0
