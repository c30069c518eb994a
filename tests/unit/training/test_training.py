"""The training loop: schedules, features computed once, what is trained on, exact resuming."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from tests.conftest import make_tiny
from tests.unit.training_helpers import SILENT, equal, pictures, trained, weights_of
from xai.data import DataSet, Item
from xai.errors import Cancelled, ImageError, InputError, WeightsError
from xai.models.heads import HEADS
from xai.runs.checkpoint import load_checkpoint
from xai.training import Images, Recipe, Streamed, fit, network_of, open_pictures, predict
from xai.types import Run

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
        ({"epochs": 0}, r"epochs is 0; give 1 to 100000\."),
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


# --- features once -----------------------------------------------------------------------


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


# --- pictures ----------------------------------------------------------------------------


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
    with pytest.raises(InputError, match=r"none of the 1 image can be decoded; the first: it is broken\."):
        open_pictures([Item("x.png", 0, broken)], make_tiny(), SILENT)
    with pytest.raises(InputError, match=r"pixels are torch\.float32 of shape .*; give uint8 of \(N, 3, H, W\)\."):
        Images(torch.rand(2, 3, 4, 4), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(InputError, match=r"a training label is 2; the network has classes 0 to 1\."):
        trained(Recipe(epochs=1), pictures(6, classes=3))
    with pytest.raises(InputError, match=r"weights is \(3,\); give one number, 0 or more, for each training image\."):
        trained(Recipe(epochs=1), weights=torch.ones(3))


# --- resuming ----------------------------------------------------------------------------


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


def test_a_schedule_is_that_of_all_epochs_so_the_rate_of_one_that_learns_on_rises(tmp_path):
    path = tmp_path / "last.pt"
    trained(Recipe(epochs=2, batch=8, learning_rate=0.01, schedule="cosine"), checkpoint=path)
    _, history = trained(Recipe(epochs=4, batch=8, learning_rate=0.01, schedule="cosine"), checkpoint=path)
    low = 0.005 * (1 - math.cos(math.pi / 4))  # 3/4 of the way: (1 + cos(3 pi / 4)) / 2
    assert [each.learning_rate for each in history.epochs] == pytest.approx([0.01, 0.005, 0.005, low])


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


def test_a_validation_that_explodes_is_said_before_it_is_kept(tmp_path):
    """One step an epoch: the training loss is of the weights before it, so only the validation shows what it did."""
    path = tmp_path / "last.pt"
    with pytest.raises(InputError, match=r"the loss of epoch 1 is not a finite number; use a smaller learning rate"):
        trained(Recipe(epochs=3, batch=24, learning_rate=1e38), checkpoint=path)
    assert not path.exists()


def test_precision_is_checked_and_bf16_is_near():
    with pytest.raises(InputError, match=r"precision fp16 is for CUDA, not for cpu; use float32 or bf16\."):
        trained(Recipe(epochs=1, precision="fp16"))
    _, one = trained(Recipe(epochs=2, batch=8))
    _, two = trained(Recipe(epochs=2, batch=8, precision="bf16"))
    assert one.epochs[-1].train_loss == pytest.approx(two.epochs[-1].train_loss, rel=0.05)
    assert one.epochs[-1].train_loss != two.epochs[-1].train_loss
