"""Intervals and paired tests against scipy, full enumeration, and numbers worked out by hand."""

import itertools
import math

import pytest
import torch
from scipy import stats

from xai.errors import InputError
from xai.statistics import bootstrap_band, bootstrap_mean, compare, share_band, signed_rank


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_bootstrap_of_two_values_is_its_known_distribution():
    # Means of (0, 1) resampled: 0, 1/2, 1 with chances 1/4, 1/2, 1/4; so the 95 % interval is [0, 1], the 40 % one 1/2.
    values = torch.tensor([0.0, 1.0])
    wide = bootstrap_mean(values)
    assert (wide.mean, wide.low, wide.high, wide.n) == (0.5, 0.0, 1.0, 2)
    narrow = bootstrap_mean(values, level=0.4)
    assert (narrow.low, narrow.high) == (0.5, 0.5)


def test_bootstrap_agrees_with_scipy_within_its_own_noise():
    values = drawn(40).exp()
    own = bootstrap_mean(values, resamples=20_000)
    theirs = stats.bootstrap(
        (values.numpy(),), lambda v, axis: v.mean(axis), n_resamples=20_000, method="percentile", rng=1
    ).confidence_interval
    width = theirs.high - theirs.low
    assert own.low == pytest.approx(theirs.low, abs=0.03 * width)
    assert own.high == pytest.approx(theirs.high, abs=0.03 * width)


def test_bootstrap_covers_the_true_mean_about_as_often_as_it_says():
    inside = 0
    for seed in range(300):
        interval = bootstrap_mean(drawn(40, seed=seed), seed=seed, resamples=500)
        inside += interval.low <= 0 <= interval.high
    assert 0.90 <= inside / 300 <= 0.98


def test_band_is_seeded_and_each_column_is_its_own_interval():
    values = drawn(12, 3)
    band, again, other = bootstrap_band(values, 1), bootstrap_band(values, 1), bootstrap_band(values, 2)
    assert torch.equal(band.low, again.low)
    assert not torch.equal(band.low, other.low)
    single = bootstrap_mean(values[:, 1], 1)
    assert (float(band.low[1]), float(band.high[1])) == pytest.approx((single.low, single.high), abs=1e-12)


def test_equal_values_have_no_width_and_one_image_has_no_interval():
    same = bootstrap_mean(torch.full((9,), 0.1))
    assert same.low == same.high == same.mean
    one = bootstrap_mean(torch.tensor([0.25]))
    assert one.mean == 0.25
    assert math.isnan(one.low)
    assert math.isnan(one.high)
    assert str(one) == "0.250 (n=1)"


@pytest.mark.parametrize("n", [1, 2, 5, 17, 50])
def test_signed_rank_without_ties_is_scipys_exact_test(n):
    difference = drawn(n, seed=n) + 0.4
    p, exact = signed_rank(difference)
    assert exact
    assert p == pytest.approx(stats.wilcoxon(difference.numpy(), method="exact").pvalue, rel=1e-12)


def test_signed_rank_with_ties_and_zeros_is_full_enumeration():
    difference = torch.tensor([0.0, 1.0, 1.0, -1.0, 2.0, 2.0, 3.0, -0.5])
    kept = [1.0, 1.0, -1.0, 2.0, 2.0, 3.0, -0.5]
    rank = stats.rankdata([abs(v) for v in kept])
    seen = sum(r for r, v in zip(rank, kept, strict=True) if v > 0)
    sums = [sum(r for r, s in zip(rank, signs, strict=True) if s) for signs in itertools.product((0, 1), repeat=7)]
    centre = rank.sum() / 2
    expected = sum(abs(s - centre) >= abs(seen - centre) for s in sums) / 2**7
    assert signed_rank(difference) == (pytest.approx(expected, abs=1e-15), True)


def test_signed_rank_of_many_pairs_is_scipys_approximation_with_ties():
    difference = (drawn(300) * 4 + 0.5).round()
    p, exact = signed_rank(difference)
    theirs = stats.wilcoxon(difference.numpy(), method="asymptotic", correction=False).pvalue
    assert not exact
    assert p == pytest.approx(theirs, rel=1e-9)


def test_compare_counts_wins_in_the_metrics_direction():
    a, b = torch.tensor([0.9, 0.8, 0.5, 0.1]), torch.tensor([0.1, 0.2, 0.5, 0.3])
    up = compare(a, b)
    assert (up.wins, up.losses, up.ties) == (2, 1, 1)
    assert up.sentence == "wins on 2 of 4, 1 tie"
    assert up.difference.mean == pytest.approx(0.3)
    down = compare(a, b, higher_is_better=False)
    assert (down.wins, down.losses, down.ties) == (1, 2, 1)
    assert down.difference.mean == up.difference.mean


def test_five_wins_of_five_have_the_p_that_five_pairs_allow():
    pair = compare(torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0]), torch.zeros(5))
    assert pair.sentence == "wins on 5 of 5"
    assert pair.p == 2 / 2**5


def test_no_difference_at_all_has_no_p():
    assert math.isnan(compare(torch.ones(3), torch.ones(3)).p)


def test_refusals_name_the_argument():
    with pytest.raises(InputError, match=r"values holds no value; give at least one image's\."):
        bootstrap_mean(torch.tensor([]))
    with pytest.raises(InputError, match=r"values holds values that are not finite"):
        bootstrap_mean(torch.tensor([1.0, math.nan]))
    with pytest.raises(InputError, match=r"a has 3 images and b 2; compare the same images"):
        compare(torch.ones(3), torch.ones(2))


def test_shares_that_are_all_alike_have_an_interval_by_hand() -> None:
    hits = torch.tensor([[False, True, True]] * 2 + [[False, True, False]] * 3)
    band = share_band(hits)
    z2 = 1.959963984540054**2
    assert band.mean.tolist() == pytest.approx([0, 1, 0.4])
    assert band.low.tolist()[:2] == pytest.approx([0, 5 / (5 + z2)])
    assert band.high.tolist()[:2] == pytest.approx([z2 / (5 + z2), 1])
    half = (z2 * (2 * 3 / 5 + z2 / 4)) ** 0.5
    assert (float(band.low[2]), float(band.high[2])) == pytest.approx(
        ((2 + z2 / 2 - half) / (5 + z2), (2 + z2 / 2 + half) / (5 + z2))
    )
    assert band.n == 5
