"""The training engine: heads, what learns, features computed once, exact resuming, several processes."""

from __future__ import annotations

import math
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from tests.conftest import ROOT, make_tiny
from tests.unit.training_helpers import pictures
from xai.checkpoint import load_checkpoint
from xai.data import DataSet, Item
from xai.errors import Cancelled, ImageError, InputError, WeightsError
from xai.models import load_model
from xai.models.heads import HEADS, SigmoidPair, Study4Head, attach
from xai.training import Images, Recipe, Streamed, build_network, fit, network_of, open_pictures, predict
from xai.training.features import stored_features
from xai.types import Run

SILENT = Run()


def trained(recipe: Recipe, train: Images | None = None, run: Run | None = None, **more):
    """(network, history) of the tiny classifier on the brightness pictures."""
    network = network_of(make_tiny(), ("no", "yes"), recipe)
    validation = more.pop("validation", pictures(10, seed=1))
    history = fit(network, train or pictures(), validation, recipe, run or Run(seed=recipe.seed), **more)
    return network, history


def weights_of(network) -> dict[str, torch.Tensor]:
    return dict(network.module.net.state_dict())


def equal(one, two) -> bool:
    a, b = weights_of(one), weights_of(two)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


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


# --- schedules and stopping ----------------------------------------------------------------


def test_rates_by_hand():
    cosine = Recipe(epochs=4, learning_rate=1.0, schedule="cosine")
    assert [cosine.rate(n) for n in (1, 2, 3)] == pytest.approx([1.0, (1 + math.cos(math.pi / 4)) / 2, 0.5])
    step = Recipe(epochs=6, learning_rate=1.0, schedule="step")
    assert [step.rate(n) for n in range(1, 7)] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    assert Recipe(learning_rate=0.5).rate(7) == 0.5


def test_patience_stops_and_keeps_the_best_epoch():
    unlike = Images(pictures(10, seed=1).pixels, 1 - pictures(10, seed=1).labels)  # the better it learns, the worse
    recipe = Recipe(epochs=20, batch=8, patience=3, learning_rate=0.05)
    network, history = trained(recipe, validation=unlike)
    losses = [each.validation_loss for each in history.epochs]
    assert history.stopped
    assert history.kept == 1 + losses.index(min(losses))
    assert len(losses) == history.kept + 3
    logits = predict(network, unlike, SILENT)
    assert float(F.cross_entropy(logits.double(), unlike.labels)) == pytest.approx(min(losses), rel=1e-6)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"epochs": 0}, r"epochs is 0; give 1 or more\."),
        ({"learning_rate": 0.0}, r"learning_rate is 0\.0; give a number above 0\."),
        ({"l2": -1.0}, r"l2 is -1\.0; give 0 or more\."),
        ({"schedule": "up"}, r"schedule 'up' is not known; use constant, cosine, step\."),
        ({"trainable": "some"}, r"trainable 'some' is not known; use frozen, last_block, all\."),
        ({"augment": ("flop",)}, r"augmentation 'flop' is not known; choose from flip, rotate, crop"),
    ],
)
def test_a_recipe_is_checked(change, told):
    with pytest.raises(InputError, match=told):
        Recipe(**change)


# --- features once --------------------------------------------------------------------------


@pytest.mark.parametrize("head", HEADS)
def test_stored_features_give_the_numbers_of_the_slow_way(head):
    recipe = Recipe(epochs=4, batch=7, head=head)  # study 4's head with its dropout: the same numbers are drawn
    quick, one = trained(recipe, stored=True)
    slow, two = trained(recipe, stored=False)
    assert one.feature_seconds > 0
    assert two.feature_seconds == 0
    for a, b in zip(one.epochs, two.epochs, strict=True):
        assert a.train_loss == pytest.approx(b.train_loss, rel=1e-5)
        assert a.validation_loss == pytest.approx(b.validation_loss, rel=1e-5)
        assert (a.train_accuracy, a.validation_accuracy) == (b.train_accuracy, b.validation_accuracy)
    for name, value in weights_of(quick).items():
        assert torch.allclose(value.float(), weights_of(slow)[name].float(), atol=2e-5), name


def test_stored_features_pass_the_frozen_part_once():
    calls = []
    recipe = Recipe(epochs=5, batch=8)
    network = network_of(make_tiny(), ("no", "yes"), recipe)
    network.module.net.conv1.register_forward_hook(lambda m, i, out: calls.append(len(out)))
    fit(network, pictures(24), pictures(10, seed=1), recipe, SILENT)
    assert sum(calls) == 24 + 10


def test_augmented_images_are_not_stored():
    _, history = trained(Recipe(epochs=2, batch=8, augment=("flip", "noise")))
    assert history.feature_seconds == 0


