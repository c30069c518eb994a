"""What the augmentation study measures with: area, entropy, intervals over seeds and images, training by steps."""

import math

import pytest
import scipy.stats
import torch

from tests.unit.training_helpers import pictures
from xai.errors import Cancelled, InputError
from xai.metrics import area, entropy
from xai.models.store import load_model
from xai.stats.crossed import crossed_band, crossed_mean
from xai.studies.augmentation.summary import _finding, _paired
from xai.training import Recipe, network_of, steps
from xai.training.steps import _places, fit_steps
from xai.types import Run


def test_area_by_hand():
    maps = torch.tensor([[[4.0, 3, 2, 1], [0, 0, -9, 0]], [[1, 1, 1, 1], [1, 1, 1, 1]], [[0, 0, 0, 0], [0, -1, 0, 0]]])
    # 4 of 10 is not half, 4 + 3 is: two pixels of eight; four of eight equal ones; nothing positive
    assert area(maps).values.tolist() == pytest.approx([0.25, 0.5, math.nan], nan_ok=True)
    assert area(maps, 0.4).values.tolist()[0] == 0.125  # 4 of 10 is 0.4 exactly
    assert area(maps, 0.99).values.tolist()[0] == 0.5
    assert not area(maps).higher_is_better
    assert "50%" in area(maps).protocol.sentence


def test_area_needs_no_more_pixels_for_a_rounding():
    maps = torch.full((1, 10, 10), 0.1)
    assert float(area(maps).values) == 0.5
    assert float(area(maps * 3e-7).values) == 0.5


