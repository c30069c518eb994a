"""Statistics over images: bootstrap intervals and the paired comparison of two methods.

Everything is seeded, float64 and vectorised. An interval speaks about other images of the same kind, not about other
networks or seeds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import torch
from torch import Tensor

from xai.errors import InputError
from xai.params import check_between
from xai.stats.similarity import ranks, spearman
from xai.types import Run

RESAMPLES = 2000
"""Bootstrap resamples; the interval's ends then move by about a fortieth of its width from seed to seed."""

MOST_RESAMPLES = 100_000

LEVEL = 0.95

EXACT_UP_TO = 50
"""Pairs up to which the signed-rank test counts every sign pattern instead of using the normal approximation."""

TOLD_FROM = 0.005
"""A p-value stands beside the smallest one that is possible where that is above this: with 8 pairs or fewer."""

_CHUNK = 4_000_000  # numbers in one block of resampling weights: 32 MB as float64


@dataclass(frozen=True, eq=False)
class Band:
    """Mean over images with its interval: mean, low, high (S,) float64, over n images.

    With one image a bootstrap says nothing about others: low and high are then NaN.
    """

    mean: Tensor
    low: Tensor
    high: Tensor
    n: int
    level: float = LEVEL


@dataclass(frozen=True)
class Interval:
    """A mean over n images with its interval; low and high are NaN for one image."""

    mean: float
    low: float
    high: float
    n: int
    level: float = LEVEL

    def __str__(self) -> str:
        if math.isnan(self.low):
            return f"{self.mean:.3f} (n={self.n})"
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}] (n={self.n})"


@dataclass(frozen=True)
class Paired:
    """Two methods over the same n images: difference a - b, who wins, and how surprising that is.

    difference: mean of a - b with its bootstrap interval. wins, losses, ties: images where a is better, worse, equal.
    p: two-sided Wilcoxon signed-rank test of "no difference", NaN where all pairs tie. exact: counted rather than
    approximated.
    """

    difference: Interval
    wins: int
    losses: int
    ties: int
    p: float
    exact: bool

    @property
    def least_p(self) -> float:
        """The smallest p that so many pairs can have: 2 / 2^n where the sign patterns are counted, else 0."""
        return 2.0 ** (1 - self.wins - self.losses) if self.exact else 0.0

    @property
    def p_text(self) -> str:
        """What a table says of p: "0.0625, the smallest possible with 5 pairs", or "none: all pairs are equal"."""
        if math.isnan(self.p):
            return "none: all pairs are equal"
        n = self.wins + self.losses
        text = f"{self.p:.3g}"
        if self.least_p <= TOLD_FROM:
            return text
        pairs = f"{n} pair{'s' * (n != 1)}"
        at_end = math.isclose(self.p, self.least_p)
        return (
            f"{text}, the smallest possible with {pairs}"
            if at_end
            else f"{text} ({self.least_p:.3g} at least: {pairs})"
        )

    @property
    def sentence(self) -> str:
        """ "wins on 4 of 6, 1 tie", with ties where there are some."""
        n = self.difference.n
        tied = f", {self.ties} tie{'s' * (self.ties != 1)}" if self.ties else ""
        return f"wins on {self.wins} of {n}{tied}"

    @property
    def finding(self) -> str:
        """ "wins on 5 of 5, p 0.0625, the smallest possible with 5 pairs", or that all pairs are equal."""
        if math.isnan(self.p):
            n = self.difference.n
            return f"{'the pair is' if n == 1 else f'all {n} pairs are'} equal, so there is no p value"
        return f"{self.sentence}, p {self.p_text}"


def _checked(values: Tensor, name: str) -> Tensor:
    values = torch.as_tensor(values).detach().cpu().double()
    if values.dim() == 0 or values.numel() == 0:
        raise InputError(f"{name} holds no value; give at least one image's.")
    if not bool(torch.isfinite(values).all()):
        raise InputError(f"{name} holds values that are not finite; leave those images out and say how many.")
    return values


