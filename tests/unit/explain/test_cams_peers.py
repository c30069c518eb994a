"""The CAMs on real networks: in-place operations behind the layer, and peers where they are right."""

from __future__ import annotations

import copy
import dataclasses
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import xai
from tests.unit.cam_helpers import correlation, look
from xai.explain import (
    eigencam,
    scorecam,
)
from xai.models.classifier import Classifier, InputModel
from xai.models.hooks import look_at

# --- in place, on real architectures -------------------------------------------------------------------------------


def resnet_bn3(net: Any, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Output of layer4.2.bn3, and what follows, without in-place operations."""
    h = F.relu(net.bn1(net.conv1(x)))
    h = net.layer4[1](net.layer4[0](net.layer3(net.layer2(net.layer1(net.maxpool(h))))))
    block = net.layer4[2]
    out = F.relu(block.bn2(block.conv2(F.relu(block.bn1(block.conv1(h))))))
    return block.bn3(block.conv3(out)), lambda a: net.fc(F.relu(a + h).mean((2, 3)))


def densenet_norm5(net: Any, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Output of features.norm5, and what follows."""
    for name, layer in net.features.named_children():
        x = F.relu(layer(x)) if name == "norm0" else x if name in ("relu0", "relu5") else layer(x)
    return x, lambda a: net.classifier(F.relu(a).mean((2, 3)))


def densenet_relu5(net: Any, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Output of the final ReLU, and what follows."""
    a, _ = densenet_norm5(net, x)
    return F.relu(a), lambda kept: net.classifier(kept.mean((2, 3)))


@pytest.mark.parametrize(
    ("model", "layer", "split"),
    [
        ("resnet50", "layer4.2.bn3", resnet_bn3),
        ("densenet121", "features.norm5", densenet_norm5),
        ("densenet121", "features.relu5", densenet_relu5),
    ],
)
def test_in_place_operations_after_the_layer_do_not_reach_the_map(
    cat: Tensor, model: str, layer: str, split: Callable[..., Any]
) -> None:
    classifier = xai.load_model(model, "random:0", device="cpu")
    module = classifier.module
    with torch.no_grad():
        activation, above = split(module.net, (cat - module.mean) / module.std)
    activation = activation.contiguous().requires_grad_()
    logits = above(activation)
    (gradient,) = torch.autograd.grad(logits[0, 281], activation)
    alpha = gradient.mean((2, 3), keepdim=True)
    expected = (alpha * activation.detach()).sum(1)
    found = xai.attribute(classifier, cat, "gradcam", 281, layer=layer)
    assert correlation(found.logits, logits.detach()) > 0.99999
    torch.testing.assert_close(found.values, expected.clamp(min=0), rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
    assert expected.max() > 0
    torch.testing.assert_close(look(classifier, cat, layer), activation.detach(), rtol=1e-3, atol=1e-4)


# --- peers ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def thawed(lite0: Classifier) -> InputModel:
    """A copy whose parameters want gradients: pytorch-grad-cam and torchcam raise on frozen ones."""
    return copy.deepcopy(lite0.module).requires_grad_(True)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def grad_cam_map(name: str, module: InputModel, x: Tensor, target: int, layer: nn.Module) -> Tensor:
    import pytorch_grad_cam as peer
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    with getattr(peer, name)(model=module, target_layers=[layer]) as cam:
        return torch.from_numpy(cam(input_tensor=x, targets=[ClassifierOutputTarget(target)]))


def torchcam_map(name: str, module: InputModel, x: Tensor, target: int, layer: str) -> Tensor:
    import torchcam.methods as peer

    with getattr(peer, name)(module, f"net.{layer}") as cam:
        return cam(target, module(x), normalized=False)[0].detach()


@pytest.mark.parametrize("target", [281, 463])  # tabby, the predicted neighbourhood; bucket
@pytest.mark.parametrize(
    ("name", "peer"),
    [("gradcam", "GradCAM"), ("xgradcam", "XGradCAM"), ("layercam", "LayerCAM"), ("hirescam", "HiResCAM")],
)
def test_agrees_with_grad_cam(
    lite0: Classifier, thawed: InputModel, cat: Tensor, name: str, peer: str, target: int
) -> None:
    found = xai.attribute(lite0, cat, name, target)
    expected = grad_cam_map(peer, thawed, cat, target, thawed.net.get_submodule(lite0.default_layer))
    assert correlation(found.maps(), expected) >= 0.9999


@pytest.mark.parametrize(
    ("name", "peer", "layer"),
    [
        ("gradcam", "GradCAM", "_relu_head"),
        ("gradcam", "GradCAM", "_blocks.10"),
        ("layercam", "LayerCAM", "_relu_head"),
        ("layercam", "LayerCAM", "_blocks.10"),
        # not at _blocks.10, whose maps sum to about zero: the peer's 1e-8 beside the sum makes other weights
        ("xgradcam", "XGradCAM", "_relu_head"),
    ],
)
def test_agrees_with_torchcam(
    lite0: Classifier, thawed: InputModel, cat: Tensor, name: str, peer: str, layer: str
) -> None:
    found = xai.attribute(lite0, cat, name, 281, layer=layer)
    expected = torchcam_map(peer, thawed, cat, 281, layer)
    torch.testing.assert_close(found.values, expected, rtol=1e-3, atol=1e-4 * float(expected.max()))


def test_agrees_with_captum(lite0: Classifier, cat: Tensor) -> None:
    from captum.attr import LayerGradCam

    module = copy.deepcopy(lite0.module)
    layer = module.net.get_submodule("_blocks.10")
    expected = LayerGradCam(module, layer).attribute(cat.clone().requires_grad_(), 281, relu_attributions=True)[:, 0]
    found = xai.attribute(lite0, cat, "gradcam", 281, layer="_blocks.10")
    torch.testing.assert_close(found.values, expected.detach(), rtol=1e-3, atol=1e-4 * float(expected.max()))


def test_gradcam_plusplus_agrees_where_the_peers_constant_is_small(lite0: Classifier, cat: Tensor) -> None:
    """pytorch-grad-cam adds 1e-6 to 2 g^2 + ..., and gradients here are about 1e-3: the two differ until these grow."""
    scaled = copy.deepcopy(lite0.module)
    fc = scaled.net.get_submodule("_fc")
    fc.weight.data.mul_(1000)
    classifier = dataclasses.replace(lite0, module=scaled)
    layer = lite0.default_layer
    found = xai.attribute(classifier, cat, "gradcam++", 281)
    loud = copy.deepcopy(scaled).requires_grad_(True)
    expected = grad_cam_map("GradCAMPlusPlus", loud, cat, 281, loud.net.get_submodule(layer))
    assert correlation(found.maps(), expected) >= 0.9999


def test_eigencam_agrees_with_grad_cam_up_to_the_sign(lite0: Classifier, cat: Tensor) -> None:
    from pytorch_grad_cam.utils.svd_on_activations import get_2d_projection

    with lite0.lease() as module, torch.no_grad():
        activation, _, _ = look_at(module, module.net, "_blocks.10", cat)
    peer = torch.from_numpy(get_2d_projection(activation.numpy()))
    ours = eigencam.first_component(activation[0])[0]
    assert abs(correlation(ours, peer)) >= 0.9999
    assert correlation(ours, activation.mean(1)) > 0
    found = xai.attribute(lite0, cat, "eigencam", layer="_blocks.10")
    torch.testing.assert_close(found.values[0], ours.clamp(min=0))


def scaled_then_upsampled(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """up(norm(A_k)): the same but for the highest and lowest points, which upsampling by an even factor cuts off."""
    low, high = torch.aminmax(maps.flatten(1), dim=1)
    return F.interpolate(
        ((maps - low[:, None, None]) / (high - low)[:, None, None])[:, None], size, mode="bilinear", align_corners=False
    )


@pytest.fixture
def small(cat: Tensor) -> Tensor:
    """A part of the photograph, so that many passes stay cheap."""
    return cat[:, :, 60:156, 60:156].contiguous()


def test_scorecam_agrees_with_torchcam(lite0: Classifier, small: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """The peer scales maps before it upsamples them, we after; with that one step replaced, all else is equal."""
    import torchcam.methods as peer

    layer, module = "_blocks.4", lite0.module
    net = copy.deepcopy(module.net)
    normal = (small - module.mean) / module.std
    with peer.ScoreCAM(net, layer, batch_size=16) as cam, torch.no_grad():
        expected = cam(281, net(normal), normalized=False)[0]
    ours = xai.attribute(lite0, small, "scorecam", 281, layer=layer).values
    monkeypatch.setattr(scorecam, "masks_from", scaled_then_upsampled)
    theirs = xai.attribute(lite0, small, "scorecam", 281, layer=layer).values
    assert correlation(theirs, expected) >= 0.9999
    assert 0.98 < correlation(ours, expected) < 0.9999


def test_ablationcam_agrees_with_grad_cam(lite0: Classifier, small: Tensor) -> None:
    """At a layer whose lowest value is zero; elsewhere the peer puts in -1e7 in place of zero."""
    layer = "_blocks.0._relu"
    assert look(lite0, small, layer).min() == 0
    module = copy.deepcopy(lite0.module)
    predicted = int(module(small).argmax())
    expected = grad_cam_map("AblationCAM", module, small, predicted, module.net.get_submodule(layer))
    found = xai.attribute(lite0, small, "ablationcam", predicted, layer=layer)
    assert correlation(found.maps(), expected) >= 0.9999