def test_entropy_by_hand_and_against_scipy():
    half = torch.tensor([[[1.0, 1, 0, 0], [0, 0, 0, -5]]])
    assert float(entropy(half).values) == pytest.approx(math.log(2) / math.log(8))
    one = torch.zeros(1, 3, 3)
    one[0, 1, 2] = 7
    assert float(entropy(one).values) == 0
    level = torch.full((2, 3, 3), 0.2)  # the second is level, and the first nearly so
    level[0, 0, 0] = 0.201
    assert entropy(level).values.tolist() == pytest.approx([1, math.nan], abs=1e-4, nan_ok=True)
    assert math.isnan(float(entropy(torch.zeros(1, 3, 3)).values))
    maps = torch.rand(2, 5, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = [scipy.stats.entropy(each.flatten().numpy(), base=30) for each in maps]
    assert entropy(maps).values.tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("measure", [area, entropy])
def test_measures_of_maps_refuse_other_shapes(measure):
    with pytest.raises(InputError, match=r"maps has shape \(2, 2\)"):
        measure(torch.ones(2, 2))


def test_area_refuses_a_share_that_is_none():
    with pytest.raises(InputError, match="share is 1"):
        area(torch.ones(1, 2, 2), 1.0)


def test_a_crossed_interval_is_as_wide_as_both_samples_make_it():
    generator = torch.Generator().manual_seed(0)
    seeds, images = 20, 300
    of_seed = 2.0 * torch.randn(seeds, 1, generator=generator, dtype=torch.float64)
    of_image = 3.0 * torch.randn(1, images, generator=generator, dtype=torch.float64)
    values = of_seed + of_image
    found = crossed_mean(values)
    # the variance of a mean of rows plus that of a mean of columns, each as its sample shows it
    one, other = float(of_seed.var()) / seeds, float(of_image.var()) / images
    freedom = (one + other) ** 2 / (one**2 / (seeds - 1) + other**2 / (images - 1))
    deviation = math.sqrt(one + other)
    assert found.mean == pytest.approx(float(values.mean()))
    assert (found.high - found.low) / 2 == pytest.approx(scipy.stats.t.ppf(0.975, freedom) * deviation)
    assert found.n == images
    alone = crossed_mean(of_image.expand(seeds, images))
    assert (alone.high - alone.low) / 2 == pytest.approx(1.96 * float(of_image.std()) / math.sqrt(images), rel=0.05)


def test_three_seeds_that_differ_hold_the_truth_as_often_as_is_said():
    """The truth is 0. Resampling three seeds would miss it in every fifth study."""
    generator = torch.Generator().manual_seed(0)
    held = 0
    for _ in range(300):
        of_seed = torch.randn(3, 1, generator=generator, dtype=torch.float64)
        found = crossed_mean(of_seed + 0.1 * torch.randn(3, 40, generator=generator, dtype=torch.float64))
        held += found.low <= 0 <= found.high
    assert 0.92 <= held / 300 <= 0.98


def test_seeds_that_contradict_one_another_leave_the_mean_open():
    """One network is right about one half of the images, the other about the other half: every mean is a half."""
    found = crossed_mean(torch.tensor([[1.0, 1, 0, 0], [0, 0, 1, 1]]))
    # each cell is 0.5 from its place: 8 / 4 / (1 * 3) is the cells' variance, over 8 cells; three degrees of freedom
    assert found.high - found.mean == pytest.approx(scipy.stats.t.ppf(0.975, 3) * math.sqrt(8 / 4 / 3 / 8), rel=1e-4)


def test_a_crossed_interval_of_what_never_differs_has_no_width():
    found = crossed_mean(torch.full((3, 5), 0.1))
    assert (found.low, found.high) == (found.mean, found.mean)


def test_one_seed_or_one_image_says_nothing_about_others():
    assert math.isnan(crossed_mean(torch.rand(1, 9)).low)
    assert math.isnan(crossed_mean(torch.rand(9, 1)).high)


def test_a_crossed_band_is_the_interval_at_each_position():
    values = torch.rand(3, 8, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    band = crossed_band(values)
    second = crossed_mean(values[:, :, 1])
    assert (float(band.low[1]), float(band.high[1])) == pytest.approx((second.low, second.high))


def test_crossed_refuses_what_it_cannot_resample():
    with pytest.raises(InputError, match=r"values has shape \(3,\)"):
        crossed_mean(torch.rand(3))
    with pytest.raises(InputError, match="not finite"):
        crossed_mean(torch.tensor([[1.0, math.nan]]))


# --- training by steps ----------------------------------------------------------------------


def trained(steps=12, rounds=3, run=None, **changes):
    recipe = Recipe(epochs=rounds, batch=5, learning_rate=2e-3, trainable="all", **changes)
    network = network_of(load_model("simple_cnn", "random:0", "cpu"), ("dark", "light"), recipe)
    data = pictures(count=14)
    seen = []
    rounds_seen = fit_steps(network, data, [pictures(count=6, seed=1)], recipe, steps, run or Run(), seen.append)
    assert [each.step for each in seen] == [each.step for each in rounds_seen]
    return network, rounds_seen


def test_steps_are_counted_whatever_the_size_of_the_set():
    _, rounds = trained(steps=11, rounds=3)
    assert [each.step for each in rounds] == [3, 7, 11]
    assert rounds[-1].predicted[0].shape == (6,)


def test_the_same_seed_gives_the_same_network_and_another_another():
    state = [trained(run=Run(seed=seed))[0].module.state_dict() for seed in (4, 4, 5)]
    equal = [all(torch.equal(state[0][name], other[name]) for name in other) for other in state[1:]]
    assert equal == [True, False]


def test_batches_are_full_and_every_image_comes_as_often():
    places = _places(7, 4, Run())
    drawn = [next(places) for _ in range(7)]
    assert all(len(each) == 4 for each in drawn)
    assert torch.bincount(torch.tensor(drawn).flatten(), minlength=7).tolist() == [4] * 7


def test_a_frozen_part_gives_what_training_through_it_gives():
    frozen = {"trainable": "frozen", "augment": ()}
    recipe = Recipe(epochs=2, batch=5, **frozen)
    base = load_model("simple_cnn", "random:0", "cpu")
    data, other = pictures(count=14), pictures(count=6, seed=1)
    stored = network_of(base, ("dark", "light"), recipe)
    fit_steps(stored, data, [other], recipe, 6, Run())
    # the same, with the whole network passed in every step
    whole = network_of(base, ("dark", "light"), recipe)
    optimizer = torch.optim.AdamW(whole.head_module.parameters(), lr=recipe.learning_rate, weight_decay=0.0)
    places = _places(14, 5, Run())
    for _ in range(6):
        at = next(places)
        loss = torch.nn.functional.cross_entropy(whole.module(data.pixels[at].float() / 255), data.labels[at])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert torch.allclose(stored.head_module.weight, whole.head_module.weight, atol=1e-6)


def test_training_learns_what_can_be_learned():
    _, rounds = trained(steps=60, rounds=2)
    assert rounds[-1].predicted[0].tolist() == [0, 1, 0, 1, 0, 1]


def test_a_batch_that_does_not_fit_is_learned_in_parts_of_the_same_sum(monkeypatch):
    whole, rounds = trained(steps=3, rounds=1)
    backward, seen, notes = steps._backward, [], []

    def short(network, learner, x, *rest):
        seen.append(len(x))
        if len(x) > 3:
            raise torch.OutOfMemoryError("out of memory")
        return backward(network, learner, x, *rest)

    monkeypatch.setattr(steps, "_backward", short)
    parts, others = trained(steps=3, rounds=1, run=Run(on_progress=lambda done, total, note: notes.append(note)))
    assert seen == [5, 2, 3, 2, 3, 2, 3]
    assert notes[0] == "step 1 of 3 (each batch in 2 parts: memory is short)"
    assert others[0].train_loss == pytest.approx(rounds[0].train_loss, rel=1e-4)
    for name, value in parts.module.state_dict().items():
        assert torch.allclose(value, whole.module.state_dict()[name], atol=1e-4)


def test_training_by_steps_refuses_and_stops():
    with pytest.raises(InputError, match="steps is 2; give 3 or more"):
        trained(steps=2, rounds=3)
    with pytest.raises(InputError, match="patience"):
        trained(patience=2)
    with pytest.raises(Cancelled):
        trained(run=Run(cancelled=lambda: True))


def test_the_finding_says_where_its_interval_is_over_images_alone():
    """One map that says nothing leaves a pair out, and with it what the seeds differ by."""
    base = torch.tensor([[0.1, 0.2, 0.3], [0.3, 0.1, 0.2]])
    whole = torch.ones(2, 3, dtype=torch.bool)
    some = torch.tensor([[True, True, True], [True, True, False]])
    told = [
        _finding([{"set": "real", "case": "all", **_paired(base, base + 0.5, kept, "area")}]) for kept in (whole, some)
    ]
    assert told[0].endswith("+50.0 points [50.0, 50.0], wider.")
    assert told[1].endswith("+50.0 points [50.0, 50.0] (images, their seeds averaged), wider.")