def bootstrap_band(values: Tensor, seed: int = 0, resamples: int = RESAMPLES, level: float = LEVEL) -> Band:
    """Mean curve over images with a percentile bootstrap interval at each position: values (n,S) -> (S,).

    Images are drawn with replacement, the same draw for all positions, and the interval runs between the
    (1-level)/2 and (1+level)/2 quantiles of the resampled means (Efron & Tibshirani 1993, section 13.3). With few
    images percentile intervals are somewhat too narrow. Raises `InputError` for no or non-finite values.
    """
    values = _checked(values, "values")
    check_between("resamples", resamples, 1, MOST_RESAMPLES)
    if values.dim() != 2:
        raise InputError(f"values has shape {tuple(values.shape)}; give (images, positions).")
    n = values.shape[0]
    mean = values.mean(0)
    if n == 1:
        nothing = torch.full_like(mean, math.nan)
        return Band(mean, nothing, nothing, 1, level)
    # Centred first, so that images which are all alike have an interval of exactly zero width.
    spread = torch.cat([times.double() @ (values - mean) / n for times in _draws(n, resamples, seed)])
    tail = (1 - level) / 2
    low, high = torch.quantile(spread, torch.tensor([tail, 1 - tail], dtype=torch.float64), dim=0)
    return Band(mean, mean + low, mean + high, n, level)


