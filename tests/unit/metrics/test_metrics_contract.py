"""What every metric keeps, and the smaller metrics by hand and against peers."""

import math

import pytest
import torch
from torch import Tensor

import xai
from xai.errors import InputError
from xai.metrics import (
    METRICS,
    drop,
    energy,
    increase,
    mask_of_box,
    pointing,
    randomisation,
    road,
    sparseness,
)
from xai.metrics._impute import impute
from xai.metrics.spec import KINDS
from xai.types import Curve, Run, Scores


def drawn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def measured(spec, classifier, x: Tensor, maps: Tensor, run: Run | None = None) -> Curve | Scores:
    params = spec.params()
    if spec.kind in ("curve", "model"):
        return spec.measure(classifier, x, maps, params, run=run)
    if spec.kind == "mask":
        return spec.measure(maps, mask_of_box((4, 8, 40, 50), tuple(maps.shape[1:])), params)
    if spec.kind == "pair":
        return spec.measure(maps, maps.flip(1), params)
    return spec.measure(maps, params)


# --- the contract ---------------------------------------------------------------------------


def test_the_registry_holds_what_the_field_calls_by_these_names():
    assert METRICS.names() == (
        "insertion",
        "deletion",
        "road",
        "drop",
        "increase",
        "pointing",
        "energy",
        "sparseness",
        "area",
        "entropy",
        "randomisation",
    )


@pytest.mark.parametrize("name", METRICS.names())
def test_facts_are_data(name):
    spec = METRICS.get(name)
    assert spec.kind in KINDS
    assert spec.source.citation
    assert spec.source.link.startswith("https://")
    assert spec.bounds[0] < spec.bounds[1]
    assert spec.reads.endswith(".")
    assert spec.params.__dataclass_params__.frozen


@pytest.mark.parametrize("name", METRICS.names())
def test_every_metric_gives_one_finite_number_an_image_within_its_bounds(name, tiny):
    spec = METRICS.get(name)
    x, maps = drawn(3, 3, 64, 64), drawn(3, 64, 64, seed=1) - 0.3
    found = measured(spec, tiny, x, maps)
    values = found.auc if isinstance(found, Curve) else found.values
    assert values.shape == (3,)
    assert values.device.type == "cpu"
    assert not values.requires_grad
    assert bool(torch.isfinite(values).all())
    assert spec.bounds[0] <= float(values.min())
    assert float(values.max()) <= spec.bounds[1]
    assert found.metric == name
    assert found.higher_is_better == spec.better_up(spec.params()) == found.protocol.settings["higher_is_better"]
    assert ("higher" if found.higher_is_better else "lower") in found.protocol.sentence or name == "sparseness"
    again = measured(spec, tiny, x, maps)
    assert torch.equal(again.auc if isinstance(again, Curve) else again.values, values)


@pytest.mark.parametrize("name", METRICS.names())
def test_a_blank_map_has_no_score_and_its_neighbours_keep_theirs(name, tiny):
    x, maps = drawn(3, 3, 64, 64), drawn(3, 64, 64, seed=1) - 0.3
    whole = measured(METRICS.get(name), tiny, x, maps)
    maps[1] = 0
    found = measured(METRICS.get(name), tiny, x, maps)
    values, before = (each.auc if isinstance(each, Curve) else each.values for each in (found, whole))
    assert values.isnan().tolist() == [False, True, False]
    assert torch.equal(values[::2], before[::2])
    assert "no score" in found.protocol.sentence


@pytest.mark.parametrize(
    "name", ["insertion", "deletion", "road", "drop", "increase", "pointing", "energy", "entropy", "sparseness"]
)
def test_a_constant_map_puts_no_pixel_before_another(name, tiny):
    level = 0.3 + torch.stack([torch.zeros(64, 64), 1e-6 * drawn(64, 64)])  # constant, and so but for rounding
    found = measured(METRICS.get(name), tiny, drawn(2, 3, 64, 64), level)
    assert bool((found.auc if isinstance(found, Curve) else found.values).isnan().all())


@pytest.mark.parametrize("name", ["drop", "increase", "energy", "area", "entropy"])
def test_a_map_that_is_nowhere_positive_has_no_mass(name, tiny):
    found = measured(METRICS.get(name), tiny, drawn(1, 3, 64, 64), -drawn(1, 64, 64, seed=1) - 0.1)
    assert isinstance(found, Scores)
    assert bool(found.values.isnan().all())


