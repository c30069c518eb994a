"""Intervals and paired tests against scipy, full enumeration, and numbers worked out by hand."""

import itertools
import math
from statistics import NormalDist

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.optimize import minimize_scalar

from xai.errors import InputError
from xai.stats.intervals import (
    auc_interval,
    bootstrap_band,
    bootstrap_mean,
    compare,
    paired_shares,
    share_band,
    signed_rank,
)


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
    equal = compare(torch.ones(3), torch.ones(3))
    assert math.isnan(equal.p)
    assert equal.p_text == "none: all pairs are equal"
    assert equal.finding == "all 3 pairs are equal, so there is no p value"
    clear = compare(torch.arange(1.0, 6), torch.zeros(5))
    assert clear.finding == "wins on 5 of 5, p 0.0625, the smallest possible with 5 pairs"


@pytest.mark.parametrize("n", [1, 2, 5, 8, 9, 30])
def test_the_smallest_possible_p_is_told_where_it_is_not_small(n):
    clear = compare(torch.arange(1.0, n + 1), torch.zeros(n))
    least = stats.wilcoxon(torch.arange(1.0, n + 1).numpy(), method="exact").pvalue
    assert clear.least_p == pytest.approx(least)
    assert clear.p == pytest.approx(least)
    told = f"{least:.3g}, the smallest possible with {n} pair{'s' * (n > 1)}"
    assert clear.p_text == (told if n <= 8 else f"{least:.3g}")


def test_the_smallest_possible_p_stands_beside_a_larger_one():
    mixed = compare(torch.tensor([1.0, -2.0, 3.0, 4.0, 5.0, 0.0]), torch.zeros(6))  # one pair ties
    assert mixed.p_text == f"{mixed.p:.3g} (0.0625 at least: 5 pairs)"


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


# --- intervals of an AUC and of paired shares -------------------------------------------------------------------------


def test_an_auc_of_one_has_an_interval_with_a_width_that_covers():
    """Of few images even a perfect ranking is no proof: the ends are where the score test just does not reject."""
    found = auc_interval(1.0, 3, 2)
    assert found.high == 1
    t = found.low
    spread = t * (1 - t) * (1 + 1.5 * ((1 - t) / (2 - t) + t / (1 + t))) / 6
    assert (1 - t) / math.sqrt(spread) == pytest.approx(1.959964, abs=1e-5)
    assert 0.3 < t < 0.6
    assert auc_interval(0.0, 3, 2).high == pytest.approx(1 - t)
    with pytest.raises(InputError, match=r"^an AUC of 0\.5 over 0 and 2 images is none; give at least one each\.$"):
        auc_interval(0.5, 0, 2)


@pytest.mark.parametrize(("shift", "m", "n"), [(0.5, 12, 15), (1.5, 20, 31), (3.0, 10, 10)])
def test_the_interval_of_an_auc_covers_the_true_area(shift, m, n):
    """Normal scores, whose area is Phi(shift / sqrt 2), drawn a thousand times: about 95 % of the intervals hold it."""
    rng = np.random.default_rng(0)
    area, held = NormalDist().cdf(shift / math.sqrt(2)), 0
    for _ in range(1000):
        high, low = rng.normal(shift, 1, m), rng.normal(0, 1, n)
        value = float((high[:, None] > low).mean())
        found = auc_interval(value, m, n)
        held += found.low <= area <= found.high
    assert 0.93 <= held / 1000 <= 0.995


def test_the_paired_interval_solves_the_score_equation_and_keeps_a_width_without_disagreement():
    """Against the definition: the constrained likelihood is maximised by a search instead of the quadratic's root."""
    b, c, n = 9, 3, 51
    found = paired_shares(b, c, n)
    for d in (found.low, found.high):
        q = minimize_scalar(
            lambda q, d=d: -(b * math.log(q + d) + c * math.log(q) + (n - b - c) * math.log(1 - 2 * q - d)),
            bounds=(max(0, -d) + 1e-12, (1 - d) / 2 - 1e-12),
            method="bounded",
            options={"xatol": 1e-12},
        ).x
        score = (b - c - n * d) / math.sqrt(n * (2 * q + d - d * d))
        assert abs(score) == pytest.approx(1.959964, abs=1e-3)
    assert found.mean == pytest.approx(6 / 51)
    assert found.low < 0 < found.high
    # Five images on which two networks agree show nothing, and the interval says so.
    alike = paired_shares(0, 0, 5)
    assert (alike.mean, alike.low) == (0, pytest.approx(-alike.high))
    assert 0.4 < alike.high < 0.5
    assert paired_shares(5, 0, 5).low < 0.5 < paired_shares(5, 0, 5).high == pytest.approx(1, abs=1e-6)


def test_the_paired_interval_covers_the_true_difference():
    """Exactly, over all outcomes of 20 images of which 30 % are right for one alone and 10 % for the other."""
    n, p, q = 20, 0.3, 0.1
    covered = 0.0
    for b in range(n + 1):
        for c in range(n + 1 - b):
            chance = math.comb(n, b) * math.comb(n - b, c) * p**b * q**c * (1 - p - q) ** (n - b - c)
            found = paired_shares(b, c, n)
            covered += chance * (found.low <= p - q <= found.high)
    assert 0.93 <= covered <= 0.98