@lru_cache(maxsize=2)
def _draws(n: int, resamples: int, seed: int) -> tuple[Tensor, ...]:
    """How often each of n images is in each resample, in blocks (rows, n) int16; every score of a study asks again."""
    generator = Run(seed=seed).generator("bootstrap", n, resamples)
    blocks = []
    chunk = max(1, _CHUNK // n)
    for start in range(0, resamples, chunk):
        rows = min(chunk, resamples - start)
        drawn = torch.randint(n, (rows, n), generator=generator)
        times = torch.zeros(rows, n, dtype=torch.int16)
        blocks.append(times.scatter_add_(1, drawn, torch.ones(rows, n, dtype=torch.int16)))
    return tuple(blocks)


def bootstrap_mean(values: Tensor, seed: int = 0, resamples: int = RESAMPLES, level: float = LEVEL) -> Interval:
    """Mean of values (n,) with its percentile bootstrap interval; see `bootstrap_band`."""
    band = bootstrap_band(_checked(values, "values").reshape(-1, 1), seed, resamples, level)
    return Interval(float(band.mean), float(band.low), float(band.high), band.n, level)


def compare(a: Tensor, b: Tensor, higher_is_better: bool = True, seed: int = 0) -> Paired:
    """Paired comparison of two methods on the same images: a, b (n,).

    The difference is a - b as the numbers stand; wins count images where a is *better*, which is lower where
    `higher_is_better` is false. Raises `InputError` if the lengths differ.
    """
    a, b = _checked(a, "a").flatten(), _checked(b, "b").flatten()
    if a.shape != b.shape:
        raise InputError(f"a has {len(a)} images and b {len(b)}; compare the same images, in the same order.")
    difference = a - b
    above, below = int((difference > 0).sum()), int((difference < 0).sum())
    p, exact = signed_rank(difference)
    wins, losses = (above, below) if higher_is_better else (below, above)
    return Paired(bootstrap_mean(difference, seed), wins, losses, len(a) - above - below, p, exact)


def signed_rank(difference: Tensor) -> tuple[float, bool]:
    """Two-sided p of Wilcoxon's signed-rank test that paired differences (n,) are symmetric about zero, and "exact".

    Zeros are dropped, ties share mean ranks. Up to `EXACT_UP_TO` pairs the distribution of the rank sum over all 2^n
    sign patterns is counted (ties included); above, the normal approximation with the tie correction is used.
    Source: Wilcoxon, Individual comparisons by ranking methods, 1945.
    """
    difference = _checked(difference, "difference").flatten()
    difference = difference[difference != 0]
    n = len(difference)
    if n == 0:
        return math.nan, True
    rank = ranks(difference.abs()[None])[0]
    positive = float(rank[difference > 0].sum())
    if n <= EXACT_UP_TO:
        return _counted(rank, positive), True
    mean = n * (n + 1) / 4
    variance = float((rank**2).sum()) / 4  # equals n(n+1)(2n+1)/24 less the tie correction
    z = abs(positive - mean) / math.sqrt(variance)
    return math.erfc(z / math.sqrt(2)), False


def _counted(rank: Tensor, positive: float) -> float:
    """Share of the 2^n sign patterns whose rank sum is at least as far from its mean as `positive`."""
    doubled = [round(2 * value) for value in rank.tolist()]  # mean ranks are halves: whole numbers when doubled
    counts = torch.zeros(sum(doubled) + 1, dtype=torch.float64)
    counts[0] = 1.0
    for step in doubled:
        counts[step:] += counts[: len(counts) - step].clone()
    sums = torch.arange(len(counts), dtype=torch.float64)
    far = (sums - sum(doubled) / 2).abs() >= abs(2 * positive - sum(doubled) / 2)
    return min(1.0, float(counts[far].sum() / counts.sum()))


def wilson(successes: float, n: int, level: float = LEVEL) -> Interval:
    """A share successes / n with its Wilson score interval, which keeps to [0, 1] and holds for shares near its ends.

    ((s + z^2/2) -+ z sqrt(s (n - s) / n + z^2/4)) / (n + z^2), z the normal quantile of (1 + level) / 2. Raises
    `InputError` for no trial or a count outside 0..n. Source: Wilson, Probable inference, the law of succession, and
    statistical inference, 1927. Kept by hand: scipy's `binomtest` takes whole counts only, and
    the figures of weighted images have others.
    """
    if n < 1 or not 0 <= successes <= n:
        raise InputError(f"{successes:g} of {n} is no share; count at least one image.")
    z = NormalDist().inv_cdf((1 + level) / 2)
    middle, half = successes + z * z / 2, z * math.sqrt(successes * (n - successes) / n + z * z / 4)
    low = max(0.0, (middle - half) / (n + z * z)) if successes else 0.0
    high = min(1.0, (middle + half) / (n + z * z)) if successes < n else 1.0
    return Interval(successes / n, low, high, n, level)


def auc_interval(auc: float, positives: int, negatives: int, level: float = LEVEL) -> Interval:
    """An area under the ROC curve with the score interval that keeps a width where the area is 1.

    The areas t with |t - auc| <= z sqrt(V(t)), V(t) = t (1 - t) (1 + N ((1 - t) / (2 - t) + t / (1 + t))) / (m n), N =
    (m + n) / 2 - 1, for m positive and n negative images. Raises `InputError` where there are none of either. Source:
    Newcombe, Confidence intervals for an effect size measure based on the Mann-Whitney statistic, part 2 (method 5),
    2006, https://doi.org/10.1002/sim.2324.
    """
    if positives < 1 or negatives < 1 or not 0 <= auc <= 1:
        raise InputError(f"an AUC of {auc:g} over {positives} and {negatives} images is none; give at least one each.")
    z = NormalDist().inv_cdf((1 + level) / 2)
    extra = (positives + negatives) / 2 - 1

    def inside(t: float) -> bool:
        spread = t * (1 - t) * (1 + extra * ((1 - t) / (2 - t) + t / (1 + t))) / (positives * negatives)
        return abs(t - auc) <= z * math.sqrt(max(spread, 0.0))

    low, high = _edge(inside, auc, 0.0), _edge(inside, auc, 1.0)
    return Interval(auc, low, high, positives + negatives, level)


def paired_shares(only_first: int, only_second: int, n: int, level: float = LEVEL) -> Interval:
    """The difference of two shares over the same n images, first less second, with Tango's score interval.

    only_first, only_second: images that are hits of one alone; those that agree count in n. It keeps a width where none
    disagrees. Raises `InputError` for counts that do not fit. Source: Tango, Equivalence test and confidence interval
    for the difference in proportions for the paired-sample design, 1998,
    https://doi.org/10.1002/(SICI)1097-0258(19980430)17:8%3C891::AID-SIM780%3E3.0.CO;2-B.
    """
    b, c = only_first, only_second
    if n < 1 or min(b, c) < 0 or b + c > n:
        raise InputError(f"{b} and {c} of {n} images cannot disagree; count at least one image.")
    z = NormalDist().inv_cdf((1 + level) / 2)
    difference = (b - c) / n

    def inside(d: float) -> bool:
        linear = (2 * n - b + c) * d - b - c
        q = (math.sqrt(max(linear * linear + 8 * n * c * d * (1 - d), 0.0)) - linear) / (4 * n)
        spread = n * (2 * q + d * (1 - d))
        return spread <= 0 or abs(b - c - n * d) <= z * math.sqrt(spread)

    # Beyond the ends nothing varies; a hair inside them the score is defined.
    low, high = _edge(inside, difference, -1 + 1e-12), _edge(inside, difference, 1 - 1e-12)
    return Interval(difference, low, high, n, level)


def _edge(inside: Callable[[float], bool], middle: float, end: float) -> float:
    """Where `inside` ends between `middle`, where it holds, and `end`, by bisection; `end` where it holds there too."""
    if middle == end or inside(end):
        return end
    for _ in range(60):
        half = (middle + end) / 2
        middle, end = (half, end) if inside(half) else (middle, half)
    return middle


def share_band(hits: Tensor, level: float = LEVEL) -> Band:
    """Share of images that are hits (n,S) bool at each position, with its Wilson interval; see `wilson`.

    Resampling images that are all alike gives an interval of no width: for shares near 0 or 1 it would say too much.
    """
    n = len(hits)
    each = [wilson(count, n, level) for count in hits.sum(0).tolist()]
    mean, low, high = torch.tensor([(one.mean, one.low, one.high) for one in each], dtype=torch.float64).T
    return Band(mean, low, high, n, level)


def less(a: Interval, b: Interval) -> Interval:
    """The difference a - b of two shares from different images, with an interval from their Wilson intervals.

    a - b -+ the root of the squared distances of the ends that lie that way; n counts the images of both. Source:
    Newcombe, Interval estimation for the difference between independent proportions, Statistics in Medicine 1998, 10.
    """
    mean = a.mean - b.mean
    low = mean - math.hypot(a.mean - a.low, b.high - b.mean)
    high = mean + math.hypot(a.high - a.mean, b.mean - b.low)
    return Interval(mean, low, high, a.n + b.n, a.level)


def rank_correlation(a: Tensor, b: Tensor, seed: int = 0, resamples: int = RESAMPLES, level: float = LEVEL) -> Interval:
    """Spearman's rank correlation of the pairs (a, b), each (n,), with a percentile bootstrap interval over pairs.

    Where one side is constant there is no association: 0. Raises `InputError` for fewer than 3 pairs, for lengths that
    differ and for values that are not finite. Source: Spearman 1904; Efron & Tibshirani 1993, section 13.3.
    """
    a, b = _checked(a, "a").flatten(), _checked(b, "b").flatten()
    check_between("resamples", resamples, 1, MOST_RESAMPLES)
    if a.shape != b.shape or len(a) < 3:
        raise InputError(f"a has {len(a)} values and b {len(b)}; give at least 3 pairs.")
    n = len(a)
    value = float(_rho(a[None], b[None]))
    drawn = torch.randint(n, (resamples, n), generator=Run(seed=seed).generator("rank correlation", n, resamples))
    spread = _rho(a[drawn], b[drawn])
    tail = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
    low, high = torch.quantile(spread, tail).tolist()
    return Interval(value, low, high, n, level)


def _rho(a: Tensor, b: Tensor) -> Tensor:
    """Spearman's correlation of the rows of (R,n) x 2 -> (R,); 0 where a row of either is constant."""
    flat = (a.amax(1) == a.amin(1)) | (b.amax(1) == b.amin(1))
    return torch.where(flat, 0.0, spearman(a[:, None], b[:, None]))