def test_a_batch_that_does_not_fit_is_learned_in_parts_and_that_is_said():
    def too_much(limit: int):
        def refuse(layer, inputs):
            if len(inputs[0]) > limit:
                raise torch.OutOfMemoryError("memory is short")

        return refuse

    recipe = Recipe(epochs=2, batch=8)
    whole, _ = trained(recipe, stored=False)
    network, notes = network_of(make_tiny(), ("no", "yes"), recipe), []
    network.module.net.conv1.register_forward_pre_hook(too_much(3))
    run = Run(on_progress=lambda done, total, note: notes.append(note))
    fit(network, pictures(), pictures(10, seed=1), recipe, run, stored=False)
    assert torch.allclose(network.head_module.weight, whole.head_module.weight, atol=1e-6)
    assert notes[-1].endswith(" (each batch in 4 parts: memory is short)")


# --- pictures -------------------------------------------------------------------------------


def broken():
    raise ImageError("it is broken.")


def data_set(count: int = 9) -> DataSet:
    from PIL import Image

    def opener(index: int):
        return lambda: Image.new("RGB", (80, 70), (index * 20, 0, 0))

    items = [Item(f"{i}.png", i % 2, broken if i == 4 else opener(i)) for i in range(count)]
    return DataSet("made", "class folders", tuple(items), ("no", "yes"))


def test_pictures_are_decoded_once_and_bad_ones_listed():
    found = open_pictures(data_set().items, make_tiny(), SILENT)
    assert isinstance(found.pictures, Images)
    assert [problem.key for problem in found.problems] == ["4.png"]
    assert found.pictures.labels.tolist() == [0, 1, 0, 1, 1, 0, 1, 0]
    assert [item.key for item in found.items] == [
        "0.png",
        "1.png",
        "2.png",
        "3.png",
        *(f"{i}.png" for i in (5, 6, 7, 8)),
    ]
    assert found.pictures.pixels[5, 0].unique().tolist() == [120]


def test_what_does_not_fit_into_memory_is_streamed_with_the_same_numbers():
    kept = open_pictures(data_set().items, make_tiny(), SILENT)
    streamed = open_pictures(data_set().items, make_tiny(), SILENT, memory=1000)
    assert isinstance(streamed.pictures, Streamed)
    assert [item.key for item in streamed.items] == [item.key for item in kept.items]
    (batch,) = streamed.pictures.subset([3, 0]).read([[1, 0]])
    assert torch.equal(batch, kept.pictures.pixels[[0, 3]])
    one, _ = trained(Recipe(epochs=2, batch=3), kept.pictures)
    two, _ = trained(Recipe(epochs=2, batch=3), streamed.pictures)
    assert equal(one, two)


def test_unlabelled_or_unreadable_images_are_refused():
    with pytest.raises(InputError, match=r"x\.png has no label; training needs one for every image"):
        open_pictures([Item("x.png", None, broken)], make_tiny(), SILENT)
    with pytest.raises(InputError, match=r"none of the 1 images can be decoded; the first: it is broken\."):
        open_pictures([Item("x.png", 0, broken)], make_tiny(), SILENT)
    with pytest.raises(InputError, match=r"pixels are torch\.float32 of shape .*; give uint8 of \(N, 3, H, W\)\."):
        Images(torch.rand(2, 3, 4, 4), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(InputError, match=r"a training label is 2; the network has classes 0 to 1\."):
        trained(Recipe(epochs=1), pictures(6, classes=3))
    with pytest.raises(InputError, match=r"weights is \(3,\); give one number, 0 or more, for each training image\."):
        trained(Recipe(epochs=1), weights=torch.ones(3))


# --- resuming -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(epochs=5, batch=8, head="study4", seed=3),
        Recipe(epochs=4, batch=8, trainable="all", augment=("flip", "crop"), schedule="step", seed=3),
    ],
    ids=["frozen", "all"],
)
def test_a_run_that_was_cut_off_ends_with_the_same_weights(tmp_path, recipe):
    whole, full = trained(recipe)
    path = tmp_path / "last.pt"
    seen = []

    def stop_in_the_third() -> bool:
        return len(seen) == 2

    with pytest.raises(Cancelled):
        trained(recipe, run=Run(seed=3, cancelled=stop_in_the_third), checkpoint=path, on_epoch=seen.append)
    assert len(load_checkpoint(path).state["history"]) == 2
    resumed, rest = trained(recipe, run=Run(seed=3), checkpoint=path, on_epoch=seen.append)
    assert equal(whole, resumed)
    assert [each.epoch for each in seen] == list(range(1, recipe.epochs + 1))
    assert [each.validation_loss for each in rest.epochs] == [each.validation_loss for each in full.epochs]


