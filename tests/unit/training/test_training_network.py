"""Networks in training: heads, and which of their parts learn."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from tests.conftest import make_tiny
from tests.unit.training_helpers import SILENT, pictures, trained, weights_of
from xai.errors import InputError
from xai.models import load_model
from xai.models.heads import HEADS, SigmoidPair, Study4Head, attach
from xai.training import Images, Recipe, build_network, network_of, predict
from xai.training.features import stored_features

# --- heads --------------------------------------------------------------------------------


def test_study_4s_head_on_vgg19_has_its_number_of_parameters():
    network = build_network("vgg19", "random:0", ("no", "yes"), Recipe(head="study4"))
    assert network.trained_parameters == 73_985
    assert network.parameters == 20_098_369
    assert network.module(torch.rand(1, 3, 64, 64)).shape == (1, 2)


@pytest.mark.parametrize(
    ("name", "width"),
    [("vgg11", 512), ("resnet18", 512), ("densenet121", 1024), ("mobilenet_v3_small", 576), ("googlenet", 1024)],
)
def test_study_4s_head_sits_on_the_averaged_maps(name, width):
    net = load_model(name, "random:0", "cpu")
    network = network_of(net, ("a", "b", "c"), Recipe(head="study4"))
    head = network.head_module
    assert isinstance(head, Study4Head)
    assert head.dense1.in_features == width
    assert head.output.out_features == 3
    x = torch.rand(2, 3, 64, 64)
    seen = {}
    layer = network.module.net.get_submodule(net.default_layer)
    with layer.register_forward_hook(lambda m, i, out: seen.update(maps=out)), network.headless() as module:
        features = module(x)
    maps = seen["maps"]
    if name == "vgg11":
        maps = F.max_pool2d(maps, 2)  # its block ends in a pooling
    assert torch.allclose(features, maps.mean((2, 3)), atol=1e-5)


def test_a_pair_of_logits_is_the_sigmoid_and_its_loss():
    z = torch.tensor([[-3.0], [0.4], [2.5]], dtype=torch.float64)
    pair = SigmoidPair().double()(z)
    assert torch.allclose(pair.softmax(1)[:, 1], torch.sigmoid(z[:, 0]), atol=1e-12)
    y = torch.tensor([1, 0, 1])
    told = F.binary_cross_entropy_with_logits(z[:, 0], y.double())
    assert torch.allclose(F.cross_entropy(pair, y), told, atol=1e-12)


def test_both_classes_of_a_pair_have_a_gradient():
    z = torch.tensor([[0.3]], requires_grad=True)
    pair = SigmoidPair()(z)[0]
    assert [torch.autograd.grad(each, z, retain_graph=True)[0].item() for each in pair] == [-0.5, 0.5]


def test_a_linear_head_keeps_the_architecture():
    net = load_model("vgg11", "random:0", "cpu")
    network = network_of(net, ("a", "b", "c"), Recipe())
    assert network.head == "classifier.6"
    assert network.trained_parameters == 4096 * 3 + 3
    assert network.labels == ("a", "b", "c")


def test_what_no_head_fits_is_said():
    with pytest.raises(InputError, match=r"head 'round' is not known; use linear or study4\."):
        attach(make_tiny().module.net, 5, "round", 2)
    with pytest.raises(InputError, match=r"there is 1 class to learn; give at least 2\."):
        attach(make_tiny().module.net, 5, "linear", 1)
    with pytest.raises(InputError, match=r"does not end in a linear layer, so no head fits it"):
        network_of(load_model("squeezenet1_1", "random:0", "cpu"), ("a", "b"), Recipe())
    assert HEADS == ("linear", "study4")


# --- what learns --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "first", "last_frozen"),
    [
        ("vgg11", "features.16", "features.13"),
        ("resnet18", "layer4.0.conv2", "layer3.1.bn2"),
        ("efficientnet_lite0", "_blocks.11._depthwise_conv", "_blocks.10._bn2"),
    ],
)
def test_the_last_block_is_what_has_the_last_resolution(name, first, last_frozen):
    network = network_of(load_model(name, "random:0", "cpu"), ("a", "b"), Recipe(trainable="last_block"))
    learns = {path for path, value in network.module.net.named_parameters() if value.requires_grad}
    assert f"{first}.weight" in learns
    assert f"{last_frozen}.weight" not in learns
    assert f"{network.head}.weight" in learns


@pytest.mark.parametrize("trainable", ["frozen", "last_block", "all"])
def test_only_what_learns_changes(trainable):
    recipe = Recipe(epochs=1, batch=8, trainable=trainable)
    before = weights_of(network_of(make_tiny(), ("no", "yes"), recipe))
    before = {name: value.clone() for name, value in before.items()}
    network, _ = trained(recipe)
    changed = {name for name, value in weights_of(network).items() if not torch.equal(value, before[name])}
    head = {"fc.weight", "fc.bias"}
    late = head | {f"{layer}.{kind}" for layer in ("conv2", "bn2") for kind in ("weight", "bias")}
    late |= {f"bn2.{kind}" for kind in ("running_mean", "running_var", "num_batches_tracked")}
    assert changed == {"frozen": head, "last_block": late, "all": set(before)}[trainable]
    assert set(network.state()) == changed


def test_it_learns_and_gives_a_classifier():
    network, history = trained(Recipe(epochs=8, batch=8, learning_rate=0.05))
    assert history.epochs[-1].validation_accuracy == 1.0
    assert history.epochs[-1].train_loss < history.epochs[0].train_loss
    classifier = network.classifier("run:x", notes=("synthetic",))
    assert classifier.labels == ("no", "yes")
    assert classifier.weights == "run:x"
    assert "synthetic" in classifier.notes
    assert not any(each.requires_grad for each in classifier.module.parameters())
    x = torch.from_numpy(pictures(4).pixels.numpy()).float() / 255
    assert torch.equal(classifier.predict(x), predict(network, pictures(4), SILENT))


def test_the_first_step_is_adams():
    """By hand: Adam's first step moves every weight by the learning rate against its gradient's sign."""
    recipe = Recipe(epochs=1, batch=24, learning_rate=0.01)
    before = network_of(make_tiny(), ("no", "yes"), recipe)
    data = pictures()
    features = stored_features(before, data, SILENT)
    head = before.head_module
    loss = F.cross_entropy(head(features.values), data.labels)
    gradient = torch.autograd.grad(loss, head.weight)[0]
    network, history = trained(recipe, data)
    moved = network.head_module.weight - head.weight
    assert torch.allclose(moved, -0.01 * gradient.sign(), atol=1e-5)
    assert history.epochs[0].train_loss == pytest.approx(loss.item(), rel=1e-6)


def test_balanced_weights_give_each_class_the_same_say():
    data = Images(pictures(8).pixels, torch.tensor([0, 0, 0, 0, 0, 0, 1, 1]))
    recipe = Recipe(epochs=1, batch=8, class_weights="balanced")
    network = network_of(make_tiny(), ("no", "yes"), recipe)
    logits = predict(network, data, SILENT)
    each = F.cross_entropy(logits, data.labels, reduction="none")
    _, history = trained(recipe, data)
    by_hand = (each[:6].mean() + each[6:].mean()) / 2  # weights 8/12 and 8/4 add up to the number of images
    assert history.epochs[0].train_loss == pytest.approx(by_hand.item(), rel=1e-5)


def test_images_of_weight_zero_teach_nothing():
    data = pictures(16)
    zero = torch.tensor([1.0] * 8 + [0.0] * 8)
    recipe = Recipe(epochs=3, batch=16)
    one, _ = trained(recipe, data, weights=zero)
    two, _ = trained(recipe, data.subset(range(8)))
    assert torch.allclose(one.head_module.weight, two.head_module.weight, atol=1e-6)


def test_the_l2_term_holds_study_4s_kernels_down():
    def size(l2: float) -> float:
        network, _ = trained(Recipe(epochs=5, batch=8, head="study4", l2=l2, learning_rate=0.01))
        return float(network.head_module.dense1.weight.detach().square().sum())

    assert size(1.0) < 0.8 * size(0.0)