@pytest.mark.parametrize("name", [spec.name for spec in METRICS if spec.kind in ("curve", "model")])
def test_metrics_that_ask_the_network_check_report_and_leave_nothing_behind(name, tiny):
    spec = METRICS.get(name)
    x, maps = drawn(2, 3, 64, 64), drawn(2, 64, 64)
    with pytest.raises(InputError, match=r"x ranges from .* to 2; give pixels"):
        measured(spec, tiny, x / x.max() * 2, maps)
    with pytest.raises(InputError, match=r"maps has shape \(2, 8, 8\)"):
        measured(spec, tiny, x, maps[:, :8, :8])
    seen: list[tuple[int, int]] = []
    measured(spec, tiny, x, maps, Run(on_progress=lambda done, total, note: seen.append((done, total))))
    assert seen[-1][0] == seen[-1][1]
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert len({total for _, total in seen}) == 1
    assert not any(m._forward_hooks or m.training for m in tiny.module.modules())
    assert not any(p.requires_grad or p.grad is not None for p in tiny.module.parameters())


# --- average drop and increase --------------------------------------------------------------


def test_drop_is_the_map_times_the_normalised_image(tiny64):
    x, maps = drawn(4, 3, 64, 64, dtype=torch.float64), drawn(4, 64, 64, seed=1, dtype=torch.float64) - 0.5
    module = tiny64.module
    normalised = (x - module.mean) / module.std
    positive = maps.clamp(min=0)
    mask = positive / positive.amax((1, 2), keepdim=True)
    with torch.no_grad():
        before = module.net(normalised).softmax(1)
        after = module.net(normalised * mask[:, None]).softmax(1)
    target = before.argmax(1)
    y, masked = (p.gather(1, target[:, None])[:, 0] for p in (before, after))
    expected = ((y - masked) / y).clamp(min=0)
    found = drop(tiny64, x, maps)
    assert torch.allclose(found.values, expected, rtol=0, atol=1e-12)
    assert torch.equal(increase(tiny64, x, maps).values, (masked > y).double())
    assert float(expected.max()) > 0


def test_drop_agrees_with_torchcam(lite0, cat):
    from torchcam.methods import GradCAM
    from torchcam.metrics import ClassificationMetric

    att = xai.attribute(lite0, cat, "gradcam")
    net = lite0.module.net
    normalised = (cat - lite0.module.mean) / lite0.module.std
    for parameter in net.parameters():  # torchcam needs gradients to the weights; put back below
        parameter.requires_grad_(True)
    try:
        with GradCAM(net, "_relu_head") as cam:
            metric = ClassificationMetric(cam, lambda logits: logits.softmax(-1))
            metric.update(normalised)
            theirs = metric.summary()["avg_drop"]
    finally:
        net.requires_grad_(False)
    # torchcam subtracts the map's minimum before dividing by its range; Grad-CAM's is 0 here or close to it.
    maps = att.maps() - att.maps().min()
    assert float(drop(lite0, cat, maps).values) == pytest.approx(theirs, abs=2e-3)


def test_a_map_that_shows_almost_everything_drops_almost_nothing(tiny64):
    x = drawn(2, 3, 64, 64, dtype=torch.float64)
    maps = torch.ones(2, 64, 64)
    maps[:, 0, 0] = 1 - 1e-5
    assert drop(tiny64, x, maps).values.tolist() == pytest.approx([0, 0], abs=1e-6)
    nothing = drop(tiny64, x, torch.zeros(2, 64, 64), substrate="black")
    with torch.no_grad():
        black = tiny64.module(torch.zeros(1, 3, 64, 64, dtype=torch.float64)).softmax(1)[0]
    assert nothing.facts["after"].tolist() == pytest.approx(black[tiny64.predict(x).argmax(1)].tolist(), abs=1e-12)


# --- ROAD -----------------------------------------------------------------------------------