def test_the_callers_random_numbers_stay_as_they_were():
    base, recipe = make_tiny(), Recipe(epochs=1, batch=8, head="study4", augment=("noise",))
    before = torch.get_rng_state()
    fit(network_of(base, ("no", "yes"), recipe), pictures(), pictures(10, seed=1), recipe, SILENT)
    assert torch.equal(torch.get_rng_state(), before)


def test_more_epochs_go_on_with_a_finished_run(tmp_path):
    path = tmp_path / "last.pt"
    trained(Recipe(epochs=2, batch=8), checkpoint=path)
    more, history = trained(Recipe(epochs=5, batch=8), checkpoint=path)
    whole, _ = trained(Recipe(epochs=5, batch=8))
    assert equal(more, whole)
    assert len(history.epochs) == 5


def test_a_checkpoint_of_another_recipe_is_refused(tmp_path):
    path = tmp_path / "last.pt"
    trained(Recipe(epochs=1, batch=8), checkpoint=path)
    with pytest.raises(InputError, match=r"was trained with batch 8, not 4; go on with the same, or train anew\."):
        trained(Recipe(epochs=2, batch=4), checkpoint=path)
    with pytest.raises(WeightsError, match=r"the checkpoint does not fit Tiny with head linear \(fc\.other\)"):
        network_of(make_tiny(), ("no", "yes"), Recipe()).restore({"fc.other": torch.zeros(1)})


def test_a_loss_that_explodes_is_said():
    with pytest.raises(InputError, match=r"the loss of epoch \d is not a finite number; use a smaller learning rate"):
        trained(Recipe(epochs=3, batch=8, learning_rate=1e30, trainable="all"))


def test_precision_is_checked_and_bf16_is_near():
    with pytest.raises(InputError, match=r"precision fp16 is for CUDA, not for cpu; use float32 or bf16\."):
        trained(Recipe(epochs=1, precision="fp16"))
    _, one = trained(Recipe(epochs=2, batch=8))
    _, two = trained(Recipe(epochs=2, batch=8, precision="bf16"))
    assert one.epochs[-1].train_loss == pytest.approx(two.epochs[-1].train_loss, rel=0.05)
    assert one.epochs[-1].train_loss != two.epochs[-1].train_loss


# --- several processes ----------------------------------------------------------------------

PROGRAM = """
import sys, torch, torch.distributed as dist
torch.set_num_threads(1)
from tests.unit.test_training import process_result
dist.init_process_group("gloo")
process_result(sys.argv[1])
dist.destroy_process_group()
"""


def without_norms():
    """A classifier whose layers do not look at a whole batch, so that its parts are worth what the whole is."""
    from dataclasses import replace

    from torch import nn

    base = make_tiny()
    generator = torch.Generator().manual_seed(5)
    base.module.net.bn1, base.module.net.bn2 = nn.Identity(), nn.Identity()
    with torch.no_grad():
        for value in base.module.parameters():
            value.copy_(torch.randn(value.shape, generator=generator) * 0.1)
    return replace(base, name="plain")


def process_result(folder: str) -> None:
    from xai.training.features import team

    for name, recipe in DISTRIBUTED.items():
        network = network_of(without_norms(), ("no", "yes"), recipe)
        history = fit(network, pictures(25), pictures(9, seed=1), recipe, Run(seed=1))
        if team()[0] == 0:
            losses = torch.tensor([[e.train_loss, e.validation_loss, e.train_accuracy] for e in history.epochs])
            torch.save({"weights": weights_of(network), "losses": losses}, Path(folder) / f"{name}.pt")


# 25 images in batches of 8: the last batch has one image, and the second process none of it.
DISTRIBUTED = {
    "frozen": Recipe(epochs=3, batch=8, class_weights="balanced"),
    "all": Recipe(epochs=2, batch=8, trainable="all"),
}


def test_two_processes_learn_what_one_learns(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environ = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    environ |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    ranks = [
        subprocess.Popen([sys.executable, "-c", PROGRAM, str(tmp_path)], cwd=ROOT, env={**environ, "RANK": str(rank)})
        for rank in (0, 1)
    ]
    try:
        assert [rank.wait(120) for rank in ranks] == [0, 0]
    finally:
        for rank in ranks:
            rank.kill()
    for name in DISTRIBUTED:
        together = torch.load(tmp_path / f"{name}.pt", weights_only=True)
        (alone := tmp_path / "alone").mkdir(exist_ok=True)
        process_result(str(alone))
        single = torch.load(alone / f"{name}.pt", weights_only=True)
        assert torch.allclose(together["losses"], single["losses"], atol=1e-5)
        for key, value in single["weights"].items():
            assert torch.allclose(value.float(), together["weights"][key].float(), atol=1e-5), key