def test_one_missing_pixel_is_the_weighted_mean_of_its_neighbours():
    x = torch.arange(9.0, dtype=torch.float64).view(1, 1, 3, 3) ** 2
    keep = torch.ones(1, 3, 3, dtype=torch.bool)
    keep[0, 1, 1] = False
    filled = impute(x, keep, 1e-12)
    assert float(filled[0, 0, 1, 1]) == pytest.approx((1 + 9 + 25 + 49) / 6 + (0 + 4 + 36 + 64) / 12, abs=1e-12)
    corner = torch.ones(1, 3, 3, dtype=torch.bool)
    corner[0, 0, 0] = False  # two beside, one across, the rest outside the picture: weights 1/6, 1/6, 1/12
    assert float(impute(x, corner, 1e-12)[0, 0, 0, 0]) == pytest.approx((1 / 6 + 9 / 6 + 16 / 12) / (5 / 12), abs=1e-12)


def dense_solution(x: Tensor, keep: Tensor) -> Tensor:
    """The linear system written out pixel by pixel and solved densely."""
    height, width = keep.shape
    places = {(int(r), int(c)): i for i, (r, c) in enumerate((~keep).nonzero())}
    matrix, right = torch.zeros(len(places), len(places)).double(), torch.zeros(len(places), x.shape[0]).double()
    for (r, c), i in places.items():
        for dr in (-1, 0, 1):
            for dc in (-1, 0, 1):
                rr, cc = r + dr, c + dc
                if (dr, dc) == (0, 0) or not (0 <= rr < height and 0 <= cc < width):
                    continue
                weight = 1 / 6 if dr == 0 or dc == 0 else 1 / 12
                matrix[i, i] += weight
                if (rr, cc) in places:
                    matrix[i, places[rr, cc]] -= weight
                else:
                    right[i] += weight * x[:, rr, cc]
    solved = torch.linalg.solve(matrix, right)
    filled = x.clone()
    for (r, c), i in places.items():
        filled[:, r, c] = solved[i]
    return filled


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_imputation_solves_the_dense_system(share):
    x = drawn(2, 3, 13, 18, dtype=torch.float64)
    keep = drawn(2, 13, 18, seed=5) > share
    keep[1, 2:9, 3:15] = False  # a hole
    filled = impute(x, keep, 1e-11)
    for index in range(2):
        assert torch.allclose(filled[index], dense_solution(x[index], keep[index]), rtol=0, atol=1e-9)


def test_imputation_in_float32_is_close_enough_for_its_noise(cat):
    keep = (drawn(1, 56, 56, seed=2) > 0.3) & ~torch.nn.functional.pad(torch.ones(1, 30, 30), (13, 13, 13, 13)).bool()
    x = torch.nn.functional.interpolate(cat, (56, 56), mode="area")
    exact = dense_solution(x[0].double(), keep[0])
    assert float((impute(x, keep)[0].double() - exact).abs().max()) < 1e-3


def test_fractions_are_what_is_removed_as_a_peer_counts_from_the_other_end(tiny64):
    from pytorch_grad_cam.metrics.road import NoisyLinearImputer

    x, maps = drawn(1, 3, 64, 64, dtype=torch.float64), drawn(1, 64, 64, seed=1, dtype=torch.float64)
    seen: list[float] = []
    for fraction in (0.25, 0.75):
        keep = maps < torch.quantile(maps, 1 - fraction)  # what the peer calls percentile 100 * (1 - fraction)
        theirs = NoisyLinearImputer(noise=0.0)(x[0].float(), keep[0].float()).double()
        with torch.no_grad():
            seen.append(float(tiny64.module(theirs[None].double()).softmax(1)[0, int(tiny64.predict(x).argmax())]))
    found = road(tiny64, x, maps, "most", (0.25, 0.75), noise=0.0)
    assert found.y[0].tolist() == pytest.approx(seen, abs=2e-4)


def test_road_orders_and_noise(tiny64):
    x, maps = drawn(2, 3, 64, 64, dtype=torch.float64), drawn(2, 64, 64, seed=1, dtype=torch.float64)
    most, least, both = (road(tiny64, x, maps, order, (0.3, 0.6)) for order in ("most", "least", "combined"))
    assert torch.allclose(both.y, (least.y - most.y) / 2, rtol=0, atol=1e-12)
    assert (most.higher_is_better, least.higher_is_better, both.higher_is_better) == (False, True, True)
    assert torch.allclose(road(tiny64, x, -maps, "most", (0.3, 0.6)).y, least.y, rtol=0, atol=1e-12)
    assert torch.allclose(most.auc, most.y.mean(1))
    quiet = road(tiny64, x, maps, "most", (0.3, 0.6), noise=0.0)
    assert not torch.equal(quiet.y, most.y)
    assert not torch.equal(road(tiny64, x, maps, "most", (0.3, 0.6), run=Run(seed=1)).y, most.y)
    with pytest.raises(InputError, match=r"order 'both' is not known; use most, least, combined\."):
        road(tiny64, x, maps, "both")
    with pytest.raises(InputError, match=r"fraction is 1; give shares to remove between 0 and 1\."):
        road(tiny64, x, maps, fractions=(0.5, 1))
    with pytest.raises(InputError, match=r"noise is -1; give 0 or more"):
        road(tiny64, x, maps, noise=-1)


# --- where a mask is known ------------------------------------------------------------------


def test_pointing_by_hand():
    maps = torch.zeros(3, 10, 10)
    maps[0, 2, 3] = 1.0  # inside
    maps[1, 2, 6] = 1.0  # two pixels right of the box
    maps[2] = 0.5  # all alike
    mask = mask_of_box((2, 1, 5, 4), (10, 10))
    assert int(mask.sum()) == 9
    assert pointing(maps, mask, 0).values.tolist()[:2] == [1.0, 0.0]
    assert pointing(maps, mask, 0).values[2].isnan()
    maps[2, 0, 0] = 0.4  # 99 of 100 pixels tie for the highest, 9 of them inside
    assert pointing(maps, mask, 0).values[2].item() == pytest.approx(9 / 99)
    assert pointing(maps, mask, 2).values.tolist()[:2] == [1.0, 1.0]
    assert pointing(maps, mask, 1).facts["chance"].tolist() == pytest.approx([0.25] * 3)


def test_energy_by_hand():
    maps = torch.tensor([[[1.0, 3.0], [-5.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]])
    mask = torch.tensor([[False, True], [True, False]])
    found = energy(maps, mask)
    assert found.values.tolist() == pytest.approx([0.75, math.nan], nan_ok=True)
    assert found.facts["chance"].tolist() == [0.5, 0.5]


def test_masks_and_boxes_are_checked():
    maps = torch.rand(2, 8, 8)
    with pytest.raises(InputError, match=r"mask has shape \(1, 4, 4\) for maps \(2, 8, 8\)"):
        energy(maps, torch.ones(4, 4))
    with pytest.raises(InputError, match=r"a mask is empty; leave out images without an object\."):
        pointing(maps, torch.zeros(8, 8))
    with pytest.raises(InputError, match=r"the box \(5, 0, 3, 8\) does not lie in an image of 8 x 8"):
        mask_of_box((5, 0, 3, 8), (8, 8))
    with pytest.raises(InputError, match=r"a box has 4 numbers"):
        mask_of_box((5, 0, 3), (8, 8))
    with pytest.raises(InputError, match=r"tolerance is -1; give 0 to 4096\."):
        pointing(maps, torch.ones(8, 8), -1)


# --- the map alone, and in pairs ------------------------------------------------------------


def test_sparseness_by_hand_and_by_its_other_definition():
    one = torch.zeros(1, 4, 5)
    one[0, 1, 2] = -3.0
    assert float(sparseness(one).values) == pytest.approx(1 - 1 / 20)
    nearly = torch.full((1, 4, 5), 7.0)
    nearly[0, 0, 0] = 7.01
    assert float(sparseness(nearly).values) == pytest.approx(19 * 0.01 / (20 * 140.01), rel=1e-3)
    v = drawn(1, 6, 7, seed=3)
    flat = v.flatten().double()
    gini = (flat[:, None] - flat[None]).abs().sum() / (2 * len(flat) * flat.sum())  # mean absolute difference
    assert float(sparseness(v).values) == pytest.approx(float(gini), abs=1e-7)


def test_the_randomisation_check_is_rank_correlation():
    a = drawn(2, 8, 8)
    assert randomisation(a, a * 3 + 1).values.tolist() == pytest.approx([1, 1])
    assert randomisation(a, -a).values.tolist() == pytest.approx([-1, -1])
    assert randomisation(a, -a, absolute=True).values.tolist() == pytest.approx([1, 1])
    assert all(math.isnan(v) for v in randomisation(a, torch.zeros_like(a)).values.tolist())
